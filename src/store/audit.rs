//! The audit trail: who did what to which object. Rows are only ever added. SQL of the table `audit`.

use super::{StoreError, now};
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
