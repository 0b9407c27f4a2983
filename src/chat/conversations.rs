//! Conversations that are kept for their owner: what may be kept, and a conversation as a text to take along.

use super::{Chat, ChatError};
use crate::store::Page;
use crate::store::conversations::{self, Conversation, Document, Entry, NewState, Turn, TurnRole};
use hone_domain::ids::{ConversationId, UserId};
use std::collections::HashSet;

/// Turns of one conversation, branches included. The body limit bounds its bytes.
pub const TURNS_MAX: usize = 10_000;
const TITLE_CHARS_MAX: usize = 200;
const ID_CHARS_MAX: usize = 64;

impl Chat {
    /// A person's conversations that contain `text`, the last changed first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn conversations(
        &self,
        user: UserId,
        text: String,
        limit: usize,
        offset: usize,
    ) -> Result<Page<Entry>, ChatError> {
        Ok(self.store.read(move |c| conversations::list(c, &user, &text, limit, offset)).await?)
    }

    /// A person's conversation.
    ///
    /// # Errors
    /// When it isn't theirs or doesn't exist.
    pub async fn conversation(&self, id: ConversationId, user: UserId) -> Result<Conversation, ChatError> {
        Ok(self.store.read(move |c| conversations::owned(c, &id, &user)).await?)
    }

    /// Keeps a conversation, or the next revision of one. It is on disk when it returns.
    ///
    /// # Errors
    /// When it isn't theirs, was changed meanwhile, or makes no sense.
    pub async fn keep_conversation(
        &self,
        id: ConversationId,
        user: UserId,
        mut new: NewState,
    ) -> Result<Entry, ChatError> {
        check_id("id", id.as_str())?;
        check(&new.document)?;
        new.title = checked_title(&new.title)?;
        Ok(self.store.write(move |tx| conversations::put(tx, &id, &user, &new)).await?)
    }

    /// Gives a conversation another title.
    ///
    /// # Errors
    /// When it isn't theirs, or the title is empty or too long.
    pub async fn rename_conversation(&self, id: ConversationId, user: UserId, title: &str) -> Result<Entry, ChatError> {
        let title = checked_title(title)?;
        Ok(self.store.write(move |tx| conversations::rename(tx, &id, &user, &title)).await?)
    }

    /// Removes a conversation and its logged answers.
    ///
    /// # Errors
    /// When it isn't theirs or doesn't exist.
    pub async fn delete_conversation(&self, id: ConversationId, user: UserId) -> Result<(), ChatError> {
        Ok(self.store.write(move |tx| conversations::delete(tx, &id, &user)).await?)
    }
}

/// The shown branch as Markdown.
#[must_use]
pub fn markdown(conversation: &Conversation) -> String {
    let mut text = format!("# {}\n", conversation.entry.title);
    if let Some(system) = conversation.document.system.as_deref().filter(|s| !s.trim().is_empty()) {
        text.push_str(&format!("\n**Instructions**\n\n{system}\n"));
    }
    for turn in conversation.document.branch() {
        let who = match turn.role {
            TurnRole::User => "You".to_owned(),
            TurnRole::Assistant => turn.policy.as_ref().map_or("hone".to_owned(), |policy| format!("hone ({policy})")),
        };
        text.push_str(&format!("\n**{who}**\n\n{}\n", turn.content));
    }
    text
}

fn refuse<T>(param: &'static str, message: String) -> Result<T, ChatError> {
    Err(ChatError::Feedback { param, message })
}

fn checked_title(title: &str) -> Result<String, ChatError> {
    let title = title.trim();
    if title.is_empty() || title.chars().count() > TITLE_CHARS_MAX {
        return refuse("title", format!("a title has 1 to {TITLE_CHARS_MAX} characters"));
    }
    Ok(title.to_owned())
}

fn check_id(param: &'static str, id: &str) -> Result<(), ChatError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.is_empty() || id.len() > ID_CHARS_MAX || !id.chars().all(plain) {
        let shown: String = id.chars().take(ID_CHARS_MAX).collect();
        return refuse(param, format!("{shown:?} is no id: use 1 to {ID_CHARS_MAX} letters, digits, `-` and `_`"));
    }
    Ok(())
}

/// A tree: every turn once, after its parent.
fn check(document: &Document) -> Result<(), ChatError> {
    if document.turns.len() > TURNS_MAX {
        let n = document.turns.len();
        return refuse(
            "turns",
            format!("{n} turns are more than the {TURNS_MAX} that are kept: begin a new conversation"),
        );
    }
    let mut seen = HashSet::new();
    for (i, Turn { id, parent, .. }) in document.turns.iter().enumerate() {
        check_id("turns", id)?;
        if let Some(parent) = parent.as_deref().filter(|parent| !seen.contains(parent)) {
            return refuse("turns", format!("turns[{i}] follows {parent:?}, which isn't one of the turns before it"));
        }
        if !seen.insert(id.as_str()) {
            return refuse("turns", format!("turns[{i}] has the id {id:?} of an earlier turn: each needs its own"));
        }
    }
    match document.shown.as_deref() {
        Some(shown) if !seen.contains(shown) => {
            refuse("shown", format!("`shown` is {shown:?}, which is none of the turns"))
        }
        _ => Ok(()),
    }
}
