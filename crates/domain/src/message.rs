//! Chat messages, and a conversation that is known to be answerable.

use crate::tools::ToolCall;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

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
    /// A function that the model has called.
    Tool,
}

impl Role {
    /// The name in requests and chat templates.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
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
    /// The functions that the model called with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call whose result this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A text that somebody says.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
    }
    /// A message from the person.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }
    /// A message from the model.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }
    /// Instructions to the model.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// Whether it is a text and nothing else: neither calls a function nor is what one returned.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.role != Role::Tool && self.tool_calls.is_empty() && self.tool_call_id.is_none()
    }

    fn chars(&self) -> usize {
        let calls = self.tool_calls.iter().map(|call| call.function.arguments.chars().count());
        self.content.chars().count() + calls.sum::<usize>()
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
    /// A function is called, or has returned something, where only texts are compared, shown and learned from.
    #[error(
        "messages[{0}] has to do with tools, which only a chat may: leave it out, or write as text what was called and returned"
    )]
    Tools(usize),
    /// A function's result that no call before it asked for.
    #[error(
        "messages[{0}] has role \"tool\": its `tool_call_id` must be the id of one of the `tool_calls` of an assistant's message before it"
    )]
    UncalledTool(usize),
    /// Something that only a message of the model or of a function has.
    #[error(
        "messages[{0}] has role \"{1}\": only messages of role \"assistant\" have `tool_calls`, only those of role \"tool\" a `tool_call_id`"
    )]
    MisplacedTools(usize, &'static str),
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

/// Messages that can be answered: not empty, each with text (or calls of functions, or what they returned), the last from the person (or a
/// function), at most one system message, first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Conversation(Vec<Message>);

impl Conversation {
    /// A bound before any tokenising; the model's context is checked in tokens later.
    pub const CHARS_MAX: usize = 400_000;

    /// Checks messages that are texts, which is what can be compared, shown and learned from.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(messages: Vec<Message>) -> Result<Self, MessageError> {
        match messages.iter().position(|m| !m.is_text()) {
            Some(i) => Err(MessageError::Tools(i)),
            None => Self::parse_with_tools(messages),
        }
    }

    /// Checks messages of which some may call functions, or be what these returned.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse_with_tools(messages: Vec<Message>) -> Result<Self, MessageError> {
        let last = messages.last().ok_or(MessageError::Empty)?;
        if !matches!(last.role, Role::User | Role::Tool) {
            return Err(MessageError::LastNotUser(last.role.as_str()));
        }
        if let Some(i) = messages.iter().position(|m| m.is_text() && m.content.trim().is_empty()) {
            return Err(MessageError::EmptyContent(i));
        }
        tools_in_place(&messages)?;
        if let Some(i) = messages.iter().skip(1).position(|m| m.role == Role::System) {
            return Err(MessageError::LateSystem(i + 1));
        }
        let chars = messages.iter().map(Message::chars).sum();
        if chars > Self::CHARS_MAX {
            return Err(MessageError::TooLong { chars, max: Self::CHARS_MAX });
        }
        Ok(Self(messages))
    }

    /// Whether it is texts and nothing else.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.0.iter().all(Message::is_text)
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

/// Calls are the model's, and each result belongs to a call before it.
fn tools_in_place(messages: &[Message]) -> Result<(), MessageError> {
    let mut called = HashSet::new();
    for (i, message) in messages.iter().enumerate() {
        let Message { role, tool_calls, tool_call_id, .. } = message;
        if (*role != Role::Assistant && !tool_calls.is_empty()) || (*role != Role::Tool && tool_call_id.is_some()) {
            return Err(MessageError::MisplacedTools(i, role.as_str()));
        }
        if *role == Role::Tool && !tool_call_id.as_ref().is_some_and(|id| called.contains(id)) {
            return Err(MessageError::UncalledTool(i));
        }
        called.extend(tool_calls.iter().map(|call| &call.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::FunctionCall;

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

    #[test]
    fn a_functions_result_follows_its_call_and_neither_is_text() {
        let function = FunctionCall { name: "f".into(), arguments: "{}".into() };
        let call = ToolCall { id: "a".into(), function };
        let calls = Message { tool_calls: vec![call.clone()], ..Message::assistant("") };
        let result = |id: &str| Message { tool_call_id: Some(id.into()), ..Message::new(Role::Tool, "") };
        let parse = Conversation::parse_with_tools;
        let asked = || Message::user("ask");
        let all = vec![asked(), calls.clone(), result("a")];
        assert!(parse(all.clone()).is_ok_and(|conversation| !conversation.is_text()));
        assert_eq!(Conversation::parse(all), Err(MessageError::Tools(1)));
        assert_eq!(parse(vec![asked(), calls.clone()]), Err(MessageError::LastNotUser("assistant")));
        assert_eq!(parse(vec![asked(), calls.clone(), result("b")]), Err(MessageError::UncalledTool(2)));
        assert_eq!(parse(vec![asked(), result("a"), calls]), Err(MessageError::LastNotUser("assistant")));
        assert_eq!(parse(vec![asked(), Message::new(Role::Tool, "x")]), Err(MessageError::UncalledTool(1)));
        let misplaced = Message { tool_calls: vec![call], ..asked() };
        assert_eq!(parse(vec![misplaced]), Err(MessageError::MisplacedTools(0, "user")));
        assert!(parse(vec![asked()]).is_ok_and(|conversation| conversation.is_text()));
    }
}
