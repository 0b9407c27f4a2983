//! Rankings: what a person thinks of a comparison's candidates. SQL of the table `rankings`.

use super::{StoreError, now};
use hone_domain::Ranking;
use hone_domain::ids::{ComparisonId, UserId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a labeler says of one candidate beside its rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CandidateLabel {
    /// Overall quality, 1 (worst) to 7 (best): the Likert scale of Ouyang et al. 2022.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 7)]
    pub overall: Option<u8>,
    /// Yes-or-no findings ("inappropriate", "fails_instruction").
    #[serde(default)]
    pub flags: Vec<String>,
}

/// Labels by candidate id.
pub type Labels = BTreeMap<String, CandidateLabel>;

/// A ranking to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRanking {
    /// Tiers by candidate place; `None` when the candidates can't be ranked.
    pub ranking: Option<Ranking>,
    /// Labels by candidate id.
    pub labels: Labels,
    /// A remark.
    pub comment: Option<String>,
}

/// A ranking as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRanking {
    /// Tiers by candidate place; `None` when the candidates can't be ranked.
    pub ranking: Option<Ranking>,
    /// Labels by candidate id.
    pub labels: Labels,
    /// A remark.
    pub comment: Option<String>,
    /// When it was given.
    pub created_at: String,
}

/// Stores the ranking of a comparison.
///
/// # Errors
/// `Conflict` when it is ranked already.
pub fn insert(tx: &Connection, id: &ComparisonId, user: &UserId, new: &NewRanking) -> Result<(), StoreError> {
    if of(tx, id)?.is_some() {
        return Err(StoreError::Conflict(format!(
            "comparison {id} is ranked already and the policies were revealed: make a new comparison to rank again"
        )));
    }
    let labels = if new.labels.is_empty() { None } else { Some(serde_json::to_string(&new.labels)?) };
    tx.execute(
        "insert into rankings(comparison_id, user_id, ranks_json, not_rankable, labels_json, comment, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            id.as_str(),
            user.as_str(),
            serde_json::to_string(&new.ranking)?,
            new.ranking.is_none(),
            labels,
            new.comment,
            now()
        ],
    )?;
    Ok(())
}

/// Takes a person's ranking of a comparison back.
///
/// # Errors
/// `Conflict` when there is none of theirs.
pub fn delete(tx: &Connection, id: &ComparisonId, user: &UserId) -> Result<(), StoreError> {
    let sql = "delete from rankings where comparison_id = ?1 and user_id = ?2";
    match tx.execute(sql, [id.as_str(), user.as_str()])? {
        0 => Err(StoreError::Conflict(format!("there is no ranking of yours on comparison {id}"))),
        _ => Ok(()),
    }
}

/// The ranking of a comparison, if there is one.
///
/// # Errors
/// When the database fails.
pub fn of(connection: &Connection, id: &ComparisonId) -> Result<Option<StoredRanking>, StoreError> {
    let sql = "select ranks_json, labels_json, comment, created_at from rankings where comparison_id = ?1";
    let columns = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?));
    let found: Option<(String, Option<String>, Option<String>, String)> =
        connection.query_row(sql, [id.as_str()], columns).optional()?;
    let stored = |(ranks, labels, comment, created_at): (String, Option<String>, Option<String>, String)| {
        let labels = labels.map(|l| serde_json::from_str(&l)).transpose()?.unwrap_or_default();
        Ok(StoredRanking { ranking: serde_json::from_str(&ranks)?, labels, comment, created_at })
    };
    found.map(stored).transpose()
}
