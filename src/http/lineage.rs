//! `/v1/lineage`: from an answer to what it was learned from; from a piece of feedback or a person to what learned from it.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use crate::chat::lineage::Lineage;
use crate::store::users::Role;
use actix_web::web;

/// Where an answer came from, or what learned from a comparison, a demonstration, an answer's prompt or a person.
///
/// Operators may ask about the id of anything: an answer, a comparison, a demonstration, a person, a policy. Everybody else may ask about
/// their own answers, and is told the policy. A snapshot holds no ids, so a piece is found in it by its content.
///
/// # Errors
/// 404 for what isn't there, or is somebody else's.
#[utoipa::path(get, path = "/v1/lineage/{id}", tag = "data", params(("id" = String, Path)),
    responses((status = 200, body = Lineage), (status = 404, body = ErrorBody)))]
pub async fn get(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
) -> Result<web::Json<Lineage>, ApiError> {
    let only_for = (user.role < Role::Operator).then_some(user.id);
    Ok(web::Json(app.chat.lineage(id.into_inner(), only_for).await?))
}
