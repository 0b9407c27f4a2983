//! Training runs: one kind, one folder, everything that is needed to repeat or resume it.

use super::columns::{json, json_or_null, text_enum};
use super::{StoreError, now};
use hone_domain::ids::{JobId, RunId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

text_enum! {
    /// What a run does.
    RunKind {
        /// Supervised fine-tuning on demonstrations.
        Sft = "sft",
        /// The reward model, on rankings.
        Reward = "reward",
        /// A reward model of other people's rankings, which decides the gate and which nothing is optimised against.
        Judge = "judge",
        /// PPO against the reward model.
        Ppo = "ppo",
        /// Old against new policy on held-out prompts.
        Evaluate = "evaluate",
    }
}

text_enum! {
    /// How far a run is. Cancelled and failed runs can be resumed while their folder is there.
    RunState {
        /// Working, or killed without a chance to say so.
        Running = "running",
        /// Done; the artifact is there.
        Succeeded = "succeeded",
        /// Stopped by an error.
        Failed = "failed",
        /// Stopped by a person.
        Cancelled = "cancelled",
    }
}

/// What a run starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// What it does.
    pub kind: RunKind,
    /// The job that it is a phase of.
    pub job_id: Option<JobId>,
    /// Name of the base model.
    pub base_name: String,
    /// The data.
    pub snapshot_sha256: String,
    /// The adapters that it starts from, by role.
    pub inputs: Value,
    /// The complete effective configuration.
    pub config: Value,
    /// All randomness comes from it.
    pub seed: u64,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Run {
    /// Its id, and the name of its folder.
    #[schema(value_type = String)]
    pub id: RunId,
    /// What it does.
    pub kind: RunKind,
    /// The job that it is a phase of.
    #[schema(value_type = Option<String>)]
    pub job_id: Option<JobId>,
    /// How far it is.
    pub state: RunState,
    /// Name of the base model.
    pub base_name: String,
    /// The data.
    pub snapshot_sha256: String,
    /// The adapters that it starts from, by role.
    #[schema(value_type = Object)]
    pub inputs: Value,
    /// The complete effective configuration.
    #[schema(value_type = Object)]
    pub config: Value,
    /// All randomness comes from it.
    pub seed: u64,
    /// What it made, relative to the data folder.
    pub artifact_dir: Option<String>,
    /// Hash of what it made.
    pub artifact_sha256: Option<String>,
    /// The last figures.
    #[schema(value_type = Option<Object>)]
    pub metrics: Option<Value>,
    /// What went wrong.
    pub error: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
}

/// Makes a run in state `running`.
///
/// # Errors
/// When the snapshot or the job doesn't exist.
pub fn create(c: &Connection, new: &NewRun) -> Result<RunId, StoreError> {
    let NewRun { kind, job_id, base_name, snapshot_sha256, inputs, config, seed } = new;
    let id = RunId::new();
    c.execute(
        "insert into runs(id, kind, job_id, state, base_name, snapshot_sha256, inputs_json, config_json, seed, created_at)
         values (?1, ?2, ?3, 'running', ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            id.as_str(),
            kind,
            job_id.as_ref().map(JobId::as_str),
            base_name,
            snapshot_sha256,
            inputs.to_string(),
            config.to_string(),
            seed.cast_signed(),
            now()
        ],
    )?;
    Ok(id)
}

/// One run.
///
/// # Errors
/// When there is none of this id.
pub fn get(c: &Connection, id: &RunId) -> Result<Run, StoreError> {
    let found = c.query_row("select * from runs where id = ?1", [id.as_str()], from_row).optional()?;
    found.ok_or_else(|| StoreError::NotFound { what: "run", id: id.to_string() })
}

/// The newest runs first.
///
/// # Errors
/// When the database can't.
pub fn list(c: &Connection, limit: usize) -> Result<Vec<Run>, StoreError> {
    let mut rows = c.prepare_cached("select * from runs order by created_at desc, id desc limit ?1")?;
    let rows = rows.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The runs of a job, oldest first.
///
/// # Errors
/// When the database can't.
pub fn of_job(c: &Connection, job: &JobId) -> Result<Vec<Run>, StoreError> {
    let mut rows = c.prepare_cached("select * from runs where job_id = ?1 order by created_at, id")?;
    let rows = rows.query_map([job.as_str()], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The newest run of a kind that succeeded on this base.
///
/// # Errors
/// When the database can't.
pub fn newest_succeeded(c: &Connection, kind: RunKind, base_name: &str) -> Result<Option<Run>, StoreError> {
    let sql = "select * from runs where kind = ?1 and base_name = ?2 and state = 'succeeded'
               order by finished_at desc, id desc limit 1";
    Ok(c.query_row(sql, params![kind, base_name], from_row).optional()?)
}

/// The run that made an artifact, where it is one of ours.
///
/// # Errors
/// When the database can't.
pub fn that_made(c: &Connection, artifact_dir: &str) -> Result<Option<Run>, StoreError> {
    Ok(c.query_row("select * from runs where artifact_dir = ?1", [artifact_dir], from_row).optional()?)
}

/// A stopped run goes on.
///
/// # Errors
/// When it has succeeded already, or doesn't exist.
pub fn resume(c: &Connection, id: &RunId) -> Result<Run, StoreError> {
    let run = get(c, id)?;
    if run.state == RunState::Succeeded {
        return Err(StoreError::Conflict(format!("run {id} has succeeded already: there is nothing to resume")));
    }
    c.execute("update runs set state = 'running', error = null, finished_at = null where id = ?1", [id.as_str()])?;
    get(c, id)
}

/// A run is done: what it made.
///
/// # Errors
/// When there is none of this id.
pub fn succeed(
    c: &Connection,
    id: &RunId,
    artifact_dir: &str,
    sha256: &str,
    metrics: &Value,
) -> Result<(), StoreError> {
    let sql = "update runs set state = 'succeeded', artifact_dir = ?2, artifact_sha256 = ?3, metrics_json = ?4,
               error = null, finished_at = ?5 where id = ?1";
    changed_one(id, c.execute(sql, params![id.as_str(), artifact_dir, sha256, metrics.to_string(), now()])?)
}

/// A run ended without an artifact. One that has succeeded stays so.
///
/// # Errors
/// When the database can't.
pub fn stop(c: &Connection, id: &RunId, state: RunState, error: Option<&str>) -> Result<(), StoreError> {
    let sql = "update runs set state = ?2, error = ?3, finished_at = ?4 where id = ?1 and state <> 'succeeded'";
    c.execute(sql, params![id.as_str(), state, error, now()])?;
    Ok(())
}

fn changed_one(id: &RunId, n: usize) -> Result<(), StoreError> {
    if n == 1 { Ok(()) } else { Err(StoreError::NotFound { what: "run", id: id.to_string() }) }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: RunId::from_raw(row.get::<_, String>("id")?),
        kind: row.get("kind")?,
        job_id: row.get::<_, Option<String>>("job_id")?.map(JobId::from_raw),
        state: row.get("state")?,
        base_name: row.get("base_name")?,
        snapshot_sha256: row.get("snapshot_sha256")?,
        inputs: json(row, "inputs_json")?,
        config: json(row, "config_json")?,
        seed: row.get::<_, i64>("seed")?.cast_unsigned(),
        artifact_dir: row.get("artifact_dir")?,
        artifact_sha256: row.get("artifact_sha256")?,
        metrics: json_or_null(row, "metrics_json")?,
        error: row.get("error")?,
        created_at: row.get("created_at")?,
        finished_at: row.get("finished_at")?,
    })
}
