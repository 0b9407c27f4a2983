//! What can go wrong in `learn`, each with what to do next. Uses nothing but std.

use std::io;
use std::path::{Path, PathBuf};

/// The one error type of this crate.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A file could not be read or written.
    #[error("{}: {source}; check that the path exists and that hone may read and write it", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk has no room left. Whatever was being written is not visible under its final name.
    #[error("no space left on the disk that holds {}; free some and start again, nothing half-written was kept", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// There is a model in this place already.
    #[error("there is already a model at {}: choose another name with --name, or remove it first", path.display())]
    ModelExists {
        /// The taken folder.
        path: PathBuf,
    },
    /// A model folder or file lacks something or contradicts itself.
    #[error("{} is not a usable model: {reason}", path.display())]
    BadModel {
        /// The folder, the file in it, or the file to import.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The machine has no memory left for a model's weights.
    #[error(
        "no memory for the model's weights ({source}); a smaller number format (--base-format q8_0) or model takes less"
    )]
    NoMemory {
        /// What the system said.
        source: io::Error,
    },
    /// An adapter folder lacks something or does not fit its base.
    #[error("{} is not a usable adapter folder: {reason}", path.display())]
    BadAdapter {
        /// The folder or the file in it.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A classifier folder lacks something or contradicts itself.
    #[error("{} is not a usable classifier: {reason}; `hone classifier train --out DIR` makes one", path.display())]
    BadClassifier {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The architecture is outside of the Llama family that this crate computes.
    #[error("the architecture \"{found}\" is not supported: {reason}; supported are Llama, Mistral and Qwen2 models")]
    UnsupportedArchitecture {
        /// As the model names itself.
        found: String,
        /// Which of its properties is missing here.
        reason: String,
    },
    /// Two things that must fit do not.
    #[error("{what} has shape {found:?} where {expected:?} is needed")]
    ShapeMismatch {
        /// Which tensor.
        what: String,
        /// The shape that is needed.
        expected: Vec<usize>,
        /// The shape that is there.
        found: Vec<usize>,
    },
    /// A token id is outside of the model's vocabulary: tokenizer and weights are not of one model.
    #[error(
        "token {token} is outside of the model's vocabulary of {vocab}; do tokenizer.json and the weights belong together?"
    )]
    TokenOutOfRange {
        /// The offending id.
        token: u32,
        /// The number of rows in the embedding.
        vocab: usize,
    },
    /// A sequence is longer than the model can attend to.
    #[error("a sequence of {found} tokens is longer than the model's context of {context}; shorten it")]
    TooLong {
        /// Its length in tokens.
        found: usize,
        /// The model's limit in tokens.
        context: usize,
    },
    /// The tokenizer or the chat template refused.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// What it said.
        reason: String,
    },
    /// A number became infinite or NaN.
    #[error("{what} is not finite; lower the learning rate or look for broken training data")]
    NonFinite {
        /// Which quantity, and at which step.
        what: String,
    },
    /// A checkpoint does not belong to this run, or is damaged.
    #[error("checkpoint {}: {reason}", path.display())]
    CheckpointMismatch {
        /// The checkpoint folder.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A device (a GPU) is not there, or failed.
    #[error(
        "{device}: {reason}; a run's last checkpoint is kept: resume it when the device is back, or start one with --device cpu"
    )]
    Device {
        /// What it calls itself.
        device: String,
        /// What it said.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("setting {name}: {reason}")]
    BadConfig {
        /// The setting's name.
        name: String,
        /// What is wrong, and which values are allowed.
        reason: String,
    },
    /// There is nothing to train on, or what there is can't be used.
    #[error("training data: {reason}")]
    BadData {
        /// What is missing or wrong, and what to do.
        reason: String,
    },
    /// The data of an evaluation suite can't be used, or two results of it can't be compared.
    #[error("suite {suite}: {reason}")]
    BadSuite {
        /// Which suite.
        suite: String,
        /// What is wrong, with the line where there is one, and what to do.
        reason: String,
    },
    /// The run was asked to stop and did; it can be resumed.
    #[error("stopped on request; the run can be resumed from its last checkpoint")]
    Stopped,
}

impl LearnError {
    /// For `.map_err(LearnError::io(path))`: keeps the path, and names a full disk as such.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, source },
        }
    }
}
