//! Counts for the first statistics page. Reads several tables, writes none.

use super::StoreError;
use rusqlite::Connection;
use serde::Serialize;

/// How much feedback there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Stats {
    /// People who may sign in.
    pub users: i64,
    /// Logged answers that were shown, candidates included.
    pub completions: i64,
    /// Comparisons made.
    pub comparisons: i64,
    /// Comparisons that somebody ranked (or found not rankable).
    pub rankings: i64,
    /// Of those, found not rankable.
    pub not_rankable: i64,
    /// Ideal answers.
    pub demonstrations: i64,
    /// Thumbs up.
    pub thumbs_up: i64,
    /// Thumbs down.
    pub thumbs_down: i64,
}

/// Counts everything.
///
/// # Errors
/// When the database fails.
pub fn counts(connection: &Connection) -> Result<Stats, StoreError> {
    let count = |sql: &str| connection.query_row(sql, [], |r| r.get::<_, i64>(0));
    Ok(Stats {
        users: count("select count(*) from users where revoked_at is null")?,
        completions: count("select count(*) from completions where shadow_of is null")?,
        comparisons: count("select count(*) from comparisons")?,
        rankings: count("select count(*) from rankings")?,
        not_rankable: count("select count(*) from rankings where not_rankable = 1")?,
        demonstrations: count("select count(*) from demonstrations")?,
        thumbs_up: count("select count(*) from ratings where thumb = 'up'")?,
        thumbs_down: count("select count(*) from ratings where thumb = 'down'")?,
    })
}
