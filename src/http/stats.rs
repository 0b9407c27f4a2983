//! `GET /v1/stats`: how much feedback there is.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use crate::store::stats::{self, Stats};
use crate::store::users::Role;
use actix_web::web;

/// Counts of people, answers and feedback.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/stats", tag = "operators", responses((status = 200, body = Stats), (status = 403, body = ErrorBody)))]
pub async fn get(app: web::Data<App>, caller: Caller) -> Result<web::Json<Stats>, ApiError> {
    caller.require(Role::Operator)?;
    Ok(web::Json(app.store.read(stats::counts).await?))
}
