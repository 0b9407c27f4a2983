//! Jobs: what was asked for, how far it is, what it has produced. Anyone may create one or ask for it to be cancelled;
//! only the scheduler's tick changes a state, and it alone may call [`start`], [`save`] and [`finish`].

use super::columns::{json, json_or_null, text_enum};
use super::{StoreError, now};
use hone_domain::ids::JobId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

text_enum! {
    /// What a job does.
    JobKind {
        /// Supervised fine-tuning on demonstrations.
        Sft = "sft",
        /// The reward model, on rankings.
        Reward = "reward",
        /// PPO against the newest reward model.
        Ppo = "ppo",
        /// Judges a trained policy against the champion.
        Evaluate = "evaluate",
        /// The whole loop, from snapshot to promotion.
        Cycle = "cycle",
    }
}

text_enum! {
    /// How far a job is.
    JobState {
        /// Waits for its turn.
        Queued = "queued",
        /// At work.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Stopped by an error.
        Failed = "failed",
        /// Stopped by a person.
        Cancelled = "cancelled",
        /// Its policy didn't pass the gate.
        Rejected = "rejected",
    }
}

impl JobState {
    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// The step it is at (`snapshot`, `reward`, `ppo`, ...).
    pub phase: String,
    /// What was asked for.
    #[schema(value_type = Object)]
    pub params: Value,
    /// What the steps done so far have produced.
    #[schema(value_type = Object)]
    pub work: Value,
    /// The newest progress report of the running step.
    #[schema(value_type = Option<Object>)]
    pub progress: Option<Value>,
    /// Who or what started it: a person's name, `schedule`, `threshold` or `drift`.
    pub reason: String,
    /// What went wrong.
    pub error: Option<String>,
    /// Until when its scheduler holds it.
    pub lease_until: Option<String>,
    /// Somebody asked for it to stop.
    pub cancel_requested: bool,
    /// When it was asked for.
    pub created_at: String,
    /// When work began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
}

/// Queues a job.
///
/// # Errors
/// When the database can't.
pub fn create(c: &Connection, kind: JobKind, params: &Value, reason: &str) -> Result<JobId, StoreError> {
    let id = JobId::new();
    c.execute(
        "insert into jobs(id, kind, state, params_json, reason, created_at) values (?1, ?2, 'queued', ?3, ?4, ?5)",
        params![id.as_str(), kind, params.to_string(), reason, now()],
    )?;
    Ok(id)
}

/// One job.
///
/// # Errors
/// When there is none of this id.
pub fn get(c: &Connection, id: &JobId) -> Result<Job, StoreError> {
    let found = c.query_row("select * from jobs where id = ?1", [id.as_str()], from_row).optional()?;
    found.ok_or_else(|| StoreError::NotFound { what: "job", id: id.to_string() })
}

/// The newest jobs first.
///
/// # Errors
/// When the database can't.
pub fn list(c: &Connection, limit: usize) -> Result<Vec<Job>, StoreError> {
    let mut rows = c.prepare_cached("select * from jobs order by created_at desc, id desc limit ?1")?;
    let rows = rows.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The jobs that aren't finished, in the order they were asked for.
///
/// # Errors
/// When the database can't.
pub fn unfinished(c: &Connection) -> Result<Vec<Job>, StoreError> {
    let sql = "select * from jobs where state in ('queued', 'running') order by created_at, id";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When the newest job of this kind was asked for.
///
/// # Errors
/// When the database can't.
pub fn newest_of(c: &Connection, kind: JobKind) -> Result<Option<Job>, StoreError> {
    let sql = "select * from jobs where kind = ?1 order by created_at desc, id desc limit 1";
    Ok(c.query_row(sql, [kind], from_row).optional()?)
}

/// Asks for a job to stop; the scheduler's next tick does it. Asking twice is fine.
///
/// # Errors
/// When there is none of this id, or it is finished.
pub fn request_cancel(c: &Connection, id: &JobId) -> Result<(), StoreError> {
    let job = get(c, id)?;
    if job.state.is_final() {
        return Err(StoreError::Conflict(format!("job {id} is {} already: there is nothing to cancel", job.state)));
    }
    c.execute("update jobs set cancel_requested = 1 where id = ?1", [id.as_str()])?;
    Ok(())
}

/// A queued job begins.
///
/// # Errors
/// When it isn't queued.
pub fn start(c: &Connection, id: &JobId, phase: &str, lease_until: &str) -> Result<(), StoreError> {
    let sql = "update jobs set state = 'running', phase = ?2, lease_until = ?3, started_at = ?4
               where id = ?1 and state = 'queued'";
    changed_one(id, c.execute(sql, params![id.as_str(), phase, lease_until, now()])?)
}

/// Keeps where a running job is and what it has produced.
///
/// # Errors
/// When it isn't running.
pub fn save(c: &Connection, id: &JobId, phase: &str, work: &Value) -> Result<(), StoreError> {
    let sql = "update jobs set phase = ?2, work_json = ?3, progress_json = null where id = ?1 and state = 'running'";
    changed_one(id, c.execute(sql, params![id.as_str(), phase, work.to_string()])?)
}

/// Holds a running job for longer, and keeps its newest progress if there is any.
///
/// # Errors
/// When it isn't running.
pub fn renew(c: &Connection, id: &JobId, lease_until: &str, progress: Option<&Value>) -> Result<(), StoreError> {
    let sql = "update jobs set lease_until = ?2, progress_json = coalesce(?3, progress_json)
               where id = ?1 and state = 'running'";
    changed_one(id, c.execute(sql, params![id.as_str(), lease_until, progress.map(Value::to_string)])?)
}

/// Lets a running job go, so that the next scheduler takes it over at once.
///
/// # Errors
/// When the database can't.
pub fn release(c: &Connection, id: &JobId) -> Result<(), StoreError> {
    c.execute("update jobs set lease_until = null where id = ?1", [id.as_str()])?;
    Ok(())
}

/// A job ends.
///
/// # Errors
/// When it has ended already.
pub fn finish(c: &Connection, id: &JobId, state: JobState, error: Option<&str>) -> Result<(), StoreError> {
    let sql = "update jobs set state = ?2, error = ?3, lease_until = null, finished_at = ?4
               where id = ?1 and state in ('queued', 'running')";
    changed_one(id, c.execute(sql, params![id.as_str(), state, error, now()])?)
}

fn changed_one(id: &JobId, n: usize) -> Result<(), StoreError> {
    if n == 1 { Ok(()) } else { Err(StoreError::Conflict(format!("job {id} isn't in the state that this needs"))) }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: JobId::from_raw(row.get::<_, String>("id")?),
        kind: row.get("kind")?,
        state: row.get("state")?,
        phase: row.get("phase")?,
        params: json(row, "params_json")?,
        work: json(row, "work_json")?,
        progress: json_or_null(row, "progress_json")?,
        reason: row.get("reason")?,
        error: row.get("error")?,
        lease_until: row.get("lease_until")?,
        cancel_requested: row.get("cancel_requested")?,
        created_at: row.get("created_at")?,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
    })
}
