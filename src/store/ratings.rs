//! Thumbs: shown and monitored, never part of the reward by default. SQL of the table `ratings`.

use super::{StoreError, completions, now};
use hone_domain::ids::{CompletionId, UserId};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// Good or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Thumb {
    /// Good.
    Up,
    /// Not good.
    Down,
}

/// A rating of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rating {
    /// Good or not.
    pub thumb: Thumb,
    /// Why, in keywords.
    pub tags: Vec<String>,
    /// Why, in words.
    pub comment: Option<String>,
}

/// Stores a person's rating of their answer; a later one replaces it.
///
/// # Errors
/// `NotFound` when the answer isn't theirs or wasn't kept.
pub fn put(tx: &Connection, id: &CompletionId, user: &UserId, rating: &Rating) -> Result<(), StoreError> {
    completions::require_owner(tx, id, user)?;
    let thumb = match rating.thumb {
        Thumb::Up => "up",
        Thumb::Down => "down",
    };
    tx.execute(
        "insert into ratings(completion_id, user_id, thumb, tags_json, comment, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6)
         on conflict(completion_id) do update set thumb = excluded.thumb, tags_json = excluded.tags_json,
           comment = excluded.comment, created_at = excluded.created_at",
        params![id.as_str(), user.as_str(), thumb, serde_json::to_string(&rating.tags)?, rating.comment, now()],
    )?;
    Ok(())
}
