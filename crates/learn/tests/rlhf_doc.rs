//! `docs/RLHF.md` names a Rust name and a file for each symbol: both must be there.

use std::path::Path;

/// (name, file) of every table row, in order.
fn rows(text: &str) -> Vec<(String, String)> {
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect() };
    let quoted = |cell: &String| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
    let row = |cells: Vec<String>| Some((quoted(cells.get(1)?)?, quoted(cells.get(2)?)?));
    text.lines().filter(|line| line.starts_with('|')).filter_map(|line| row(cells(line))).collect()
}

fn holds_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !part(c)).any(|w| w == word)
}

#[test]
fn every_file_and_name_exists() {
    let root = Path::new("../..");
    let text = std::fs::read_to_string(root.join("docs/RLHF.md")).expect("the document");
    let rows = rows(&text);
    let symbols = text.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| what |")).count();
    assert_eq!(rows.len(), symbols, "each row has a name and a file in backticks");
    assert!(rows.len() > 30, "only {} rows were found", rows.len());
    for (name, file) in rows {
        let code = std::fs::read_to_string(root.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(holds_word(&code, &name), "{file} has no `{name}`");
    }
}
