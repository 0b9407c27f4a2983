//! Two answers from a chat as a comparison. SQL of `completions.copy_of`.

use super::comparisons::{self, Source};
use super::{StoreError, count, now};
use hone_domain::Message;
use hone_domain::ids::{ComparisonId, CompletionId, UserId};
use rusqlite::{Connection, OptionalExtension, params};

/// Makes a comparison of two answers that a person had to the same prompt, in the order given. The same two again are the same comparison.
///
/// # Errors
/// `NotFound` when one isn't theirs or wasn't kept, `Conflict` when they can't be compared.
pub fn make(tx: &Connection, user: &UserId, answers: [&CompletionId; 2]) -> Result<ComparisonId, StoreError> {
    let [first, second] = answers;
    if first == second {
        return Err(StoreError::Conflict("these are the same answer: name two".into()));
    }
    let messages = prompt_of(tx, first, user)?;
    if messages != prompt_of(tx, second, user)? {
        return Err(StoreError::Conflict(
            "these answers are to different prompts: compare answers to the same one".into(),
        ));
    }
    if let Some(made) = made(tx, first, second)? {
        return Ok(made);
    }
    let id = ComparisonId::new();
    comparisons::insert(tx, &id, user, &messages, Source::Live, &[])?;
    for (place, of) in answers.into_iter().enumerate() {
        copy(tx, of, &id, place)?;
    }
    Ok(id)
}

/// The prompt of an answer in a chat that may be learned from.
fn prompt_of(c: &Connection, id: &CompletionId, user: &UserId) -> Result<Vec<Message>, StoreError> {
    let sql = "select a.messages_json, coalesce(v.recorded, 1), a.tools_json is null from completions a left join conversations v on v.id = a.conversation_id
               where a.id = ?1 and a.user_id = ?2 and a.comparison_id is null and a.shadow_of is null";
    let columns =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?));
    match c.query_row(sql, [id.as_str(), user.as_str()], columns).optional()? {
        None => Err(StoreError::NotFound { what: "completion", id: id.to_string() }),
        Some((_, false, _)) => Err(StoreError::Conflict(
            "this conversation isn't recorded, so nothing is learned from it: record it first, then say which is better".into(),
        )),
        Some((_, true, false)) => Err(StoreError::Conflict(
            "this answer has to do with tools, and only texts are compared".into(),
        )),
        Some((messages, true, true)) => Ok(serde_json::from_str(&messages)?),
    }
}

fn made(c: &Connection, first: &CompletionId, second: &CompletionId) -> Result<Option<ComparisonId>, StoreError> {
    let sql = "select a.comparison_id from completions a join completions b on b.comparison_id = a.comparison_id
               where a.copy_of = ?1 and b.copy_of = ?2";
    let found: Option<String> = c.query_row(sql, [first.as_str(), second.as_str()], |row| row.get(0)).optional()?;
    Ok(found.map(ComparisonId::from_raw))
}

fn copy(tx: &Connection, of: &CompletionId, comparison: &ComparisonId, place: usize) -> Result<(), StoreError> {
    let sql = "insert into completions(id, user_id, policy_id, comparison_id, position, messages_json, content, finish_reason,
                 sampling_json, prompt_tokens, completion_tokens, created_at, copy_of)
               select ?2, user_id, policy_id, ?3, ?4, messages_json, content, finish_reason, sampling_json, prompt_tokens,
                      completion_tokens, ?5, id from completions where id = ?1";
    tx.execute(sql, params![of.as_str(), CompletionId::new().as_str(), comparison.as_str(), count(place), now()])?;
    Ok(())
}
