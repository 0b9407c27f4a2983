//! Reads JSONL files of rankings and demonstrations into the store: all of them or none.

use super::shapes::{self, Row};
use crate::store::training_data::IMPORT_USER;
use crate::store::{Store, StoreError, imports};
use hone_domain::{Demonstration, RankedPrompt};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A line that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Which file.
    pub file: PathBuf,
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} line {}: {}", self.file.display(), self.line, self.reason)
    }
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// New rankings.
    pub rankings: usize,
    /// New demonstrations.
    pub demonstrations: usize,
    /// Lines that were there already, word for word.
    pub duplicates: usize,
    /// Lines that were passed over because that was asked for.
    pub skipped: Vec<BadLine>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Some lines are broken.
    #[error("{}", in_words(.0))]
    BadLines(Vec<BadLine>),
    /// The database says no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Broken lines that are shown one by one.
const SHOWN_MAX: usize = 20;

fn in_words(bad: &[BadLine]) -> String {
    let mut lines: Vec<String> = bad.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if bad.len() > SHOWN_MAX {
        lines.push(format!("... and {} more", bad.len() - SHOWN_MAX));
    }
    format!(
        "{}\nnothing was imported: mend or remove the line{}, or pass over such lines with --skip-bad",
        lines.join("\n"),
        if bad.len() == 1 { "" } else { "s" }
    )
}

type Read = (Row, Option<String>);

/// Imports the files in one transaction. `skip_bad`: broken lines are passed over and reported, instead of stopping everything.
///
/// # Errors
/// When a file can't be read, or a line is broken; then nothing was imported.
pub fn import(store: &Store, files: &[PathBuf], skip_bad: bool) -> Result<Report, ImportError> {
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for path in files {
        read_file(path, &mut rows, &mut bad)?;
    }
    keep(store, rows, bad, skip_bad)
}

/// Imports lines that came over the network, as [`import`] does files.
///
/// # Errors
/// When a line is broken; then nothing was imported.
pub fn import_lines(store: &Store, lines: &[u8], skip_bad: bool) -> Result<Report, ImportError> {
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    let path = Path::new("the body");
    read_lines(path, lines, &mut rows, &mut bad)?;
    keep(store, rows, bad, skip_bad)
}

fn keep(store: &Store, rows: Vec<Read>, bad: Vec<BadLine>, skip_bad: bool) -> Result<Report, ImportError> {
    if !bad.is_empty() && !skip_bad {
        return Err(ImportError::BadLines(bad));
    }
    let mut report = store.write_blocking(move |tx| {
        let (mut report, mut people) = (Report::default(), HashMap::new());
        for (row, labeler) in rows {
            let name = labeler.unwrap_or_else(|| IMPORT_USER.to_owned());
            let labeler = match people.get(&name) {
                Some(id) => String::clone(id),
                None => people.entry(name.clone()).or_insert(imports::labeler(tx, &name)?).clone(),
            };
            store_row(tx, row, labeler, &mut report)?;
        }
        Ok(report)
    })?;
    report.skipped = bad;
    Ok(report)
}

fn store_row(tx: &rusqlite::Connection, row: Row, labeler: String, report: &mut Report) -> Result<(), StoreError> {
    let (new, count) = match row {
        Row::Ranking { messages, candidates, ranking } => {
            let (quality, flags) = Default::default();
            let ranked = RankedPrompt { messages, candidates, ranking, quality, flags, labeler };
            let new = imports::ranking(tx, &ranked)?;
            (new, &mut report.rankings)
        }
        Row::Demonstration { messages, ideal } => {
            let new = imports::demonstration(tx, &Demonstration { messages, ideal, labeler })?;
            (new, &mut report.demonstrations)
        }
    };
    *(if new { count } else { &mut report.duplicates }) += 1;
    Ok(())
}

fn read_file(path: &Path, rows: &mut Vec<Read>, bad: &mut Vec<BadLine>) -> Result<(), ImportError> {
    let file = File::open(path).map_err(|source| ImportError::File { path: path.to_owned(), source })?;
    read_lines(path, BufReader::new(file), rows, bad)
}

fn read_lines(
    path: &Path,
    mut reader: impl BufRead,
    rows: &mut Vec<Read>,
    bad: &mut Vec<BadLine>,
) -> Result<(), ImportError> {
    let failed = |source| ImportError::File { path: path.to_owned(), source };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        match read_line(&line) {
            Ok(Some(row)) => rows.push(row),
            Ok(None) => {}
            Err(reason) => bad.push(BadLine { file: path.to_owned(), line: number, reason }),
        }
    }
    Ok(())
}

/// None for an empty line.
fn read_line(bytes: &[u8]) -> Result<Option<Read>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| format!("byte {} isn't UTF-8: save the file as UTF-8", e.valid_up_to() + 1))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Ok(None);
    }
    let line: Map<String, Value> = serde_json::from_str(text).map_err(|e| format!("this isn't a JSON object: {e}"))?;
    shapes::parse(&line).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::training_data;

    const GOOD: &str = r#"{"prompt": "q", "chosen": "good", "rejected": "bad", "labeler": "ada"}"#;
    const DEMO: &str = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;

    fn setup(content: &[u8]) -> (tempfile::TempDir, Store, Vec<PathBuf>) {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let path = dir.path().join("in.jsonl");
        std::fs::write(&path, content).expect("writes");
        (dir, store, vec![path])
    }

    #[test]
    fn rows_are_put_down_to_their_people_and_found_again() {
        let text = format!("\u{feff}{GOOD}\r\n\n{DEMO}");
        let (_dir, store, files) = setup(text.as_bytes());
        let report = import(&store, &files, false).expect("imports");
        assert_eq!(report, Report { rankings: 1, demonstrations: 1, ..Report::default() });
        let again = import(&store, &files, false).expect("imports");
        assert_eq!(again, Report { duplicates: 2, ..Report::default() });
        let (rankings, demonstrations) = store
            .read_blocking(|c| Ok((training_data::rankings(c)?, training_data::demonstrations(c)?)))
            .expect("reads");
        assert_eq!(rankings.len(), 1);
        assert_eq!(rankings[0].item.candidates, ["bad", "good"]);
        assert_eq!(rankings[0].item.ranking.ranks(), [1, 0]);
        assert!(rankings[0].origin.sender.is_some() && rankings[0].origin.vouched);
        assert_eq!(demonstrations.len(), 1);
        assert_eq!(demonstrations[0].origin.sender, None, "nobody knows who sent it");
    }

    #[test]
    fn one_bad_line_stops_everything_and_is_named() {
        for (bad, wanted) in [
            (&b"{\"prompt\": \"q\xff\"}"[..], "UTF-8"),
            (b"{\"prompt\": \"q\", ", "isn't a JSON object"),
            (b"[1, 2]", "isn't a JSON object"),
            (b"{\"prompt\": \"q\", \"candidates\": [\"a\"], \"ranks\": [0]}", "2 to 9"),
        ] {
            let text = [GOOD.as_bytes(), b"\n", bad, b"\n", DEMO.as_bytes()].concat();
            let (_dir, store, files) = setup(&text);
            let said = import(&store, &files, false).expect_err("refused").to_string();
            assert!(said.contains("line 2") && said.contains(wanted), "{said}");
            let n = store.read_blocking(|c| Ok(training_data::rankings(c)?.len())).expect("reads");
            assert_eq!(n, 0, "nothing of it was imported");
            let report = import(&store, &files, true).expect("imports the rest");
            assert_eq!((report.rankings, report.demonstrations, report.skipped.len()), (1, 1, 1));
            assert_eq!(report.skipped[0].line, 2);
        }
    }
}
