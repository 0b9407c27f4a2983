//! Which item of the queue comes next for somebody. Nothing that is excluded, and nothing that they have had or passed over.

use crate::store::{StoreError, count};
use hone_domain::ids::{ComparisonId, UserId};
use rusqlite::{Connection, OptionalExtension, Params, params};

/// Items that so many people passed over leave the queue.
const SKIPS_MAX: i64 = 3;

fn one(c: &Connection, sql: &str, params: impl Params) -> Result<Option<ComparisonId>, StoreError> {
    let found: Option<String> = c.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?;
    Ok(found.map(ComparisonId::from_raw))
}

/// A comparison that nobody has ranked and nobody works on: the queue's own first, then one of those that their owners left
/// unranked before `left_before`.
///
/// # Errors
/// When the database can't.
pub fn fresh(c: &Connection, user: &UserId, left_before: &str) -> Result<Option<ComparisonId>, StoreError> {
    let queued = "select co.id from comparisons co
        where co.for_queue = 1
          and not exists (select 1 from rankings where comparison_id = co.id)
          and not exists (select 1 from labeling_tasks t where t.comparison_id = co.id
                            and (t.state = 'leased' or (t.state = 'skipped' and t.user_id = ?1)))
          and (select count(*) from labeling_tasks t where t.comparison_id = co.id and t.state = 'skipped') < ?2
          and not exists (select 1 from exclusions where item_id in (co.id, co.user_id))
        order by co.created_at limit 1";
    if let Some(id) = one(c, queued, params![user.as_str(), SKIPS_MAX])? {
        return Ok(Some(id));
    }
    let left = "select co.id from comparisons co
        where co.for_queue = 0 and co.source = 'live' and co.user_id <> ?1 and co.created_at < ?3
          and not exists (select 1 from rankings where comparison_id = co.id)
          and not exists (select 1 from labeling_tasks t where t.comparison_id = co.id
                            and (t.state = 'leased' or (t.state = 'skipped' and t.user_id = ?1)))
          and (select count(*) from labeling_tasks t where t.comparison_id = co.id and t.state = 'skipped') < ?2
          and not exists (select 1 from exclusions where item_id in (co.id, co.user_id))
        order by co.created_at limit 1";
    one(c, left, params![user.as_str(), SKIPS_MAX, left_before])
}

/// A gold question that this person hasn't seen.
///
/// # Errors
/// When the database can't.
pub fn gold(c: &Connection, user: &UserId) -> Result<Option<ComparisonId>, StoreError> {
    let sql = "select g.comparison_id from gold g join comparisons co on co.id = g.comparison_id
        where not exists (select 1 from rankings r where r.comparison_id = co.id and r.user_id = ?1)
          and (co.for_queue = 1 or co.user_id <> ?1)
          and not exists (select 1 from labeling_tasks t
                          where t.comparison_id = co.id and t.user_id = ?1 and t.state <> 'expired')
          and not exists (select 1 from exclusions where item_id in (co.id, co.user_id))
        order by random() limit 1";
    one(c, sql, [user.as_str()])
}

/// A comparison that this person ranked in the queue, at least `gap` tasks ago, and that hasn't come back since; the oldest.
///
/// # Errors
/// When the database can't.
pub fn repeat(c: &Connection, user: &UserId, gap: usize) -> Result<Option<ComparisonId>, StoreError> {
    let sql = "select t.comparison_id from labeling_tasks t
        join comparisons co on co.id = t.comparison_id
        join rankings r on r.comparison_id = t.comparison_id and r.user_id = ?1
        where t.user_id = ?1 and t.kind = 'rank' and t.purpose = 'new' and t.state = 'done'
          and t.finished_at <= (select finished_at from labeling_tasks where user_id = ?1 and kind = 'rank' and state = 'done'
                                order by finished_at desc limit 1 offset ?2)
          and not exists (select 1 from labeling_tasks s where s.comparison_id = t.comparison_id and s.user_id = ?1
                            and s.purpose = 'repeat' and s.state <> 'expired')
          and not exists (select 1 from exclusions where item_id in (co.id, co.user_id))
        order by t.finished_at limit 1";
    one(c, sql, params![user.as_str(), count(gap)])
}

/// A comparison of the queue that somebody else has ranked, with fewer than `people_max` further opinions.
///
/// # Errors
/// When the database can't.
pub fn overlap(c: &Connection, user: &UserId, people_max: usize) -> Result<Option<ComparisonId>, StoreError> {
    let sql = "select co.id from comparisons co join rankings r on r.comparison_id = co.id
        where co.for_queue = 1 and r.user_id <> ?1
          and not exists (select 1 from labeling_tasks t
                          where t.comparison_id = co.id and t.user_id = ?1 and t.state <> 'expired')
          and (select count(*) from labeling_tasks t where t.comparison_id = co.id and t.purpose = 'overlap'
                 and t.state in ('leased', 'done')) < ?2
          and not exists (select 1 from gold where comparison_id = co.id)
          and not exists (select 1 from exclusions where item_id in (co.id, co.user_id))
        order by random() limit 1";
    one(c, sql, params![user.as_str(), count(people_max)])
}

/// Comparisons of the queue that wait to be ranked, by anybody.
///
/// # Errors
/// When the database can't.
pub fn waiting(c: &Connection) -> Result<u64, StoreError> {
    let sql = "select count(*) from comparisons co
        where co.for_queue = 1 and not exists (select 1 from rankings where comparison_id = co.id)
          and not exists (select 1 from labeling_tasks t where t.comparison_id = co.id and t.state = 'leased')
          and (select count(*) from labeling_tasks t where t.comparison_id = co.id and t.state = 'skipped') < ?1
          and not exists (select 1 from exclusions where item_id in (co.id, co.user_id))";
    let n: i64 = c.query_row(sql, [SKIPS_MAX], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

/// Comparisons that their owners left unranked before `left_before`.
///
/// # Errors
/// When the database can't.
pub fn left_unranked(c: &Connection, left_before: &str) -> Result<u64, StoreError> {
    let sql = "select count(*) from comparisons co
        where co.for_queue = 0 and co.source = 'live' and co.created_at < ?1
          and not exists (select 1 from rankings where comparison_id = co.id)
          and not exists (select 1 from exclusions where item_id in (co.id, co.user_id))";
    let n: i64 = c.query_row(sql, [left_before], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}
