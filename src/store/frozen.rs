//! The switch that stops everything that happens by itself. SQL of the table `frozen`.

use super::{StoreError, now};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

/// Why nothing happens by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Frozen {
    /// What was said.
    pub reason: String,
    /// Who did it.
    pub actor: String,
    /// When.
    pub at: String,
}

/// Whether, and why.
///
/// # Errors
/// When the database can't.
pub fn get(c: &Connection) -> Result<Option<Frozen>, StoreError> {
    let frozen = |row: &rusqlite::Row<'_>| Ok(Frozen { reason: row.get(0)?, actor: row.get(1)?, at: row.get(2)? });
    Ok(c.query_row("select reason, actor, at from frozen", [], frozen).optional()?)
}

/// Freezes the loop; where it is frozen already the first reason stays. Answers whether it has changed anything.
///
/// # Errors
/// When the database can't.
pub fn set(c: &Connection, reason: &str, actor: &str) -> Result<bool, StoreError> {
    let sql = "insert into frozen(id, reason, actor, at) values (1, ?1, ?2, ?3) on conflict do nothing";
    Ok(c.execute(sql, params![reason, actor, now()])? > 0)
}

/// Lets the loop go on. Answers whether it was frozen.
///
/// # Errors
/// When the database can't.
pub fn end(c: &Connection) -> Result<bool, StoreError> {
    Ok(c.execute("delete from frozen", [])? > 0)
}
