//! `/v1/comparisons`: k blind answers to one prompt, and their ranking, which reveals who gave them.

use super::App;
use super::auth::Caller;
use super::body::{Body, or_default};
use super::error::{ApiError, ErrorBody, ErrorDetail};
use super::messages::{MessageIn, MessageOut, SamplingIn, StopIn, conversation, listed};
use super::presence;
use super::sse::{self, Events, Gone};
use crate::chat::comparison::Verdict;
use crate::chat::turn::Answer;
use crate::chat::{Event, Turn};
use crate::store::comparisons::{Candidate, Comparison};
use crate::store::rankings::{CandidateLabel, Labels, StoredRanking};
use actix_web::{HttpRequest, HttpResponse, web};
use hone_domain::Sampling;
use hone_domain::ids::ComparisonId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// What to compare.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ComparisonRequest {
    /// The prompt; the last message is the person's.
    #[schema(min_items = 1)]
    messages: Vec<MessageIn>,
    /// How many answers, 2 to 9. Default 4.
    #[schema(minimum = 2, maximum = 9)]
    k: Option<usize>,
    /// Send all answers side by side while they are made.
    stream: Option<bool>,
    /// 0 (always the likeliest token) to 2. Default 1.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Only the likeliest tokens with this mass together. Default 1.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Most tokens of the answer. Default 512; never more than the context leaves.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// The same; wins over `max_tokens`.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<usize>,
    /// A text, or up to four: the answer ends before any of them.
    #[schema(value_type = Option<StopIn>)]
    stop: Option<Value>,
    /// Same seed, policy and prompt: same answer, where the engine can.
    seed: Option<i64>,
    /// -2 to 2. Default 0.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// -2 to 2. Default 0.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
}

impl ComparisonRequest {
    const K_DEFAULT: usize = 4;

    fn sampling(self) -> Result<Sampling, ApiError> {
        let request = self;
        SamplingIn {
            temperature: request.temperature,
            top_p: request.top_p,
            max_tokens: request.max_completion_tokens.or(request.max_tokens),
            stop: request.stop,
            seed: request.seed,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
        }
        .sampling(None)
    }
}

/// A comparison. Who gave which answer isn't told before it is ranked.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComparisonBody {
    id: String,
    messages: Vec<MessageOut>,
    /// In the order shown.
    candidates: Vec<CandidateBody>,
    /// The ranking, once there is one.
    ranking: Option<RankingBody>,
    created_at: String,
}

/// One answer of a comparison.
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateBody {
    id: String,
    content: String,
    /// Who gave it; null until the comparison is ranked.
    policy: Option<String>,
}

/// A ranking as it was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankingBody {
    /// Tiers of candidate ids, best first; empty when not rankable.
    ranking: Vec<Vec<String>>,
    not_rankable: bool,
    labels: BTreeMap<String, CandidateLabel>,
    comment: Option<String>,
    created_at: String,
}

impl From<Comparison> for ComparisonBody {
    fn from(comparison: Comparison) -> Self {
        let Comparison { id, messages, candidates, ranking, created_at } = comparison;
        let ranked = ranking.is_some();
        let ranking = ranking.map(|stored| RankingBody::of(stored, &candidates));
        let candidate = |Candidate { id, content, policy }: Candidate| CandidateBody {
            id: id.to_string(),
            content,
            policy: ranked.then(|| policy.to_string()),
        };
        Self {
            id: id.to_string(),
            messages: messages.into_iter().map(MessageOut::from).collect(),
            candidates: candidates.into_iter().map(candidate).collect(),
            ranking,
            created_at,
        }
    }
}

impl RankingBody {
    pub(super) fn of(stored: StoredRanking, candidates: &[Candidate]) -> Self {
        let StoredRanking { ranking, labels, comment, created_at } = stored;
        let mut tiers: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for (rank, candidate) in ranking.iter().flat_map(|r| r.ranks()).zip(candidates) {
            tiers.entry(*rank).or_default().push(candidate.id.to_string());
        }
        let not_rankable = ranking.is_none();
        Self { ranking: tiers.into_values().collect(), not_rankable, labels, comment, created_at }
    }
}

/// An event of a comparison that streams.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ComparisonEvent<'a> {
    /// The first: the ids.
    Comparison {
        /// The comparison's id.
        id: &'a str,
        /// The candidates' ids, in the order to show them.
        candidates: Vec<CandidateRef<'a>>,
    },
    /// An answer grew.
    Delta {
        /// Which candidate.
        candidate: &'a str,
        /// By this text.
        content: &'a str,
    },
    /// An answer is complete.
    Done {
        /// Which candidate.
        candidate: &'a str,
        /// `stop` or `length`.
        finish_reason: &'static str,
    },
    /// All answers are complete and kept: the comparison can be ranked. Then comes `[DONE]`.
    Complete {
        /// The comparison's id.
        id: &'a str,
        /// The whole answers.
        candidates: Vec<CandidateWhole<'a>>,
    },
    /// It broke; nothing was kept.
    Error {
        /// Why.
        error: ErrorDetail,
    },
}

/// A candidate's id.
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateRef<'a> {
    id: &'a str,
}

/// A candidate's id and answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateWhole<'a> {
    id: &'a str,
    content: &'a str,
}

impl<'a> CandidateWhole<'a> {
    fn of(answer: &'a Answer) -> Self {
        Self { id: answer.id.as_str(), content: &answer.text }
    }
}

/// Makes k answers to compare. They are on disk when the response (or its last event) is sent.
///
/// # Errors
/// 400 for wrong parameters or a prompt that doesn't fit, 503 when the queue is full.
#[utoipa::path(post, path = "/v1/comparisons", tag = "feedback", request_body = ComparisonRequest, responses(
    (status = 200, body = ComparisonBody, description = "With `stream: true`: server-sent events, each a ComparisonEvent, then `[DONE]`."),
    (status = 400, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn create(
    app: web::Data<App>,
    http: HttpRequest,
    Caller(user): Caller,
    Body(mut request): Body<ComparisonRequest>,
) -> Result<HttpResponse, ApiError> {
    let prompt = conversation(std::mem::take(&mut request.messages))?;
    let k = request.k.unwrap_or(ComparisonRequest::K_DEFAULT);
    let stream = request.stream.unwrap_or(false);
    let mut turn =
        presence::while_here(&http, app.chat.compare(user.id.clone(), prompt, k, request.sampling()?)).await?;
    let id = ComparisonId::new();
    if stream {
        return Ok(sse::respond(&[], |events| async move {
            let sent = stream_turn(&events, &id, &mut turn).await?;
            let kept = match sent {
                Ok(()) => app.chat.keep_comparison(&id, &turn, &user.id).await.map_err(ApiError::from),
                Err(e) => Err(e),
            };
            if let Err(e) = kept {
                return events.send(&ComparisonEvent::Error { error: e.body().error }).await;
            }
            let candidates = turn.answers().iter().map(CandidateWhole::of).collect();
            events.send(&ComparisonEvent::Complete { id: id.as_str(), candidates }).await?;
            events.done().await
        }));
    }
    presence::while_here(&http, turn.finish()).await?;
    app.chat.keep_comparison(&id, &turn, &user.id).await?;
    let comparison = app.chat.comparison(id, user.id).await?;
    Ok(HttpResponse::Ok().json(ComparisonBody::from(comparison)))
}

async fn stream_turn(events: &Events, id: &ComparisonId, turn: &mut Turn) -> Result<Result<(), ApiError>, Gone> {
    let ids: Vec<String> = turn.answers().iter().map(|a| a.id.to_string()).collect();
    let candidates = ids.iter().map(|id| CandidateRef { id }).collect();
    events.send(&ComparisonEvent::Comparison { id: id.as_str(), candidates }).await?;
    loop {
        match turn.next().await {
            Ok(Some(Event::Token { token, .. })) if token.text.is_empty() => {}
            // No function was offered.
            Ok(Some(Event::ToolCall { .. })) => {}
            Ok(Some(Event::Token { index, token })) => {
                events.send(&ComparisonEvent::Delta { candidate: &ids[index], content: &token.text }).await?;
            }
            Ok(Some(Event::Finished { index, finish })) => {
                let finish_reason = finish.as_str();
                events.send(&ComparisonEvent::Done { candidate: &ids[index], finish_reason }).await?;
            }
            Ok(None) => return Ok(Ok(())),
            Err(e) => return Ok(Err(e.into())),
        }
    }
}

/// Which comparisons to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those without a ranking.
    #[serde(default)]
    unranked: bool,
    /// At most so many, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// A person's comparisons.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComparisonList {
    /// Newest first.
    comparisons: Vec<ComparisonBody>,
}

/// The caller's latest comparisons.
///
/// # Errors
/// 401.
#[utoipa::path(get, path = "/v1/comparisons", tag = "feedback", params(ListQuery), responses((status = 200, body = ComparisonList)))]
pub async fn list(
    app: web::Data<App>,
    Caller(user): Caller,
    web::Query(query): web::Query<ListQuery>,
) -> Result<web::Json<ComparisonList>, ApiError> {
    let limit = listed(query.limit)?;
    let comparisons = app.chat.comparisons(user.id, query.unranked, limit).await?;
    Ok(web::Json(ComparisonList { comparisons: comparisons.into_iter().map(ComparisonBody::from).collect() }))
}

/// One of the caller's comparisons.
///
/// # Errors
/// 404 when it isn't theirs.
#[utoipa::path(get, path = "/v1/comparisons/{id}", tag = "feedback", params(("id" = String, Path)),
    responses((status = 200, body = ComparisonBody), (status = 404, body = ErrorBody)))]
pub async fn get(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
) -> Result<web::Json<ComparisonBody>, ApiError> {
    let comparison = app.chat.comparison(ComparisonId::from_raw(id.into_inner()), user.id).await?;
    Ok(web::Json(comparison.into()))
}

/// What a person thinks of the candidates.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RankingRequest {
    /// Tiers of candidate ids from best to worst; two or more in a tier are a tie. Every candidate exactly once.
    #[serde(default, deserialize_with = "or_default")]
    ranking: Vec<Vec<String>>,
    /// None of them can be ranked (then `ranking` stays empty).
    #[serde(default, deserialize_with = "or_default")]
    not_rankable: bool,
    /// Labels by candidate id.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = BTreeMap<String, CandidateLabel>)]
    labels: Labels,
    /// A remark.
    comment: Option<String>,
    /// What the answer should have been; it is kept as a demonstration too.
    ideal: Option<String>,
}

impl From<RankingRequest> for Verdict {
    fn from(RankingRequest { ranking, not_rankable, labels, comment, ideal }: RankingRequest) -> Self {
        Self { tiers: ranking, not_rankable, labels, comment, ideal }
    }
}

/// What a ranking is answered with: who gave which answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankingAnswer {
    #[serde(flatten)]
    comparison: ComparisonBody,
    /// The demonstration that the ideal answer became.
    demonstration_id: Option<String>,
}

/// Ranks a comparison, once. The ranking is on disk when the response is sent.
///
/// # Errors
/// 404 when it isn't the caller's, 409 when it is ranked already, 422 when a candidate is missing, repeated or unknown.
#[utoipa::path(post, path = "/v1/comparisons/{id}/ranking", tag = "feedback", params(("id" = String, Path)),
    request_body = RankingRequest, responses((status = 200, body = RankingAnswer), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn rank(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
    Body(request): Body<RankingRequest>,
) -> Result<web::Json<RankingAnswer>, ApiError> {
    let id = ComparisonId::from_raw(id.into_inner());
    let (comparison, demonstration) = app.chat.rank(id, user.id, request.into()).await?;
    app.jobs.wake().notify_one();
    Ok(web::Json(RankingAnswer {
        comparison: comparison.into(),
        demonstration_id: demonstration.map(|d| d.to_string()),
    }))
}

/// Takes a ranking back within `labeling.undo_minutes`, with the ideal answer that came with it: both are gone from training, and the
/// comparison is blind again.
///
/// # Errors
/// 404 when it isn't the caller's, 409 when they haven't ranked it or it is too late.
#[utoipa::path(delete, path = "/v1/comparisons/{id}/ranking", tag = "feedback", params(("id" = String, Path)),
    responses((status = 200, body = ComparisonBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn unrank(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
) -> Result<web::Json<ComparisonBody>, ApiError> {
    let minutes = app.config.labeling.undo_minutes;
    let comparison = app.chat.unrank(ComparisonId::from_raw(id.into_inner()), user.id, minutes).await?;
    Ok(web::Json(comparison.into()))
}
