//! The audit trail: who did what to which object. Rows are only ever added. SQL of the table `audit`.

use super::columns::json;
use super::{Page, StoreError, count, now};
use rusqlite::{Connection, params};
use serde_json::Value;

/// Notes that `actor` (a user's name, or "schedule") did `action` to `object`. Secrets never go into `detail`.
///
/// # Errors
/// When the database fails.
pub fn note(tx: &Connection, actor: &str, action: &str, object: &str, detail: &Value) -> Result<(), StoreError> {
    tx.execute(
        "insert into audit(at, actor, action, object, detail_json) values (?1, ?2, ?3, ?4, ?5)",
        params![now(), actor, action, object, detail.to_string()],
    )?;
    Ok(())
}

/// An entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: String,
    /// Who.
    pub actor: String,
    /// Did what.
    pub action: String,
    /// To what.
    pub object: String,
    /// More about it.
    pub detail: Value,
}

/// Which entries are wanted. An empty text leaves a condition out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Who did it.
    pub actor: String,
    /// What was done: an action, or what its name begins with up to a dot.
    pub action: String,
    /// What it was done to.
    pub object: String,
}

/// Entries, the newest first.
///
/// # Errors
/// When the database fails.
pub fn list(c: &Connection, filter: &Filter, limit: usize, offset: usize) -> Result<Page<Entry>, StoreError> {
    let Filter { actor, action, object } = filter;
    let sql = "select id, at, actor, action, object, detail_json from audit
               where (?1 = '' or actor = ?1) and (?2 = '' or action = ?2 or instr(action, ?2 || '.') = 1) and (?3 = '' or object = ?3)
               order by id desc limit ?4 offset ?5";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map(params![actor, action, object, count(limit), count(offset)], |row| {
        let (id, at, actor) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Entry { id, at, actor, action: row.get(3)?, object: row.get(4)?, detail: json(row, 5)? })
    })?;
    let items = rows.collect::<Result<_, _>>()?;
    let sql = "select count(*) from audit
               where (?1 = '' or actor = ?1) and (?2 = '' or action = ?2 or instr(action, ?2 || '.') = 1) and (?3 = '' or object = ?3)";
    let total: i64 = c.query_row(sql, [actor, action, object], |row| row.get(0))?;
    Ok(Page { items, total: total.unsigned_abs() })
}
