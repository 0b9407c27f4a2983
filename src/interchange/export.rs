//! Writes rankings and demonstrations as JSONL, in hone's own shape (which `import` reads again) or in TRL's.

use crate::store::{Store, StoreError, imports, training_data};
use hone_domain::{Demonstration, Message, RankedPrompt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write;
use utoipa::ToSchema;

/// The shape of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schema(as = DataFormat)]
pub enum Format {
    /// `messages`, `candidates`, `ranks`, `labeler`; demonstrations as `messages` that end with the answer.
    Hone,
    /// One line per pair: `prompt`, `chosen`, `rejected` as messages; demonstrations as `messages`.
    Trl,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schema(as = DataKind)]
pub enum What {
    /// Everything, rankings first.
    All,
    /// Rankings, or the pairs that they hold.
    Rankings,
    /// Demonstrations.
    Demonstrations,
}

/// Why the export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output can't be written.
    #[error("can't write the export: {0}")]
    Io(#[from] std::io::Error),
}

/// Writes all feedback; answers how many lines that were.
///
/// # Errors
/// When it can't be read or written.
pub fn export(store: &Store, format: Format, what: What, out: &mut dyn Write) -> Result<usize, ExportError> {
    let (rankings, demonstrations, names) = store
        .read_blocking(|c| Ok((training_data::rankings(c)?, training_data::demonstrations(c)?, imports::names(c)?)))?;
    let name = |id: &String| names.get(id).unwrap_or(id).clone();
    let mut lines = 0;
    let mut write = |line: &Value| {
        lines += 1;
        writeln!(out, "{line}")
    };
    for stored in rankings.iter().filter(|_| what != What::Demonstrations) {
        for line in ranking_lines(&stored.item, &name(&stored.item.labeler), format) {
            write(&line)?;
        }
    }
    for stored in demonstrations.iter().filter(|_| what != What::Rankings) {
        write(&demonstration_line(&stored.item, &name(&stored.item.labeler)))?;
    }
    out.flush()?;
    Ok(lines)
}

fn ranking_lines(ranked: &RankedPrompt, labeler: &str, format: Format) -> Vec<Value> {
    let RankedPrompt { messages, candidates, ranking, quality: _, flags: _, labeler: _ } = ranked;
    match format {
        Format::Hone => {
            vec![json!({"messages": messages, "candidates": candidates, "ranks": ranking, "labeler": labeler})]
        }
        Format::Trl => {
            let answer = |i: usize| [Message::assistant(candidates[i].clone())];
            let pair = |(better, worse)| json!({"prompt": messages, "chosen": answer(better), "rejected": answer(worse), "labeler": labeler});
            ranking.pairs().into_iter().map(pair).collect()
        }
    }
}

fn demonstration_line(demonstration: &Demonstration, labeler: &str) -> Value {
    let mut messages = demonstration.messages.clone();
    messages.push(Message::assistant(demonstration.ideal.clone()));
    json!({"messages": messages, "labeler": labeler})
}

#[cfg(test)]
mod tests {
    use super::super::import::import;
    use super::*;

    const LINES: &str = r#"{"prompt": "q", "candidates": ["a", "b", "c"], "ranks": [0, 1, 1], "labeler": "ada"}
{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
"#;

    fn store_with(text: &[u8]) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let path = dir.path().join("in.jsonl");
        std::fs::write(&path, text).expect("writes");
        import(&store, &[path], false).expect("imports");
        (dir, store)
    }

    fn exported(store: &Store, format: Format, what: What) -> String {
        let mut out = Vec::new();
        export(store, format, what, &mut out).expect("exports");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_is_exported_can_be_imported_again() {
        let (_dir, store) = store_with(LINES.as_bytes());
        let text = exported(&store, Format::Hone, What::All);
        let (_dir, copy) = store_with(text.as_bytes());
        assert_eq!(exported(&copy, Format::Hone, What::All), text);
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn trl_gets_one_line_per_pair() {
        let (_dir, store) = store_with(LINES.as_bytes());
        let pairs = exported(&store, Format::Trl, What::Rankings);
        assert_eq!(pairs.lines().count(), 2, "the tie gives none: {pairs}");
        let (_dir, copy) = store_with(pairs.as_bytes());
        assert_eq!(exported(&copy, Format::Trl, What::Rankings).lines().count(), 2);
    }
}
