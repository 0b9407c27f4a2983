//! `/v1/audit`: who did what.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use super::messages::{listed, skipped};
use crate::store::users::Role;
use crate::store::{Page, audit};
use actix_web::web;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only what this person (or `schedule`, `command line`) did.
    actor: Option<String>,
    /// Only this action, or those of one kind: `user.revoke`, or `user`.
    action: Option<String>,
    /// Only what was done to this object.
    object: Option<String>,
    /// At most so many, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// Leave out so many at the beginning. Default 0.
    #[param(minimum = 0)]
    offset: Option<usize>,
}

/// Entries of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditList {
    /// Newest first.
    entries: Vec<AuditEntry>,
    /// How many there are.
    total: u64,
}

/// Who did what.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    id: i64,
    at: String,
    /// A person's name or id, `schedule`, or `command line`.
    actor: String,
    action: String,
    /// What it was done to.
    object: String,
    #[schema(value_type = Object)]
    detail: Value,
}

/// The audit log.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditList), (status = 403, body = ErrorBody)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    web::Query(query): web::Query<AuditQuery>,
) -> Result<web::Json<AuditList>, ApiError> {
    caller.require(Role::Operator)?;
    let (limit, offset) = (listed(query.limit)?, skipped(query.offset)?);
    let text = Option::unwrap_or_default;
    let filter = audit::Filter { actor: text(query.actor), action: text(query.action), object: text(query.object) };
    let Page { items, total } = app.store.read(move |c| audit::list(c, &filter, limit, offset)).await?;
    let body =
        |audit::Entry { id, at, actor, action, object, detail }| AuditEntry { id, at, actor, action, object, detail };
    Ok(web::Json(AuditList { entries: items.into_iter().map(body).collect(), total }))
}
