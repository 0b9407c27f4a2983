//! Functions that a model may call: offered with a prompt, called in an answer, answered for in the next prompt. In OpenAI's shapes, which
//! servers and chat templates read alike.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

/// A call of a function, as the model wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename = "function")]
pub struct ToolCall {
    /// What the message with its result refers to.
    pub id: String,
    /// What to call.
    pub function: FunctionCall,
}

impl ToolCall {
    /// An id for a call that has none yet.
    #[must_use]
    pub fn new_id() -> String {
        format!("call_{}", uuid::Uuid::now_v7().simple())
    }
}

/// A function's name and what to call it with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// JSON, as the model wrote it: it need not be valid.
    pub arguments: String,
}

/// What a prompt offers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tools {
    /// The functions, `{"type": "function", "function": {"name", "description", "parameters"}}` each.
    pub offered: Vec<Value>,
    /// Whether one is to be called; `None`: the model decides.
    pub choice: Option<ToolChoice>,
    /// Whether several may be called in one answer; `None`: they may.
    pub parallel: Option<bool>,
}

impl Tools {
    /// Whether nothing is offered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offered.is_empty()
    }
}

/// Whether a function is to be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// The one of this name.
    #[serde(untagged, serialize_with = "named")]
    Function(String),
}

fn named<S: Serializer>(name: &str, to: S) -> Result<S::Ok, S::Error> {
    json!({"type": "function", "function": {"name": name}}).serialize(to)
}

/// The name in a function that is offered, or in a choice of one.
#[must_use]
pub fn function_name(tool: &Value) -> Option<&str> {
    tool["function"]["name"].as_str()
}

/// A piece of a call, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCallDelta {
    /// Which of the answer's calls grows; the next new one is as many as there are.
    pub index: usize,
    /// The call's id, with its first piece.
    pub id: Option<String>,
    /// The function's name, with its first piece.
    pub name: Option<String>,
    /// More of the arguments.
    pub arguments: String,
}

impl ToolCallDelta {
    /// Lets an answer's calls grow by this piece. One beyond the next new call is ignored: engines send none.
    pub fn grow(&self, calls: &mut Vec<ToolCall>) {
        if self.index == calls.len() {
            calls.push(ToolCall::default());
        }
        let Some(call) = calls.get_mut(self.index) else { return };
        if let Some(id) = &self.id {
            call.id.clone_from(id);
        }
        if let Some(name) = &self.name {
            call.function.name.clone_from(name);
        }
        call.function.arguments.push_str(&self.arguments);
    }
}

/// What a turn had to do with tools: what was offered, and what the answer called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolUse {
    /// What was offered.
    #[serde(flatten)]
    pub tools: Tools,
    /// What was called.
    pub calls: Vec<ToolCall>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_are_openais() {
        let call = ToolCall { id: "a".into(), function: FunctionCall { name: "f".into(), arguments: "{}".into() } };
        let shape = json!({"type": "function", "id": "a", "function": {"name": "f", "arguments": "{}"}});
        assert_eq!(serde_json::to_value(&call).expect("serialises"), shape);
        assert_eq!(serde_json::from_value::<ToolCall>(shape).expect("reads"), call);
        let named = ToolChoice::Function("f".into());
        for (choice, shape) in
            [(ToolChoice::Required, json!("required")), (named, json!({"type": "function", "function": {"name": "f"}}))]
        {
            assert_eq!(serde_json::to_value(choice).expect("serialises"), shape);
        }
    }

    #[test]
    fn calls_grow_by_their_pieces() {
        let piece = |index, id: Option<&str>, arguments: &str| ToolCallDelta {
            index,
            id: id.map(Into::into),
            name: id.map(|_| "f".into()),
            arguments: arguments.into(),
        };
        let mut calls = Vec::new();
        for piece in
            [piece(0, Some("a"), ""), piece(0, None, "{\"x\""), piece(1, Some("b"), "{}"), piece(0, None, ":1}")]
        {
            piece.grow(&mut calls);
        }
        piece(9, Some("c"), "").grow(&mut calls);
        let told: Vec<_> = calls.iter().map(|c| (c.id.as_str(), c.function.arguments.as_str())).collect();
        assert_eq!(told, [("a", "{\"x\":1}"), ("b", "{}")]);
    }
}
