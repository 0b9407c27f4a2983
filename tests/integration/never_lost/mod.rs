//! No way of ending a training run loses it: the real binary on a tiny base, killed, starved of disk, fed with what it must refuse.
//! `killed` is about kill -9, `refused` about everything that may not be gone on with.

mod killed;
mod refused;

use hone_learn::tiny::{self, TinySpec};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A data folder with a tiny base, rankings and demonstrations.
pub(crate) struct Lab {
    data: TempDir,
}

/// What the three kinds of training are told here; small enough for a second each, with checkpoints that lie apart so that a kill
/// also loses steps.
const SFT: [&str; 12] = [
    "train",
    "sft",
    "--set",
    "epochs=4",
    "--set",
    "batch_examples=4",
    "--set",
    "learning_rate=1e-2",
    "--set",
    "lora_r=4",
    "--set",
    "checkpoint_steps=3",
];
const REWARD: [&str; 12] = [
    "train",
    "reward",
    "--set",
    "epochs=4",
    "--set",
    "batch_prompts=4",
    "--set",
    "learning_rate=1e-2",
    "--set",
    "lora_r=4",
    "--set",
    "checkpoint_steps=3",
];
const PPO: [&str; 18] = [
    "train",
    "ppo",
    "--set",
    "total_episodes=128",
    "--set",
    "batch_episodes=8",
    "--set",
    "minibatch_episodes=4",
    "--set",
    "max_new_tokens=16",
    "--set",
    "learning_rate=2e-3",
    "--set",
    "kl_target_nats=1",
    "--set",
    "missing_eos_score=null",
    "--set",
    "checkpoint_iterations=2",
];

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self { data: TempDir::new().expect("temp dir") };
        lab.write_base(&TinySpec::default());
        let lines: Vec<String> = (0..24).flat_map(|i| [demonstration(i), ranking(i)]).map(|l| l.to_string()).collect();
        let file = lab.path("feedback.jsonl");
        std::fs::write(&file, lines.join("\n")).expect("writes");
        lab.ok(&["data", "import", file.to_str().expect("text")]);
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    pub(crate) fn write_base(&self, spec: &TinySpec) {
        tiny::write(&self.path("models/tiny"), spec).expect("writes the base");
    }

    /// The command, with JSON output.
    pub(crate) fn hone(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hone"));
        command.arg("--data").arg(self.data.path()).arg("--json").args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The command for a run of this kind: deterministic, of one seed.
    pub(crate) fn training(&self, kind: &[&str]) -> Command {
        let mut command = self.hone(kind);
        command.args(["--base", "tiny", "--deterministic", "--seed", "7"]);
        command
    }

    /// Runs a command that must succeed; its JSON.
    pub(crate) fn ok(&self, args: &[&str]) -> Value {
        json_of(&self.hone(args).output().expect("starts"))
    }

    /// Runs a command that must fail; what it says.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.hone(args).output().expect("starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The newest run.
    pub(crate) fn newest_run(&self) -> Value {
        self.ok(&["train", "list", "--limit", "1"])[0].clone()
    }

    pub(crate) fn run_dir(&self, run: &str) -> PathBuf {
        self.path("runs").join(run)
    }
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn demonstration(i: usize) -> Value {
    json!({"messages": [
        {"role": "user", "content": format!("question {i}")}, {"role": "assistant", "content": format!("hello {}", i % 3)},
    ]})
}

fn ranking(i: usize) -> Value {
    let candidates = [format!("eeee{i}"), format!("abce {}", i * i), "xyz".to_owned(), "qq".to_owned()];
    json!({"messages": [{"role": "user", "content": format!("question {i}")}], "candidates": candidates, "ranks": [0, 1, 2, 2]})
}

/// The files of a folder by name, folders inside left out.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).expect("lists").map(|e| e.expect("an entry").path()).filter(|p| p.is_file());
    let mut all: Vec<(String, Vec<u8>)> = entries
        .map(|p| (p.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&p).expect("reads")))
        .collect();
    all.sort();
    all
}
