//! Conversations: chats kept for their owner, each a document that only they can read. SQL of the table `conversations`.

use super::ratings::Thumb;
use super::{Page, StoreError, audit, columns, count, now};
use hone_domain::ids::{ConversationId, UserId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Who says a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TurnRole {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation. Turns with the same parent are siblings: other answers, or other wordings of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ConversationTurn)]
pub struct Turn {
    /// Its name, unique within the conversation.
    pub id: String,
    /// The turn that it follows; null: it opens the conversation.
    #[serde(default)]
    pub parent: Option<String>,
    /// Who says it.
    pub role: TurnRole,
    /// What is said.
    pub content: String,
    /// The id under which the answer is kept; ratings name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// Which policy gave the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What its reader thinks of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumb: Option<Thumb>,
    /// Anything else that the client keeps of it; hone doesn't look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub extra: Option<Map<String, Value>>,
}

/// What a conversation holds beside its title.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Instructions to the model.
    #[serde(default)]
    pub system: Option<String>,
    /// Sampling settings, as requests name them.
    #[serde(default)]
    pub sampling: Option<Map<String, Value>>,
    /// The last turn of the branch that is shown; null: the newest.
    #[serde(default)]
    pub shown: Option<String>,
    /// All turns, each after its parent.
    pub turns: Vec<Turn>,
}

impl Document {
    /// The branch that is shown, from its first turn to its last.
    #[must_use]
    pub fn branch(&self) -> Vec<&Turn> {
        let by_id = |id: &str| self.turns.iter().find(|turn| turn.id == id);
        let mut at = self.shown.as_deref().and_then(by_id).or(self.turns.last());
        let mut branch = Vec::new();
        while let Some(turn) = at {
            branch.push(turn);
            at = turn.parent.as_deref().and_then(by_id);
        }
        branch.reverse();
        branch
    }

    fn search_text(&self, title: &str) -> String {
        let contents = self.turns.iter().map(|turn| turn.content.as_str());
        std::iter::once(title).chain(contents).collect::<Vec<_>>().join("\n").to_lowercase()
    }
}

/// A conversation to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewState {
    /// The revision that was changed; 0: a new conversation.
    pub revision: u64,
    /// What its owner calls it.
    pub title: String,
    /// False: nothing of it may be learned from.
    pub record: bool,
    /// The rest.
    pub document: Document,
}

/// A conversation as kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Where it stands in lists.
    pub entry: Entry,
    /// What was said.
    pub document: Document,
}

/// A conversation as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ConversationEntry)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Goes up with every change; a change names the one that it changes.
    pub revision: u64,
    /// What its owner calls it.
    pub title: String,
    /// False: nothing of it is learned from.
    pub record: bool,
    /// When it began.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Conversations that one person may have.
pub const PER_PERSON_MAX: u64 = 5_000;

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: row.get(0)?,
        revision: row.get::<_, i64>(1)?.unsigned_abs(),
        title: row.get(2)?,
        record: row.get(3)?,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
    })
}

/// A person's conversations that contain `text` (all, where it is empty), the last changed first.
///
/// # Errors
/// When the database fails.
pub fn list(c: &Connection, user: &UserId, text: &str, limit: usize, offset: usize) -> Result<Page<Entry>, StoreError> {
    let text = text.trim().to_lowercase();
    let sql = "select id, revision, title, recorded, created_at, updated_at from conversations
               where user_id = ?1 and deleted_at is null and (?2 = '' or instr(search_text, ?2) > 0)
               order by updated_at desc, id desc limit ?3 offset ?4";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map(params![user.as_str(), text, count(limit), count(offset)], entry)?;
    let items = rows.collect::<Result<_, _>>()?;
    let sql = "select count(*) from conversations
               where user_id = ?1 and deleted_at is null and (?2 = '' or instr(search_text, ?2) > 0)";
    let total = c.query_row(sql, params![user.as_str(), text], |row| row.get::<_, i64>(0))?;
    Ok(Page { items, total: total.unsigned_abs() })
}

/// A person's conversation.
///
/// # Errors
/// `NotFound` when it isn't theirs or doesn't exist.
pub fn owned(c: &Connection, id: &ConversationId, user: &UserId) -> Result<Conversation, StoreError> {
    let sql = "select id, revision, title, recorded, created_at, updated_at, document_json from conversations
               where id = ?1 and user_id = ?2 and deleted_at is null";
    let read = |row: &rusqlite::Row<'_>| Ok(Conversation { entry: entry(row)?, document: columns::json(row, 6)? });
    c.query_row(sql, [id.as_str(), user.as_str()], read).optional()?.ok_or_else(|| not_found(id))
}

/// Keeps a conversation, or the next revision of one, and notes which logged answers belong to it.
///
/// # Errors
/// `NotFound` when it isn't theirs (any more), `Conflict` when it was changed meanwhile or they have too many.
pub fn put(tx: &Connection, id: &ConversationId, user: &UserId, new: &NewState) -> Result<Entry, StoreError> {
    let NewState { revision, title, record, document } = new;
    next_revision(tx, id, user, *revision)?;
    let sql = "insert into conversations(id, user_id, title, created_at, updated_at, document_json, search_text, recorded, revision)
               values (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, 1)
               on conflict(id) do update set title = excluded.title, updated_at = excluded.updated_at,
                 document_json = excluded.document_json, search_text = excluded.search_text, recorded = excluded.recorded,
                 revision = revision + 1";
    let text = document.search_text(title);
    tx.prepare_cached(sql)?.execute(params![
        id.as_str(),
        user.as_str(),
        title,
        now(),
        serde_json::to_string(document)?,
        text,
        record
    ])?;
    let completions: Vec<&str> = document.turns.iter().filter_map(|turn| turn.completion.as_deref()).collect();
    let sql = "update completions set conversation_id = ?1 where user_id = ?2 and comparison_id is null
                 and id in (select value from json_each(?3)) and conversation_id is not ?1";
    tx.execute(sql, params![id.as_str(), user.as_str(), serde_json::to_string(&completions)?])?;
    Ok(owned(tx, id, user)?.entry)
}

/// Gives a conversation another title.
///
/// # Errors
/// As [`put`].
pub fn rename(tx: &Connection, id: &ConversationId, user: &UserId, title: &str) -> Result<Entry, StoreError> {
    let Conversation { entry, document } = owned(tx, id, user)?;
    put(tx, id, user, &NewState { revision: entry.revision, title: title.to_owned(), record: entry.record, document })
}

/// Removes a conversation, its logged answers and their thumbs. Rankings that were made in it stay.
///
/// # Errors
/// `NotFound` when it isn't theirs or doesn't exist.
pub fn delete(tx: &Connection, id: &ConversationId, user: &UserId) -> Result<(), StoreError> {
    owned(tx, id, user)?;
    let thumbs = "delete from ratings where completion_id in
                    (select id from completions where conversation_id = ?1 and comparison_id is null)";
    tx.execute(thumbs, [id.as_str()])?;
    let answers =
        tx.execute("delete from completions where conversation_id = ?1 and comparison_id is null", [id.as_str()])?;
    tx.execute("delete from conversations where id = ?1", [id.as_str()])?;
    audit::note(tx, user.as_str(), "conversation.delete", id.as_str(), &json!({"answers": answers}))
}

/// Checks that a person may write this revision.
fn next_revision(tx: &Connection, id: &ConversationId, user: &UserId, revision: u64) -> Result<(), StoreError> {
    let sql = "select user_id, revision from conversations where id = ?1";
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
    match tx.query_row(sql, [id.as_str()], columns).optional()? {
        Some((owner, _)) if owner != user.as_str() => Err(not_found(id)),
        Some((_, kept)) if kept != revision => Err(StoreError::Conflict(format!(
            "this conversation was changed elsewhere: it is at revision {kept}, your change is to revision {revision}. \
             Read it again and make your change to that"
        ))),
        Some(_) => Ok(()),
        None if revision != 0 => Err(not_found(id)),
        None => {
            let sql = "select count(*) from conversations where user_id = ?1";
            let n = tx.query_row(sql, [user.as_str()], |row| row.get::<_, i64>(0))?.unsigned_abs();
            if n >= PER_PERSON_MAX {
                return Err(StoreError::Conflict(format!(
                    "you have {n} conversations, and no more than {PER_PERSON_MAX} are kept: delete some first"
                )));
            }
            Ok(())
        }
    }
}

fn not_found(id: &ConversationId) -> StoreError {
    StoreError::NotFound { what: "conversation", id: id.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(id: &str, parent: Option<&str>) -> Turn {
        let (id, parent) = (id.to_owned(), parent.map(str::to_owned));
        let (role, content) = (TurnRole::User, id.clone());
        Turn { id, parent, role, content, completion: None, policy: None, thumb: None, extra: None }
    }

    #[test]
    fn the_branch_that_is_shown_is_read_from_its_end() {
        let turns = vec![turn("a", None), turn("b", Some("a")), turn("c", Some("a")), turn("d", Some("b"))];
        let document = Document { turns, shown: Some("d".into()), ..Document::default() };
        let ids = |document: &Document| document.branch().iter().map(|t| t.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&document), ["a", "b", "d"]);
        assert_eq!(ids(&Document { shown: Some("c".into()), ..document.clone() }), ["a", "c"]);
        assert_eq!(ids(&Document { shown: None, ..document }), ["a", "b", "d"]);
        assert!(Document::default().branch().is_empty());
    }
}
