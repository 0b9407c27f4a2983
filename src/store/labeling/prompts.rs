//! The prompts that the queue is made of: those that labelers wrote for it, then logged ones, drawn at random. SQL of the table
//! `labeling_prompts`, and what may be used of others.

use super::Kind;
use crate::store::columns::json;
use crate::store::{StoreError, now};
use hone_domain::Message;
use hone_domain::ids::UserId;
use rusqlite::{Connection, OptionalExtension, params};

/// A prompt and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Where it is among the labelers' own, if it is one of them.
    pub own: Option<String>,
    /// Who wrote it.
    pub from: UserId,
    /// What was said.
    pub messages: Vec<Message>,
}

/// Keeps a labeler's prompt.
///
/// # Errors
/// When the database can't.
pub fn insert(tx: &Connection, user: &UserId, messages: &[Message]) -> Result<String, StoreError> {
    let id = format!("prompt_{}", uuid::Uuid::now_v7().simple());
    let sql = "insert into labeling_prompts(id, user_id, messages_json, created_at) values (?1, ?2, ?3, ?4)";
    tx.execute(sql, params![id, user.as_str(), serde_json::to_string(messages)?, now()])?;
    Ok(id)
}

/// Takes a prompt that the model can't answer out of the queue.
///
/// # Errors
/// When the database can't.
pub fn refuse(tx: &Connection, id: &str, why: &str) -> Result<(), StoreError> {
    tx.execute("update labeling_prompts set refused = ?2 where id = ?1", [id, why])?;
    Ok(())
}

/// A prompt for the next item of this kind: one that nobody has compared answers to, or written an ideal answer to.
///
/// # Errors
/// When the database can't.
pub fn draw(c: &Connection, kind: Kind, user: &UserId) -> Result<Option<Prompt>, StoreError> {
    let (own, logged) = match kind {
        Kind::Rank => (OWN_TO_RANK, LOGGED_TO_RANK),
        Kind::Demonstrate => (OWN_TO_DEMONSTRATE, LOGGED_TO_DEMONSTRATE),
    };
    for sql in [own, logged] {
        let read = |row: &rusqlite::Row<'_>| {
            let (own, from): (Option<String>, String) = (row.get(0)?, row.get(1)?);
            Ok(Prompt { own, from: UserId::from_raw(from), messages: json(row, 2)? })
        };
        if let Some(prompt) = c.prepare_cached(sql)?.query_row([user.as_str()], read).optional()? {
            return Ok(Some(prompt));
        }
    }
    Ok(None)
}

/// How many prompts there are to make items of, doubles counted once.
///
/// # Errors
/// When the database can't.
pub fn left(c: &Connection, kind: Kind) -> Result<u64, StoreError> {
    let sql = match kind {
        Kind::Rank => {
            "select count(*) from (
               select messages_json from labeling_prompts where refused is null
               union
               select a.messages_json from chat_answers a
               where not exists (select 1 from exclusions where item_id in (a.id, a.user_id)))
             where messages_json not in (select messages_json from comparisons)"
        }
        Kind::Demonstrate => {
            "select count(*) from (
               select messages_json from labeling_prompts
               union
               select a.messages_json from chat_answers a
               where not exists (select 1 from exclusions where item_id in (a.id, a.user_id)))
             where messages_json not in (select messages_json from demonstrations)"
        }
    };
    let n: i64 = c.query_row(sql, [], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

/// Who asks (`?1`) makes no difference here: what they passed over is a comparison already.
const OWN_TO_RANK: &str = "select p.id, p.user_id, p.messages_json from labeling_prompts p
    where p.refused is null and ?1 <> '' and p.messages_json not in (select messages_json from comparisons)
      and not exists (select 1 from exclusions where item_id = p.user_id)
    order by p.created_at limit 1";

const LOGGED_TO_RANK: &str = "select null, a.user_id, a.messages_json
    from chat_answers a
    where ?1 <> ''
      and a.messages_json not in (select messages_json from comparisons)
      and not exists (select 1 from exclusions where item_id in (a.id, a.user_id))
    order by random() limit 1";

/// What somebody works on, and what this person has passed over.
const OWN_TO_DEMONSTRATE: &str = "select p.id, p.user_id, p.messages_json from labeling_prompts p
    where p.messages_json not in (select messages_json from demonstrations)
      and p.messages_json not in (select messages_json from labeling_tasks where kind = 'demonstrate'
                                    and (state = 'leased' or (state = 'skipped' and user_id = ?1)))
      and not exists (select 1 from exclusions where item_id = p.user_id)
    order by p.created_at limit 1";

const LOGGED_TO_DEMONSTRATE: &str = "select null, a.user_id, a.messages_json
    from chat_answers a
    where a.messages_json not in (select messages_json from demonstrations)
      and a.messages_json not in (select messages_json from labeling_tasks where kind = 'demonstrate'
                                    and (state = 'leased' or (state = 'skipped' and user_id = ?1)))
      and not exists (select 1 from exclusions where item_id in (a.id, a.user_id))
    order by random() limit 1";
