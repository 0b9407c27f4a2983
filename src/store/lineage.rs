//! What an id names, with what it takes to find it in snapshots, and every ranking with its words. Reads completions, comparisons,
//! demonstrations, users and policies; writes nothing.

use super::columns::json;
use super::{StoreError, comparisons};
use hone_domain::Message;
use hone_domain::ids::{ComparisonId, PolicyId, UserId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LineageKind)]
pub enum Kind {
    /// A logged answer.
    Answer,
    /// A prompt with several answers.
    Comparison,
    /// An ideal answer.
    Demonstration,
    /// A person.
    Person,
    /// A policy.
    Policy,
}

/// What an id names, and its words.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// Of an answer: whose it is to see.
    pub owner: Option<UserId>,
    /// Of an answer: its policy is no secret any more.
    pub revealed: bool,
    /// Of an answer: who gave it. A policy itself.
    pub policy: Option<PolicyId>,
    /// The prompt.
    pub messages: Vec<Message>,
    /// Of a comparison, or of the comparison that an answer belongs to: all answers in their places.
    pub candidates: Vec<String>,
    /// Who ranked these.
    pub labeler: Option<String>,
    /// The ideal answer.
    pub ideal: Option<String>,
}

impl Subject {
    fn new(kind: Kind, messages: Vec<Message>) -> Self {
        Self {
            kind,
            owner: None,
            revealed: true,
            policy: None,
            messages,
            candidates: Vec::new(),
            labeler: None,
            ideal: None,
        }
    }
}

/// What an id names.
///
/// # Errors
/// `NotFound` when it names nothing. An answer that a challenger wrote in the shadow was shown to nobody, and isn't found either.
pub fn find(c: &Connection, id: &str) -> Result<Subject, StoreError> {
    let kind = "select case when exists (select 1 from completions where id = ?1 and shadow_of is null) then 'answer'
                            when exists (select 1 from comparisons where id = ?1) then 'comparison'
                            when exists (select 1 from demonstrations where id = ?1) then 'demonstration'
                            when exists (select 1 from users where id = ?1) then 'person'
                            when exists (select 1 from policies where id = ?1) then 'policy' end";
    let kind: Option<String> = c.query_row(kind, [id], |row| row.get(0))?;
    match kind.as_deref() {
        Some("answer") => answer(c, id),
        Some("comparison") => comparison(c, id),
        Some("demonstration") => demonstration(c, id),
        Some("person") => Ok(Subject::new(Kind::Person, Vec::new())),
        Some(_) => Ok(Subject { policy: Some(PolicyId::from_raw(id)), ..Subject::new(Kind::Policy, Vec::new()) }),
        None => {
            Err(StoreError::NotFound { what: "answer, comparison, demonstration, person or policy", id: id.into() })
        }
    }
}

fn answer(c: &Connection, id: &str) -> Result<Subject, StoreError> {
    let sql = "select a.policy_id, a.messages_json, a.comparison_id, a.user_id, coalesce(co.for_queue, 0), r.comparison_id is not null
               from completions a left join comparisons co on co.id = a.comparison_id
                    left join rankings r on r.comparison_id = a.comparison_id where a.id = ?1";
    let (policy, messages, compared, user, for_queue, ranked) = c.query_row(sql, [id], |row| {
        let (policy, compared, user): (String, Option<String>, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok((policy, json::<Vec<Message>>(row, 1)?, compared, user, row.get::<_, bool>(4)?, row.get::<_, bool>(5)?))
    })?;
    let whole = compared.as_deref().map(|id| comparison(c, id)).transpose()?;
    let (candidates, labeler) = whole.map(|whole| (whole.candidates, whole.labeler)).unwrap_or_default();
    Ok(Subject {
        owner: (!for_queue).then(|| UserId::from_raw(user)),
        revealed: compared.is_none() || ranked,
        policy: Some(PolicyId::from_raw(policy)),
        candidates,
        labeler,
        ..Subject::new(Kind::Answer, messages)
    })
}

fn comparison(c: &Connection, id: &str) -> Result<Subject, StoreError> {
    let (whole, _) = comparisons::any(c, &ComparisonId::from_raw(id))?;
    let labeler = "select user_id from rankings where comparison_id = ?1";
    Ok(Subject {
        candidates: whole.candidates.into_iter().map(|candidate| candidate.content).collect(),
        labeler: c.query_row(labeler, [id], |row| row.get(0)).optional()?,
        ..Subject::new(Kind::Comparison, whole.messages)
    })
}

fn demonstration(c: &Connection, id: &str) -> Result<Subject, StoreError> {
    let sql = "select messages_json, ideal from demonstrations where id = ?1";
    let (messages, ideal) = c.query_row(sql, params![id], |row| Ok((json(row, 0)?, row.get(1)?)))?;
    Ok(Subject { ideal: Some(ideal), ..Subject::new(Kind::Demonstration, messages) })
}

/// A ranking with the words that a snapshot knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Of which comparison.
    pub comparison: String,
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answers in their places.
    pub candidates: Vec<String>,
    /// Who gave it, by id.
    pub labeler: String,
    /// And by name.
    pub by: String,
    /// When.
    pub created_at: String,
}

/// Every ranking, the newest first.
///
/// # Errors
/// When the database can't.
pub fn rankings(c: &Connection) -> Result<Vec<Given>, StoreError> {
    let sql = "select co.id, co.messages_json,
                      (select json_group_array(content) from
                         (select content from completions where comparison_id = co.id order by position)),
                      r.user_id, u.name, r.created_at
               from rankings r join comparisons co on co.id = r.comparison_id join users u on u.id = r.user_id
               where r.not_rankable = 0 order by r.created_at desc, co.id";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([], |row| {
        let (comparison, labeler, by, created_at) = (row.get(0)?, row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(Given { comparison, messages: json(row, 1)?, candidates: json(row, 2)?, labeler, by, created_at })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
