//! Further opinions on comparisons that somebody has ranked: they measure people and are never learned from. SQL of the table
//! `judgements`.

use super::columns::json;
use super::labeling::Purpose;
use super::rankings::NewRanking;
use super::{StoreError, now};
use hone_domain::Ranking;
use hone_domain::ids::{ComparisonId, TaskId, UserId};
use rusqlite::{Connection, params};

/// What somebody thinks of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// Which comparison.
    pub comparison: String,
    /// Who.
    pub user: String,
    /// `New`: the ranking that is learned from.
    pub purpose: Purpose,
    /// Tiers by candidate place.
    pub ranking: Ranking,
}

/// What somebody said of a gold question when they were measured by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Who, by id.
    pub user: String,
    /// And by name.
    pub name: String,
    /// Tiers by candidate place; none where they found that its answers can't be ranked.
    pub ranking: Option<Ranking>,
    /// When.
    pub at: String,
}

/// Keeps a further opinion.
///
/// # Errors
/// When the database can't.
pub fn insert(
    tx: &Connection,
    task: &TaskId,
    comparison: &ComparisonId,
    user: &UserId,
    purpose: Purpose,
    new: &NewRanking,
) -> Result<(), StoreError> {
    let labels = if new.labels.is_empty() { None } else { Some(serde_json::to_string(&new.labels)?) };
    tx.execute(
        "insert into judgements(task_id, comparison_id, user_id, purpose, ranks_json, labels_json, comment, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            task.as_str(),
            comparison.as_str(),
            user.as_str(),
            purpose,
            serde_json::to_string(&new.ranking)?,
            labels,
            new.comment,
            now()
        ],
    )?;
    Ok(())
}

/// Takes back the opinion that a task ended with.
///
/// # Errors
/// When the database can't.
pub fn delete(tx: &Connection, task: &TaskId) -> Result<(), StoreError> {
    tx.execute("delete from judgements where task_id = ?1", [task.as_str()])?;
    Ok(())
}

/// Everything said of comparisons of which more than one thing is said, by comparison. Without those that couldn't be ranked.
///
/// # Errors
/// When the database can't.
pub fn opinions(c: &Connection) -> Result<Vec<Opinion>, StoreError> {
    let sql = "select r.comparison_id, r.user_id, 'new', r.ranks_json from rankings r
               where r.not_rankable = 0 and (exists (select 1 from judgements where comparison_id = r.comparison_id)
                                             or exists (select 1 from gold where comparison_id = r.comparison_id))
               union all
               select comparison_id, user_id, purpose, ranks_json from judgements where ranks_json <> 'null'
               order by 1";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([], |row| {
        Ok(Opinion { comparison: row.get(0)?, user: row.get(1)?, purpose: row.get(2)?, ranking: json(row, 3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What each labeler said of a gold question when they were measured by it, the newest first.
///
/// # Errors
/// When the database can't.
pub fn of_gold(c: &Connection, gold: &ComparisonId) -> Result<Vec<Measured>, StoreError> {
    let sql = "select j.user_id, u.name, j.ranks_json, j.created_at from judgements j join users u on u.id = j.user_id
               where j.comparison_id = ?1 and j.purpose = 'gold' order by j.created_at desc";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([gold.as_str()], |row| {
        Ok(Measured { user: row.get(0)?, name: row.get(1)?, ranking: json(row, 2)?, at: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
