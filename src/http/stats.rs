//! `GET /v1/stats`: how much feedback there is, how far people agree, and what is known of each labeler.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use crate::labeling::trust::{self, AgreementReport, LabelerReport, Report};
use crate::store::stats::{self, Counts, Day};
use crate::store::timestamp;
use crate::store::users::Role;
use actix_web::web;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// How much feedback there is, and how good it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats {
    #[serde(flatten)]
    counts: Counts,
    /// How far people agree.
    agreement: AgreementReport,
    /// Each who has given feedback.
    labelers: Vec<LabelerReport>,
    /// Rankings of the last ninety days, by day and source; days without any are left out.
    days: Vec<Day>,
}

const DAYS: i64 = 90;

/// Counts of people, answers and feedback; agreement; labelers; rankings by day.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/stats", tag = "operators", responses((status = 200, body = Stats), (status = 403, body = ErrorBody)))]
pub async fn get(app: web::Data<App>, caller: Caller) -> Result<web::Json<Stats>, ApiError> {
    caller.require(Role::Operator)?;
    let since = timestamp(Timestamp::now() - SignedDuration::from_hours(24 * DAYS));
    let read = move |c: &rusqlite::Connection| {
        let Report { agreement, labelers } = trust::report(c)?;
        Ok(Stats { counts: stats::counts(c)?, agreement, labelers, days: stats::days(c, &since)? })
    };
    Ok(web::Json(app.store.read(read).await?))
}
