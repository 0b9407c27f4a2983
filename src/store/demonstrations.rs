//! Demonstrations: ideal answers that people wrote. SQL of the table `demonstrations`.

use super::comparisons::{Source, prompt_sha256};
use super::{StoreError, now};
use hone_domain::Message;
use hone_domain::ids::{ComparisonId, DemonstrationId, UserId};
use rusqlite::{Connection, params};

/// An ideal answer to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewDemonstration<'a> {
    /// Who wrote it.
    pub user: &'a UserId,
    /// The prompt.
    pub messages: &'a [Message],
    /// The answer.
    pub ideal: &'a str,
    /// How it came.
    pub source: Source,
    /// Whose prompt it is; none: the writer's own.
    pub prompt_from: Option<&'a UserId>,
    /// The comparison beside which it was written.
    pub comparison: Option<&'a ComparisonId>,
}

/// Stores an ideal answer.
///
/// # Errors
/// When the database fails.
pub fn insert(tx: &Connection, new: &NewDemonstration<'_>) -> Result<DemonstrationId, StoreError> {
    let NewDemonstration { user, messages, ideal, source, prompt_from, comparison } = *new;
    let id = DemonstrationId::new();
    tx.execute(
        "insert into demonstrations(id, user_id, messages_json, ideal, prompt_sha256, source, created_at, prompt_from, comparison_id)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            id.as_str(),
            user.as_str(),
            serde_json::to_string(messages)?,
            ideal,
            prompt_sha256(messages)?,
            source.as_str(),
            now(),
            prompt_from.filter(|from| *from != user).map(UserId::as_str),
            comparison.map(ComparisonId::as_str),
        ],
    )?;
    Ok(id)
}

/// Removes an ideal answer.
///
/// # Errors
/// When the database fails.
pub fn delete(tx: &Connection, id: &DemonstrationId) -> Result<(), StoreError> {
    tx.execute("delete from demonstrations where id = ?1", [id.as_str()])?;
    Ok(())
}

/// Removes the ideal answers that a person wrote beside a comparison.
///
/// # Errors
/// When the database fails.
pub fn delete_beside(tx: &Connection, comparison: &ComparisonId, user: &UserId) -> Result<(), StoreError> {
    let sql = "delete from demonstrations where comparison_id = ?1 and user_id = ?2";
    tx.execute(sql, [comparison.as_str(), user.as_str()])?;
    Ok(())
}
