//! Comparisons: one prompt, k answers, perhaps a ranking. SQL of the table `comparisons`.

use super::completions::{self, NewCompletion};
use super::{StoreError, count, now, rankings};
use hone_domain::Message;
use hone_domain::ids::{ComparisonId, CompletionId, PolicyId, UserId};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

/// Where feedback came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Somebody using hone.
    Live,
    /// `hone data import`.
    Import,
    /// The ideal answer given along with a ranking (demonstrations only).
    Ranking,
}

impl Source {
    /// The name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Import => "import",
            Self::Ranking => "ranking",
        }
    }
}

/// Names a prompt: equal messages, equal hash. Splits keep a prompt on one side by it.
///
/// # Errors
/// When the messages can't be written as JSON.
pub fn prompt_sha256(messages: &[Message]) -> Result<String, StoreError> {
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(messages)?)))
}

/// Stores a comparison with its candidates, which name it and their places themselves.
///
/// # Errors
/// When the database fails.
pub fn insert(
    tx: &Connection,
    id: &ComparisonId,
    user: &UserId,
    messages: &[Message],
    source: Source,
    candidates: &[NewCompletion],
) -> Result<(), StoreError> {
    tx.execute(
        "insert into comparisons(id, user_id, messages_json, prompt_sha256, source, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            id.as_str(),
            user.as_str(),
            serde_json::to_string(messages)?,
            prompt_sha256(messages)?,
            source.as_str(),
            now()
        ],
    )?;
    candidates.iter().try_for_each(|candidate| completions::insert(tx, candidate))
}

/// Stores a comparison for the labeling queue, made from `user`'s prompt, unless there is one of that prompt already.
///
/// # Errors
/// When the database fails.
pub fn insert_for_queue(
    tx: &Connection,
    id: &ComparisonId,
    user: &UserId,
    messages: &[Message],
    candidates: &[NewCompletion],
) -> Result<(), StoreError> {
    let sql = "select exists (select 1 from comparisons where prompt_sha256 = ?1)";
    if tx.query_row(sql, [prompt_sha256(messages)?], |row| row.get(0))? {
        return Ok(());
    }
    insert(tx, id, user, messages, Source::Live, candidates)?;
    tx.execute("update comparisons set for_queue = 1 where id = ?1", [id.as_str()])?;
    Ok(())
}

/// A candidate as it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: CompletionId,
    /// The answer.
    pub content: String,
    /// Who gave it. To be kept from the person until they have ranked.
    pub policy: PolicyId,
}

/// A comparison with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Its id.
    pub id: ComparisonId,
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answers in the order shown.
    pub candidates: Vec<Candidate>,
    /// The ranking, once there is one.
    pub ranking: Option<rankings::StoredRanking>,
    /// When it was made.
    pub created_at: String,
}

/// A person's comparison. Those that were made for the queue from their prompts aren't theirs to see.
///
/// # Errors
/// `NotFound` when it isn't theirs or doesn't exist.
pub fn owned(connection: &Connection, id: &ComparisonId, user: &UserId) -> Result<Comparison, StoreError> {
    let sql = "select exists (select 1 from comparisons where id = ?1 and user_id = ?2 and for_queue = 0)";
    if !connection.query_row(sql, [id.as_str(), user.as_str()], |row| row.get(0))? {
        return Err(StoreError::NotFound { what: "comparison", id: id.to_string() });
    }
    Ok(any(connection, id)?.0)
}

/// A comparison and whose prompt it is. For the queue and for operators, who see everybody's.
///
/// # Errors
/// `NotFound` when it doesn't exist.
pub fn any(connection: &Connection, id: &ComparisonId) -> Result<(Comparison, UserId), StoreError> {
    let sql = "select messages_json, created_at, user_id from comparisons where id = ?1";
    let columns = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?));
    let found: Option<(String, String, String)> = connection.query_row(sql, [id.as_str()], columns).optional()?;
    let not_found = || StoreError::NotFound { what: "comparison", id: id.to_string() };
    let (messages, created_at, user) = found.ok_or_else(not_found)?;
    let comparison = Comparison {
        id: id.clone(),
        messages: serde_json::from_str(&messages)?,
        candidates: candidates(connection, id)?,
        ranking: rankings::of(connection, id)?,
        created_at,
    };
    Ok((comparison, UserId::from_raw(user)))
}

/// A person's latest comparisons, newest first; only those not ranked yet if asked so.
///
/// # Errors
/// When the database fails.
pub fn list(
    connection: &Connection,
    user: &UserId,
    unranked: bool,
    limit: usize,
) -> Result<Vec<Comparison>, StoreError> {
    let sql = "select c.id from comparisons c left join rankings r on r.comparison_id = c.id
               where c.user_id = ?1 and c.for_queue = 0 and (r.comparison_id is null or not ?2) order by c.created_at desc, c.id desc limit ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let ids: Vec<String> =
        statement.query_map(params![user.as_str(), unranked, count(limit)], |r| r.get(0))?.collect::<Result<_, _>>()?;
    ids.into_iter().map(|id| owned(connection, &ComparisonId::from_raw(id), user)).collect()
}

fn candidates(connection: &Connection, id: &ComparisonId) -> Result<Vec<Candidate>, StoreError> {
    let sql = "select id, content, policy_id from completions where comparison_id = ?1 order by position";
    let mut statement = connection.prepare_cached(sql)?;
    let candidate = |r: &rusqlite::Row<'_>| {
        let (id, content, policy): (String, String, String) = (r.get(0)?, r.get(1)?, r.get(2)?);
        Ok(Candidate { id: CompletionId::from_raw(id), content, policy: PolicyId::from_raw(policy) })
    };
    Ok(statement.query_map([id.as_str()], candidate)?.collect::<Result<_, _>>()?)
}
