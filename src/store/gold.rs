//! Gold questions: comparisons whose ranking is known. SQL of the table `gold`.

use super::columns::json;
use super::{StoreError, now};
use hone_domain::Ranking;
use hone_domain::ids::ComparisonId;
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// A gold question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gold {
    /// Which comparison.
    pub comparison: ComparisonId,
    /// How it is to be ranked: tiers by candidate place.
    pub expected: Ranking,
    /// Who said so.
    pub actor: String,
    /// When.
    pub at: String,
}

/// Makes a comparison a gold question, or changes what is expected.
///
/// # Errors
/// When the database can't.
pub fn set(tx: &Connection, id: &ComparisonId, expected: &Ranking, actor: &str) -> Result<(), StoreError> {
    tx.execute(
        "insert into gold(comparison_id, ranks_json, actor, at) values (?1, ?2, ?3, ?4)
         on conflict(comparison_id) do update set ranks_json = excluded.ranks_json, actor = excluded.actor, at = excluded.at",
        params![id.as_str(), serde_json::to_string(expected)?, actor, now()],
    )?;
    Ok(())
}

/// Makes a gold question an ordinary comparison again.
///
/// # Errors
/// `NotFound` when it isn't one.
pub fn unset(tx: &Connection, id: &ComparisonId) -> Result<(), StoreError> {
    match tx.execute("delete from gold where comparison_id = ?1", [id.as_str()])? {
        0 => Err(StoreError::NotFound { what: "gold question", id: id.to_string() }),
        _ => Ok(()),
    }
}

/// All gold questions, the newest first.
///
/// # Errors
/// When the database can't.
pub fn list(c: &Connection) -> Result<Vec<Gold>, StoreError> {
    let mut rows = c.prepare_cached("select comparison_id, ranks_json, actor, at from gold order by at desc")?;
    let rows = rows.query_map([], |row| {
        let comparison = ComparisonId::from_raw(row.get::<_, String>(0)?);
        Ok(Gold { comparison, expected: json(row, 1)?, actor: row.get(2)?, at: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What is expected, by comparison.
///
/// # Errors
/// When the database can't.
pub fn expected(c: &Connection) -> Result<HashMap<String, Ranking>, StoreError> {
    Ok(list(c)?.into_iter().map(|gold| (gold.comparison.to_string(), gold.expected)).collect())
}
