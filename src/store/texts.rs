//! Texts that operators write for others to read. SQL of the table `texts`.

use super::{StoreError, now};
use rusqlite::{Connection, OptionalExtension, params};

/// A text as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// What it says.
    pub text: String,
    /// Who wrote it.
    pub actor: String,
    /// When.
    pub at: String,
}

/// The text of this name, if somebody wrote one.
///
/// # Errors
/// When the database can't.
pub fn get(c: &Connection, name: &str) -> Result<Option<Text>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| Ok(Text { text: row.get(0)?, actor: row.get(1)?, at: row.get(2)? });
    Ok(c.query_row("select text, actor, at from texts where name = ?1", [name], read).optional()?)
}

/// Writes a text; an empty one removes it.
///
/// # Errors
/// When the database can't.
pub fn put(tx: &Connection, name: &str, text: &str, actor: &str) -> Result<(), StoreError> {
    if text.trim().is_empty() {
        tx.execute("delete from texts where name = ?1", [name])?;
        return Ok(());
    }
    tx.execute(
        "insert into texts(name, text, actor, at) values (?1, ?2, ?3, ?4)
         on conflict(name) do update set text = excluded.text, actor = excluded.actor, at = excluded.at",
        params![name, text, actor, now()],
    )?;
    Ok(())
}
