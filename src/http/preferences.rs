//! `/v1/preferences`: which of two chat answers to the same messages is better.

use super::App;
use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use actix_web::http::StatusCode;
use actix_web::web;
use hone_domain::ids::CompletionId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A preference.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PreferenceRequest {
    /// Two of the caller's logged chat answers to the same messages.
    #[schema(min_items = 2, max_items = 2)]
    completions: Vec<String>,
    /// The better one; null: they are equally good.
    preferred: Option<String>,
}

/// What it became.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreferenceKept {
    /// The comparison, already ranked.
    comparison_id: String,
}

/// Keeps which of two answers is better: a comparison of two and its ranking. It is on disk when the response is sent.
///
/// # Errors
/// 404 when an answer isn't the caller's or wasn't kept (`store: false`), 409 when the two answer different messages, 422 when there
/// aren't two.
#[utoipa::path(post, path = "/v1/preferences", tag = "feedback", request_body = PreferenceRequest,
    responses((status = 201, body = PreferenceKept), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    (status = 422, body = ErrorBody)))]
pub async fn create(
    app: web::Data<App>,
    Caller(user): Caller,
    Body(PreferenceRequest { completions, preferred }): Body<PreferenceRequest>,
) -> Result<(web::Json<PreferenceKept>, StatusCode), ApiError> {
    let answers: [String; 2] = completions.try_into().map_err(|given: Vec<String>| {
        let message = format!("`completions` names two answers, not {}", given.len());
        ApiError::new(super::error::Code::Unprocessable, message).with_param("completions")
    })?;
    let answers = answers.map(CompletionId::from_raw);
    let id = app.chat.prefer(user.id, answers, preferred.map(CompletionId::from_raw)).await?;
    app.jobs.wake().notify_one();
    Ok((web::Json(PreferenceKept { comparison_id: id.to_string() }), StatusCode::CREATED))
}
