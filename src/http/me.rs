//! `/v1/me`: who one is, and what hone keeps of one.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use super::session::Me;
use crate::chat::personal::Erasure;
use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_DISPOSITION;
use actix_web::web;

/// Who one is, for programs.
///
/// # Errors
/// 401.
#[utoipa::path(get, path = "/v1/me", tag = "session", responses((status = 200, body = Me), (status = 401, body = ErrorBody)))]
pub async fn get(Caller(user): Caller) -> web::Json<Me> {
    web::Json(user.into())
}

/// Everything that the caller has said here and been answered.
///
/// # Errors
/// 401.
#[utoipa::path(get, path = "/v1/me/data", tag = "session", responses((status = 200, body = Object), (status = 401, body = ErrorBody)))]
pub async fn export(app: web::Data<App>, Caller(user): Caller) -> Result<HttpResponse, ApiError> {
    let data = app.chat.export(user.id).await?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_DISPOSITION, "attachment; filename=\"hone-data.json\"")).json(data))
}

/// Erases it, and names every snapshot, run and policy that has learned from it. The account stays.
///
/// # Errors
/// 401.
#[utoipa::path(delete, path = "/v1/me/data", tag = "session", responses((status = 200, body = Erasure), (status = 401, body = ErrorBody)))]
pub async fn erase(app: web::Data<App>, Caller(user): Caller) -> Result<web::Json<Erasure>, ApiError> {
    Ok(web::Json(app.chat.erase(user.id).await?))
}
