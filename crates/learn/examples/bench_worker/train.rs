//! The three trainers as users run them, one optimiser step (PPO: one iteration) per turn: the progress report that a trainer makes
//! after each step is where it waits for its next turn.

use crate::Result;
use crate::turns::Turns;
use hone_domain::DataSet;
use hone_learn::train::ppo::PpoInputs;
use hone_learn::train::{Context, Progress, ppo, reward, sft};
use hone_learn::{Base, LearnError};
use hone_text::ChatTokenizer;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// What to train.
#[derive(Deserialize)]
pub(crate) struct Spec {
    /// The base's folder.
    model: PathBuf,
    /// A [`DataSet`] as JSON.
    data: PathBuf,
    /// Where the run keeps its files.
    run_dir: PathBuf,
    seed: u64,
    /// The trainer's settings, as in `hone train --set`.
    #[serde(default)]
    config: Value,
    /// PPO: the reward model's folder.
    reward: Option<PathBuf>,
    /// Run to the end without waiting for turns.
    #[serde(default)]
    free: bool,
}

/// Trains until the turns end.
pub(crate) fn run(kind: &str, spec: &Spec) -> Result<()> {
    let base = Base::open(&spec.model)?;
    let tokenizer = ChatTokenizer::open(&spec.model)?;
    let data: DataSet = crate::spec(&spec.data.to_string_lossy())?;
    std::fs::create_dir_all(&spec.run_dir)?;
    let stop = AtomicBool::new(false);
    let (mut turns, goes_on) = Turns::begin(spec.free)?;
    if !goes_on {
        return Ok(());
    }
    let mut done = 0;
    let mut failed = None;
    let mut report = |p: &Progress| {
        if p.step > done {
            done = p.step;
            let goes_on = turns.next(json!({"step": p.step, "metrics": p.metrics})).unwrap_or_else(|e| {
                failed = Some(e.to_string());
                false
            });
            stop.store(!goes_on, Ordering::Relaxed);
        }
    };
    let ended = train(kind, spec, &data, &mut context(spec, &base, &tokenizer, &mut report, &stop));
    match (ended, failed) {
        (_, Some(reason)) => Err(reason.into()),
        (Ok(outcome), _) => {
            println!("{}", json!({"artifact": outcome.artifact_dir, "metrics": outcome.metrics}));
            Ok(())
        }
        (Err(LearnError::Stopped), _) => Ok(()),
        (Err(e), _) => Err(e.into()),
    }
}

fn context<'a>(
    spec: &'a Spec,
    base: &'a Base,
    tokenizer: &'a ChatTokenizer,
    report: &'a mut dyn FnMut(&Progress),
    stop: &'a AtomicBool,
) -> Context<'a> {
    Context {
        base,
        tokenizer,
        base_name: "bench",
        run_dir: &spec.run_dir,
        seed: spec.seed,
        resume: false,
        report,
        stop,
    }
}

fn train(
    kind: &str,
    spec: &Spec,
    data: &DataSet,
    ctx: &mut Context<'_>,
) -> std::result::Result<hone_learn::train::Outcome, LearnError> {
    let settings = if spec.config.is_null() { json!({}) } else { spec.config.clone() };
    let bad = |e: serde_json::Error| LearnError::BadConfig { name: "config".into(), reason: e.to_string() };
    match kind {
        "sft" => sft::train(&serde_json::from_value(settings).map_err(bad)?, data, None, ctx),
        "reward" => reward::train(&serde_json::from_value(settings).map_err(bad)?, data, None, ctx),
        _ => {
            let reward = spec.reward.clone().unwrap_or_default();
            let inputs = PpoInputs { policy: None, reference: None, reward };
            ppo::train(&serde_json::from_value(settings).map_err(bad)?, data, &inputs, ctx)
        }
    }
}
