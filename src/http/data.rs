//! `/v1/prompts`, `/v1/exclusions`, `/v1/data`: operators look through the feedback, take pieces out of training and put them back, and
//! carry it in and out.

use super::App;
use super::auth::Caller;
use super::body::{Body, Bytes};
use super::comparisons::RankingBody;
use super::error::{ApiError, Code, ErrorBody};
use super::messages::{listed, skipped};
use crate::interchange::export::{self, Format, What};
use crate::interchange::import::{self, Report};
use crate::store::comparisons::{self, Candidate};
use crate::store::data_room::{self, Filter, Item, Source};
use crate::store::users::Role;
use crate::store::{Page, StoreError, audit, completions, exclusions};
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use hone_domain::ids::{ComparisonId, CompletionId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

/// Which prompts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PromptQuery {
    /// Only those with this text in the prompt or the answer.
    q: Option<String>,
    /// Only those that came this way.
    source: Option<Source>,
    /// Only those that this person (id or name) sent, ranked or answered.
    person: Option<String>,
    /// `true`: only what is excluded; `false`: only what isn't.
    excluded: Option<bool>,
    /// At most so many, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// Leave out so many at the beginning. Default 0.
    #[param(minimum = 0)]
    offset: Option<usize>,
}

/// Prompts that may be learned from.
#[derive(Debug, Serialize, ToSchema)]
pub struct PromptList {
    /// Newest first.
    prompts: Vec<Item>,
    /// How many there are.
    total: u64,
}

/// What may be learned from: chats, comparisons, imports and demonstrations.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/prompts", tag = "data", params(PromptQuery),
    responses((status = 200, body = PromptList), (status = 403, body = ErrorBody)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    web::Query(query): web::Query<PromptQuery>,
) -> Result<web::Json<PromptList>, ApiError> {
    caller.require(Role::Operator)?;
    let (limit, offset) = (listed(query.limit)?, skipped(query.offset)?);
    let (text, person) = (query.q.unwrap_or_default(), query.person.unwrap_or_default());
    let filter = Filter { text, source: query.source, person, excluded: query.excluded };
    let Page { items, total } = app.store.read(move |c| data_room::list(c, &filter, limit, offset)).await?;
    Ok(web::Json(PromptList { prompts: items, total }))
}

/// An item with its answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct PromptBody {
    #[serde(flatten)]
    item: Item,
    /// The answers and who gave them; empty for a demonstration.
    candidates: Vec<PromptAnswer>,
    /// How they were ranked, where they were.
    ranking: Option<RankingBody>,
}

/// An answer, to operators.
#[derive(Debug, Serialize, ToSchema)]
pub struct PromptAnswer {
    id: String,
    content: String,
    /// Who gave it.
    policy: String,
}

/// One item with its answers, who gave them, and their ranking.
///
/// # Errors
/// 403 below the role `operator`, 404.
#[utoipa::path(get, path = "/v1/prompts/{id}", tag = "data", params(("id" = String, Path)),
    responses((status = 200, body = PromptBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn get(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<PromptBody>, ApiError> {
    caller.require(Role::Operator)?;
    let read = move |c: &rusqlite::Connection| {
        let item = data_room::get(c, &id)?;
        match item.source {
            Source::Demonstration => Ok(PromptBody { item, candidates: Vec::new(), ranking: None }),
            Source::Chat => {
                let policy = completions::policy_of(c, &CompletionId::from_raw(item.id.as_str()))?.to_string();
                let (id, content) = (item.id.clone(), item.answer.clone().unwrap_or_default());
                Ok(PromptBody { item, candidates: vec![PromptAnswer { id, content, policy }], ranking: None })
            }
            Source::Comparison | Source::Queue | Source::Import => {
                let (comparison, _) = comparisons::any(c, &ComparisonId::from_raw(item.id.as_str()))?;
                let ranking = comparison.ranking.map(|stored| RankingBody::of(stored, &comparison.candidates));
                let answer = |Candidate { id, content, policy }: Candidate| PromptAnswer {
                    id: id.to_string(),
                    content,
                    policy: policy.to_string(),
                };
                Ok(PromptBody { item, candidates: comparison.candidates.into_iter().map(answer).collect(), ranking })
            }
        }
    };
    Ok(web::Json(app.store.read(read).await?))
}

/// What to leave out of training, or to let back in.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ExclusionIn {
    /// Ids of logged answers, comparisons, demonstrations, or people: then all that they sent, ranked or wrote.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<String>,
    /// 1 to 2000 characters.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
}

/// How many items changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changed {
    changed: usize,
}

const IDS_MAX: usize = 1_000;
const REASON_CHARS_MAX: usize = 2_000;

impl ExclusionIn {
    fn checked(self) -> Result<(Vec<String>, String), ApiError> {
        let refuse = |param: &str, message: String| Err(ApiError::new(Code::Unprocessable, message).with_param(param));
        let reason = self.reason.trim().to_owned();
        if !(1..=IDS_MAX).contains(&self.ids.len()) {
            return refuse("ids", format!("name 1 to {IDS_MAX} ids"));
        }
        if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
            return refuse(
                "reason",
                format!("say why in 1 to {REASON_CHARS_MAX} characters: it is kept in the audit log"),
            );
        }
        Ok((self.ids, reason))
    }
}

/// Leaves items out of training and of the labeling queue from now on: no new snapshot holds them while they are excluded. What has been
/// trained stays as it is.
///
/// # Errors
/// 403 below the role `operator`, 404 for an unknown id (then nothing is excluded), 422 without a reason.
#[utoipa::path(post, path = "/v1/exclusions", tag = "data", request_body = ExclusionIn,
    responses((status = 200, body = Changed), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn exclude(
    app: web::Data<App>,
    caller: Caller,
    Body(request): Body<ExclusionIn>,
) -> Result<web::Json<Changed>, ApiError> {
    change(&app, &caller, request, "data.exclude", exclusions::exclude).await
}

/// Lets excluded items be learned from again.
///
/// # Errors
/// 403 below the role `operator`, 422 without a reason.
#[utoipa::path(post, path = "/v1/exclusions/restore", tag = "data", request_body = ExclusionIn,
    responses((status = 200, body = Changed), (status = 403, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn restore(
    app: web::Data<App>,
    caller: Caller,
    Body(request): Body<ExclusionIn>,
) -> Result<web::Json<Changed>, ApiError> {
    change(&app, &caller, request, "data.restore", |tx, ids, _, _| exclusions::restore(tx, ids)).await
}

/// Leaves items out or lets them in, and notes each with the reason, all in one transaction. `change`: ids, reason, who.
async fn change(
    app: &App,
    caller: &Caller,
    request: ExclusionIn,
    action: &'static str,
    change: fn(&rusqlite::Connection, &[String], &str, &str) -> Result<usize, StoreError>,
) -> Result<web::Json<Changed>, ApiError> {
    caller.require(Role::Operator)?;
    let ((ids, reason), name) = (request.checked()?, caller.0.name.clone());
    let write = move |tx: &rusqlite::Connection| {
        let changed = change(tx, &ids, &reason, &name)?;
        for id in &ids {
            audit::note(tx, &name, action, id, &json!({"reason": reason}))?;
        }
        Ok(Changed { changed })
    };
    Ok(web::Json(app.store.write(write).await?))
}

/// How to import.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// Pass over broken lines and report them, instead of importing nothing. Default false.
    #[serde(default)]
    skip_bad: bool,
}

/// What an import did.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportBody {
    /// New rankings.
    rankings: usize,
    /// New demonstrations.
    demonstrations: usize,
    /// Lines that were there already, word for word.
    duplicates: usize,
    /// Lines that were passed over.
    skipped: Vec<SkippedLine>,
}

/// A line that was passed over.
#[derive(Debug, Serialize, ToSchema)]
pub struct SkippedLine {
    /// From 1.
    line: usize,
    /// What is wrong with it.
    reason: String,
}

/// Imports rankings and demonstrations: JSONL in any of the shapes that `hone data import` reads, as the body. All lines or none.
///
/// # Errors
/// 400 without a line, 403 below the role `operator`, 413 beyond `limits.import_bytes_max`, 422 with the number of every broken line.
#[utoipa::path(post, path = "/v1/data/import", tag = "data", params(ImportQuery),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = ImportBody), (status = 403, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn import(
    app: web::Data<App>,
    caller: Caller,
    web::Query(ImportQuery { skip_bad }): web::Query<ImportQuery>,
    Bytes(lines): Bytes,
) -> Result<web::Json<ImportBody>, ApiError> {
    caller.require(Role::Operator)?;
    if lines.trim_ascii().is_empty() {
        return Err(ApiError::new(
            Code::InvalidBody,
            "the body is empty: send the lines to import, a JSON object each",
        ));
    }
    let store = app.store.clone();
    let imported = tokio::task::spawn_blocking(move || import::import_lines(&store, &lines, skip_bad)).await;
    let Report { rankings, demonstrations, duplicates, skipped } = imported.map_err(|_| StoreError::Closed)??;
    let counts = json!({"rankings": rankings, "demonstrations": demonstrations, "skipped": skipped.len()});
    app.audit(caller, "data.import", "feedback", counts).await;
    let skipped = skipped.into_iter().map(|bad| SkippedLine { line: bad.line, reason: bad.reason }).collect();
    app.jobs.wake().notify_one();
    Ok(web::Json(ImportBody { rankings, demonstrations, duplicates, skipped }))
}

/// What to export.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DataExportQuery {
    /// The shape of the lines. Default `hone`.
    format: Option<Format>,
    /// Default `all`.
    what: Option<What>,
}

/// All rankings and demonstrations that are learned from, as JSONL.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/data/export", tag = "data", params(DataExportQuery),
    responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 403, body = ErrorBody)))]
pub async fn export(
    app: web::Data<App>,
    caller: Caller,
    web::Query(DataExportQuery { format, what }): web::Query<DataExportQuery>,
) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    let store = app.store.clone();
    let write = move || {
        let mut lines = Vec::new();
        export::export(&store, format.unwrap_or(Format::Hone), what.unwrap_or(What::All), &mut lines)
            .map(|n| (lines, n))
    };
    let (lines, n) = tokio::task::spawn_blocking(write).await.map_err(|_| StoreError::Closed)??;
    app.audit(caller, "data.export", "feedback", json!({"lines": n})).await;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/x-ndjson"))
        .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"hone-feedback.jsonl\""))
        .body(lines))
}
