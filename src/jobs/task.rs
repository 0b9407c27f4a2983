//! What each kind of run is handed to work with.

use super::JobError;
use super::inputs::Inputs;
use crate::store::runs::Run;
use hone_domain::DataSet;
use serde::Deserialize;
use serde_json::Value;

/// What a run works with; paths are absolute.
pub(super) struct Task<'a> {
    pub(super) run: &'a Run,
    pub(super) settings: Value,
    pub(super) data: DataSet,
    pub(super) inputs: Inputs,
}

impl Task<'_> {
    /// The trainer's settings, read back from the run's row.
    pub(super) fn settings<T: for<'a> Deserialize<'a>>(&self) -> Result<T, JobError> {
        T::deserialize(&self.settings).map_err(|e| JobError::Invalid(format!("the run's settings: {e}")))
    }
}
