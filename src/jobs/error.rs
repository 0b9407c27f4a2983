//! Why a job can't be made, or didn't work out.

use crate::store::StoreError;
use hone_domain::EngineError;
use hone_learn::LearnError;
use std::path::{Path, PathBuf};

/// What stops a job. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The request makes no sense as it is.
    #[error("{0}")]
    Invalid(String),
    /// There isn't enough feedback to learn from.
    #[error("{0}")]
    NotEnoughData(String),
    /// It doesn't fit with what has happened meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// A training process ended without a result.
    #[error("{0}")]
    Process(String),
    /// A file can't be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine can't load or score the policy.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The trainer says no.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// A test planned for the scheduler to die here.
    #[error("planned failure at {0:?}")]
    Planned(super::scheduler::FailAt),
}

impl JobError {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |e| Self::File { path: path.to_owned(), reason: e.to_string() }
    }

    /// For `map_err` on JSON that was read from a file.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        move |e| Self::File { path: path.to_owned(), reason: e.to_string() }
    }
}
