//! `/v1/policies`: every version of the model, which one is the champion, and changing that.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use crate::store::policies::{self, Policy, PolicyState};
use crate::store::users::Role;
use actix_web::web;
use hone_domain::ids::PolicyId;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// All policies.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyList {
    /// The one that people talk to.
    champion: String,
    /// The one that is tried on some of them; null when none is.
    challenger: Option<String>,
    /// All of them.
    policies: Vec<Policy>,
}

/// All policies, and which one is the champion.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/policies", tag = "operators",
    responses((status = 200, body = PolicyList), (status = 403, body = ErrorBody)))]
pub async fn list(app: web::Data<App>, caller: Caller) -> Result<web::Json<PolicyList>, ApiError> {
    caller.require(Role::Operator)?;
    let policies = app.store.read(policies::list).await?;
    let champion = policies.iter().find(|p| p.state == PolicyState::Champion).map(|p| p.id.to_string());
    let champion = champion.unwrap_or_else(|| app.serving.live().id().to_string());
    Ok(web::Json(PolicyList { champion, challenger: None, policies }))
}

/// One policy: what it came from, its data, figures and the gate's report.
///
/// # Errors
/// 403 below the role `operator`, 404.
#[utoipa::path(get, path = "/v1/policies/{id}", tag = "operators", params(("id" = String, Path)),
    responses((status = 200, body = Policy), (status = 404, body = ErrorBody)))]
pub async fn get(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<web::Json<Policy>, ApiError> {
    caller.require(Role::Operator)?;
    let id = PolicyId::from_raw(id.into_inner());
    Ok(web::Json(app.store.read(move |c| policies::get(c, &id)).await?))
}

/// Makes a policy the champion: it is loaded beside the live one and swapped in; running answers end as they began.
///
/// # Errors
/// 403 below the role `operator`, 404, 409 when the gate rejected it or it belongs to another base.
#[utoipa::path(post, path = "/v1/policies/{id}/promote", tag = "operators", params(("id" = String, Path)),
    responses((status = 200, body = Policy), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn promote(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<Policy>, ApiError> {
    caller.require(Role::Operator)?;
    let policy = app.champions.promote(&PolicyId::from_raw(id.into_inner()), &caller.0.name).await?;
    app.audit(caller, "policy.promote", policy.id.as_str(), json!({})).await;
    Ok(web::Json(policy))
}

/// Goes back to the champion before this one; again goes further back.
///
/// # Errors
/// 403 below the role `operator`, 409 when there is no earlier one.
#[utoipa::path(post, path = "/v1/policies/rollback", tag = "operators",
    responses((status = 200, body = Policy), (status = 409, body = ErrorBody)))]
pub async fn roll_back(app: web::Data<App>, caller: Caller) -> Result<web::Json<Policy>, ApiError> {
    caller.require(Role::Operator)?;
    let policy = app.champions.roll_back(&caller.0.name).await?;
    app.audit(caller, "policy.rollback", policy.id.as_str(), json!({})).await;
    Ok(web::Json(policy))
}
