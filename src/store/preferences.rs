//! A person's word that one of two answers to the same prompt is better: a comparison of two with its ranking, made of chat
//! answers that were shown before. The answers are copied, so that they stay where they were said as well.

use super::comparisons::Source;
use super::rankings::{self, Labels, NewRanking};
use super::{StoreError, comparisons};
use hone_domain::ids::{ComparisonId, CompletionId, UserId};
use hone_domain::{Message, Ranking};
use rusqlite::{Connection, OptionalExtension, params};

/// Keeps a preference between two of a person's chat answers; gives the comparison that it became.
///
/// # Errors
/// `NotFound` when one isn't theirs or isn't a chat answer, `Conflict` when they don't answer the same prompt.
pub fn insert(
    tx: &Connection,
    user: &UserId,
    answers: &[CompletionId; 2],
    ranking: Ranking,
) -> Result<ComparisonId, StoreError> {
    let [first, second] = answers;
    let prompt = prompt(tx, first, user)?;
    if prompt != self::prompt(tx, second, user)? {
        let message =
            format!("{first} and {second} don't answer the same messages: only answers to one prompt can be compared");
        return Err(StoreError::Conflict(message));
    }
    let id = ComparisonId::new();
    let messages: Vec<Message> = serde_json::from_str(&prompt)?;
    comparisons::insert(tx, &id, user, &messages, Source::Live, &[])?;
    let sql = "insert into completions(id, user_id, policy_id, comparison_id, position, messages_json, content, finish_reason,
                 sampling_json, prompt_tokens, completion_tokens, created_at)
               select ?1, user_id, policy_id, ?2, ?3, messages_json, content, finish_reason, sampling_json, prompt_tokens,
                 completion_tokens, created_at
               from completions where id = ?4";
    let mut copy = tx.prepare_cached(sql)?;
    for (position, answer) in (0i64..).zip(answers) {
        copy.execute(params![CompletionId::new().as_str(), id.as_str(), position, answer.as_str()])?;
    }
    rankings::insert(tx, &id, user, &NewRanking { ranking: Some(ranking), labels: Labels::new(), comment: None })?;
    Ok(id)
}

/// The prompt of a person's chat answer, as it is stored.
fn prompt(tx: &Connection, id: &CompletionId, user: &UserId) -> Result<String, StoreError> {
    let sql = "select messages_json from completions
               where id = ?1 and user_id = ?2 and comparison_id is null and shadow_of is null";
    let found: Option<String> = tx.query_row(sql, [id.as_str(), user.as_str()], |row| row.get(0)).optional()?;
    found.ok_or_else(|| StoreError::NotFound { what: "completion", id: id.to_string() })
}
