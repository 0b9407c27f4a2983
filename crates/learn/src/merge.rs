//! A base and an adapter made into one model folder that stands alone: `W + (alpha / r) B A`, in f32.

use crate::files::{write_atomic, write_folder_atomic};
use crate::kernels::matmul::{Mat, MatMut, Out, matmul};
use crate::lora::{TARGETS, a_name, b_name, linear_shape, peft_path};
use crate::model::{ModelConfig, WeightFiles, to_f32};
use crate::{Adapter, LearnError};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView, View};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Writes the merged model: weights, `config.json`, tokenizer and template files. The same inputs give the same bytes. A scalar
/// head in the adapter is left out.
///
/// # Errors
/// When base or adapter can't be read or don't fit each other, or `out_dir` can't be written; nothing is then visible there.
pub fn write_merged(base_dir: &Path, adapter_dir: &Path, out_dir: &Path) -> Result<(), LearnError> {
    let config = ModelConfig::open(base_dir)?;
    let adapter = Adapter::load(adapter_dir, &config)?;
    let files = WeightFiles::open(base_dir)?;
    let shards = files.parse()?;
    let deltas = deltas(&config, &adapter);
    let tensors = shards.names().into_iter().filter_map(|name| {
        let base = shards.find(&name)?;
        let delta = deltas.get(&name).copied();
        Some((name, Merged { base, delta }))
    });
    let tensors: Vec<(String, Merged<'_>)> = tensors.collect();
    write_folder_atomic(out_dir, |dir| {
        let weights = dir.join("model.safetensors");
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(metadata), &weights).map_err(|e| match e {
            SafeTensorError::IoError(e) => LearnError::io(&weights)(e),
            e => LearnError::BadModel { path: base_dir.to_path_buf(), reason: e.to_string() },
        })?;
        copy_rest(base_dir, dir)
    })
}

/// The adapter's matrices for one weight.
#[derive(Clone, Copy)]
struct Delta<'a> {
    a: &'a [f32],
    b: &'a [f32],
    shape: (usize, usize),
    r: usize,
    scale: f32,
}

/// By the name of the base weight that each changes.
fn deltas<'a>(config: &ModelConfig, adapter: &'a Adapter) -> HashMap<String, Delta<'a>> {
    let each = (0..config.layers).flat_map(|layer| TARGETS.into_iter().map(move |target| (layer, target)));
    each.filter_map(|(layer, target)| {
        let a = &adapter.params.get(&a_name(layer, target))?.data;
        let b = &adapter.params.get(&b_name(layer, target))?.data;
        let shape = linear_shape(config, target);
        let name = format!("{}.weight", peft_path(layer, target).trim_start_matches("base_model.model."));
        Some((name, Delta { a, b, shape, r: adapter.config.r, scale: adapter.config.scale() }))
    })
    .collect()
}

/// A tensor of the merged model, computed when it is written, so that only one is in memory at a time.
struct Merged<'a> {
    base: TensorView<'a>,
    delta: Option<Delta<'a>>,
}

impl Merged<'_> {
    fn is_float(&self) -> bool {
        matches!(self.base.dtype(), Dtype::F32 | Dtype::BF16 | Dtype::F16)
    }
}

impl View for Merged<'_> {
    fn dtype(&self) -> Dtype {
        if self.is_float() { Dtype::F32 } else { self.base.dtype() }
    }

    fn shape(&self) -> &[usize] {
        self.base.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // What is no float (a saved buffer of indices, say) is copied as it is.
        let Ok(mut w) = to_f32(&self.base) else { return Cow::Borrowed(self.base.data()) };
        if let Some(Delta { a, b, shape: (out, ins), r, scale }) = self.delta {
            matmul(MatMut::new(&mut w, out, ins), Out::Add, scale, Mat::new(b, out, r), Mat::new(a, r, ins));
        }
        Cow::Owned(bytemuck::cast_slice(&w).to_vec())
    }

    fn data_len(&self) -> usize {
        let n: usize = self.base.shape().iter().product();
        if self.is_float() { n * size_of::<f32>() } else { self.base.data().len() }
    }
}

/// `config.json` with its type changed to float32, and the tokenizer's, template's and licence's files.
fn copy_rest(base_dir: &Path, dir: &Path) -> Result<(), LearnError> {
    for entry in fs::read_dir(base_dir).map_err(LearnError::io(base_dir))? {
        let path = entry.map_err(LearnError::io(base_dir))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|_| path.is_file()) else { continue };
        if name == "config.json" {
            write_atomic(&dir.join(name), float32_config(&path)?.as_bytes())?;
        } else if belongs(name) {
            fs::copy(&path, dir.join(name)).map_err(LearnError::io(dir.join(name)))?;
        }
    }
    Ok(())
}

fn belongs(name: &str) -> bool {
    let ending = name.rsplit('.').next().unwrap_or_default();
    !name.ends_with(".index.json")
        && (matches!(ending, "json" | "jinja" | "txt" | "model") || name.starts_with("LICEN"))
}

fn float32_config(path: &Path) -> Result<String, LearnError> {
    let text = fs::read_to_string(path).map_err(LearnError::io(path))?;
    let bad = |e: serde_json::Error| LearnError::BadModel { path: path.to_path_buf(), reason: e.to_string() };
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(bad)?;
    config.remove("dtype"); // the newer name of the same key
    config.insert("torch_dtype".into(), "float32".into());
    serde_json::to_string_pretty(&config).map_err(bad)
}
