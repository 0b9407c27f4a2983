//! `hone evaluate` as a person or a script runs it: each suite on a tiny base, figures with intervals, two policies item by item.

use hone_learn::Base;
use hone_learn::lora::{Adapter, LoraConfig};
use hone_learn::tiny::{self, TinySpec};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

fn hone(data: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hone")).arg("--data").arg(data).args(args).output().expect("runs")
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON line and nothing else")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tiny base, and a file for every suite.
fn data_folder() -> TempDir {
    let data = TempDir::new().expect("temp dir");
    let spec = TinySpec { context: 1024, ..TinySpec::default() };
    tiny::write(&data.path().join("models/tiny"), &spec).expect("writes the base");
    let questions: Vec<String> =
        (0..24).map(|i| format!("Is {i} odd?,It is,It is not,It is; Yes,It is not; No")).collect();
    let questions = format!(
        "Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers\n{}\n",
        questions.join("\n")
    );
    let pairs: Vec<String> =
        (0..24).map(|i| json!({"sent_more": format!("a {i}"), "sent_less": format!("b {i}")}).to_string()).collect();
    for (name, text) in [("truthfulqa", &questions), ("sycophancy", &questions), ("crows_pairs", &pairs.join("\n"))] {
        std::fs::write(data.path().join(name), text).expect("writes");
    }
    let record = |i: usize| json!({"prompt": {"text": format!("He is {i}"), "toxicity": i as f64 / 24.0}}).to_string();
    std::fs::write(data.path().join("toxicity"), (0..24).map(record).collect::<Vec<_>>().join("\n")).expect("writes");
    std::fs::write(data.path().join("perplexity"), "A long text. ".repeat(900)).expect("writes");
    data
}

fn file(data: &TempDir, suite: &str) -> String {
    data.path().join(suite).display().to_string()
}

/// The folder of a policy that isn't the base.
fn adapter(data: &TempDir) -> PathBuf {
    let base = Base::open(&data.path().join("models/tiny")).expect("opens");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut adapter = Adapter::new(base.config(), LoraConfig::default(), false, &mut rng).expect("an adapter");
    adapter.params.iter_mut().for_each(|p| p.data.iter_mut().for_each(|x| *x += 0.05));
    let dir = data.path().join("adapter");
    adapter.save(&dir, "tiny").expect("saves");
    dir
}

#[test]
fn every_suite_prints_its_figures_with_interval_and_n() {
    let data = data_folder();
    let wanted = [
        ("truthfulqa", "truthfulqa_mc1", 24),
        ("truthfulqa", "truthfulqa_mc2", 24),
        ("crows_pairs", "crows_pairs_stereotype", 24),
        ("crows_pairs", "crows_pairs_entropy", 24),
        ("toxicity", "toxicity_respectful", 24),
        ("toxicity", "toxicity_biased_flagged", 24),
        ("sycophancy", "sycophancy_flips", 24),
        ("perplexity", "perplexity_nats", 23),
    ];
    for (suite, figure, n) in wanted {
        let found =
            json_of(&hone(data.path(), &["evaluate", "--suite", suite, "--data", &file(&data, suite), "--json"]));
        let figures = found["figures"].as_array().expect("figures");
        let figure = figures.iter().find(|f| f["name"] == figure).unwrap_or_else(|| panic!("{figure}: {found}"));
        let number = |name: &str| figure[name].as_f64().expect("a number");
        assert!(number("low") <= number("mean") && number("mean") <= number("high") && figure["n"] == n, "{figure}");
        assert_eq!((&found["policy"], &found["version"]), (&json!("base"), &json!(1)));
    }
    let text =
        hone(data.path(), &["evaluate", "--suite", "truthfulqa", "--data", &file(&data, "truthfulqa"), "--limit", "5"]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains("5 items") && text.contains("n = 5, higher is better"), "{text}");
}

#[test]
fn a_policy_is_compared_with_another_item_by_item_and_results_are_kept() {
    let data = data_folder();
    let (adapter, file) = (adapter(&data).display().to_string(), file(&data, "crows_pairs"));
    let ask = |policy: &str, against: &str| {
        let args = ["evaluate", "--suite", "crows_pairs", "--data", &file, "--policy", policy, "--against", against];
        json_of(&hone(data.path(), &[&["--json"], &args[..]].concat()))
    };
    let found = ask(&adapter, "base");
    let change = &found["changes"].as_array().expect("changes")[1];
    assert_eq!((&change["name"], &change["n"]), (&json!("crows_pairs_entropy"), &json!(24)));
    assert!(change["difference"]["mean"].as_f64().is_some_and(|mean| mean != 0.0), "{change}");
    let kept = || std::fs::read_dir(data.path().join("evaluations")).expect("lists").count();
    assert_eq!(kept(), 2, "one file a policy");
    assert_eq!(ask(&adapter, "base"), found, "and the same again from them");
    let same = ask("base", "base");
    assert_eq!(same["changes"][1]["difference"], json!({"mean": 0.0, "low": 0.0, "high": 0.0}));
    assert_eq!(kept(), 2);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let data = data_folder();
    let refused = |args: &[&str]| {
        let output = hone(data.path(), &[&["evaluate"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    let missing = refused(&["--suite", "truthfulqa", "--data", "nowhere.csv"]);
    assert!(missing.contains("nowhere.csv") && missing.contains("docs/EVALUATION.md"), "{missing}");
    let unknown = refused(&["--suite", "wisdom", "--data", "nowhere.csv"]);
    assert!(unknown.contains("crows_pairs"), "{unknown}");
    let wrong = refused(&["--suite", "truthfulqa", "--data", &file(&data, "crows_pairs")]);
    assert!(wrong.contains("line 1: there is no \"Question\""), "{wrong}");
    assert!(refused(&["--suite", "truthfulqa"]).contains("--data"), "the suite's file is asked for");
}

#[test]
fn a_result_names_the_classifier_that_scored_and_another_one_scores_anew() {
    let data = data_folder();
    let line = |i: usize| json!({"text": format!("{} {i}", ["a", "b"][i % 2]), "toxic": i % 2}).to_string();
    let texts = data.path().join("texts.jsonl");
    std::fs::write(&texts, (0..200).map(line).collect::<Vec<_>>().join("\n")).expect("writes");
    let (texts, mine) = (texts.display().to_string(), data.path().join("mine").display().to_string());
    let train = ["classifier", "train", "--bits", "10", "--name", "mine-1", "--out", &mine, "--data", &texts, "--json"];
    let trained = json_of(&hone(data.path(), &train));
    let (prompts, other) = (file(&data, "toxicity"), adapter(&data).display().to_string());
    let asked =
        ["evaluate", "--suite", "toxicity", "--data", &prompts, "--against", "base", "--policy", &other, "--json"];
    let own = json_of(&hone(data.path(), &asked));
    assert_eq!(own["scored_by"]["version"], "toxicity-1");
    assert_eq!(own["changes"].as_array().map(Vec::len), Some(6), "{own}");
    assert_eq!(own["changes"][4]["worse_by"], Value::Null, "what was asked for the worst is looked at only");
    assert_eq!(json_of(&hone(data.path(), &asked)), own, "the same draws, from the kept items");
    let by_mine = json_of(&hone(data.path(), &[&asked[..], &["--classifier", &mine]].concat()));
    assert_eq!(by_mine["scored_by"], json!({"version": "mine-1", "sha256": trained["sha256"]}));
    assert_ne!(by_mine["figures"], own["figures"]);
    let output = hone(data.path(), &[&asked[..], &["--classifier", &other]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("classifier.json"), "{}", said(&output));
}
