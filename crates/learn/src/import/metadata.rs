//! What a GGUF file says of itself, read by candle's reader; and its tensors, dequantised.

use super::bad;
use crate::LearnError;
use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value as Field};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// The metadata, with the file's name for messages.
pub(super) struct Metadata {
    pub(super) path: PathBuf,
    content: Content,
}

impl Metadata {
    pub(super) fn open(path: &Path) -> Result<Self, LearnError> {
        let mut file = BufReader::new(File::open(path).map_err(LearnError::io(path))?);
        let mut magic = [0; 4];
        let is_gguf = file.read_exact(&mut magic).is_ok() && &magic == b"GGUF";
        if !is_gguf {
            return Err(bad(path, "it is neither a Hugging Face model folder nor a GGUF file"));
        }
        file.rewind().map_err(LearnError::io(path))?;
        let content = Content::read(&mut file).map_err(|e| broken(path, e))?;
        Ok(Self { path: path.to_owned(), content })
    }

    /// Every tensor's name.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &String> {
        self.content.tensor_infos.keys()
    }

    /// One tensor's values, dequantised. `file` is this GGUF file.
    pub(super) fn values(&self, file: &mut BufReader<File>, tensor: &str) -> Result<Vec<f32>, LearnError> {
        let broken = |e: candle_core::Error| self.broken(format!("tensor {tensor}: {e}"));
        let blocks = self.content.tensor(file, tensor, &Device::Cpu).map_err(broken)?;
        let values = blocks.dequantize(&Device::Cpu).and_then(|t| t.flatten_all()).map_err(broken)?;
        values.to_vec1::<f32>().map_err(broken)
    }

    /// The file, opened for [`Self::values`].
    pub(super) fn reader(&self) -> Result<BufReader<File>, LearnError> {
        let file = File::open(&self.path).map_err(LearnError::io(&self.path))?;
        Ok(BufReader::with_capacity(1 << 20, file))
    }

    /// Refuses a file that ends before its last tensor does.
    pub(super) fn check_length(&self) -> Result<(), LearnError> {
        let length = std::fs::metadata(&self.path).map_err(LearnError::io(&self.path))?.len();
        for (name, info) in &self.content.tensor_infos {
            let blocks = info.shape.elem_count() / info.ggml_dtype.block_size();
            let bytes = (blocks * info.ggml_dtype.type_size()) as u64;
            if self.content.tensor_data_offset + info.offset + bytes > length {
                return Err(self.broken(format!("it ends within tensor {name}")));
            }
        }
        Ok(())
    }

    /// Rows and columns; empty if there is no such tensor.
    pub(super) fn shape(&self, tensor: &str) -> &[usize] {
        self.content.tensor_infos.get(tensor).map_or(&[], |info| info.shape.dims())
    }

    pub(super) fn field(&self, key: &str) -> Option<&Field> {
        self.content.metadata.get(key)
    }

    pub(super) fn optional_text(&self, key: &str) -> Option<String> {
        self.field(key)?.to_string().ok().cloned()
    }

    pub(super) fn text(&self, key: &str) -> Result<String, LearnError> {
        self.optional_text(key).ok_or_else(|| self.lacks(key))
    }

    pub(super) fn optional_number(&self, key: &str) -> Option<usize> {
        let field = self.field(key)?;
        field.to_u64().ok().or_else(|| field.to_i32().ok()?.try_into().ok())?.try_into().ok()
    }

    pub(super) fn number(&self, key: &str) -> Result<usize, LearnError> {
        self.optional_number(key).ok_or_else(|| self.lacks(key))
    }

    /// An f32 as the decimal number that was meant: 1e-5, not 9.999999747378752e-6.
    pub(super) fn float(&self, key: &str) -> Option<f64> {
        self.field(key)?.to_f32().ok()?.to_string().parse().ok()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.field(key)?.to_bool().ok()
    }

    pub(super) fn list(&self, key: &str) -> Option<&[Field]> {
        self.field(key)?.to_vec().ok().map(Vec::as_slice)
    }

    pub(super) fn lacks(&self, key: &str) -> LearnError {
        self.broken(format!("its metadata lack a usable {key}"))
    }

    pub(super) fn broken(&self, reason: String) -> LearnError {
        broken(&self.path, reason)
    }

    pub(super) fn unsupported(&self, reason: String) -> LearnError {
        let found = self.optional_text("general.architecture").unwrap_or_default();
        LearnError::UnsupportedArchitecture { found, reason }
    }
}

fn broken(path: &Path, reason: impl std::fmt::Display) -> LearnError {
    bad(path, format!("{reason}; it may be incomplete, download it again"))
}
