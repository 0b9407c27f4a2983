//! `hone train` as a person or a script runs it: what goes to which output, what is left in the run's folder, and that the policy can be
//! taken out and in again.

use hone_learn::tiny::{self, TinySpec};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

fn hone(data: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hone")).arg("--data").arg(data).args(args).output().expect("runs")
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A tiny base, and demonstrations of which one holds markup.
fn data_folder() -> TempDir {
    let data = TempDir::new().expect("temp dir");
    tiny::write(&data.path().join("models/tiny"), &TinySpec::default()).expect("writes the base");
    let line = |i: usize| {
        let asked = format!("<script>alert({i})</script>");
        json!({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "hello"}]}).to_string()
    };
    let lines: Vec<String> = (0..12).map(line).collect();
    let path = data.path().join("in.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("writes");
    out(&hone(data.path(), &["data", "import", &path.display().to_string()]));
    data
}

const QUICK: [&str; 7] = ["--seed", "7", "--set", "epochs=2", "--set", "batch_examples=2", "--set"];

fn sft(data: &Path, global: &[&str]) -> Output {
    hone(data, &[global, &["train", "sft"], &QUICK, &["lora_r=2"]].concat())
}

#[test]
fn json_ends_with_one_line_and_tells_progress_beside_it() {
    let data = data_folder();
    let output = sft(data.path(), &["--json"]);
    let text = out(&output);
    let result: Value = serde_json::from_str(&text).expect("one JSON line and nothing else");
    assert_eq!(text.lines().count(), 1);
    assert!(
        result["run"].is_string() && result["sha256"].is_string() && result["metrics"]["loss"].is_number(),
        "{result}"
    );
    let told = String::from_utf8(output.stderr).expect("text");
    let last: Value = serde_json::from_str(told.lines().last().expect("progress")).expect("each line is JSON");
    let progress = &last["progress"];
    assert_eq!(progress["step"], progress["steps_total"], "{told}");
    assert!(progress["rate"].as_f64().is_some_and(|rate| rate > 0.0) && progress["seconds_left"].is_number());
    the_folder_is_complete(data.path(), &result);
    out_and_in_again(data.path(), &result);
}

#[test]
fn a_device_that_is_not_here_is_refused_with_the_reason() {
    let data = data_folder();
    let output = hone(data.path(), &["train", "sft", "--device", "cuda"]);
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && told.contains("--features cuda") && told.contains("--device cpu"), "{told}");
    let output = hone(data.path(), &["train", "sft", "--device", "abacus"]);
    assert!(String::from_utf8(output.stderr).expect("text").contains("it is auto, cpu or cuda"));
}

/// Metrics, events, samples, and a page that shows them.
fn the_folder_is_complete(data: &Path, result: &Value) {
    let folder = data.join("runs").join(result["run"].as_str().expect("an id"));
    assert_eq!(result["report"], folder.join("report.html").display().to_string());
    let page = std::fs::read_to_string(folder.join("report.html")).expect("a report");
    for wanted in
        ["Before and after", "Held out", "<svg", "&lt;script&gt;alert(", "Supervised fine-tuning", "Peak memory"]
    {
        assert!(page.to_lowercase().contains(&wanted.to_lowercase()), "{wanted} is missing");
    }
    assert!(!page.contains("<script"), "what people wrote is text");
    assert_eq!(std::fs::read_dir(folder.join("tensorboard")).expect("events").count(), 1);
    let samples: Value =
        serde_json::from_slice(&std::fs::read(folder.join("samples.json")).expect("samples")).expect("JSON");
    assert!(!samples.as_array().expect("a list").is_empty());
}

/// A policy taken in from a PEFT folder, and written out again: the same numbers.
fn out_and_in_again(data: &Path, result: &Value) {
    let artifact = result["artifact"].as_str().expect("a folder");
    let policy: Value =
        serde_json::from_str(&out(&hone(data, &["--json", "policy", "import", artifact]))).expect("JSON");
    let id = policy["id"].as_str().expect("an id");
    assert_eq!(
        (&policy["state"], &policy["base_name"], &policy["run_id"]),
        (&json!("candidate"), &json!("tiny"), &Value::Null)
    );
    let exported = data.join("exported");
    out(&hone(data, &["policy", "export", id, &exported.display().to_string()]));
    let weights = |dir: &Path| std::fs::read(dir.join("adapter_model.safetensors")).expect("weights");
    assert!(weights(&exported) == weights(Path::new(artifact)), "the same tensors");

    let promoted = hone(data, &["policy", "promote", id]);
    let why = String::from_utf8_lossy(&promoted.stderr);
    assert!(!promoted.status.success() && why.contains("--init"), "the gate hasn't seen it: {why}");

    let config = exported.join("adapter_config.json");
    let text = std::fs::read_to_string(&config).expect("reads").replace("\"use_dora\": false", "\"use_dora\": true");
    std::fs::write(&config, text).expect("writes");
    let refused = hone(data, &["policy", "import", &exported.display().to_string()]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && why.contains("use_dora"), "{why}");
}

#[test]
fn a_reward_model_chooses_the_epoch_of_sft() {
    let data = data_folder();
    let line = |i: usize| {
        let messages = json!([{"role": "user", "content": format!("question {i}")}]);
        json!({"messages": messages, "candidates": ["hello", "bye bye"], "ranks": [0, 1]}).to_string()
    };
    let path = data.path().join("rankings.jsonl");
    std::fs::write(&path, (0..12).map(line).collect::<Vec<_>>().join("\n")).expect("writes");
    out(&hone(data.path(), &["data", "import", &path.display().to_string()]));
    let trained = |args: &[&str]| -> Value { serde_json::from_str(&out(&hone(data.path(), args))).expect("JSON") };
    let reward = trained(&["--json", "train", "reward", "--seed", "7", "--set", "lora_r=2", "--init", "base"]);
    let judge = reward["run"].as_str().expect("an id");
    let judged =
        |judge: &str| trained(&[&["--json", "train", "sft", "--reward", judge], &QUICK[..], &["lora_r=2"]].concat());
    let chosen = judged(judge);
    assert!(chosen["metrics"]["evaluate/reward"].is_number(), "{chosen}");
    assert!(chosen["metrics"]["evaluate/best_step"].as_f64().is_some_and(|step| step > 0.0), "{chosen}");
    let last = judged("none");
    assert!(last["metrics"]["evaluate/best_step"].is_null(), "nobody chose: {last}");
}

#[test]
fn without_a_terminal_there_are_plain_lines_with_rate_and_time_left() {
    let data = data_folder();
    let output = sft(data.path(), &[]);
    assert!(out(&output).contains("report: "));
    let told = String::from_utf8(output.stderr).expect("text");
    let last = told.lines().rfind(|line| line.contains("tokens/s")).expect("a line of progress");
    assert!(last.contains(" left") && last.contains("loss"), "{told}");
    assert!(!told.contains('\u{1b}'), "no bar in a log");
}
