//! Tiny models written here, as GGUF and as folders, imported and read back.

mod gguf;
mod hub;

use super::*;
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;

fn import(source: &Path, target: &Path) -> Result<Imported, LearnError> {
    let mut last = (0, 0);
    let source = Source::open(source)?;
    let imported = source.write(target, &mut |done, total| last = (done, total))?;
    assert_eq!(last, (source.bytes(), source.bytes()), "the progress ends at the end");
    crate::Base::open(target).expect("what was imported can be loaded");
    Ok(imported)
}

/// The words of an import that must fail, and leave nothing behind.
fn refusal(source: &Path) -> String {
    let dir = tempfile::tempdir().expect("a temp folder");
    let error = import(source, &dir.path().join("model")).expect_err("refused").to_string();
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0, "nothing is left behind");
    error
}

/// The weights of a folder, by name: shape and values.
fn weights(dir: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(dir.join("model.safetensors")).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let tensor = |name: &str, view: safetensors::tensor::TensorView<'_>| {
        (name.to_owned(), (view.shape().to_vec(), view.data().chunks(4).map(value).collect()))
    };
    file.iter().map(|(name, view)| tensor(name, view)).collect()
}

fn json_file(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join(name)).expect("the file")).expect("JSON")
}
