//! The suites against lm-evaluation-harness on the same tiny base, item by item: `make.py` made the numbers with the harness as installed.

use hone_learn::Base;
use hone_learn::evaluate::suites::{self, Key, Scorer};
use hone_learn::tiny::{self, TinySpec};
use hone_text::ChatTokenizer;
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The harness sums log-probs of up to a hundred nats in f32.
const TOLERANCE: f64 = 1e-4;

fn file(name: &str) -> Vec<u8> {
    // Cargo runs tests in the package's folder.
    std::fs::read(Path::new("tests/golden_suites").join(name)).expect(name)
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Each item's values by hone, with a context of so many tokens.
fn hone(suite: &str, data: &[u8], context: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
    let home = tempfile::tempdir().expect("temp dir");
    let dir = home.path().join("base");
    tiny::write(&dir, &TinySpec { context, ..TinySpec::default() }).expect("a base");
    let (base, tokenizer) = (Base::open(&dir).expect("opens"), ChatTokenizer::open(&dir).expect("opens"));
    let suite =
        suites::open(suite, data, &tokenizer, context, || unreachable!("none of these is scored")).expect("opens");
    let key = Key::new(suite.as_ref(), data, &base, None, 0, None).expect("a key");
    let mut scorer = Scorer::new(&base, None, &tokenizer, 0);
    let file = home.path().join("items");
    let run = suites::run(suite.as_ref(), &key, &mut scorer, &file, &mut |_, _| (), &AtomicBool::new(false));
    let found = run.expect("runs");
    let values = found.items.iter().map(|item| item.values.iter().map(|v| v.expect("a value")).collect()).collect();
    (values, found.figures.iter().map(|f| f.estimate.mean).collect())
}

/// hone's values of one figure against the harness's, and their means.
fn equal(what: &str, found: &[f64], mean: f64, golden: &Value, field: &str, figure: &str) {
    let items = golden["items"].as_array().expect("items");
    assert_eq!(found.len(), items.len(), "{what}");
    for (i, (found, item)) in found.iter().zip(items).enumerate() {
        let expected = number(&item[field]);
        assert!((found - expected).abs() < TOLERANCE, "{what}[{i}]: {found}, the harness has {expected}");
    }
    let expected = number(&golden["figures"][figure]);
    assert!((mean - expected).abs() < TOLERANCE, "{what}: {mean}, the harness has {expected}");
}

#[test]
fn truthfulqa_and_crows_pairs_are_the_harnesss() {
    let golden: Value = serde_json::from_slice(&file("golden.json")).expect("JSON");
    let column = |values: &[Vec<f64>], i: usize| values.iter().map(|v| v[i]).collect::<Vec<f64>>();
    for context in [256, 1024] {
        let golden = &golden[context.to_string()];
        let (values, means) = hone("truthfulqa", &file("questions.jsonl"), context);
        for (i, task) in ["truthfulqa_mc1", "truthfulqa_mc2"].into_iter().enumerate() {
            equal(&format!("{task} in {context}"), &column(&values, i), means[i], &golden[task], "acc", "acc");
        }
        let (values, means) = hone("crows_pairs", &file("pairs.jsonl"), context);
        let pairs = &golden["crows_pairs_english"];
        equal("share", &column(&values, 0), means[0], pairs, "pct_stereotype", "pct_stereotype");
        equal("difference", &column(&values, 2), means[2], pairs, "likelihood_diff", "likelihood_diff");
    }
}
