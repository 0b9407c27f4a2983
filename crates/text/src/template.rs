//! Chat templates: Jinja as `transformers` renders it, and the plain template of models that bring none.

use crate::TextError;
use crate::calls::CallForm;
use hone_domain::Message;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use std::collections::BTreeMap;

/// See [`plain_template`]. The answer starts on its own line, because a prompt that ends with a space would split the
/// first word's token.
const PLAIN: &str = "\
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {{ message['content'].strip() + '\\n\\n' }}
    {%- elif message['role'] == 'user' -%}
        {{ 'User:\\n' + message['content'].strip() + '\\n\\n' }}
    {%- else -%}
        {{ 'Assistant:\\n' + message['content'].strip() + eos_token + '\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:\\n' }}{%- endif -%}";

/// The chat template of a model that brings none: the system message as it is, then turns that each open with a line
/// `User:` or `Assistant:`; an answer ends with the end-of-text token. It opens with the begin-of-text token if
/// `with_bos` (for models whose tokenizer sets one by itself).
///
/// ```text
/// <s>Answer briefly.
///
/// User:
/// Which is the largest planet?
///
/// Assistant:
/// Jupiter.</s>
/// User:
/// And the smallest?
///
/// Assistant:
///
/// ```
#[must_use]
pub fn plain_template(with_bos: bool) -> String {
    if with_bos { format!("{{{{- bos_token -}}}}{PLAIN}") } else { PLAIN.to_owned() }
}

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// How calls of functions are written; `None` for a template that takes none, or none in a form that is known.
    calls: Option<CallForm>,
    /// `bos_token`, `eos_token`, ... as templates name them.
    tokens: BTreeMap<&'static str, String>,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles; `tokens` are the texts of the special tokens by their name in templates.
    pub(crate) fn new(source: &str, tokens: BTreeMap<&'static str, String>) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_template_owned(NAME, source.to_owned()).map_err(refused)?;
        let takes_tools =
            environment.get_template(NAME).map_err(refused)?.undeclared_variables(false).contains("tools");
        let calls = CallForm::of_template(source).filter(|_| takes_tools);
        Ok(Self { environment, calls, tokens })
    }

    /// How calls of functions are written, where they can be offered.
    pub(crate) fn calls(&self) -> Option<CallForm> {
        self.calls
    }

    /// The messages as the text that the model was trained on, ending where an answer starts if `generation_prompt`.
    pub(crate) fn render(&self, messages: &[Message], generation_prompt: bool) -> Result<String, TextError> {
        self.render_with_tools(messages, None, generation_prompt)
    }

    /// The same with functions that may be called, and messages that may hold calls.
    pub(crate) fn render_with_tools(
        &self,
        messages: &[impl Serialize],
        tools: Option<&[serde_json::Value]>,
        generation_prompt: bool,
    ) -> Result<String, TextError> {
        let template = self.environment.get_template(NAME).map_err(refused)?;
        let context = context! {
            messages => messages,
            add_generation_prompt => generation_prompt,
            tools => tools,
            documents => Value::from(()),
            ..Value::from_serialize(&self.tokens)
        };
        template.render(context).map_err(refused)
    }
}

fn refused(error: Error) -> TextError {
    TextError::Template(error.detail().map_or_else(|| error.to_string(), str::to_owned))
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Zoned::now();
    let text = jiff::fmt::strtime::format(format, &now);
    text.map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {e}")))
}

/// JSON as Python's `json.dumps(ensure_ascii=False)` writes it, which is what the models saw: `", "` and `": "`
/// between items, no HTML escapes.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut out = serde_json::Serializer::with_formatter(&mut bytes, pretty);
            serde::Serialize::serialize(value, &mut out).map_err(failed)?;
        }
        None => {
            let mut out = serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter);
            serde::Serialize::serialize(value, &mut out).map_err(failed)?;
        }
    }
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests;
