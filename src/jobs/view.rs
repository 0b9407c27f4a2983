//! A job as it is shown: what it was asked for, where it is, each phase with its run and its curves, what came of it.

use super::curves::{self, Curves};
use super::evaluate_policy::Evaluation;
use crate::store::jobs::{self, Job};
use crate::store::policies::{self, Policy};
use crate::store::runs::{self, Run, RunKind};
use crate::store::snapshots::{self, Snapshot};
use crate::store::{Store, StoreError};
use hone_domain::ids::{JobId, PolicyId};
use hone_learn::evaluate::EvaluateReport;
use rusqlite::Connection;
use serde::Serialize;
use std::path::Path;

/// Points that a curve is thinned out to.
const CURVE_POINTS_MAX: usize = 400;

/// A job with everything that belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct JobView {
    /// The job itself.
    #[serde(flatten)]
    pub job: Job,
    /// The data that it learns from.
    pub snapshot: Option<Snapshot>,
    /// The runs that it has started so far.
    pub phases: Vec<PhaseView>,
    /// The policy that it made, with the gate's report.
    pub policy: Option<Policy>,
    /// What the evaluation saw, with answers before and after.
    #[schema(value_type = Option<Object>)]
    pub evaluation: Option<EvaluateReport>,
}

/// A phase that is a run.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PhaseView {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Metric -> points of (step, value).
    #[schema(value_type = std::collections::BTreeMap<String, Vec<Vec<f64>>>)]
    pub curves: Curves,
}

/// Reads a job and its rows; curves are in files and come with [`JobView::with_curves`].
///
/// # Errors
/// When there is none of this id.
pub fn read(c: &Connection, id: &JobId) -> Result<JobView, StoreError> {
    let job = jobs::get(c, id)?;
    let named = |key: &str| job.work.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let snapshot = named("snapshot").map(|sha256| snapshots::get(c, &sha256)).transpose()?;
    let policy = match named("policy").map(PolicyId::from_raw) {
        // The id is chosen a moment before the policy's files and row are written.
        Some(id) => policies::list(c)?.into_iter().find(|p| p.id == id),
        None => None,
    };
    let phases = runs::of_job(c, id)?.into_iter().map(|run| PhaseView { run, curves: Curves::new() }).collect();
    Ok(JobView { job, snapshot, phases, policy, evaluation: None })
}

impl JobView {
    /// Adds what is in files: the metrics' history of each phase, and the evaluation's report.
    #[must_use]
    pub fn with_curves(mut self, data_dir: &Path) -> Self {
        for phase in &mut self.phases {
            let folder = data_dir.join("runs").join(phase.run.id.as_str());
            phase.curves = curves::read(&folder, CURVE_POINTS_MAX);
        }
        let judged = self.phases.iter().rev().find(|phase| phase.run.kind == RunKind::Evaluate);
        let artifact = judged.and_then(|phase| phase.run.artifact_dir.as_ref());
        // A report that was cleared away, or that an older version wrote, is no reason not to show the job.
        let evaluation = artifact.and_then(|dir| Evaluation::load(&data_dir.join(dir)).ok());
        self.evaluation = evaluation.map(|evaluation| evaluation.report);
        self
    }
}

/// A job with everything, for plain threads.
///
/// # Errors
/// When there is none of this id.
pub fn read_blocking(store: &Store, id: &JobId) -> Result<JobView, StoreError> {
    let id = id.clone();
    let view = store.read_blocking(move |c| read(c, &id))?;
    Ok(view.with_curves(store.data_dir()))
}
