//! `hone train sft|reward|ppo|list|resume`: trains in this process, whether the server runs or not. The server's jobs start
//! their processes as `hone train resume RUN --supervised`.

use super::progress::Teller;
use super::{CliError, Context, baselines};
use crate::jobs::child::EXIT_STOPPED;
use crate::jobs::execute_run::{self, Ended, RunConfig};
use crate::jobs::{JobError, inputs, params, run_report, snapshot};
use crate::store::runs::{self, NewRun, Run, RunKind, RunState};
use crate::store::{Store, policies, snapshots};
use crate::telemetry::TelemetryConfig;
use clap::Subcommand;
use hone_domain::ids::RunId;
use hone_learn::model::{Device, Format};
use hone_learn::train::Progress;
use serde_json::json;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fine-tune on demonstrations
    Sft {
        /// The reward model that chooses the epoch: a run, a folder, or "none" for the last epoch [default: the newest, if there is one]
        #[arg(long, value_name = "RUN|DIR")]
        reward: Option<String>,
        /// As for the others
        #[command(flatten)]
        settings: Settings,
    },
    /// Train the reward model on rankings
    Reward(Settings),
    /// Train the judge: a reward model of rankings by people whom the other one never saw, which decides the gate
    Judge(Settings),
    /// Train the policy against the reward model
    Ppo {
        /// The reward model: a run or a folder [default: the newest]
        #[arg(long, value_name = "RUN|DIR")]
        reward: Option<String>,
        /// Then train RLOO with the same budget, draw best-of-n, and print all beside the start on the held-out prompts
        #[arg(long)]
        baselines: bool,
        /// As for the others
        #[command(flatten)]
        settings: Settings,
    },
    /// List the runs, the newest first
    List {
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Go on with a run that was stopped or killed
    Resume {
        /// Its id
        run: String,
        /// As a child of the server: progress as JSON lines, and stop when the input closes
        #[arg(long, hide = true)]
        supervised: bool,
    },
}

/// What all kinds of training have in common.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Where all randomness comes from [default: drawn]
    #[arg(long)]
    seed: Option<u64>,
    /// The same figures bit by bit on every run, at the price of speed
    #[arg(long)]
    deterministic: bool,
    /// How the base's matrices are kept in memory: f32, bf16 or q8_0; the smaller, the less memory and the slower
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = base_format)]
    base_format: Format,
    /// Where to train: cpu, cuda (an NVIDIA GPU), or auto: a GPU where there is one
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    device: Device,
    /// A setting of the trainer, as in --set learning_rate=1e-4; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Base model: a name in the data folder [default: the champion's]
    #[arg(long)]
    base: Option<String>,
    /// What to start from: a run, a policy, a folder, or "base" for the bare base model [default: the newest of last SFT run and champion]
    #[arg(long, value_name = "RUN|POLICY|DIR")]
    init: Option<String>,
    /// The snapshot to learn from [default: a new one of what is in the database now]
    #[arg(long, value_name = "SHA256")]
    snapshot: Option<String>,
}

/// Runs it.
///
/// # Errors
/// When a setting is wrong, there is nothing to learn from, or training fails.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    match command {
        Command::Sft { reward, settings } => {
            train(&create((&store, context), RunKind::Sft, settings, reward)?, &store, context)
        }
        Command::Reward(settings) => {
            train(&create((&store, context), RunKind::Reward, settings, None)?, &store, context)
        }
        Command::Judge(settings) => train(&create((&store, context), RunKind::Judge, settings, None)?, &store, context),
        Command::Ppo { reward, baselines, mut settings } => {
            settings.set.extend(baselines.then(|| "baselines=true".to_owned()));
            train(&create((&store, context), RunKind::Ppo, settings, reward)?, &store, context)
        }
        Command::List { limit } => list(&store, limit, context.json),
        Command::Resume { run, supervised: false } => train(&RunId::from_raw(run), &store, context),
        Command::Resume { run, supervised: true } => supervised(&RunId::from_raw(run), &store),
    }
}

pub(super) fn base_format(text: &str) -> Result<Format, String> {
    serde_json::from_value(json!(text)).map_err(|_| "it is f32, bf16 or q8_0".to_owned())
}

pub(super) fn device(text: &str) -> Result<Device, String> {
    match text {
        "auto" => Ok(Device::best()),
        _ => serde_json::from_value(json!(text)).map_err(|_| "it is auto, cpu or cuda".to_owned()),
    }
}

/// Freezes the data and makes the run.
fn create(
    (store, context): (&Store, &Context),
    kind: RunKind,
    settings: Settings,
    reward: Option<String>,
) -> Result<RunId, CliError> {
    let Settings { seed, deterministic, base_format, device, set, base, init, snapshot } = settings;
    let settings = params::settings(kind, &params::parse_set(&set)?)?;
    let config = RunConfig { settings, deterministic, base_format, device };
    let base_name = base_name(store, base)?;
    let old_per_new = context.settings(&Vec::new())?.config.retrain.old_rankings_per_new;
    let snapshot_sha256 = match snapshot {
        Some(sha256) => store.read_blocking(move |c| snapshots::get(c, &sha256))?.sha256,
        None => snapshot::take(store, old_per_new)?.sha256,
    };
    let create = move |tx: &rusqlite::Connection| {
        let inputs = match inputs::of_command(tx, kind, init.as_deref(), reward.as_deref(), &base_name) {
            Ok(inputs) => inputs,
            Err(e) => return Ok(Err(e)),
        };
        let new = NewRun {
            kind,
            job_id: None,
            base_name,
            snapshot_sha256,
            inputs: serde_json::to_value(inputs)?,
            config: serde_json::to_value(config)?,
            seed: seed.unwrap_or_else(rand::random),
        };
        Ok(Ok(runs::create(tx, &new)?))
    };
    Ok(store.write_blocking(create)??)
}

/// The base that was named, or the champion's, or the only one that there is.
pub(super) fn base_name(store: &Store, named: Option<String>) -> Result<String, CliError> {
    let models = store.data_dir().join("models");
    if let Some(name) = named {
        return match models.join(&name).join("config.json").exists() {
            true => Ok(name),
            false => Err(CliError::Usage(format!(
                "there is no base model {name} in {}: get it with `hone model pull` or `hone model import`",
                models.display()
            ))),
        };
    }
    if let Some(champion) = store.read_blocking(policies::champion)? {
        return Ok(champion.base_name);
    }
    let entries = std::fs::read_dir(&models).into_iter().flatten().flatten();
    let names: Vec<String> = entries
        .filter(|entry| entry.path().join("config.json").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(CliError::Usage(
            "there is no base model yet: get one with `hone model pull` or `hone model import`".into(),
        )),
        several => {
            Err(CliError::Usage(format!("there are several base models: choose with --base {}", several.join("|"))))
        }
    }
}

/// Trains while telling how far it is, and says what came of it.
fn train(run: &RunId, store: &Store, context: &Context) -> Result<(), CliError> {
    obey_deterministic(run, store)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop);
    let mut teller = Teller::new(context.json);
    let ended = execute_run::execute(store, run, &mut |progress| teller.tell(progress), &stop);
    teller.finish();
    match ended? {
        Ended::Succeeded(run) => {
            print_result(&run, store, context.json)?;
            Ok(())
        }
        Ended::Stopped => {
            let id = run.clone();
            store.write_blocking(move |tx| runs::stop(tx, &id, RunState::Cancelled, Some("stopped by a signal")))?;
            Err(CliError::Failed(format!("stopped; a checkpoint is kept: go on with `hone train resume {run}`")))
        }
    }
}

/// One thread: how large sums are split among several may depend on how many there are.
fn obey_deterministic(run: &RunId, store: &Store) -> Result<(), CliError> {
    let id = run.clone();
    let run = store.read_blocking(move |c| runs::get(c, &id))?;
    if run.config["deterministic"] == true {
        let built = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
        built.map_err(|e| CliError::Failed(format!("can't train on one thread: {e}")))?;
    }
    Ok(())
}

fn print_result(run: &Run, store: &Store, as_json: bool) -> Result<(), CliError> {
    let artifact = store.data_dir().join(run.artifact_dir.as_deref().unwrap_or_default());
    let (report, compared) = (run_report::path_of(store.data_dir(), run), baselines::of(run, store)?);
    if as_json {
        let mut line = json!({
            "run": run.id, "artifact": artifact, "sha256": run.artifact_sha256, "metrics": run.metrics, "report": report,
        });
        if let Some(all) = compared {
            line["baselines"] = serde_json::to_value(all)?;
        }
        println!("{line}");
        return Ok(());
    }
    println!("{} run {} is done: {}", run.kind, run.id, artifact.display());
    let metrics = run.metrics.as_ref().and_then(|m| m.as_object());
    for (name, value) in metrics.into_iter().flatten() {
        println!("  {name:<34} {value}");
    }
    println!("report: {}", report.display());
    compared.iter().for_each(|all| print!("\n{}", baselines::side_by_side(all)));
    Ok(())
}

fn list(store: &Store, limit: usize, as_json: bool) -> Result<(), CliError> {
    let all = store.read_blocking(move |c| runs::list(c, limit))?;
    let is_killed = |run: &Run| run.state == RunState::Running && !execute_run::is_worked_on(store.data_dir(), &run.id);
    if as_json {
        let line = |run: &Run| {
            let mut line = serde_json::to_value(run)?;
            line["run"] = json!(run.id);
            line["interrupted"] = json!(is_killed(run));
            Ok::<_, serde_json::Error>(line)
        };
        let lines = all.iter().map(line).collect::<Result<Vec<_>, _>>()?;
        println!("{}", serde_json::to_string(&lines)?);
        return Ok(());
    }
    for run in all {
        let killed = is_killed(&run);
        let state = if killed { "interrupted" } else { run.state.as_str() };
        let resume = killed.then(|| format!("go on with it: hone train resume {}", run.id));
        let (id, kind, base, at) = (&run.id, run.kind.as_str(), &run.base_name, &run.created_at);
        println!("{id}  {kind:<9} {state:<11} {base:<20} {at}  {}", run.error.or(resume).unwrap_or_default());
    }
    Ok(())
}

/// A signal asks for a checkpoint and an end; a second one ends at once.
pub(super) fn stop_on_signals(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
                eprintln!("writing a checkpoint; once more to end at once");
            }
        });
    });
}

/// Least time between two progress lines.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Trains as a child of the server. Nobody may be left to read what is written: failing to write stops the run, like the input's end.
fn supervised(run: &RunId, store: &Store) -> Result<(), CliError> {
    obey_deterministic(run, store)?;
    // The error output is the run's log.
    let _no_traces = crate::telemetry::start(false, &TelemetryConfig::default()).map_err(CliError::Usage)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop);
    stop_when_alone(&stop);
    let mut told: Option<Instant> = None;
    let mut log = Teller::for_log();
    let mut report = |progress: &Progress| {
        log.tell(progress);
        let is_last = progress.step == progress.steps_total;
        if is_last || told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            let line = json!({"progress": progress});
            if writeln!(std::io::stdout(), "{line}").is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    match execute_run::execute(store, run, &mut report, &stop)? {
        Ended::Succeeded(_) => Ok(()),
        Ended::Stopped => std::process::exit(EXIT_STOPPED.into()),
    }
}

/// The input is a pipe from the server on which nothing is ever sent: it ends when the server closes it, or is gone.
fn stop_when_alone(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut buffer = [0u8; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
        stop.store(true, Ordering::Relaxed);
    });
}

impl From<JobError> for CliError {
    fn from(e: JobError) -> Self {
        match e {
            JobError::Invalid(text) => Self::Usage(text),
            JobError::Store(e) => Self::Store(e),
            e => Self::Failed(e.to_string()),
        }
    }
}
