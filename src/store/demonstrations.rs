//! Demonstrations: ideal answers that people wrote. SQL of the table `demonstrations`.

use super::comparisons::{Source, prompt_sha256};
use super::{StoreError, now};
use hone_domain::Message;
use hone_domain::ids::{DemonstrationId, UserId};
use rusqlite::{Connection, params};

/// Stores an ideal answer.
///
/// # Errors
/// When the database fails.
pub fn insert(
    tx: &Connection,
    user: &UserId,
    messages: &[Message],
    ideal: &str,
    source: Source,
) -> Result<DemonstrationId, StoreError> {
    let id = DemonstrationId::new();
    tx.execute(
        "insert into demonstrations(id, user_id, messages_json, ideal, prompt_sha256, source, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            id.as_str(),
            user.as_str(),
            serde_json::to_string(messages)?,
            ideal,
            prompt_sha256(messages)?,
            source.as_str(),
            now()
        ],
    )?;
    Ok(id)
}
