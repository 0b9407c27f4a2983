//! A safetensors file written tensor by tensor, so that no model has to fit into memory to be imported.

use super::bad;
use crate::LearnError;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the head of a safetensors file says of one tensor.
pub(super) struct TensorHead {
    pub(super) name: String,
    /// As safetensors names it, for example `F32`.
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: u64,
}

/// The file while it is written.
pub(super) struct WeightsFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl WeightsFile {
    /// Writes the head; then [`Self::append`] must be called for each tensor, in this order.
    ///
    /// The format: 8 bytes of the head's length (little endian), the head as JSON, then the tensors' bytes.
    pub(super) fn create(dir: &Path, tensors: &[TensorHead]) -> Result<Self, LearnError> {
        let path = dir.join("model.safetensors");
        let mut head = Map::new();
        head.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut start = 0;
        for TensorHead { name, dtype, shape, bytes } in tensors {
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes]});
            if head.insert(name.clone(), entry).is_some() {
                return Err(bad(&path, format!("tensor {name} is there twice")));
            }
            start += bytes;
        }
        let mut head = Value::Object(head).to_string();
        // The data starts at a multiple of 8 bytes, so that it can be mapped as floats.
        head.extend(std::iter::repeat_n(' ', head.len().next_multiple_of(8) - head.len()));
        let file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(LearnError::io(&path))?);
        let mut weights = Self { path, file };
        weights.append(&(head.len() as u64).to_le_bytes())?;
        weights.append(head.as_bytes())?;
        Ok(weights)
    }

    /// The next tensor's bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), LearnError> {
        self.file.write_all(bytes).map_err(LearnError::io(&self.path))
    }

    /// All tensors are written.
    pub(super) fn finish(mut self) -> Result<(), LearnError> {
        self.file.flush().map_err(LearnError::io(&self.path))
    }
}
