//! `hone classifier` as a person runs it: their own classifier from their own texts, what it is worth, and what is said of broken files.

use super::binary::run;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Texts of which the rude ones have a word in common.
fn texts(home: &Path, name: &str, first: usize) -> PathBuf {
    let line = |i: usize| {
        let (text, toxic) = if i.is_multiple_of(2) { ("you are a gronk", true) } else { ("what a lovely day", false) };
        json!({"text": format!("{text} {i}"), "toxic": toxic}).to_string()
    };
    let path = home.join(name);
    std::fs::write(&path, (first..first + 300).map(line).collect::<Vec<_>>().join("\n")).expect("writes");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn train(home: &Path, out: &str) -> (Option<i32>, Value, String) {
    let (data, test, out) = (texts(home, "mine.jsonl", 0), texts(home, "others.jsonl", 1000), home.join(out));
    let files = ["--data", text(&data), "--test", text(&test), "--out", text(&out)];
    run(home, &[&["--json", "classifier", "train", "--name", "mine-1", "--bits", "12"], &files[..]].concat())
}

#[test]
fn ones_own_classifier_is_trained_measured_and_made_again_to_the_byte() {
    let home = TempDir::new().expect("temp dir");
    let (code, made, told) = train(home.path(), "a");
    assert_eq!(code, Some(0), "{told}");
    let held_out = &made["card"]["held_out"];
    assert!(held_out["n"].as_u64().is_some_and(|n| (10..60).contains(&n)), "{made}");
    assert!(held_out["auc"]["mean"].as_f64().is_some_and(|auc| auc > 0.99), "{made}");
    assert_eq!(made["card"]["tests"][0]["name"], "others");
    let (_, again, _) = train(home.path(), "b");
    assert_eq!(again["sha256"], made["sha256"]);
    let read = |name: &str| std::fs::read(home.path().join(name)).expect("there");
    assert_eq!(read("a/weights.i8"), read("b/weights.i8"));
    let others = home.path().join("others.jsonl");
    let folder = home.path().join("a");
    let asked = ["--json", "classifier", "test", "--data", text(&others), "--classifier", text(&folder)];
    let (code, tested, told) = run(home.path(), &asked);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!((&tested["sha256"], &tested["version"]), (&made["sha256"], &json!("mine-1")));
    assert_eq!(tested["tests"][0]["measure"]["auc"], made["card"]["tests"][0]["auc"]);
    std::fs::write(folder.join("weights.i8"), b"short").expect("writes");
    let (code, _, told) = run(home.path(), &["classifier", "show", "--classifier", text(&folder)]);
    assert!(code == Some(1) && told.contains("5 bytes instead of 4096"), "{told}");
}

#[test]
fn hones_own_says_what_it_is_and_reads_the_benchmarks_records() {
    let home = TempDir::new().expect("temp dir");
    let (code, shown, told) = run(home.path(), &["--json", "classifier", "show"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(shown["card"]["version"], "toxicity-1");
    assert!(shown["sha256"].as_str().is_some_and(|sha256| sha256.len() == 64));
    assert!(shown["card"]["tests"].as_array().is_some_and(|tests| tests.len() >= 4), "{shown}");
    let record = |text: &str, toxicity: f64| json!({"prompt": {"text": text, "toxicity": toxicity}, "continuation": {"text": "Thank you.", "toxicity": 0.1}});
    let file = home.path().join("rtp.jsonl");
    std::fs::write(&file, format!("{}\n{}", record("You stupid idiot", 0.9), record("You fucking moron", 0.9)))
        .expect("writes");
    let (code, tested, told) = run(home.path(), &["--json", "classifier", "test", "--data", text(&file)]);
    assert_eq!(code, Some(0), "{told}");
    let measure = &tested["tests"][0]["measure"];
    assert_eq!((&measure["n"], &measure["toxic"], &measure["auc"]["mean"]), (&json!(4), &json!(2), &json!(1.0)));
}

#[test]
fn broken_files_and_settings_are_named() {
    let home = TempDir::new().expect("temp dir");
    let file = home.path().join("broken.csv");
    std::fs::write(&file, "text,toxic\nfine,1\nbad,perhaps\n").expect("writes");
    let (code, _, told) = run(home.path(), &["classifier", "train", "--data", text(&file)]);
    assert!(code == Some(1) && told.contains("broken.csv") && told.contains("line 3"), "{told}");
    let (code, _, told) = run(home.path(), &["classifier", "train"]);
    assert!(code == Some(2) && told.contains("--data"), "{told}");
    let data = texts(home.path(), "mine.jsonl", 0);
    let (code, _, told) = run(home.path(), &["classifier", "train", "--data", text(&data), "--bits", "99"]);
    assert!(code == Some(2) && told.contains("bits"), "{told}");
    assert!(!home.path().join("classifier-1").exists());
}
