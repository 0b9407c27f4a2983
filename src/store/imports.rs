//! Imported rankings and demonstrations. A row's id comes from its content, so that the same row twice is found out.

use super::{StoreError, now, policies};
use hone_domain::{Demonstration, RankedPrompt};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Finds the person of this name, or makes one who can't sign in until a key is made (role `labeler`).
///
/// # Errors
/// When the database can't.
pub fn labeler(c: &Connection, name: &str) -> Result<String, StoreError> {
    let found = c.query_row("select id from users where name = ?1", [name], |row| row.get(0)).optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    let id = hone_domain::ids::UserId::new();
    let sql = "insert into users(id, name, role, created_at) values (?1, ?2, 'labeler', ?3)";
    c.execute(sql, params![id.as_str(), name, now()])?;
    Ok(id.to_string())
}

/// Everybody's name by id.
///
/// # Errors
/// When the database can't.
pub fn names(c: &Connection) -> Result<HashMap<String, String>, StoreError> {
    let mut rows = c.prepare("select id, name from users")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Stores a ranking by the user `ranked.labeler`. Answers whether it is new.
///
/// # Errors
/// When the database can't.
pub fn ranking(c: &Connection, ranked: &RankedPrompt) -> Result<bool, StoreError> {
    let messages = serde_json::to_string(&ranked.messages)?;
    let hash = content_hash(&serde_json::to_string(ranked)?);
    let (id, at) = (format!("cmp_import_{hash}"), now());
    let sql = "insert into comparisons(id, user_id, messages_json, prompt_sha256, source, created_at)
               values (?1, ?2, ?3, ?4, 'import', ?5) on conflict do nothing";
    if c.execute(sql, params![id, ranked.labeler, messages, sha256(&messages), at])? == 0 {
        return Ok(false);
    }
    let policy = policies::imported(c)?;
    for (i, candidate) in ranked.candidates.iter().enumerate() {
        c.execute(
            "insert into completions(id, user_id, policy_id, comparison_id, position, messages_json, content,
                                     finish_reason, sampling_json, prompt_tokens, completion_tokens, created_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'stop', '{}', 0, 0, ?8)",
            params![
                format!("cmpl_import_{hash}_{i}"),
                ranked.labeler,
                policy.as_str(),
                id,
                i64::try_from(i).unwrap_or(i64::MAX),
                messages,
                candidate,
                at
            ],
        )?;
    }
    let ranks = serde_json::to_string(&ranked.ranking)?;
    let sql = "insert into rankings(comparison_id, user_id, ranks_json, created_at) values (?1, ?2, ?3, ?4)";
    c.execute(sql, params![id, ranked.labeler, ranks, at])?;
    Ok(true)
}

/// Stores a demonstration by the user `demonstration.labeler`. Answers whether it is new.
///
/// # Errors
/// When the database can't.
pub fn demonstration(c: &Connection, demonstration: &Demonstration) -> Result<bool, StoreError> {
    let messages = serde_json::to_string(&demonstration.messages)?;
    let id = format!("demo_import_{}", content_hash(&serde_json::to_string(demonstration)?));
    let sql = "insert into demonstrations(id, user_id, messages_json, ideal, prompt_sha256, source, created_at)
               values (?1, ?2, ?3, ?4, ?5, 'import', ?6) on conflict do nothing";
    let Demonstration { messages: _, ideal, labeler } = demonstration;
    let n = c.execute(sql, params![id, labeler, messages, ideal, sha256(&messages), now()])?;
    Ok(n == 1)
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// 128 bits are plenty to tell rows apart.
fn content_hash(text: &str) -> String {
    sha256(text)[..32].to_owned()
}
