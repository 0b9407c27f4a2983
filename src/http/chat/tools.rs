//! Functions that a model may call, as clients offer them and as answers call them: OpenAI's shapes.

use crate::http::error::ApiError;
use hone_domain::tools::function_name;
use hone_domain::{ToolCall, ToolCallDelta, ToolChoice, Tools};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Most functions in one request, as with OpenAI.
const OFFERED_MAX: usize = 128;

/// A function that the model may call.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the API; what a client sends is passed on as it is")]
pub(super) struct ToolIn {
    /// Always `function`.
    #[serde(rename = "type")]
    kind: FunctionKind,
    /// Which.
    function: FunctionIn,
}

/// What a tool may be.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "describes the API")]
pub(super) enum FunctionKind {
    /// A function.
    Function,
}

/// A function.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the API; what a client sends is passed on as it is")]
pub(super) struct FunctionIn {
    /// Its name.
    #[schema(min_length = 1)]
    name: String,
    /// What it does, for the model to read.
    description: Option<String>,
    /// The JSON Schema of its arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Whether the arguments are held to the schema, where the server can.
    strict: Option<bool>,
}

/// Whether a function is to be called.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the API; the value is read by hand for clearer errors")]
pub(super) enum ToolChoiceIn {
    /// As the model likes, none, or at least one.
    Mode(ToolMode),
    /// This one.
    Function(NamedToolIn),
}

/// Whether a function is to be called.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "describes the API")]
pub(super) enum ToolMode {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
}

/// A function by its name.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the API")]
pub(super) struct NamedToolIn {
    /// Always `function`.
    #[serde(rename = "type")]
    kind: FunctionKind,
    /// Which.
    function: FunctionNameIn,
}

/// The name of a function.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the API")]
pub(super) struct FunctionNameIn {
    /// The name of one of `tools`.
    #[schema(min_length = 1)]
    name: String,
}

/// Checks what is offered.
///
/// # Errors
/// 400, with the parameter.
pub(super) fn tools(
    offered: Option<Vec<Value>>,
    choice: Option<Value>,
    parallel: Option<bool>,
) -> Result<Tools, ApiError> {
    let offered = offered.unwrap_or_default();
    if offered.len() > OFFERED_MAX {
        return Err(ApiError::value(
            "tools",
            format!("`tools` may hold {OFFERED_MAX} functions, not {}", offered.len()),
        ));
    }
    for (i, tool) in offered.iter().enumerate() {
        let named = function_name(tool).is_some_and(|name| !name.is_empty());
        let parameters = &tool["function"]["parameters"];
        if tool["type"] != "function" || !named || !(parameters.is_null() || parameters.is_object()) {
            let form =
                "{\"type\": \"function\", \"function\": {\"name\", \"description\", \"parameters\": a JSON Schema}}";
            return Err(ApiError::value(format!("tools[{i}]"), format!("tools[{i}] must be {form}")));
        }
    }
    let choice = choice.filter(|choice| !choice.is_null()).map(|choice| tool_choice(&choice, &offered)).transpose()?;
    Ok(Tools { offered, choice, parallel })
}

fn tool_choice(choice: &Value, offered: &[Value]) -> Result<ToolChoice, ApiError> {
    let wrong = |message: &str| Err(ApiError::value("tool_choice", message));
    let chosen = match choice.as_str() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::None),
        Some("required") => ToolChoice::Required,
        _ => match function_name(choice).filter(|_| choice["type"] == "function") {
            Some(name) => ToolChoice::Function(name.to_owned()),
            None => {
                return wrong(
                    "`tool_choice` must be \"auto\", \"none\", \"required\" or {\"type\": \"function\", \"function\": {\"name\"}}",
                );
            }
        },
    };
    match &chosen {
        ToolChoice::Function(name) if !offered.iter().any(|tool| function_name(tool) == Some(name)) => {
            wrong("`tool_choice` names a function that `tools` doesn't hold")
        }
        _ if offered.is_empty() => wrong("`tool_choice` asks for a call, and `tools` offers no function"),
        _ => Ok(chosen),
    }
}

/// A call of a function in an answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ToolCallOut {
    /// For the `tool_call_id` of the message with its result.
    id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What to call.
    function: FunctionCallOut,
}

/// A function's name and what to call it with.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct FunctionCallOut {
    /// Its name.
    name: String,
    /// JSON as the model wrote it: check it before you use it.
    arguments: String,
}

impl From<&ToolCall> for ToolCallOut {
    fn from(call: &ToolCall) -> Self {
        let function = FunctionCallOut { name: call.function.name.clone(), arguments: call.function.arguments.clone() };
        Self { id: call.id.clone(), kind: "function", function }
    }
}

/// A piece of a call in a stream.
#[derive(Debug, Serialize)]
pub(super) struct ToolCallChunk<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// With the first piece of a call.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionChunk<'a>,
}

#[derive(Debug, Serialize)]
struct FunctionChunk<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCallDelta> for ToolCallChunk<'a> {
    fn from(ToolCallDelta { index, id, name, arguments }: &'a ToolCallDelta) -> Self {
        let function = FunctionChunk { name: name.as_deref(), arguments };
        Self { index: *index, id: id.as_deref(), kind: id.as_ref().map(|_| "function"), function }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(offered: Value, choice: Value) -> Result<Option<ToolChoice>, String> {
        let offered = serde_json::from_value(offered).expect("a list");
        let read = tools(offered, Some(choice), None);
        read.map(|tools| tools.choice).map_err(|e| e.body().error.param.unwrap_or_default())
    }

    #[test]
    fn only_functions_and_choices_among_them_are_taken() {
        let f = || json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        assert_eq!(read(json!([f()]), Value::Null), Ok(None));
        assert_eq!(read(json!([f()]), json!("required")), Ok(Some(ToolChoice::Required)));
        assert!(matches!(read(json!([f()]), named("f")), Ok(Some(ToolChoice::Function(_)))));
        assert_eq!(read(Value::Null, json!("none")), Ok(Some(ToolChoice::None)));
        for (offered, choice, param) in [
            (json!([f(), {"type": "custom", "custom": {"name": "g"}}]), Value::Null, "tools[1]"),
            (json!([named("")]), Value::Null, "tools[0]"),
            (json!([{"type": "function", "function": {"name": "f", "parameters": 3}}]), Value::Null, "tools[0]"),
            (json!(["f"]), Value::Null, "tools[0]"),
            (json!(vec![f(); OFFERED_MAX + 1]), Value::Null, "tools"),
            (json!([f()]), named("g"), "tool_choice"),
            (json!([f()]), json!("always"), "tool_choice"),
            (json!([]), json!("required"), "tool_choice"),
        ] {
            assert_eq!(read(offered, choice), Err(param.into()));
        }
    }
}
