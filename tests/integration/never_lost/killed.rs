//! kill -9 at many points of SFT, reward model and PPO, then `hone train resume`: the artifact is the uninterrupted run's, byte
//! for byte, and no line of its metrics is missing, doubled or different.

use super::{Lab, PPO, REWARD, SFT, files, json_of};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Right after so many lines of metrics.jsonl.
    Lines(usize),
    /// As soon as this checkpoint has its final name.
    Checkpoint(usize),
    /// While a checkpoint or the artifact lies half-written under its temporary name; that is short, so at the latest after so
    /// many lines of metrics.jsonl.
    HalfWritten(usize),
    /// So long after its start: in start-up, training or writing, as it happens.
    After(Duration),
}

/// One run's kills, in order. They sit at the beginning, in the middle and near the end of its 20 (PPO: 16) steps.
const KILLS: [When; 12] = [
    When::Lines(1),
    When::After(Duration::from_millis(3)),
    When::After(Duration::from_millis(45)),
    When::Checkpoint(4),
    When::HalfWritten(7),
    When::Lines(8),
    When::After(Duration::from_millis(61)),
    When::HalfWritten(11),
    When::Checkpoint(12),
    When::Lines(14),
    When::After(Duration::from_millis(30)),
    When::Lines(16),
];

impl When {
    fn has_come(self, run_dir: Option<&Path>, started: Instant) -> bool {
        if let Self::After(delay) = self {
            return started.elapsed() >= delay;
        }
        let Some(dir) = run_dir else { return false };
        let names = |dir: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        };
        let lines =
            || std::fs::read(dir.join("metrics.jsonl")).map_or(0, |t| t.iter().filter(|&&b| b == b'\n').count());
        match self {
            Self::Lines(n) => lines() >= n,
            Self::Checkpoint(step) => {
                let steps = names(&dir.join("checkpoints"));
                steps.iter().filter_map(|n| n.strip_prefix("step-")?.parse::<usize>().ok()).any(|s| s >= step)
            }
            Self::HalfWritten(n) => {
                let beside = [names(&dir.join("checkpoints")), names(dir)].concat();
                lines() >= n || beside.iter().any(|n| n.starts_with('.') && n.ends_with(".tmp"))
            }
            Self::After(_) => false,
        }
    }
}

/// Kills the process when the time has come; whether it was still running.
fn kill(mut process: Child, when: When, run_dir: impl Fn() -> Option<std::path::PathBuf>) -> bool {
    let started = Instant::now();
    loop {
        if process.try_wait().expect("a status").is_some() {
            return false;
        }
        if when.has_come(run_dir().as_deref(), started) {
            process.kill().expect("kills");
            return process.wait().expect("ends").code().is_none(); // none: by a signal
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{when:?} never came");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// The only folder of `runs` that wasn't there before.
fn new_folder(lab: &Lab, before: &[String]) -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir(lab.path("runs")).into_iter().flatten().flatten();
    entries.map(|e| e.path()).find(|p| !before.iter().any(|b| p.ends_with(b)))
}

/// Starts a run, kills it again and again, and lets it end. Its id, and how many kills hit.
fn survive(lab: &Lab, mut first: Command) -> (String, usize) {
    let runs = std::fs::read_dir(lab.path("runs")).into_iter().flatten().flatten();
    let before: Vec<String> = runs.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let dir = || new_folder(lab, &before);
    let mut hits = usize::from(kill(first.spawn().expect("starts"), KILLS[0], dir));
    let run = lab.newest_run();
    assert_eq!((&run["state"], &run["interrupted"]), (&"running".into(), &true.into()), "{run}");
    let id = run["run"].as_str().expect("an id").to_owned();
    for when in &KILLS[1..] {
        let process = lab.hone(&["train", "resume", &id]).spawn().expect("starts");
        if !kill(process, *when, dir) {
            return (id, hits); // it got through
        }
        hits += 1;
    }
    // The last kill may have come between the run's last write and its process's end.
    if lab.newest_run()["state"] == "running" {
        lab.ok(&["train", "resume", &id]);
    }
    (id, hits)
}

/// The lines of metrics.jsonl without what a clock says.
fn metrics(run_dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).expect("reads");
    let timeless = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect("a whole line of JSON");
        line["wall_seconds"] = Value::Null;
        let metrics = line["metrics"].as_object_mut().expect("figures");
        metrics.retain(|name, _| !["seconds", "per_second", "memory"].iter().any(|w| name.contains(w)));
        line
    };
    text.lines().map(timeless).collect()
}

#[test]
fn a_run_that_is_killed_at_many_points_ends_with_the_bytes_of_one_that_was_not() {
    let lab = Lab::new();
    let mut hits = 0;
    for (what, kind) in [("sft", &SFT[..]), ("reward", &REWARD[..]), ("ppo", &PPO[..])] {
        // The second SFT run would start from what the first has made. The others start from what was killed, its bytes being the same.
        let init: &[&str] = if what == "sft" { &["--init", "base"] } else { &[] };
        let whole = json_of(&lab.training(kind).args(init).output().expect("starts"));
        let whole = whole["run"].as_str().expect("an id").to_owned();
        let mut parts = lab.training(kind);
        parts.args(init);
        let (run, times) = survive(&lab, parts);
        println!("{what}: killed {times} times");
        let (whole, parts) = (lab.run_dir(&whole), lab.run_dir(&run));
        assert!(
            files(&whole.join("artifact")) == files(&parts.join("artifact")),
            "{what}: other bytes after {times} kills"
        );
        let (theirs, ours) = (metrics(&whole), metrics(&parts));
        assert_eq!(theirs.len(), ours.len(), "{what}: lines of metrics");
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs, ours, "{what}");
        }
        assert_eq!(lab.newest_run()["state"], "succeeded");
        hits += times;
    }
    assert!(hits >= 10, "only {hits} kills hit a running process");
}
