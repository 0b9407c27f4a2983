//! Everybody as admins see them: who they are, what they have given, when they were here. Reads several tables, writes none.

use super::StoreError;
use super::users::{self, User};
use rusqlite::Connection;
use std::collections::HashMap;

/// A person and what they have given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user: User,
    /// When they last signed in, asked or said something; none: never.
    pub last_seen: Option<String>,
    /// Answers that they were given.
    pub completions: u64,
    /// Rankings.
    pub rankings: u64,
    /// Ideal answers.
    pub demonstrations: u64,
    /// Whether what they give isn't learned from.
    pub excluded: bool,
}

/// Everybody, in the order they came.
///
/// # Errors
/// When the database can't.
pub fn list(c: &Connection) -> Result<Vec<Person>, StoreError> {
    // Each table has an index that begins with the person, so none is read in full.
    let sql = "select u.id,
        (select count(*) from completions where user_id = u.id and shadow_of is null),
        (select count(*) from rankings where user_id = u.id),
        (select count(*) from demonstrations where user_id = u.id),
        (select max(at) from (
           select max(created_at) as at from completions where user_id = u.id and comparison_id is null
           union all select max(created_at) from comparisons where user_id = u.id and source = 'live' and for_queue = 0
           union all select max(created_at) from rankings where user_id = u.id
           union all select max(created_at) from demonstrations where user_id = u.id and source <> 'import'
           union all select max(created_at) from labeling_tasks where user_id = u.id
           union all select max(updated_at) from conversations where user_id = u.id
           union all select max(created_at) from credentials where user_id = u.id and kind = 'session')),
        exists (select 1 from exclusions where item_id = u.id)
      from users u";
    let mut rows = c.prepare_cached(sql)?;
    let mut rows = rows.query([])?;
    let mut given = HashMap::new();
    while let Some(row) = rows.next()? {
        let n = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let seen: Option<String> = row.get(4)?;
        given.insert(row.get::<_, String>(0)?, (n(1)?, n(2)?, n(3)?, seen, row.get::<_, bool>(5)?));
    }
    let person = |user: User| {
        let (completions, rankings, demonstrations, last_seen, excluded) =
            given.remove(user.id.as_str()).unwrap_or_default();
        Person { user, last_seen, completions, rankings, demonstrations, excluded }
    };
    Ok(users::list(c)?.into_iter().map(person).collect())
}
