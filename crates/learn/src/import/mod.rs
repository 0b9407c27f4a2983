//! Base models from elsewhere: a Hugging Face folder or a GGUF file becomes the folder that hone trains and serves.
//! The only place that uses candle-core, to read GGUF and to dequantise its blocks.
//!
//! ```text
//! <name>/config.json tokenizer.json tokenizer_config.json generation_config.json model.safetensors
//! ```
//! The folder is written under a temp name beside its place, synced and renamed: a half-imported model is never seen.

mod gguf;
mod hub;
mod metadata;
mod tensors;
mod vocabulary;
mod weights;

use crate::LearnError;
use crate::files::write_folder_atomic;
use gguf::GgufModel;
use hone_text::ChatTokenizer;
use hub::HubFolder;
use serde_json::Value;
use std::path::Path;

/// A model that can be imported: it was looked at, and nothing written yet.
pub struct Source(Kind);

enum Kind {
    Hub(Box<HubFolder>),
    Gguf(Box<GgufModel>),
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// As in config.json: llama, mistral or qwen2.
    pub model_type: String,
    /// Number of weights.
    pub parameters: u64,
    /// Whether the model brought no chat template and got hone's plain one.
    pub plain_template: bool,
}

/// Called while weights are written, with the bytes that are done and all of them.
pub type Report<'a> = &'a mut dyn FnMut(u64, u64);

impl Source {
    /// Looks at a Hugging Face folder or a GGUF file: architecture, the files that are needed, every tensor's shape.
    ///
    /// # Errors
    /// When it isn't a model, misses a file or a tensor, is broken, or of an architecture that isn't supported.
    pub fn open(path: &Path) -> Result<Self, LearnError> {
        if !path.exists() {
            return Err(bad(path, "it isn't there; give the path of a Hugging Face model folder or of a GGUF file"));
        }
        let kind = if path.is_dir() {
            Kind::Hub(Box::new(HubFolder::open(path)?))
        } else {
            Kind::Gguf(Box::new(GgufModel::open(path)?))
        };
        Ok(Self(kind))
    }

    /// Bytes that the imported model's weights will take on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Kind::Hub(folder) => folder.bytes(),
            Kind::Gguf(gguf) => gguf.bytes(),
        }
    }

    /// Writes the model to the folder `target`, which must not be there yet.
    ///
    /// # Errors
    /// When the target is there, the weights are broken, the tokenizer can't be used, or the disk refuses. Nothing is
    /// left behind then.
    pub fn write(&self, target: &Path, report: Report<'_>) -> Result<Imported, LearnError> {
        if target.exists() {
            return Err(LearnError::ModelExists { path: target.to_owned() });
        }
        let mut plain_template = false;
        write_folder_atomic(target, |dir| {
            match &self.0 {
                Kind::Hub(folder) => folder.write(dir, report)?,
                Kind::Gguf(gguf) => gguf.write(dir, report)?,
            }
            plain_template = fix_template(dir)?;
            Ok(())
        })?;
        let (config, parameters) = match &self.0 {
            Kind::Hub(folder) => (folder.config(), folder.parameters()),
            Kind::Gguf(gguf) => (gguf.config(), gguf.parameters()),
        };
        Ok(Imported { model_type: config.model_type.clone(), parameters, plain_template })
    }
}

/// Opens the tokenizer as trainer and engines will, and writes the plain chat template down if there is none.
fn fix_template(dir: &Path) -> Result<bool, LearnError> {
    let tokenizer = ChatTokenizer::open(dir).map_err(|e| LearnError::Tokenizer { reason: e.to_string() })?;
    let Some(template) = tokenizer.plain_template() else { return Ok(false) };
    let path = dir.join("tokenizer_config.json");
    let mut config = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| bad(&path, e))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => serde_json::json!({}),
        Err(e) => return Err(LearnError::io(&path)(e)),
    };
    config["chat_template"] = Value::from(template);
    write_json(&path, &config)?;
    Ok(true)
}

fn write_json(path: &Path, value: &Value) -> Result<(), LearnError> {
    std::fs::write(path, format!("{value:#}\n")).map_err(LearnError::io(path))
}

fn bad(path: &Path, reason: impl ToString) -> LearnError {
    LearnError::BadModel { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
