//! `/v1/jobs`: operators start training, watch it and stop it.

use super::App;
use super::auth::Caller;
use super::body::{Body, or_default};
use super::error::{ApiError, ErrorBody};
use super::sse::{self, Gone};
use crate::jobs::{JobView, LogLine, Outlook};
use crate::store::frozen::{self, Frozen};
use crate::store::jobs::{Job, JobKind, JobState};
use crate::store::users::Role;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hone_domain::ids::JobId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// A job to be done.
#[derive(Debug, Deserialize, ToSchema)]
pub struct JobRequest {
    /// What to do.
    kind: JobKind,
    /// Settings of its phases; what is left out has its default.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Object>)]
    params: Map<String, Value>,
}

/// A queued job's id.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobCreated {
    id: String,
}

/// The newest jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobList {
    /// Newest first.
    jobs: Vec<Job>,
}

const LISTED_MAX: usize = 100;

/// Queues a job.
///
/// # Errors
/// 400 for unknown parameters, 403 below the role `operator`.
#[utoipa::path(post, path = "/v1/jobs", tag = "operators", request_body = JobRequest,
    responses((status = 202, body = JobCreated), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub async fn create(
    app: web::Data<App>,
    caller: Caller,
    Body(JobRequest { kind, params }): Body<JobRequest>,
) -> Result<(web::Json<JobCreated>, StatusCode), ApiError> {
    caller.require(Role::Operator)?;
    let id = app.jobs.create(kind, Value::Object(params), &caller.0.name).await?;
    app.audit(caller, "job.create", id.as_str(), json!({"kind": kind})).await;
    Ok((web::Json(JobCreated { id: id.to_string() }), StatusCode::ACCEPTED))
}

/// The newest jobs.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/jobs", tag = "operators", responses((status = 200, body = JobList), (status = 403, body = ErrorBody)))]
pub async fn list(app: web::Data<App>, caller: Caller) -> Result<web::Json<JobList>, ApiError> {
    caller.require(Role::Operator)?;
    Ok(web::Json(JobList { jobs: app.jobs.list(LISTED_MAX).await? }))
}

/// A job with its runs, their curves, and the policy that it made.
///
/// # Errors
/// 403 below the role `operator`, 404.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "operators", params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = 404, body = ErrorBody)))]
pub async fn get(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<web::Json<JobView>, ApiError> {
    caller.require(Role::Operator)?;
    Ok(web::Json(app.jobs.get(&JobId::from_raw(id.into_inner())).await?))
}

/// How much of the log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// At most so many of the last lines, 1 to 2000. Default 200.
    #[param(minimum = 1, maximum = 2000)]
    lines: Option<usize>,
}

/// What a job's training processes wrote.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobLog {
    /// The last lines, oldest first.
    lines: Vec<LogLine>,
}

const LOG_LINES: usize = 200;
const LOG_LINES_MAX: usize = 2_000;

/// The last lines that a job's training processes wrote: what they did, how far they were, and why they failed.
///
/// # Errors
/// 403 below the role `operator`, 404.
#[utoipa::path(get, path = "/v1/jobs/{id}/log", tag = "operators", params(("id" = String, Path), LogQuery),
    responses((status = 200, body = JobLog), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn log(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    web::Query(LogQuery { lines }): web::Query<LogQuery>,
) -> Result<web::Json<JobLog>, ApiError> {
    caller.require(Role::Operator)?;
    let lines = lines.unwrap_or(LOG_LINES);
    if !(1..=LOG_LINES_MAX).contains(&lines) {
        return Err(ApiError::value("lines", format!("ask for 1 to {LOG_LINES_MAX} lines")));
    }
    Ok(web::Json(JobLog { lines: app.jobs.log(&JobId::from_raw(id.into_inner()), lines).await? }))
}

/// What the loop does now, and what comes next.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoopBody {
    /// The job that is at work.
    running: Option<Job>,
    /// How many jobs wait for it.
    queued: usize,
    /// Why nothing happens by itself, who stopped it and when; null while it runs.
    frozen: Option<Frozen>,
    #[serde(flatten)]
    outlook: Outlook,
}

/// What the loop does now or why it stands, what starts the next cycle by itself and how far that is, and how much there is new to learn from.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/loop", tag = "operators", responses((status = 200, body = LoopBody), (status = 403, body = ErrorBody)))]
pub async fn outlook(app: web::Data<App>, caller: Caller) -> Result<web::Json<LoopBody>, ApiError> {
    caller.require(Role::Operator)?;
    let (unfinished, outlook) = app.jobs.outlook().await?;
    let (running, queued): (Vec<Job>, Vec<Job>) =
        unfinished.into_iter().partition(|job| job.state == JobState::Running);
    let frozen = app.store.read(frozen::get).await?;
    Ok(web::Json(LoopBody { running: running.into_iter().next(), queued: queued.len(), frozen, outlook }))
}

/// Asks a job to stop. A training process writes a checkpoint first.
///
/// # Errors
/// 403 below the role `operator`, 404, 409 when it is finished.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "operators", params(("id" = String, Path)),
    responses((status = 202, body = JobCreated), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn cancel(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<(web::Json<JobCreated>, StatusCode), ApiError> {
    caller.require(Role::Operator)?;
    let id = JobId::from_raw(id.into_inner());
    app.jobs.cancel(&id).await?;
    app.audit(caller, "job.cancel", id.as_str(), json!({})).await;
    Ok((web::Json(JobCreated { id: id.to_string() }), StatusCode::ACCEPTED))
}

/// How long a stream may be silent before it says that it is still there.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The job now, and again whenever something about it changes, up to its end; then `[DONE]`.
///
/// # Errors
/// 403 below the role `operator`, 404.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "operators", params(("id" = String, Path)),
    responses((status = 200, description = "Server-sent events, each a Job.", content_type = "text/event-stream"),
    (status = 404, body = ErrorBody)))]
pub async fn events(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    let mut changes = app.jobs.watch(&JobId::from_raw(id.into_inner())).await?;
    let mut stopping = app.stopping.clone();
    Ok(sse::respond(&[], |events| async move {
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(job) => events.send(&job).await?,
                    None => return events.done().await,
                },
                // The client takes the stream up again at the next server.
                _stopping = stopping.wait_for(|stop| *stop) => return Err(Gone),
                () = tokio::time::sleep(SILENCE_MAX) => events.still_here().await?,
            }
        }
    }))
}
