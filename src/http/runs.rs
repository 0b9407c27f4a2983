//! `/v1/runs/{id}/report`, `/v1/policies/{id}/report`: the pages about one training run, and about the decision on a policy.
//! `/v1/policies/{id}/preferences`: a part of the latter for programs.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use crate::report::preferences::Preferences;
use crate::store::users::Role;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpResponse, web};
use hone_domain::ids::{PolicyId, RunId};

/// What a model wrote is on this page: nothing on it may run or load, even if it weren't escaped.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; sandbox";

/// The report of a run as an HTML page, as far as the run is: curves, settings, answers before and after.
///
/// # Errors
/// 403 below the role `operator`, 404.
#[utoipa::path(get, path = "/v1/runs/{id}/report", tag = "operators", params(("id" = String, Path)),
    responses((status = 200, description = "A page that needs nothing beside itself.", content_type = "text/html", body = String),
    (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn report(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    Ok(page(app.jobs.report(&RunId::from_raw(id.into_inner())).await?))
}

/// The decision on a policy as an HTML page: what the gate said rule by rule, what people said in its trial, answers before and after.
///
/// # Errors
/// 403 below the role `operator`, 404.
#[utoipa::path(get, path = "/v1/policies/{id}/report", tag = "operators", params(("id" = String, Path)),
    responses((status = 200, description = "A page that needs nothing beside itself.", content_type = "text/html", body = String),
    (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn decision(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    Ok(page(app.jobs.decision(&PolicyId::from_raw(id.into_inner())).await?))
}

/// Whose preferences the reward model holds that a policy was optimised against, and what it rewards.
///
/// # Errors
/// 403 below the role `operator`, 404 for a policy that no reward model stands behind.
#[utoipa::path(get, path = "/v1/policies/{id}/preferences", tag = "operators", params(("id" = String, Path)),
    responses((status = 200, body = Preferences), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn preferences(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<Preferences>, ApiError> {
    caller.require(Role::Operator)?;
    Ok(web::Json(app.jobs.preferences(&PolicyId::from_raw(id.into_inner())).await?))
}

fn page(text: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(text)
}
