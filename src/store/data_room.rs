//! What operators look through: everything that may be learned from, and where each piece came from. SQL of the view `data_items`.

use super::columns::{json, json_or_null, text_enum};
use super::{Page, StoreError, count};
use hone_domain::Message;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};

text_enum! {
    /// How a piece of feedback came.
    #[schema(as = DataSource)]
    Source {
        /// An answer in a chat.
        Chat = "chat",
        /// Answers that the person who asked may rank.
        Comparison = "comparison",
        /// Answers for labelers to rank.
        Queue = "queue",
        /// `hone data import`, or an import over HTTP.
        Import = "import",
        /// An ideal answer.
        Demonstration = "demonstration",
    }
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Who {
    /// Their id.
    pub id: String,
    /// Their name.
    pub name: String,
}

/// Why something isn't learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Exclusion {
    /// What is excluded: the item itself, or a person with all that is theirs.
    pub item: String,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
    /// When.
    pub at: String,
}

/// A piece of feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = DataItem)]
pub struct Item {
    /// The id of the logged answer, the comparison or the demonstration.
    pub id: String,
    /// How it came.
    pub source: Source,
    /// Who sent the prompt.
    pub sender: Who,
    /// Who ranked the answers, or wrote the ideal one.
    pub labeler: Option<Who>,
    /// The prompt.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<Message>,
    /// The answer, where there is one; comparisons have several.
    pub answer: Option<String>,
    /// How many answers there are.
    pub answers: u64,
    /// Whether they are ranked.
    pub ranked: bool,
    /// Why it isn't learned from; null: it is.
    pub excluded: Option<Exclusion>,
    /// When it came.
    pub created_at: String,
}

/// Which items are wanted. An empty text leaves a condition out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In the prompt or the answer, in any case (of ASCII letters).
    pub text: String,
    /// How it came.
    pub source: Option<Source>,
    /// Id or name of who sent the prompt, ranked the answers or wrote the ideal one.
    pub person: String,
    /// Only what is excluded, or only what isn't.
    pub excluded: Option<bool>,
}

/// The items that a filter lets through, the newest first.
///
/// # Errors
/// When the database can't.
pub fn list(c: &Connection, filter: &Filter, limit: usize, offset: usize) -> Result<Page<Item>, StoreError> {
    let Filter { text, source, person, excluded } = filter;
    let (text, source) = (text.to_ascii_lowercase(), source.map_or("", Source::as_str));
    let mut rows = c.prepare_cached(LIST)?;
    let wanted = named_params! {
        ":text": text, ":source": source, ":person": person, ":excluded": excluded, ":limit": count(limit), ":offset": count(offset),
    };
    let items = rows.query_map(wanted, from_row)?.collect::<Result<_, _>>()?;
    let counted = named_params! {":text": text, ":source": source, ":person": person, ":excluded": excluded};
    let total: i64 = c.prepare_cached(COUNT)?.query_row(counted, |row| row.get(0))?;
    Ok(Page { items, total: total.unsigned_abs() })
}

/// One item.
///
/// # Errors
/// `NotFound` when there is none of this id.
pub fn get(c: &Connection, id: &str) -> Result<Item, StoreError> {
    let found = c.prepare_cached(ONE)?.query_row(named_params! {":id": id}, from_row).optional()?;
    found.ok_or_else(|| StoreError::NotFound { what: "item", id: id.to_owned() })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Item> {
    let labeler: Option<String> = row.get("labeler_id")?;
    let labeler = labeler.map(|id| Ok::<_, rusqlite::Error>(Who { id, name: row.get("labeler")? })).transpose()?;
    Ok(Item {
        id: row.get("id")?,
        source: row.get("source")?,
        sender: Who { id: row.get("sender_id")?, name: row.get("sender")? },
        labeler,
        messages: json(row, "messages_json")?,
        answer: row.get("answer")?,
        answers: row.get::<_, i64>("answers")?.unsigned_abs(),
        ranked: row.get("ranked")?,
        excluded: json_or_null(row, "excluded")?,
        created_at: row.get("created_at")?,
    })
}

const LIST: &str = "select * from (
    select i.*, s.name as sender, l.name as labeler,
      (select json_object('item', item_id, 'reason', reason, 'by', actor, 'at', at) from exclusions
       where item_id in (i.id, i.sender_id, i.labeler_id) order by item_id <> i.id limit 1) as excluded
    from data_items i join users s on s.id = i.sender_id left join users l on l.id = i.labeler_id
    where (:source = '' or i.source = :source)
      and (:person = '' or :person in (i.sender_id, i.labeler_id, s.name, l.name))
      and (:text = '' or instr(lower(i.answer), :text) > 0
           or exists (select 1 from json_each(i.messages_json) where instr(lower(value ->> 'content'), :text) > 0)))
  where :excluded is null or (excluded is not null) = :excluded
  order by created_at desc, id desc limit :limit offset :offset";

const COUNT: &str = "select count(*) from (
    select exists (select 1 from exclusions where item_id in (i.id, i.sender_id, i.labeler_id)) as excluded
    from data_items i join users s on s.id = i.sender_id left join users l on l.id = i.labeler_id
    where (:source = '' or i.source = :source)
      and (:person = '' or :person in (i.sender_id, i.labeler_id, s.name, l.name))
      and (:text = '' or instr(lower(i.answer), :text) > 0
           or exists (select 1 from json_each(i.messages_json) where instr(lower(value ->> 'content'), :text) > 0)))
  where :excluded is null or excluded = :excluded";

const ONE: &str = "select i.*, s.name as sender, l.name as labeler,
      (select json_object('item', item_id, 'reason', reason, 'by', actor, 'at', at) from exclusions
       where item_id in (i.id, i.sender_id, i.labeler_id) order by item_id <> i.id limit 1) as excluded
    from data_items i join users s on s.id = i.sender_id left join users l on l.id = i.labeler_id where i.id = :id";
