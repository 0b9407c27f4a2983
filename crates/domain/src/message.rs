//! Chat messages, and a conversation that is known to be answerable.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in requests and chat templates.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message from the person.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }
    /// A message from the model.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
    /// Instructions to the model.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }
}

/// Why a list of messages can't be answered. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No message at all.
    #[error("`messages` is empty: send at least one message with role \"user\"")]
    Empty,
    /// The message at this index has no text.
    #[error("messages[{0}].content is empty: every message needs some text")]
    EmptyContent(usize),
    /// The last message isn't the person's.
    #[error("the last message has role \"{0}\": end with a message of role \"user\", which is what gets answered")]
    LastNotUser(&'static str),
    /// A system message after the first place.
    #[error("messages[{0}] has role \"system\": only the first message may")]
    LateSystem(usize),
    /// More text than any context holds.
    #[error("`messages` hold {chars} characters, more than the limit of {max}: shorten or drop older messages")]
    TooLong {
        /// Characters sent.
        chars: usize,
        /// Characters allowed.
        max: usize,
    },
}

/// Messages that can be answered: not empty, each with text, the last from the person, at most one system message, first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Conversation(Vec<Message>);

impl Conversation {
    /// A bound before any tokenising; the model's context is checked in tokens later.
    pub const CHARS_MAX: usize = 400_000;

    /// Checks the messages.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(messages: Vec<Message>) -> Result<Self, MessageError> {
        let last = messages.last().ok_or(MessageError::Empty)?;
        if last.role != Role::User {
            return Err(MessageError::LastNotUser(last.role.as_str()));
        }
        if let Some(i) = messages.iter().position(|m| m.content.trim().is_empty()) {
            return Err(MessageError::EmptyContent(i));
        }
        if let Some(i) = messages.iter().skip(1).position(|m| m.role == Role::System) {
            return Err(MessageError::LateSystem(i + 1));
        }
        let chars = messages.iter().map(|m| m.content.chars().count()).sum();
        if chars > Self::CHARS_MAX {
            return Err(MessageError::TooLong { chars, max: Self::CHARS_MAX });
        }
        Ok(Self(messages))
    }

    /// The messages, oldest first.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.0
    }

    /// Gives the messages back.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be_answered() {
        let parse = Conversation::parse;
        assert_eq!(parse(vec![]), Err(MessageError::Empty));
        assert_eq!(parse(vec![Message::user("  ")]), Err(MessageError::EmptyContent(0)));
        assert_eq!(parse(vec![Message::assistant("hi")]), Err(MessageError::LastNotUser("assistant")));
        let late = vec![Message::user("a"), Message::system("b"), Message::user("c")];
        assert_eq!(parse(late), Err(MessageError::LateSystem(1)));
        let long = vec![Message::user("x".repeat(Conversation::CHARS_MAX + 1))];
        assert!(matches!(parse(long), Err(MessageError::TooLong { .. })));
        assert!(parse(vec![Message::system("s"), Message::user("u")]).is_ok());
    }
}
