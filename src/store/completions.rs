//! Logged answers: chat answers, and the candidates of comparisons. SQL of the table `completions`.

use super::{StoreError, count, now};
use hone_domain::ids::{ComparisonId, CompletionId, PolicyId, UserId};
use hone_domain::{Message, Sampling, ToolUse};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

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
    /// The shown answer to the same prompt, where nobody was shown this one.
    pub shadow_of: Option<CompletionId>,
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answer.
    pub content: String,
    /// The tools of the turn; such a turn is kept, and never learned from: it is no text.
    pub tools: Option<ToolUse>,
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
    let NewCompletion { id, user, policy, candidate, shadow_of, messages, content, finish_reason, sampling, .. } = new;
    let sql = "insert into completions(id, user_id, policy_id, comparison_id, position, messages_json, content,
                 finish_reason, sampling_json, prompt_tokens, completion_tokens, created_at, shadow_of, tools_json)
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
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
        shadow_of.as_ref().map(CompletionId::as_str),
        new.tools.as_ref().map(serde_json::to_string).transpose()?,
    ])?;
    Ok(())
}

/// A prompt with the answer that was shown, and the challenger's, which wasn't.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Shadow {
    /// The prompt.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<Message>,
    /// Who gave the answer that was shown.
    #[schema(value_type = String)]
    pub shown_policy: PolicyId,
    /// That answer.
    pub shown: String,
    /// The challenger's answer.
    pub shadow: String,
    /// When.
    pub created_at: String,
}

/// What a challenger wrote in the shadow, the newest first.
///
/// # Errors
/// When the database fails.
pub fn shadows(c: &Connection, policy: &PolicyId, limit: usize) -> Result<Vec<Shadow>, StoreError> {
    let sql = "select s.messages_json, o.policy_id, o.content, s.content, s.created_at
               from completions s join completions o on o.id = s.shadow_of
               where s.policy_id = ?1 order by s.created_at desc limit ?2";
    let mut rows = c.prepare_cached(sql)?;
    let mut rows = rows.query(params![policy.as_str(), count(limit)])?;
    let mut shadows = Vec::new();
    while let Some(row) = rows.next()? {
        let messages: String = row.get(0)?;
        shadows.push(Shadow {
            messages: serde_json::from_str(&messages)?,
            shown_policy: PolicyId::from_raw(row.get::<_, String>(1)?),
            shown: row.get(2)?,
            shadow: row.get(3)?,
            created_at: row.get(4)?,
        });
    }
    Ok(shadows)
}

/// Which policy gave an answer.
///
/// # Errors
/// `NotFound` when there is no such answer.
pub fn policy_of(c: &Connection, id: &CompletionId) -> Result<PolicyId, StoreError> {
    let sql = "select policy_id from completions where id = ?1";
    let found: Option<String> = c.query_row(sql, [id.as_str()], |row| row.get(0)).optional()?;
    found.map(PolicyId::from_raw).ok_or_else(|| StoreError::NotFound { what: "completion", id: id.to_string() })
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
