//! `/v1/policies`: every version of the model, which one is the champion, and changing that.

use super::App;
use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, Code, ErrorBody};
use super::messages::listed;
use crate::jobs::canary::Trial;
use crate::jobs::scheduler::standing;
use crate::store::challenger::{self, Bounds, Challenge, Duel, Traffic};
use crate::store::completions::{self, Shadow};
use crate::store::policies::{self, Policy, PolicyState};
use crate::store::users::Role;
use actix_web::{HttpResponse, web};
use hone_domain::ids::PolicyId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

/// All policies.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyList {
    /// The one that people talk to.
    champion: String,
    /// The one that is tried on some of them; null when none is.
    challenger: Option<String>,
    /// Who put it up: a person's name, `canary` after a cycle, `drift` where it is the predecessor that drift is noticed by.
    challenged_by: Option<String>,
    /// What the challenger gets.
    traffic: Option<Traffic>,
    /// How the challenger fares against the champion in comparisons that people ranked.
    duel: Option<Duel>,
    /// How its trial stands, where people's comparisons decide about it.
    trial: Option<Trial>,
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
    let live = app.serving.live().id().clone();
    let read = move |c: &rusqlite::Connection| {
        let (policies, challenge) = (policies::list(c)?, challenger::get(c)?);
        let champion = policies.iter().find(|p| p.state == PolicyState::Champion).map_or(live, |p| p.id.clone());
        let duel = challenge.as_ref().map(|on| challenger::duel(c, &on.policy_id, &champion)).transpose()?;
        let trial = standing(c, Timestamp::now())?.map(|(_, trial)| trial);
        let (challenger, traffic) = challenge.map(|on| (on.policy_id.to_string(), on.traffic)).unzip();
        let (champion, challenged_by) = (champion.to_string(), challenger::actor(c)?);
        Ok(PolicyList { champion, challenger, challenged_by, traffic, duel, trial, policies })
    };
    Ok(web::Json(app.store.read(read).await?))
}

/// Who is to challenge, and for what.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChallengeRequest {
    /// The policy.
    policy: String,
    /// 0 to 1, default 0: the share of conversations that it answers instead of the champion.
    #[schema(minimum = 0, maximum = 1)]
    canary_share: Option<f64>,
    /// 0 to 1, default 0: the share of the champion's answers to which it writes its own, shown to nobody.
    #[schema(minimum = 0, maximum = 1)]
    shadow_share: Option<f64>,
    /// Whether comparisons draw half of their candidates from it. Default true.
    in_comparisons: Option<bool>,
    /// 0 to 1, default 1: the share of comparisons that do.
    #[schema(minimum = 0, maximum = 1)]
    comparison_share: Option<f64>,
    /// Let people's comparisons decide: within these bounds it is promoted, rejected or kept as a candidate by itself. Left out, a trial
    /// that is on goes on, and any other challenge does until somebody ends it.
    trial: Option<Bounds>,
}

/// Gives a policy a share of the champion's traffic, or changes its share. It holds from the next request on, and after a restart.
///
/// # Errors
/// 400 for shares and chances outside of 0 to 1, 403 below the role `operator`, 404, 409 when the gate rejected it or it is the champion.
#[utoipa::path(put, path = "/v1/policies/challenger", tag = "operators", request_body = ChallengeRequest,
    responses((status = 200, body = Policy), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn challenge(
    app: web::Data<App>,
    caller: Caller,
    Body(request): Body<ChallengeRequest>,
) -> Result<web::Json<Policy>, ApiError> {
    caller.require(Role::Operator)?;
    let default = Traffic::default();
    let traffic = Traffic {
        canary_share: request.canary_share.unwrap_or(default.canary_share),
        shadow_share: request.shadow_share.unwrap_or(default.shadow_share),
        in_comparisons: request.in_comparisons.unwrap_or(default.in_comparisons),
        comparison_share: request.comparison_share.unwrap_or(default.comparison_share),
    };
    let traffic = traffic.checked().map_err(|e| ApiError::value(e.0, e.to_string()))?;
    let trial = request.trial.map(Bounds::checked).transpose();
    let trial = trial.map_err(|e| ApiError::value("trial", format!("trial.{e}")))?;
    let policy_id = PolicyId::from_raw(request.policy);
    let on = app.store.read(challenger::get).await?.filter(|on| on.policy_id == policy_id);
    let trial = trial.or(on.and_then(|on| on.trial));
    let said = json!({"traffic": traffic, "trial": trial});
    let challenge = Challenge { policy_id, traffic, trial };
    let policy = app.champions.challenge(challenge, &caller.0.name).await?;
    app.audit(caller, "policy.challenge", policy.id.as_str(), said).await;
    Ok(web::Json(policy))
}

/// Ends the challenge: all traffic is the champion's.
///
/// # Errors
/// 403 below the role `operator`, 409 when there is no challenger.
#[utoipa::path(delete, path = "/v1/policies/challenger", tag = "operators",
    responses((status = 204), (status = 403, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn end_challenge(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Operator)?;
    if !app.champions.end_challenge().await? {
        return Err(ApiError::new(Code::Conflict, "there is no challenger"));
    }
    app.audit(caller, "policy.end_challenge", "challenger", json!({})).await;
    Ok(HttpResponse::NoContent().finish())
}

/// How many to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ShadowQuery {
    /// At most so many, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// Answers that a policy wrote in the shadow, beside those that were shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShadowList {
    /// Newest first.
    shadows: Vec<Shadow>,
}

/// What a policy wrote as challenger in the shadow, beside what was shown.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/policies/{id}/shadows", tag = "operators", params(("id" = String, Path), ShadowQuery),
    responses((status = 200, body = ShadowList), (status = 403, body = ErrorBody)))]
pub async fn shadows(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    web::Query(query): web::Query<ShadowQuery>,
) -> Result<web::Json<ShadowList>, ApiError> {
    caller.require(Role::Operator)?;
    let (id, limit) = (PolicyId::from_raw(id.into_inner()), listed(query.limit)?);
    let shadows = app.store.read(move |c| completions::shadows(c, &id, limit)).await?;
    Ok(web::Json(ShadowList { shadows }))
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
