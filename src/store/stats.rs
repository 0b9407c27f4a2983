//! Counts for the statistics pages. Reads several tables, writes none.

use super::StoreError;
use rusqlite::Connection;
use serde::Serialize;

/// How much feedback there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = FeedbackCounts)]
pub struct Counts {
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
pub fn counts(connection: &Connection) -> Result<Counts, StoreError> {
    let count = |sql: &str| connection.query_row(sql, [], |r| r.get::<_, i64>(0));
    Ok(Counts {
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

/// What one person has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// Their id.
    pub id: String,
    /// Their name.
    pub name: String,
    /// Rankings that are learned from.
    pub rankings: u64,
    /// Ideal answers.
    pub demonstrations: u64,
}

/// What each person has given who has given anything, by name.
///
/// # Errors
/// When the database fails.
pub fn contributions(c: &Connection) -> Result<Vec<Contribution>, StoreError> {
    let sql = "select * from (
                 select u.id, u.name, (select count(*) from rankings where user_id = u.id) as rankings,
                        (select count(*) from demonstrations where user_id = u.id) as demonstrations,
                        (select count(*) from judgements where user_id = u.id) as judgements from users u)
               where rankings + demonstrations + judgements > 0 order by name";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([], |row| {
        let count = |column: &str| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let (rankings, demonstrations) = (count("rankings")?, count("demonstrations")?);
        Ok(Contribution { id: row.get("id")?, name: row.get("name")?, rankings, demonstrations })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Rankings of one day that came one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Day {
    /// The day, UTC: "2026-01-31".
    pub day: String,
    /// `chat` (people's own comparisons), `queue` (labelers) or `import`.
    pub source: String,
    /// How many.
    pub rankings: u64,
}

/// Rankings by day and source since `since`, the oldest day first; days without any are left out.
///
/// # Errors
/// When the database fails.
pub fn days(c: &Connection, since: &str) -> Result<Vec<Day>, StoreError> {
    let sql = "select substr(r.created_at, 1, 10) as day,
                      case when co.source = 'import' then 'import' when r.user_id = co.user_id and co.for_queue = 0 then 'chat'
                           else 'queue' end as source, count(*)
               from rankings r join comparisons co on co.id = r.comparison_id
               where r.created_at >= ?1 group by day, source order by day, source";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([since], |row| {
        Ok(Day { day: row.get(0)?, source: row.get(1)?, rankings: row.get::<_, i64>(2)?.unsigned_abs() })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
