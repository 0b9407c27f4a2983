//! `/v1/labeling`: the queue for labelers, its guidelines, and its gold questions.

use super::App;
use super::auth::Caller;
use super::body::{Body, or_default};
use super::comparisons::RankingRequest;
use super::error::{ApiError, ErrorBody};
use super::feedback::Kept;
use super::messages::{MessageIn, MessageOut, conversation};
use super::presence;
use crate::labeling::agreement::Agreement;
use crate::labeling::progress::Progress;
use crate::labeling::{GoldQuestion, GoldResult, Guidelines, Shown, place_name};
use crate::store::labeling::Kind;
use crate::store::users::Role;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use hone_domain::ids::{ComparisonId, TaskId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NextQuery {
    /// Default `rank`.
    kind: Option<Kind>,
}

/// A task: one prompt with answers to rank, or one to answer. It is this person's alone until its lease ends.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskBody {
    id: String,
    kind: Kind,
    /// The prompt.
    messages: Vec<MessageOut>,
    /// The answers in the order to show them; empty for a demonstration.
    candidates: Vec<TaskCandidate>,
    /// Asking for the next task prolongs it.
    lease_until: String,
}

/// An answer of a task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskCandidate {
    /// What it is called in this task: `c1`, `c2`, ...
    id: String,
    content: String,
}

impl From<Shown> for TaskBody {
    fn from(Shown { id, kind, messages, answers, lease_until }: Shown) -> Self {
        let candidate = |(place, content): (usize, String)| TaskCandidate { id: place_name(place), content };
        Self {
            id: id.to_string(),
            kind,
            messages: messages.into_iter().map(MessageOut::from).collect(),
            candidates: answers.into_iter().enumerate().map(candidate).collect(),
            lease_until,
        }
    }
}

/// The next task.
#[derive(Debug, Serialize, ToSchema)]
pub struct NextTask {
    /// Null when the queue has nothing for this person: more comes when people chat, or when a labeler adds prompts.
    task: Option<TaskBody>,
}

/// The caller's task: the one they hold, or the next one. Asking again gives the same one until it is answered or skipped.
///
/// # Errors
/// 403 below the role `labeler`, 503 when answers to rank can't be made now.
#[utoipa::path(get, path = "/v1/labeling/next", tag = "labeling", params(NextQuery),
    responses((status = 200, body = NextTask), (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn next(
    app: web::Data<App>,
    http: HttpRequest,
    caller: Caller,
    web::Query(NextQuery { kind }): web::Query<NextQuery>,
) -> Result<web::Json<NextTask>, ApiError> {
    caller.require(Role::Labeler)?;
    let next = app.labeling.next(&caller.0.id, kind.unwrap_or(Kind::Rank));
    let task = presence::while_here(&http, next).await?;
    Ok(web::Json(NextTask { task: task.map(TaskBody::from) }))
}

/// Ends a ranking task. It is on disk when the response is sent. Nothing is revealed: the same answers may come back.
///
/// # Errors
/// 403, 404 when the task isn't the caller's, 409 when it has ended, 422 when a candidate is missing, repeated or unknown.
#[utoipa::path(post, path = "/v1/labeling/{task}/ranking", tag = "labeling", params(("task" = String, Path)),
    request_body = RankingRequest, responses((status = 200, body = Kept), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn rank(
    app: web::Data<App>,
    caller: Caller,
    task: web::Path<String>,
    Body(request): Body<RankingRequest>,
) -> Result<web::Json<Kept>, ApiError> {
    let task = of_labeler(&caller, task)?;
    app.labeling.rank(task.clone(), caller.0.id, request.into()).await?;
    app.jobs.wake().notify_one();
    Ok(ended(&task))
}

/// The task that a labeler means.
fn of_labeler(caller: &Caller, task: web::Path<String>) -> Result<TaskId, ApiError> {
    caller.require(Role::Labeler)?;
    Ok(TaskId::from_raw(task.into_inner()))
}

/// What is answered when a task has ended, in whichever way.
fn ended(task: &TaskId) -> web::Json<Kept> {
    web::Json(Kept::of(task.to_string()))
}

/// An ideal answer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct IdealIn {
    /// The answer.
    ideal: String,
}

/// Ends a demonstration task. It is on disk when the response is sent.
///
/// # Errors
/// 403, 404 when the task isn't the caller's, 409 when it has ended, 422 when the answer is empty.
#[utoipa::path(post, path = "/v1/labeling/{task}/ideal", tag = "labeling", params(("task" = String, Path)),
    request_body = IdealIn, responses((status = 200, body = Kept), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn demonstrate(
    app: web::Data<App>,
    caller: Caller,
    task: web::Path<String>,
    Body(IdealIn { ideal }): Body<IdealIn>,
) -> Result<web::Json<Kept>, ApiError> {
    let task = of_labeler(&caller, task)?;
    app.labeling.demonstrate(task.clone(), caller.0.id, ideal).await?;
    Ok(ended(&task))
}

/// Why a task is passed over.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SkipIn {
    /// 1 to 2000 characters.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
}

/// Passes a task over: this person doesn't get it again, and three such people take it out of the queue.
///
/// # Errors
/// 403, 404 when the task isn't the caller's, 409 when it has ended, 422 without a reason.
#[utoipa::path(post, path = "/v1/labeling/{task}/skip", tag = "labeling", params(("task" = String, Path)),
    request_body = SkipIn, responses((status = 200, body = Kept), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn skip(
    app: web::Data<App>,
    caller: Caller,
    task: web::Path<String>,
    Body(SkipIn { reason }): Body<SkipIn>,
) -> Result<web::Json<Kept>, ApiError> {
    let task = of_labeler(&caller, task)?;
    app.labeling.skip(task.clone(), caller.0.id, reason).await?;
    Ok(ended(&task))
}

/// Takes back what the caller has done last, within `labeling.undo_minutes`: it is gone from training, and the task is theirs again.
///
/// # Errors
/// 403, 409 when there is nothing that may be taken back.
#[utoipa::path(post, path = "/v1/labeling/undo", tag = "labeling",
    responses((status = 200, body = TaskBody), (status = 403, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn undo(app: web::Data<App>, caller: Caller) -> Result<web::Json<TaskBody>, ApiError> {
    caller.require(Role::Labeler)?;
    Ok(web::Json(app.labeling.undo(caller.0.id).await?.into()))
}

/// A prompt for the queue.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PromptIn {
    /// The prompt; the last message is the person's.
    #[schema(min_items = 1)]
    messages: Vec<MessageIn>,
}

/// Puts a labeler's own prompt into the queue, before the logged ones.
///
/// # Errors
/// 400 when it can't be answered, 403 below the role `labeler`.
#[utoipa::path(post, path = "/v1/labeling/prompts", tag = "labeling", request_body = PromptIn,
    responses((status = 201, body = Kept), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub async fn add_prompt(
    app: web::Data<App>,
    caller: Caller,
    Body(PromptIn { messages }): Body<PromptIn>,
) -> Result<(web::Json<Kept>, StatusCode), ApiError> {
    caller.require(Role::Labeler)?;
    let id = app.labeling.add_prompt(caller.0.id, conversation(messages)?).await?;
    Ok((web::Json(Kept::of(id)), StatusCode::CREATED))
}

/// The caller's progress, pace and agreement.
///
/// # Errors
/// 403 below the role `labeler`.
#[utoipa::path(get, path = "/v1/labeling/progress", tag = "labeling",
    responses((status = 200, body = Progress), (status = 403, body = ErrorBody)))]
pub async fn progress(app: web::Data<App>, caller: Caller) -> Result<web::Json<Progress>, ApiError> {
    caller.require(Role::Labeler)?;
    Ok(web::Json(app.labeling.progress(caller.0.id).await?))
}

/// The text beside the tasks.
///
/// # Errors
/// 403 below the role `labeler`.
#[utoipa::path(get, path = "/v1/labeling/guidelines", tag = "labeling",
    responses((status = 200, body = Guidelines), (status = 403, body = ErrorBody)))]
pub async fn guidelines(app: web::Data<App>, caller: Caller) -> Result<web::Json<Guidelines>, ApiError> {
    caller.require(Role::Labeler)?;
    Ok(web::Json(app.labeling.guidelines().await?))
}

/// Another text.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GuidelinesIn {
    /// Markdown; empty: back to the configured file's, or hone's own.
    #[schema(max_length = 100000)]
    text: String,
}

/// Writes the text beside the tasks.
///
/// # Errors
/// 403 below the role `operator`, 422 when it is too long.
#[utoipa::path(put, path = "/v1/labeling/guidelines", tag = "labeling", request_body = GuidelinesIn,
    responses((status = 200, body = Guidelines), (status = 403, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn write_guidelines(
    app: web::Data<App>,
    caller: Caller,
    Body(GuidelinesIn { text }): Body<GuidelinesIn>,
) -> Result<web::Json<Guidelines>, ApiError> {
    caller.require(Role::Operator)?;
    Ok(web::Json(app.labeling.write_guidelines(text, caller.0.name).await?))
}

/// A gold question.
#[derive(Debug, Serialize, ToSchema)]
pub struct GoldBody {
    /// The comparison.
    comparison: String,
    /// How it is to be ranked: tiers of candidate ids, best first.
    ranking: Vec<Vec<String>>,
    /// The prompt.
    messages: Vec<MessageOut>,
    /// Its answers, as they were first shown.
    answers: Vec<GoldAnswer>,
    /// Who said so.
    by: String,
    /// When.
    at: String,
    /// How each labeler did on it, the newest first.
    results: Vec<GoldResultBody>,
}

/// How a labeler did on a gold question.
#[derive(Debug, Serialize, ToSchema)]
pub struct GoldResultBody {
    /// Who, by id.
    user: String,
    /// And by name.
    name: String,
    /// How they ranked it; null where they found that its answers can't be ranked.
    ranking: Option<Vec<Vec<String>>>,
    /// Pairs of answers of which they said what is expected, and all pairs.
    agreement: Agreement,
    /// When.
    at: String,
}

impl From<GoldResult> for GoldResultBody {
    fn from(GoldResult { user, name, tiers, agreement, at }: GoldResult) -> Self {
        Self { user, name, ranking: tiers, agreement, at }
    }
}

/// An answer of a gold question.
#[derive(Debug, Serialize, ToSchema)]
pub struct GoldAnswer {
    id: String,
    content: String,
}

/// All gold questions.
#[derive(Debug, Serialize, ToSchema)]
pub struct GoldList {
    /// Newest first.
    gold: Vec<GoldBody>,
}

/// The gold questions, and how each labeler did on each.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/labeling/gold", tag = "labeling",
    responses((status = 200, body = GoldList), (status = 403, body = ErrorBody)))]
pub async fn gold(app: web::Data<App>, caller: Caller) -> Result<web::Json<GoldList>, ApiError> {
    caller.require(Role::Operator)?;
    let body = |gold: GoldQuestion| GoldBody {
        comparison: gold.comparison.to_string(),
        ranking: gold.tiers,
        messages: gold.messages.into_iter().map(MessageOut::from).collect(),
        answers: gold.answers.into_iter().map(|(id, content)| GoldAnswer { id, content }).collect(),
        by: gold.actor,
        at: gold.at,
        results: gold.results.into_iter().map(GoldResultBody::from).collect(),
    };
    let gold = app.labeling.gold().await?.into_iter().map(body).collect();
    Ok(web::Json(GoldList { gold }))
}

/// What is expected of a gold question.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GoldIn {
    /// Tiers of candidate ids, best first, every candidate once; left out: the ranking that the comparison has.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Vec<Vec<String>>>)]
    ranking: Vec<Vec<String>>,
}

/// Makes a comparison a gold question: labelers get it among the others and are measured by it. What it was ranked before stays.
///
/// # Errors
/// 403 below the role `operator`, 404, 409 when it has no ranking and none is sent, 422 when a candidate is missing, repeated or unknown.
#[utoipa::path(put, path = "/v1/labeling/gold/{comparison}", tag = "labeling", params(("comparison" = String, Path)),
    request_body = GoldIn, responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn set_gold(
    app: web::Data<App>,
    caller: Caller,
    comparison: web::Path<String>,
    Body(GoldIn { ranking }): Body<GoldIn>,
) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    app.labeling.set_gold(ComparisonId::from_raw(comparison.into_inner()), ranking, caller.0.name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Makes a gold question an ordinary comparison again. What labelers said of it stays, and measures nobody any more.
///
/// # Errors
/// 403 below the role `operator`, 404 when it isn't one.
#[utoipa::path(delete, path = "/v1/labeling/gold/{comparison}", tag = "labeling", params(("comparison" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn unset_gold(
    app: web::Data<App>,
    caller: Caller,
    comparison: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    app.labeling.unset_gold(ComparisonId::from_raw(comparison.into_inner()), caller.0.name).await?;
    Ok(HttpResponse::NoContent().finish())
}
