//! Calls of functions in an answer's text: the form in which a model writes them, which its chat template tells, how they are read while the
//! text comes, and the grammar of an answer that must call one. May use: serde_json. Knows nothing of tokens.

use crate::constraint::schema;
use hone_domain::tools::{FunctionCall, function_name};
use hone_domain::{AnswerFormat, Message, ToolCall, ToolCallDelta, ToolChoice, Tools};
use serde_json::{Map, Value, json};

/// How a model writes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallForm {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, anywhere in an answer: Hermes, Qwen 2.5 and 3.
    Tagged,
    /// `{"name": ..., "parameters": {...}}` as the whole answer: Llama 3.1 and 3.2.
    Bare,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

impl CallForm {
    /// The form that a template which takes functions teaches; `None` where it is another one, such as the XML between the tags of Qwen 3.5.
    pub(crate) fn of_template(source: &str) -> Option<Self> {
        // In a template's own strings quotes may be escaped.
        let source = source.replace("\\\"", "\"");
        if source.contains(OPEN) && source.contains("\"arguments\"") {
            Some(Self::Tagged)
        } else {
            source.contains("{\"name\": function name, \"parameters\":").then_some(Self::Bare)
        }
    }

    /// Whether a text marks a call.
    pub(crate) fn is_tag(self, text: &str) -> bool {
        self == Self::Tagged && (text == OPEN || text == CLOSE)
    }

    fn arguments(self) -> &'static str {
        match self {
            Self::Tagged => "arguments",
            Self::Bare => "parameters",
        }
    }

    /// A call of one of these functions, from its JSON.
    fn read(self, text: &str, names: &[String]) -> Option<FunctionCall> {
        let mut call: Map<String, Value> = serde_json::from_str(text.trim()).ok()?;
        let name = call.get("name")?.as_str().filter(|name| names.iter().any(|n| n == name))?.to_owned();
        let arguments = match call.shift_remove(self.arguments()) {
            None => "{}".to_owned(),
            Some(Value::String(text)) => text,
            Some(arguments) => arguments.to_string(),
        };
        Some(FunctionCall { name, arguments })
    }

    /// The grammar (llguidance's Lark) of an answer that must call a function, or must have a format where it calls none; `None` where it may
    /// be any text. Arguments follow the function's schema to the letter.
    pub(crate) fn grammar(self, tools: &Tools, format: Option<&AnswerFormat>) -> Option<String> {
        let chosen = |tool: &&Value| match &tools.choice {
            Some(ToolChoice::Function(chosen)) => function_name(tool) == Some(chosen),
            _ => true,
        };
        let must = matches!(tools.choice, Some(ToolChoice::Required | ToolChoice::Function(_)));
        if !must && format.is_none() {
            return None;
        }
        let calls: Vec<String> = tools.offered.iter().filter(chosen).map(|tool| self.rule(tool)).collect();
        let calls = calls.join(" | ");
        let call = match self {
            Self::Tagged => {
                format!("call: {} ({calls}) {}", quoted(&format!("{OPEN}\n")), quoted(&format!("\n{CLOSE}")))
            }
            Self::Bare => format!("call: {calls}"),
        };
        let several = tools.parallel != Some(false) && !matches!(tools.choice, Some(ToolChoice::Function(_)));
        let calls = if several && self == Self::Tagged { "call (\"\\n\" call)*" } else { "call" };
        Some(match format.filter(|_| !must) {
            Some(format) => format!("start: {calls} | text\n{call}\ntext: %json {}", schema(format)),
            None => format!("start: {calls}\n{call}"),
        })
    }

    /// A call of one function. The schema of its arguments stands for itself, so that its references find their way.
    fn rule(self, tool: &Value) -> String {
        let parameters = match &tool["function"]["parameters"] {
            Value::Null => json!({"type": "object"}),
            parameters => parameters.clone(),
        };
        let before = format!("{{\"name\": {}, \"{}\": ", json!(function_name(tool)), self.arguments());
        format!("{} %json {} \"}}\"", quoted(&before), schema(&AnswerFormat::JsonSchema(parameters)))
    }
}

/// A text as grammars write it.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// A message as templates want it: the arguments of calls as JSON, and with a result the function's name.
pub(crate) fn for_template(messages: &[Message]) -> Vec<Value> {
    let named = |id: &str| {
        let calls = messages.iter().flat_map(|m| &m.tool_calls);
        calls.rev().find(|call| call.id == id).map(|call| call.function.name.as_str())
    };
    let shown = |message: &Message| {
        let mut shown = json!(message);
        for (call, ToolCall { function, .. }) in
            shown["tool_calls"].as_array_mut().into_iter().flatten().zip(&message.tool_calls)
        {
            if let Ok(arguments) = serde_json::from_str(&function.arguments) {
                call["function"]["arguments"] = arguments;
            }
        }
        if let Some(name) = message.tool_call_id.as_deref().and_then(named) {
            shown["name"] = json!(name);
        }
        shown
    };
    messages.iter().map(shown).collect()
}

/// Finds the calls in an answer that comes piece by piece. What may become one is held back; what turns out to be none is text.
pub(crate) struct Calls {
    form: CallForm,
    /// The functions that may be called.
    names: Vec<String>,
    held: String,
    /// With [`CallForm::Bare`]: whether it has begun as something else than a call.
    is_text: bool,
    begun: usize,
}

impl Calls {
    pub(crate) fn new(form: CallForm, tools: &Tools) -> Self {
        let names = tools.offered.iter().filter_map(function_name).map(str::to_owned).collect();
        Self { form, names, held: String::new(), is_text: false, begun: 0 }
    }

    /// How many functions have been called.
    pub(crate) fn begun(&self) -> usize {
        self.begun
    }

    /// Takes new text, the `last` one or not. Answers the text to show, and the calls that are complete.
    pub(crate) fn push(&mut self, text: &str, last: bool) -> (String, Vec<ToolCallDelta>) {
        self.held.push_str(text);
        let (mut shown, calls) = match self.form {
            CallForm::Tagged => self.tagged(),
            CallForm::Bare => self.bare(last),
        };
        if last && !(self.held.trim().is_empty() && self.begun > 0) {
            shown += &std::mem::take(&mut self.held);
        }
        (shown, calls)
    }

    fn tagged(&mut self) -> (String, Vec<ToolCallDelta>) {
        let (mut shown, mut calls) = (String::new(), Vec::new());
        while let Some(open) = self.held.find(OPEN) {
            let inside = open + OPEN.len();
            let Some(close) = self.held[inside..].find(CLOSE).map(|at| inside + at) else { break };
            let rest = self.held.split_off(close + CLOSE.len());
            let before = std::mem::replace(&mut self.held, rest);
            match self.call(&before[inside..close]) {
                Some(call) => {
                    shown += before[..open].trim_end();
                    calls.push(call);
                }
                None => shown += &before,
            }
        }
        let safe = self.held.find(OPEN).unwrap_or_else(|| self.held.len() - start_of_open(&self.held));
        // Spaces before a call belong to it.
        let safe = self.held[..safe].trim_end().len();
        let rest = self.held.split_off(safe);
        shown += &std::mem::replace(&mut self.held, rest);
        (shown, calls)
    }

    fn bare(&mut self, last: bool) -> (String, Vec<ToolCallDelta>) {
        let begins = self.held.trim_start();
        self.is_text |= !begins.is_empty() && !begins.starts_with('{');
        if self.is_text {
            return (std::mem::take(&mut self.held), Vec::new());
        }
        let call = if last { self.call(&self.held.clone()) } else { None };
        if call.is_some() {
            self.held.clear();
        }
        (String::new(), call.into_iter().collect())
    }

    fn call(&mut self, text: &str) -> Option<ToolCallDelta> {
        let FunctionCall { name, arguments } = self.form.read(text, &self.names)?;
        let index = self.begun;
        self.begun += 1;
        Some(ToolCallDelta { index, id: Some(ToolCall::new_id()), name: Some(name), arguments })
    }
}

/// Length of the longest end of a text that a tag may begin with.
fn start_of_open(text: &str) -> usize {
    (1..OPEN.len()).rev().find(|&n| text.ends_with(&OPEN[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::Role;

    fn tools() -> Tools {
        let f = |name: &str| json!({"type": "function", "function": {"name": name}});
        Tools { offered: vec![f("add"), f("now")], ..Tools::default() }
    }

    /// The text and the calls of an answer that comes in these pieces.
    fn run(form: CallForm, pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let mut calls = Calls::new(form, &tools());
        let (mut shown, mut called) = (String::new(), Vec::new());
        for (i, piece) in pieces.iter().enumerate() {
            let (text, calls) = calls.push(piece, i + 1 == pieces.len());
            shown += &text;
            called.extend(calls.into_iter().map(|c| (c.index, c.name.unwrap_or_default(), c.arguments)));
        }
        assert!(called.iter().enumerate().all(|(i, call)| call.0 == i));
        (shown, called.into_iter().map(|(_, name, arguments)| (name, arguments)).collect())
    }

    fn told(text: &str, calls: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        (text.to_owned(), calls.iter().map(|(name, arguments)| ((*name).into(), (*arguments).into())).collect())
    }

    #[test]
    fn tagged_calls_are_found_however_the_answer_is_cut() {
        let cases = [
            (
                "Let me see.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 1, \"a\": \"<\"}}\n</tool_call>\n<tool_call>{\"name\": \"now\"}</tool_call>\n",
                told("Let me see.", &[("add", "{\"b\":1,\"a\":\"<\"}"), ("now", "{}")]),
            ),
            (
                "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call> Done.",
                told(" Done.", &[("now", "{}")]),
            ),
            ("a < b and <tool", told("a < b and <tool", &[])),
            ("<tool_call>{\"name\": \"rm\"}</tool_call>", told("<tool_call>{\"name\": \"rm\"}</tool_call>", &[])),
            ("<tool_call>{\"name\": \"now\"", told("<tool_call>{\"name\": \"now\"", &[])),
            ("two\n\nparts \n", told("two\n\nparts \n", &[])),
        ];
        for (text, expected) in cases {
            assert_eq!(run(CallForm::Tagged, &[text]), expected);
            let letters: Vec<&str> = text.split("").collect();
            assert_eq!(run(CallForm::Tagged, &letters), expected, "letter by letter");
            for at in 0..text.len() {
                assert_eq!(run(CallForm::Tagged, &[&text[..at], &text[at..]]), expected, "cut at {at}");
            }
        }
    }

    #[test]
    fn a_bare_call_is_the_whole_answer() {
        let call = ["\n{\"name\": \"add\", ", "\"parameters\": {\"a\": 1}}"];
        assert_eq!(run(CallForm::Bare, &call), told("", &[("add", "{\"a\":1}")]));
        assert_eq!(run(CallForm::Bare, &["{\"name\"", ": 3}"]), told("{\"name\": 3}", &[]));
        assert_eq!(run(CallForm::Bare, &["Hm. ", call[0], call[1]]).1, Vec::new());
    }

    #[test]
    fn text_that_is_no_call_is_shown_as_it_comes() {
        let mut calls = Calls::new(CallForm::Tagged, &tools());
        assert_eq!(calls.push("One <b", false).0, "One <b");
        assert_eq!(calls.push(">two</b> <tool", false).0, ">two</b>");
        assert_eq!(calls.push("box", false).0, " <toolbox");
    }

    #[test]
    fn templates_get_arguments_as_json_and_results_with_their_functions_name() {
        let function = FunctionCall { name: "add".into(), arguments: "{\"b\": 1, \"a\": 2}".into() };
        let broken = FunctionCall { name: "add".into(), arguments: "{\"b\"".into() };
        let calls = vec![ToolCall { id: "x".into(), function }, ToolCall { id: "y".into(), function: broken }];
        let called = Message { tool_calls: calls, ..Message::assistant("") };
        let result = Message { tool_call_id: Some("x".into()), ..Message::new(Role::Tool, "3") };
        let shown = for_template(&[called, result]);
        assert_eq!(shown[0]["tool_calls"][0]["function"]["arguments"].to_string(), "{\"b\":1,\"a\":2}");
        assert_eq!(shown[0]["tool_calls"][1]["function"]["arguments"], "{\"b\"");
        assert_eq!(shown[1]["name"], "add");
    }

    #[test]
    fn the_form_is_the_one_that_the_template_teaches() {
        let form = CallForm::of_template;
        let qwen = r#"<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>"#;
        assert_eq!(form(qwen), Some(CallForm::Tagged));
        let llama = r#"{"name": function name, "parameters": dictionary of argument name and its value}"#;
        assert_eq!(form(llama), Some(CallForm::Bare));
        assert_eq!(form("<tool_call>\n<function=example>\n<parameter=x>"), None);
        assert_eq!(form("{{ tools | tojson }}"), None);
    }

    #[test]
    fn a_grammar_is_needed_only_where_something_must_be() {
        let format = AnswerFormat::JsonObject;
        let with = |choice| Tools { choice, ..tools() };
        assert_eq!(CallForm::Tagged.grammar(&with(None), None), None);
        let either = CallForm::Tagged.grammar(&with(Some(ToolChoice::Auto)), Some(&format)).expect("a grammar");
        assert!(either.starts_with("start: call (\"\\n\" call)* | text\n"), "{either}");
        let must = CallForm::Bare.grammar(&with(Some(ToolChoice::Required)), Some(&format)).expect("a grammar");
        assert!(must.starts_with("start: call\ncall: \"{") && !must.contains("text"), "{must}");
    }
}
