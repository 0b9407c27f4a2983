//! What a snapshot reads: every ranking, demonstration and prompt that may be trained on, each with where it came from.
//! Left out: answers that nobody could rank, comparisons without a ranking, and chats that their owner
//! deleted or doesn't want to be learned from, and what an operator has excluded.

use super::StoreError;
use super::columns::{json, json_or_null};
use super::rankings::Labels;
use hone_domain::{Demonstration, Message, RankedPrompt, Ranking};
use rusqlite::{Connection, OptionalExtension, Row};

/// The name of the person that imports without a `labeler` are put down to.
pub const IMPORT_USER: &str = "import";

/// Where a piece of feedback came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who sent the prompt; nobody knows for imports that don't say.
    pub sender: Option<String>,
    /// The sender isn't one of the public: labelers, operators and imports are exempt from the cap per person.
    pub vouched: bool,
}

/// A piece of feedback and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// Where from.
    pub origin: Origin,
    /// What it is.
    pub item: T,
}

/// Every ranking with its answers in shown order, oldest first. The origin is that of the prompt, not of the ranking.
///
/// # Errors
/// When the database can't, or a stored ranking doesn't match its answers.
pub fn rankings(c: &Connection) -> Result<Vec<Stored<RankedPrompt>>, StoreError> {
    let sql = "select u.id, u.name, u.role, co.source, co.messages_json, co.id, r.ranks_json, r.user_id,
                      (select json_group_array(content) from
                         (select content from completions where comparison_id = co.id order by position)),
                      r.labels_json,
                      (select json_group_array(id) from
                         (select id from completions where comparison_id = co.id order by position))
               from rankings r join comparisons co on co.id = r.comparison_id join users u on u.id = co.user_id
               where r.not_rankable = 0
                 and not exists (select 1 from exclusions where item_id in (co.id, co.user_id, r.user_id))
               order by r.created_at, r.comparison_id";
    let mut rows = c.prepare(sql)?;
    let mut rows = rows.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let (ranks, candidates): (Vec<u32>, Vec<String>) = (json(row, 6)?, json(row, 8)?);
        let ranking = Ranking::from_ranks(&ranks).ok().filter(|r| r.ranks().len() == candidates.len());
        let id: String = row.get(5)?;
        let ranking =
            ranking.ok_or_else(|| StoreError::Conflict(format!("the stored ranking of comparison {id} is damaged")))?;
        let (labels, ids): (Labels, Vec<String>) = (json_or_null(row, 9)?.unwrap_or_default(), json(row, 10)?);
        let (quality, flags) = (quality(&labels, &ids), flags(&labels, &ids));
        let item = RankedPrompt { messages: json(row, 4)?, candidates, ranking, quality, flags, labeler: row.get(7)? };
        all.push(Stored { origin: origin(row)?, item });
    }
    Ok(all)
}

/// The id of the person that imports without a labeler are put down to; none before the first of them.
///
/// # Errors
/// When the database can't.
pub fn nobody(c: &Connection) -> Result<Option<String>, StoreError> {
    Ok(c.query_row("select id from users where name = ?1", [IMPORT_USER], |row| row.get(0)).optional()?)
}

/// The labeler's marks in the candidates' order; empty where no candidate has one.
fn quality(labels: &Labels, candidates: &[String]) -> Vec<Option<u8>> {
    let marks: Vec<Option<u8>> = candidates.iter().map(|id| labels.get(id)?.overall).collect();
    if marks.iter().any(Option::is_some) { marks } else { Vec::new() }
}

/// The labeler's findings in the candidates' order; empty where there is none.
fn flags(labels: &Labels, candidates: &[String]) -> Vec<Vec<String>> {
    let found = |id: &String| labels.get(id).map(|label| label.flags.clone()).unwrap_or_default();
    let flags: Vec<Vec<String>> = candidates.iter().map(found).collect();
    if flags.iter().any(|f| !f.is_empty()) { flags } else { Vec::new() }
}

/// Every demonstration, oldest first. The origin is that of the prompt.
///
/// # Errors
/// When the database can't.
pub fn demonstrations(c: &Connection) -> Result<Vec<Stored<Demonstration>>, StoreError> {
    let sql = "select u.id, u.name, u.role, d.source, d.messages_json, d.ideal, d.user_id
               from demonstrations d join users u on u.id = coalesce(d.prompt_from, d.user_id)
               where not exists (select 1 from exclusions where item_id in (d.id, d.user_id, d.prompt_from, d.comparison_id))
               order by d.created_at, d.id";
    let mut rows = c.prepare(sql)?;
    let rows = rows.query_map([], |row| {
        let item = Demonstration { messages: json(row, 4)?, ideal: row.get(5)?, labeler: row.get(6)? };
        Ok(Stored { origin: origin(row)?, item })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Every prompt that was chatted with or compared, oldest first, repeats included.
///
/// # Errors
/// When the database can't.
pub fn prompts(c: &Connection) -> Result<Vec<Stored<Vec<Message>>>, StoreError> {
    let sql = "select u.id, u.name, u.role, p.source, p.messages_json from (
                 select user_id, source, messages_json, created_at, id from comparisons
                 union all
                 select user_id, 'live', messages_json, created_at, id from chat_answers
               ) p join users u on u.id = p.user_id
               where not exists (select 1 from exclusions where item_id in (p.id, p.user_id)) order by p.created_at, p.id";
    let mut rows = c.prepare(sql)?;
    let rows = rows.query_map([], |row| Ok(Stored { origin: origin(row)?, item: json(row, 4)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The newest prompts that may be learned from, each once.
///
/// # Errors
/// When the database can't.
pub fn newest_prompts(c: &Connection, limit: usize) -> Result<Vec<Vec<Message>>, StoreError> {
    let sql = "select p.messages_json from (
                 select user_id, messages_json, created_at, id from comparisons
                 union all
                 select user_id, messages_json, created_at, id from chat_answers
               ) p where not exists (select 1 from exclusions where item_id in (p.id, p.user_id))
               group by p.messages_json order by max(p.created_at) desc limit ?1";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([super::count(limit)], |row| json(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The first four columns: id, name and role of the sender, and the source.
fn origin(row: &Row<'_>) -> rusqlite::Result<Origin> {
    let (id, name, role, source): (String, String, String, String) =
        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    let imported = source == "import";
    Ok(Origin { sender: (!imported || name != IMPORT_USER).then_some(id), vouched: imported || role != "user" })
}

/// How many rankings that may be learned from were given after `since` (all, without it).
///
/// # Errors
/// When the database can't.
pub fn rankings_since(c: &Connection, since: Option<&str>) -> Result<u64, StoreError> {
    let sql = "select count(*) from rankings r join comparisons co on co.id = r.comparison_id
               where r.not_rankable = 0 and r.created_at > ?1
                 and not exists (select 1 from exclusions where item_id in (co.id, co.user_id, r.user_id))";
    let n: i64 = c.query_row(sql, [since.unwrap_or("")], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

/// How many rankings aren't learned from: their answers couldn't be ranked, or somebody excluded them.
///
/// # Errors
/// When the database can't.
pub fn rankings_left_out(c: &Connection) -> Result<u64, StoreError> {
    let all: i64 = c.query_row("select count(*) from rankings", [], |row| row.get(0))?;
    Ok(all.unsigned_abs().saturating_sub(rankings_since(c, None)?))
}

/// How many demonstrations that may be learned from were given after `since` (all, without it).
///
/// # Errors
/// When the database can't.
pub fn demonstrations_since(c: &Connection, since: Option<&str>) -> Result<u64, StoreError> {
    let sql = "select count(*) from demonstrations d where created_at > ?1
                 and not exists (select 1 from exclusions where item_id in (d.id, d.user_id, d.prompt_from, d.comparison_id))";
    let n: i64 = c.query_row(sql, [since.unwrap_or("")], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}
