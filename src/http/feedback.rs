//! Thumbs on answers, and demonstrations.

use super::App;
use super::auth::Caller;
use super::body::{Body, or_default};
use super::error::{ApiError, ErrorBody};
use super::messages::{MessageIn, conversation};
use crate::store::ratings::{Rating, Thumb};
use crate::store::users::Role;
use actix_web::http::StatusCode;
use actix_web::web;
use hone_domain::ids::CompletionId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person thinks of one answer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RatingRequest {
    /// Good or not.
    thumb: Thumb,
    /// Why, in keywords.
    #[serde(default, deserialize_with = "or_default")]
    tags: Vec<String>,
    /// Why, in words.
    comment: Option<String>,
}

/// The id of what was kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct Kept {
    id: String,
}

impl Kept {
    /// Of the thing with this id.
    pub(super) fn of(id: String) -> Self {
        Self { id }
    }
}

/// Rates one of the caller's answers; a later rating replaces it.
///
/// # Errors
/// 404 when the answer isn't the caller's or wasn't kept (`store: false`).
#[utoipa::path(post, path = "/v1/completions/{id}/rating", tag = "feedback", params(("id" = String, Path)),
    request_body = RatingRequest, responses((status = 200, body = Kept), (status = 404, body = ErrorBody)))]
pub async fn rate(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
    Body(RatingRequest { thumb, tags, comment }): Body<RatingRequest>,
) -> Result<web::Json<Kept>, ApiError> {
    let id = id.into_inner();
    app.chat.rate(CompletionId::from_raw(&id), user.id, Rating { thumb, tags, comment }).await?;
    Ok(web::Json(Kept { id }))
}

/// A prompt and the answer that a person would want.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DemonstrationRequest {
    /// The prompt; the last message is the person's.
    #[schema(min_items = 1)]
    messages: Vec<MessageIn>,
    /// The answer.
    ideal: String,
}

/// Keeps a demonstration. It is on disk when the response is sent.
///
/// # Errors
/// 400 or 422 when the messages or the answer are empty, 403 below the role `labeler`.
#[utoipa::path(post, path = "/v1/demonstrations", tag = "feedback", request_body = DemonstrationRequest,
    responses((status = 201, body = Kept), (status = 400, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn demonstrate(
    app: web::Data<App>,
    caller: Caller,
    Body(DemonstrationRequest { messages, ideal }): Body<DemonstrationRequest>,
) -> Result<(web::Json<Kept>, StatusCode), ApiError> {
    caller.require(Role::Labeler)?;
    let id = app.chat.demonstrate(caller.0.id, conversation(messages)?, ideal).await?;
    Ok((web::Json(Kept { id: id.to_string() }), StatusCode::CREATED))
}
