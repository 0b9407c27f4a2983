//! Does one run, whatever its kind: reads what it is from the database, trains, writes what it made. The same for a person's
//! `hone train` and for the scheduler's child process; doing a run again goes on from its last checkpoint.

use super::inputs::Inputs;
use super::task::Task;
use super::{JobError, evaluate_policy, run_report, snapshot, train_ppo, train_reward, train_sft};
use crate::store::runs::{self, Run, RunKind, RunState};
use crate::store::{Store, StoreError};
use hone_domain::ids::RunId;
use hone_learn::LearnError;
use hone_learn::model::{Base, Device, Format};
use hone_learn::train::{Context, Outcome, Progress};
use hone_text::ChatTokenizer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The `config` of a run's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// All settings of the trainer.
    pub settings: Value,
    /// Bit-identical on every run, at the price of speed.
    pub deterministic: bool,
    /// How the base's matrices are kept in memory.
    #[serde(default)]
    pub base_format: Format,
    /// Where it trains.
    #[serde(default)]
    pub device: Device,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It made its artifact.
    Succeeded(Box<Run>),
    /// It was asked to stop, and can be resumed.
    Stopped,
}

/// The folder of a run.
#[must_use]
pub fn folder(data_dir: &Path, run: &RunId) -> PathBuf {
    data_dir.join("runs").join(run.as_str())
}

/// Does a run, or goes on with it. `report` is told where it stands, `stop` asks it to write a checkpoint and end.
/// What goes wrong is kept in the run's row too.
///
/// # Errors
/// When it has succeeded already, its data or inputs are gone, or training fails.
pub fn execute(
    store: &Store,
    run: &RunId,
    report: &mut dyn FnMut(&Progress),
    stop: &AtomicBool,
) -> Result<Ended, JobError> {
    let dir = folder(store.data_dir(), run);
    std::fs::create_dir_all(&dir).map_err(JobError::file(&dir))?;
    let Some(_lock) = lock(&dir, stop)? else { return Ok(Ended::Stopped) };
    let id = run.clone();
    let run = store.write_blocking(move |tx| runs::resume(tx, &id))?;
    match work_off(store, &run, &dir, report, stop) {
        Ok(outcome) => {
            let run = keep(store, &run, &outcome)?;
            report_on(store, &run);
            Ok(Ended::Succeeded(Box::new(run)))
        }
        Err(JobError::Learn(LearnError::Stopped)) => {
            report_on(store, &Run { state: RunState::Cancelled, ..run });
            Ok(Ended::Stopped)
        }
        Err(e) => {
            let (id, text) = (run.id.clone(), e.to_string());
            report_on(store, &Run { state: RunState::Failed, error: Some(text.clone()), ..run });
            store.write_blocking(move |tx| runs::stop(tx, &id, RunState::Failed, Some(&text)))?;
            Err(e)
        }
    }
}

/// Leaves the page for people. It says nothing that isn't kept elsewhere, so a run doesn't fail for it.
fn report_on(store: &Store, run: &Run) {
    if let Err(e) = run_report::write(store.data_dir(), run) {
        tracing::warn!(run = %run.id, error = %e, "can't write the run's report");
    }
}

/// One process per run: a resumed one waits until the one before, which may still be writing its checkpoint, is gone.
fn lock(dir: &Path, stop: &AtomicBool) -> Result<Option<File>, JobError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(JobError::file(&path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(e)) => return Err(JobError::file(&path)(e)),
            Err(TryLockError::WouldBlock) if stop.load(Ordering::Relaxed) => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Whether a process works on this run now. A run that is `running` without one was killed, and can be resumed.
#[must_use]
pub fn is_worked_on(data_dir: &Path, run: &RunId) -> bool {
    let held = |file: File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    File::open(folder(data_dir, run).join("lock")).is_ok_and(held)
}

fn work_off(
    store: &Store,
    run: &Run,
    dir: &Path,
    report: &mut dyn FnMut(&Progress),
    stop: &AtomicBool,
) -> Result<Outcome, JobError> {
    let data_dir = store.data_dir();
    let config: RunConfig = serde_json::from_value(run.config.clone()).map_err(StoreError::from)?;
    let inputs: Inputs = serde_json::from_value(run.inputs.clone()).map_err(StoreError::from)?;
    write_config(dir, run)?;
    let data = snapshot::load(data_dir, &run.snapshot_sha256)?;
    let base_dir = data_dir.join("models").join(&run.base_name);
    let tokenizer = ChatTokenizer::open(&base_dir).map_err(|e| JobError::Process(e.to_string()))?;
    let base = Base::open_as(&base_dir, config.base_format)?.on(config.device)?;
    tracing::info!(run = %run.id, device = base.device_name(), "the base model is loaded");
    let (inputs, settings) = (inputs.under(data_dir), config.settings);
    let prompts = run_report::prompts(run.kind, &data, run.seed);
    let task = Task { run, settings: settings.clone(), data, inputs: inputs.clone() };
    let mut context = Context {
        base: &base,
        tokenizer: &tokenizer,
        base_name: &run.base_name,
        run_dir: dir,
        seed: run.seed,
        resume: true,
        report,
        stop,
    };
    let outcome = match run.kind {
        RunKind::Sft => train_sft::train_sft(task, &mut context),
        RunKind::Reward => train_reward::train_reward(task, &mut context),
        RunKind::Judge => train_reward::train_judge(task, &mut context),
        RunKind::Ppo => train_ppo::train_ppo(task, &mut context),
        RunKind::Evaluate => evaluate_policy::evaluate_policy(task, &mut context),
    }?;
    if let Err(e) = run_report::write_samples(&prompts, &settings, &inputs, &outcome, &context) {
        tracing::warn!(run = %run.id, error = %e, "the run's report goes without answers before and after");
    }
    Ok(outcome)
}

/// `config.json`, for people who look into the folder: everything that is needed to repeat the run.
fn write_config(dir: &Path, run: &Run) -> Result<(), JobError> {
    let Run { id, kind, base_name, snapshot_sha256, inputs, config, seed, .. } = run;
    let all = json!({
        "run": id, "kind": kind, "base": base_name, "snapshot": snapshot_sha256, "inputs": inputs, "config": config,
        "seed": seed,
    });
    let text = serde_json::to_vec_pretty(&all).map_err(StoreError::from)?;
    Ok(hone_learn::files::write_atomic(&dir.join("config.json"), &text)?)
}

/// Most memory that this process held at once, the mapped weights included; known on Linux only.
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

fn keep(store: &Store, run: &Run, outcome: &Outcome) -> Result<Run, JobError> {
    let Outcome { artifact_dir, sha256, metrics } = outcome;
    let mut metrics = metrics.clone();
    metrics.extend(peak_memory_mib().map(|mib| ("process/peak_memory_mib".to_owned(), mib)));
    let artifact = artifact_dir.strip_prefix(store.data_dir()).unwrap_or(artifact_dir);
    let (id, artifact, sha256) = (run.id.clone(), artifact.display().to_string(), sha256.clone());
    let metrics = serde_json::to_value(metrics).map_err(StoreError::from)?;
    let done = move |tx: &rusqlite::Connection| {
        runs::succeed(tx, &id, &artifact, &sha256, &metrics)?;
        runs::get(tx, &id)
    };
    Ok(store.write_blocking(done)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_worked_on_while_a_process_holds_its_lock() {
        let data = tempfile::tempdir().expect("a folder");
        let run = RunId::new();
        assert!(!is_worked_on(data.path(), &run), "never started");
        let dir = folder(data.path(), &run);
        std::fs::create_dir_all(&dir).expect("a folder");
        let held = lock(&dir, &AtomicBool::new(false)).expect("locks");
        assert!(is_worked_on(data.path(), &run));
        drop(held);
        assert!(!is_worked_on(data.path(), &run), "killed, or done");
    }
}
