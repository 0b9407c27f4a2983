//! Texts with labels, from files that people have: CSV, JSON, and RealToxicityPrompts' own records. A row that can't be read is
//! named by its line.

use super::model::Source;
use super::train::Labeled;
use crate::LearnError;
use crate::checkpoint::sha256;
use crate::evaluate::suites::table::{self, Row};
use serde_json::{Map, Value};
use std::path::Path;

/// Names that the label may have.
const LABELS: [&str; 4] = ["toxic", "is_toxic", "label", "toxicity"];

/// A text and how toxic people found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The text.
    pub text: String,
    /// 0 to 1; from 0.5 on it counts as toxic.
    pub toxic: f64,
}

impl Example {
    /// Whether it counts as toxic.
    #[must_use]
    pub fn is_toxic(&self) -> bool {
        self.toxic >= 0.5
    }
}

/// Reads a file: CSV with a header, JSON objects one a line, or a JSON list of them. A row has `text` and one of `toxic`, `is_toxic`,
/// `label`, `toxicity`: true or false, 0 to 1, or "Toxic" and "Not Toxic". A record of RealToxicityPrompts gives two texts, its prompt and its
/// continuation, each with its own score; a part without a score gives none.
///
/// # Errors
/// When the file can't be read, is empty, or a row lacks text or label; the message has the row's number.
pub fn read(path: &Path) -> Result<Labeled, LearnError> {
    let bytes = std::fs::read(path).map_err(LearnError::io(path))?;
    let bad = |reason: String| LearnError::BadData { reason: format!("{}: {reason}", path.display()) };
    let examples = examples(&bytes).map_err(bad)?;
    if examples.is_empty() {
        return Err(bad("no text in it has a score".into()));
    }
    let source = Source {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: sha256(&bytes),
        texts: examples.len(),
        toxic: examples.iter().filter(|e| e.is_toxic()).count(),
    };
    Ok(Labeled { source, examples })
}

fn examples(bytes: &[u8]) -> Result<Vec<Example>, String> {
    let mut all = Vec::new();
    for Row { place, fields } in table::rows(bytes)? {
        let at = |reason: &str| format!("{place}: {reason}");
        match (fields.get("prompt"), fields.get("continuation")) {
            (Some(Value::Object(prompt)), continuation) => {
                let parts = std::iter::once(prompt).chain(continuation.and_then(Value::as_object));
                for part in parts.filter(|part| part.get("toxicity").is_some_and(Value::is_number)) {
                    all.push(example(part).map_err(at)?);
                }
            }
            _ => all.push(example(&fields).map_err(at)?),
        }
    }
    Ok(all)
}

fn example(fields: &Map<String, Value>) -> Result<Example, &'static str> {
    let text = fields.get("text").and_then(Value::as_str).ok_or("there is no \"text\"")?.to_owned();
    let label = LABELS.iter().find_map(|name| fields.get(*name).filter(|label| !label.is_null()));
    let toxic = match label.ok_or("there is no \"toxic\"")? {
        Value::Bool(toxic) => Some(f64::from(u8::from(*toxic))),
        Value::Number(toxic) => toxic.as_f64().filter(|x| (0.0..=1.0).contains(x)),
        Value::String(toxic) => in_words(toxic),
        _ => None,
    };
    let toxic = toxic.ok_or("its label is neither true or false, nor 0 to 1, nor \"Toxic\" or \"Not Toxic\"")?;
    Ok(Example { text, toxic })
}

fn in_words(label: &str) -> Option<f64> {
    match label.trim().to_lowercase().as_str() {
        "true" | "toxic" => Some(1.0),
        "false" | "not toxic" | "nontoxic" | "non-toxic" => Some(0.0),
        number => number.parse().ok().filter(|x| (0.0..=1.0).contains(x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_the_shapes_that_people_have() {
        let made = |text: &str, toxic: f64| Example { text: text.into(), toxic };
        let lines = "{\"text\":\"a\",\"toxic\":true}\n\n{\"text\":\"b\",\"label\":0.25}\n{\"text\":\"c\",\"is_toxic\":\"Not Toxic\"}\n";
        assert_eq!(examples(lines.as_bytes()), Ok(vec![made("a", 1.0), made("b", 0.25), made("c", 0.0)]));
        let record =
            br#"{"filename":"x","prompt":{"text":"p","toxicity":0.7},"continuation":{"text":"c","toxicity":null}}"#;
        assert_eq!(examples(record), Ok(vec![made("p", 0.7)]));
        let csv = "\u{feff}text,is_toxic\r\n\"a, \"\"b\"\"\",Toxic\r\nplain,0.4\r\n";
        assert_eq!(examples(csv.as_bytes()), Ok(vec![made("a, \"b\"", 1.0), made("plain", 0.4)]));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let of = |text: &str| examples(text.as_bytes()).expect_err("broken");
        assert_eq!(of("{\"text\":\"a\",\"toxic\":1}\n{\"toxic\":1}"), "line 2: there is no \"text\"");
        assert_eq!(of("{\"text\":\"a\"}"), "line 1: there is no \"toxic\"");
        assert!(of("{\"text\":\"a\",\"toxic\":7}").contains("neither true or false"));
        assert!(of("text,toxic\nfine,1\nb,maybe").starts_with("line 3: its label"));
    }
}
