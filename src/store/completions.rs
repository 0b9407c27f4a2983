//! Logged answers: chat answers, and the candidates of comparisons. SQL of the table `completions`.

use super::{StoreError, count, now};
use hone_domain::ids::{ComparisonId, CompletionId, PolicyId, UserId};
use hone_domain::{Message, Sampling};
use rusqlite::{Connection, OptionalExtension, params};

/// An answer to be logged.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCompletion {
    /// Its id.
    pub id: CompletionId,
    /// Who asked.
    pub user: UserId,
    /// Which policy answered.
    pub policy: PolicyId,
    /// The comparison it is a candidate of, and its place there.
    pub candidate: Option<(ComparisonId, usize)>,
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answer.
    pub content: String,
    /// OpenAI's name of why it ended.
    pub finish_reason: &'static str,
    /// How it was drawn, the seed included.
    pub sampling: Sampling,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
}

/// Logs an answer. The user, the policy and the comparison must be there.
///
/// # Errors
/// When the database fails.
pub fn insert(tx: &Connection, new: &NewCompletion) -> Result<(), StoreError> {
    let NewCompletion { id, user, policy, candidate, messages, content, finish_reason, sampling, .. } = new;
    let sql = "insert into completions(id, user_id, policy_id, comparison_id, position, messages_json, content,
                 finish_reason, sampling_json, prompt_tokens, completion_tokens, created_at)
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    tx.prepare_cached(sql)?.execute(params![
        id.as_str(),
        user.as_str(),
        policy.as_str(),
        candidate.as_ref().map(|(comparison, _)| comparison.as_str()),
        candidate.as_ref().map(|(_, position)| count(*position)),
        serde_json::to_string(messages)?,
        content,
        finish_reason,
        serde_json::to_string(sampling)?,
        count(new.prompt_tokens),
        count(new.completion_tokens),
        now(),
    ])?;
    Ok(())
}

/// Checks that an answer is this person's.
///
/// # Errors
/// `NotFound` when it isn't theirs or doesn't exist.
pub fn require_owner(connection: &Connection, id: &CompletionId, user: &UserId) -> Result<(), StoreError> {
    let sql = "select 1 from completions where id = ?1 and user_id = ?2";
    let found: Option<i64> = connection.query_row(sql, [id.as_str(), user.as_str()], |r| r.get(0)).optional()?;
    found.map(drop).ok_or_else(|| StoreError::NotFound { what: "completion", id: id.to_string() })
}
