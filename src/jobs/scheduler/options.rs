//! What a scheduler is told at its start. Uses the settings of what it starts.

use super::{FailAt, LEASE};
use crate::jobs::JobError;
use crate::jobs::canary::CanaryConfig;
use crate::jobs::evaluate_suites::SuiteSettings;
use crate::jobs::gate::GateConfig;
use crate::jobs::triggers::Triggers;
use jiff::SignedDuration;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// What a scheduler is told at its start.
pub struct Options {
    /// The binary that trains: this one.
    pub program: PathBuf,
    /// What starts cycles.
    pub triggers: Triggers,
    /// Bounds of the gate, where a job doesn't have its own.
    pub gate: GateConfig,
    /// What happens to what passes the gate.
    pub canary: CanaryConfig,
    /// Settings of the evaluation: the suites and their files.
    pub suites: Map<String, Value>,
    /// How long a job is held without a sign of life.
    pub lease: SignedDuration,
    /// For tests.
    pub fail_at: Option<FailAt>,
}

impl Options {
    /// With this binary, and no planned failure.
    ///
    /// # Errors
    /// When a setting is out of its range, a suite's file isn't there, or the system doesn't tell where this binary is.
    pub fn new(
        triggers: Triggers,
        gate: GateConfig,
        canary: CanaryConfig,
        suites: &SuiteSettings,
    ) -> Result<Self, JobError> {
        canary.trial().map_err(|e| JobError::Invalid(format!("[canary]: {e}")))?;
        let program = std::env::current_exe().map_err(JobError::file("this program".as_ref()))?;
        let suites = suites.settings()?;
        Ok(Self { program, triggers, gate, canary, suites, lease: LEASE, fail_at: None })
    }
}
