//! Messages and sampling parameters as clients send them, shared by chat, comparisons and demonstrations.

use super::error::ApiError;
use hone_domain::tools::FunctionCall;
use hone_domain::{AnswerFormat, Conversation, Message, Role, Sampling, ToolCall};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A message as clients send it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct MessageIn {
    /// `system` (or `developer`, the same), `user`, `assistant`, and in a chat `tool`.
    #[schema(value_type = RoleIn)]
    role: String,
    /// A text, or a list of `{"type": "text", "text": ...}`. Only an assistant's message with `tool_calls` may go without.
    #[schema(value_type = Option<ContentIn>)]
    content: Option<Value>,
    /// In a chat, the functions that the assistant called.
    tool_calls: Option<Vec<ToolCallIn>>,
    /// In a chat, with the role `tool`: the id of the call whose result this is.
    tool_call_id: Option<String>,
}

/// A call of a function, as it stood in an answer.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ToolCallIn {
    /// What the message with its result refers to.
    id: String,
    /// What was called.
    function: FunctionCallIn,
}

/// A function's name and what it was called with.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct FunctionCallIn {
    /// Its name.
    name: String,
    /// JSON, as the model wrote it.
    arguments: String,
}

impl From<ToolCallIn> for ToolCall {
    fn from(ToolCallIn { id, function: FunctionCallIn { name, arguments } }: ToolCallIn) -> Self {
        Self { id, function: FunctionCall { name, arguments } }
    }
}

/// Who says it.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "describes the API; the value is read by hand for clearer errors")]
pub enum RoleIn {
    /// What holds for the whole conversation.
    System,
    /// The same.
    Developer,
    /// A person.
    User,
    /// The model.
    Assistant,
    /// A function that the model called.
    Tool,
}

/// A text, or parts of one.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the API; the value is read by hand for clearer errors")]
pub enum ContentIn {
    /// The text.
    Text(String),
    /// Its parts, joined without anything between them.
    Parts(Vec<TextPart>),
}

/// A part of a text.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the API")]
pub struct TextPart {
    /// Always `text`.
    #[serde(rename = "type")]
    kind: PartKind,
    /// The text.
    text: String,
}

/// What a part may be.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "describes the API")]
pub enum PartKind {
    /// A text.
    Text,
}

/// How many to list: 20, or as many as the query says.
///
/// # Errors
/// 400 outside of 1 to 100.
pub fn listed(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(20) {
        limit @ 1..=100 => Ok(limit),
        limit => Err(ApiError::value("limit", format!("`limit` must be 1 to 100, not {limit}"))),
    }
}

/// How many to leave out at the beginning of a list: none, or as many as the query says.
///
/// # Errors
/// 400 beyond what a database counts.
pub fn skipped(offset: Option<usize>) -> Result<usize, ApiError> {
    const MAX: usize = 1_000_000_000;
    match offset.unwrap_or(0) {
        offset @ ..=MAX => Ok(offset),
        offset => Err(ApiError::value("offset", format!("`offset` must be 0 to {MAX}, not {offset}"))),
    }
}

/// A message as the server shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageOut {
    /// `system`, `user`, `assistant` or `tool`.
    role: &'static str,
    /// What is said.
    content: String,
}

impl From<Message> for MessageOut {
    fn from(Message { role, content, .. }: Message) -> Self {
        Self { role: role.as_str(), content }
    }
}

/// Reads messages that are to be answered, or compared, or answered ideally: texts.
///
/// # Errors
/// 400, with the place.
pub fn conversation(messages: Vec<MessageIn>) -> Result<Conversation, ApiError> {
    Ok(Conversation::parse(read(messages)?)?)
}

/// Reads messages that are to be answered, of which some may have to do with tools.
///
/// # Errors
/// 400, with the place.
pub fn conversation_with_tools(messages: Vec<MessageIn>) -> Result<Conversation, ApiError> {
    Ok(Conversation::parse_with_tools(read(messages)?)?)
}

fn read(messages: Vec<MessageIn>) -> Result<Vec<Message>, ApiError> {
    let message = |(i, MessageIn { role: said_by, content: said, tool_calls, tool_call_id }): (usize, MessageIn)| {
        let tool_calls: Vec<ToolCall> = tool_calls.into_iter().flatten().map(Into::into).collect();
        let content = match said {
            None if !tool_calls.is_empty() => String::new(),
            said => content(i, said)?,
        };
        Ok(Message { role: role(i, &said_by)?, content, tool_calls, tool_call_id })
    };
    messages.into_iter().enumerate().map(message).collect()
}

fn role(i: usize, name: &str) -> Result<Role, ApiError> {
    match name {
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        other => {
            let message = format!(
                "messages[{i}].role is {other:?}: use \"system\", \"developer\", \"user\", \"assistant\" or \"tool\""
            );
            Err(ApiError::value(format!("messages[{i}].role"), message))
        }
    }
}

fn content(i: usize, content: Option<Value>) -> Result<String, ApiError> {
    let wrong = |why: &str| {
        let message =
            format!("messages[{i}].content {why}: send a text, or a list of {{\"type\": \"text\", \"text\": ...}}");
        ApiError::value(format!("messages[{i}].content"), message)
    };
    match content {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_owned()),
                (Some("text") | None, _) => Err(wrong("has a part without text")),
                (Some(other), _) => Err(wrong(&format!("has a part of type {other:?}, which this model can't read"))),
            };
            parts.iter().map(text).collect()
        }
        Some(Value::Null) | None => Err(wrong("is missing")),
        Some(_) => Err(wrong("is neither a text nor a list")),
    }
}

/// Sampling parameters as a request names them. (Not flattened into the requests: serde couldn't name a wrong field then.)
#[derive(Debug, Clone, Default)]
pub struct SamplingIn {
    /// 0 (always the likeliest token) to 2.
    pub temperature: Option<f64>,
    /// Only the likeliest tokens with this mass together.
    pub top_p: Option<f64>,
    /// Most tokens of the answer.
    pub max_tokens: Option<usize>,
    /// A text, or a list of them.
    pub stop: Option<Value>,
    /// Any number.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
}

/// What an answer's text must be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema {
        /// The schema.
        json_schema: NamedSchema,
    },
}

/// A JSON Schema as OpenAI's clients send it; its `name` and `strict` change nothing here: a schema is always followed to the letter.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NamedSchema {
    /// The schema. Default: any object.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
}

impl ResponseFormat {
    /// The format to hold the answer to.
    #[must_use]
    pub fn format(self) -> Option<AnswerFormat> {
        match self {
            Self::Text => None,
            Self::JsonObject => Some(AnswerFormat::JsonObject),
            Self::JsonSchema { json_schema } => {
                Some(json_schema.schema.map_or(AnswerFormat::JsonObject, AnswerFormat::JsonSchema))
            }
        }
    }
}

/// One stop text, or several.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the API; the value is read by hand for clearer errors")]
pub enum StopIn {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl SamplingIn {
    /// Checks the parameters; `logprobs` are reported where a number of alternatives is given.
    ///
    /// # Errors
    /// 400, with the parameter.
    pub fn sampling(self, logprobs: Option<usize>) -> Result<Sampling, ApiError> {
        let base = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_p: self.top_p.unwrap_or(base.top_p),
            max_tokens: self.max_tokens.unwrap_or(base.max_tokens),
            stop: stops(self.stop)?,
            seed: self.seed.map(i64::cast_unsigned),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            logprobs,
            format: None,
        };
        Ok(sampling.checked()?)
    }
}

fn stops(stop: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::value("stop", "`stop` must be a text or a list of up to four texts");
    match stop {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(texts)) => {
            texts.into_iter().map(|t| t.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(messages: Value) -> Result<Vec<Message>, String> {
        let messages: Vec<MessageIn> = serde_json::from_value(messages).expect("messages");
        conversation(messages).map(Conversation::into_messages).map_err(|e| e.body().error.param.unwrap_or_default())
    }

    #[test]
    fn openai_shapes_are_read() {
        let parts = json!([{"role": "developer", "content": "d"},
                           {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
        assert_eq!(read(parts), Ok(vec![Message::system("d"), Message::user("ab")]));
        assert_eq!(read(json!([{"role": "function", "content": "x"}])), Err("messages[0].role".into()));
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
        assert_eq!(read(image), Err("messages[0].content".into()));
        assert_eq!(read(json!([{"role": "user", "content": 3}])), Err("messages[0].content".into()));
        assert_eq!(read(json!([])), Err("messages".into()));
    }

    #[test]
    fn stop_is_a_text_or_a_list() {
        assert_eq!(stops(Some(json!("a"))).expect("text"), ["a"]);
        assert_eq!(stops(Some(json!(["a", "b"]))).expect("list"), ["a", "b"]);
        assert!(stops(Some(json!({"a": 1}))).is_err());
        assert!(stops(Some(json!([1]))).is_err());
    }
}
