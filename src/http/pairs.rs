//! `/v1/comparisons/pair`: two answers from a chat as a comparison.

use super::App;
use super::auth::Caller;
use super::body::Body;
use super::comparisons::ComparisonBody;
use super::error::{ApiError, ErrorBody};
use actix_web::web;
use hone_domain::ids::CompletionId;
use serde::Deserialize;
use utoipa::ToSchema;

/// Two answers to the same prompt.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PairRequest {
    /// The id of one of the caller's chat answers.
    a: String,
    /// Of another one, to the same messages.
    b: String,
}

/// Makes a comparison of two answers that the caller had in a chat: "which is better", ranked like any other. Asking again gives the same.
///
/// # Errors
/// 404 when one isn't the caller's or wasn't kept (`store: false`), 409 when they are to different prompts, of a chat that isn't
/// recorded, or have to do with tools.
#[utoipa::path(post, path = "/v1/comparisons/pair", tag = "feedback", request_body = PairRequest,
    responses((status = 200, body = ComparisonBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn pair(
    app: web::Data<App>,
    Caller(user): Caller,
    Body(PairRequest { a, b }): Body<PairRequest>,
) -> Result<web::Json<ComparisonBody>, ApiError> {
    let comparison = app.chat.pair(user.id, CompletionId::from_raw(a), CompletionId::from_raw(b)).await?;
    Ok(web::Json(comparison.into()))
}
