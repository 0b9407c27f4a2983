//! `/healthz` (the process answers) and `/readyz` (it can serve). Open to everybody; they tell nothing else.

use super::App;
use super::error::{ApiError, Code};
use crate::store::users;
use actix_web::{HttpResponse, web};
use serde_json::json;

/// The process is up.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200)))]
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// A policy is loaded, its engine computes, and the database takes writes.
///
/// # Errors
/// 503 or 507 when it can't serve; 503 too while the server stops, so that a load balancer looks elsewhere.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200), (status = 503)))]
pub async fn readyz(app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    if *app.stopping.borrow() {
        return Err(ApiError::new(Code::Busy, "the server is stopping"));
    }
    app.serving.ready().await.map_err(|e| ApiError::new(Code::Busy, format!("{e}: it is being started anew")))?;
    app.store.write(users::touch).await?;
    Ok(HttpResponse::Ok().json(json!({"status": "ready", "policy": app.serving.live().id()})))
}
