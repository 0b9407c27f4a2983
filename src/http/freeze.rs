//! `/v1/loop/freeze`: the switch that stops everything that happens by itself. What people do by hand goes on.

use super::App;
use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, Code, ErrorBody};
use crate::store::frozen::{self, Frozen};
use crate::store::users::Role;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

/// Whether the loop is frozen.
#[derive(Debug, Serialize, ToSchema)]
pub struct FreezeView {
    /// Why, by whom and since when; null while it runs.
    frozen: Option<Frozen>,
}

/// Why it is to stop.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FreezeRequest {
    /// For those who wonder later.
    reason: String,
}

/// Longest reason, characters.
const REASON_CHARS_MAX: usize = 1000;

/// Whether the loop is frozen, and why.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/loop/freeze", tag = "operators",
    responses((status = 200, body = FreezeView), (status = 403, body = ErrorBody)))]
pub async fn get(app: web::Data<App>, caller: Caller) -> Result<web::Json<FreezeView>, ApiError> {
    caller.require(Role::Operator)?;
    Ok(web::Json(FreezeView { frozen: app.store.read(frozen::get).await? }))
}

/// Freezes the loop: no job begins, a training process writes its checkpoint and waits, nothing is promoted and no trial is decided by
/// itself. What is served stays; operators may still promote and roll back by hand.
///
/// # Errors
/// 400 without a reason, 403 below the role `operator`.
#[utoipa::path(put, path = "/v1/loop/freeze", tag = "operators", request_body = FreezeRequest,
    responses((status = 200, body = FreezeView), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub async fn freeze(
    app: web::Data<App>,
    caller: Caller,
    Body(FreezeRequest { reason }): Body<FreezeRequest>,
) -> Result<web::Json<FreezeView>, ApiError> {
    caller.require(Role::Operator)?;
    let reason = reason.trim().to_owned();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(ApiError::value("reason", format!("`reason` must have 1 to {REASON_CHARS_MAX} characters")));
    }
    let (said, name) = (reason.clone(), caller.0.name.clone());
    let write = move |tx: &rusqlite::Connection| Ok((frozen::set(tx, &reason, &name)?, frozen::get(tx)?));
    let (is_new, frozen) = app.store.write(write).await?;
    if is_new {
        app.jobs.wake().notify_one();
        app.audit(caller, "loop.freeze", "loop", json!({"reason": said})).await;
    }
    Ok(web::Json(FreezeView { frozen }))
}

/// Lets the loop go on where it stood.
///
/// # Errors
/// 403 below the role `operator`, 409 when it isn't frozen.
#[utoipa::path(delete, path = "/v1/loop/freeze", tag = "operators",
    responses((status = 204), (status = 403, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn thaw(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    if !app.store.write(frozen::end).await? {
        return Err(ApiError::new(Code::Conflict, "the loop isn't frozen"));
    }
    app.jobs.wake().notify_one();
    app.audit(caller, "loop.thaw", "loop", json!({})).await;
    Ok(HttpResponse::NoContent().finish())
}
