//! What may not be learned from, and why. SQL of the table `exclusions`; whoever reads for training or for the queue leaves these out.

use super::{StoreError, now};
use rusqlite::{Connection, params};

/// Excludes items (logged answers, comparisons, demonstrations, people) or gives them another reason. Answers how many were new.
///
/// # Errors
/// `NotFound` for an id that is none of these; then nothing is excluded.
pub fn exclude(tx: &Connection, ids: &[String], reason: &str, actor: &str) -> Result<usize, StoreError> {
    let mut new = 0;
    for id in ids {
        let known = "select exists (select 1 from completions where id = ?1) or exists (select 1 from comparisons where id = ?1)
                       or exists (select 1 from demonstrations where id = ?1) or exists (select 1 from users where id = ?1)";
        if !tx.prepare_cached(known)?.query_row([id], |row| row.get::<_, bool>(0))? {
            return Err(StoreError::NotFound { what: "item", id: id.clone() });
        }
        new += usize::from(!is_excluded(tx, id)?);
        let sql = "insert into exclusions(item_id, reason, actor, at) values (?1, ?2, ?3, ?4)
                   on conflict(item_id) do update set reason = excluded.reason, actor = excluded.actor, at = excluded.at";
        tx.prepare_cached(sql)?.execute(params![id, reason, actor, now()])?;
    }
    Ok(new)
}

/// Lets items be learned from again. Answers how many were excluded.
///
/// # Errors
/// When the database can't.
pub fn restore(tx: &Connection, ids: &[String]) -> Result<usize, StoreError> {
    let mut statement = tx.prepare_cached("delete from exclusions where item_id = ?1")?;
    ids.iter().try_fold(0, |n, id| Ok(n + statement.execute([id])?))
}

fn is_excluded(c: &Connection, id: &str) -> Result<bool, StoreError> {
    let sql = "select exists (select 1 from exclusions where item_id = ?1)";
    Ok(c.prepare_cached(sql)?.query_row([id], |row| row.get(0))?)
}
