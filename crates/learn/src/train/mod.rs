//! The three trainers: supervised fine-tuning, reward model, PPO. What they share is here: what a trainer is given, what it
//! reports, what it leaves behind. A trainer's loop reads top to bottom; the maths is in `losses` and `gae`.

mod agreement;
mod calibration;
pub mod config;
pub(crate) mod data;
mod packed;
pub mod ppo;
pub mod reward;
mod reward_model;
mod reward_report;
pub mod rewarded;
pub(crate) mod roles;
pub mod sft;
mod supervised;

pub use config::{Algorithm, KlEstimator, PpoConfig, RewardConfig, RewardNormalisation, SftConfig};
pub use reward_report::{REPORT as REWARD_REPORT, pseudonym};

use crate::LearnError;
use crate::checkpoint::{Identity, sha256, sha256_json};
use crate::files::write_folder_atomic;
use crate::lora::Adapter;
use crate::lora::LoraConfig;
use crate::model::{Base, Keep};
use hone_domain::DataSet;
use hone_text::ChatTokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What every trainer is given.
pub struct Context<'a> {
    /// The frozen weights, held once for all roles.
    pub base: &'a Base,
    /// The base's tokenizer and chat template.
    pub tokenizer: &'a ChatTokenizer,
    /// The base's name, for the artifact.
    pub base_name: &'a str,
    /// Where the run keeps metrics.jsonl, checkpoints/ and artifact/.
    pub run_dir: &'a Path,
    /// All randomness comes from it.
    pub seed: u64,
    /// Go on from the last checkpoint in `run_dir`, if there is one; else whatever is there is removed.
    pub resume: bool,
    /// Called at least once per step.
    pub report: &'a mut dyn FnMut(&Progress),
    /// Set from outside to stop: the trainer writes a checkpoint and returns [`LearnError::Stopped`].
    pub stop: &'a AtomicBool,
}

impl Context<'_> {
    /// Whether the run was asked to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// What is being done: train, evaluate; in PPO rollout, score, update.
    pub phase: String,
    /// Steps (PPO: iterations) done.
    pub step: usize,
    /// Steps of the run.
    pub steps_total: usize,
    /// How fast it goes.
    pub rate: f64,
    /// What of: "tokens/s", "episodes/s".
    pub rate_unit: &'static str,
    /// How long it will take at this speed.
    pub seconds_left: f64,
    /// The last step's figures.
    pub metrics: BTreeMap<String, f64>,
}

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// A PEFT folder.
    pub artifact_dir: PathBuf,
    /// Hash of its adapter_model.safetensors.
    pub sha256: String,
    /// The last figures.
    pub metrics: BTreeMap<String, f64>,
}

/// Rate and time left, over the steps of this process (a resumed run doesn't count its pause).
pub(crate) struct Clock {
    started: Instant,
    first_step: usize,
    seconds_before: f64,
    units: f64,
}

impl Clock {
    pub(crate) fn new(first_step: usize, seconds_before: f64) -> Self {
        Self { started: Instant::now(), first_step, seconds_before, units: 0.0 }
    }

    /// Counts tokens or episodes.
    pub(crate) fn add(&mut self, units: f64) {
        self.units += units;
    }

    /// Seconds of training, those before an interruption included.
    pub(crate) fn wall_seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    pub(crate) fn rate(&self) -> f64 {
        self.units / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    pub(crate) fn seconds_left(&self, step: usize, steps_total: usize) -> f64 {
        let done = step.saturating_sub(self.first_step);
        let left = steps_total.saturating_sub(step) as f64;
        if done == 0 { 0.0 } else { self.started.elapsed().as_secs_f64() / done as f64 * left }
    }
}

/// What makes a run the one it is; see [`Identity`].
pub(crate) fn identity(
    kind: &str,
    config: &impl Serialize,
    data: &DataSet,
    init: &[Option<&Path>],
    ctx: &Context<'_>,
) -> Result<Identity, LearnError> {
    let mut hashes = Vec::new();
    for dir in init {
        hashes.push(dir.map_or(Ok("none".to_owned()), adapter_sha256)?);
    }
    Ok(Identity {
        kind: kind.to_owned(),
        base: format!("{} ({})", ctx.base_name, &fingerprint(ctx.base)[..12]),
        config: sha256_json(config)?,
        data: sha256_json(data)?,
        init: hashes.join(" "),
        seed: ctx.seed,
    })
}

/// Hash of a base's shape and of every weight, so that no two bases pass for one another, be it only that the attention differs.
pub(crate) fn fingerprint(base: &Base) -> String {
    let text = format!("{:?} {:x?}", base.config(), base.checksums());
    sha256(text.as_bytes())
}

/// Hash of an adapter's weights.
pub(crate) fn adapter_sha256(dir: &Path) -> Result<String, LearnError> {
    let path = dir.join("adapter_model.safetensors");
    std::fs::read(&path).map(|b| sha256(&b)).map_err(LearnError::io(&path))
}

/// Writes `run_dir/artifact` (the adapter and whatever `extra` adds to the folder) and says what it is.
pub(crate) fn finish(
    adapter: &Adapter,
    ctx: &Context<'_>,
    metrics: BTreeMap<String, f64>,
    extra: impl FnOnce(&Path) -> Result<(), LearnError>,
) -> Result<Outcome, LearnError> {
    let artifact_dir = ctx.run_dir.join("artifact");
    write_folder_atomic(&artifact_dir, |dir| {
        adapter.save(dir, ctx.base_name)?;
        extra(dir)
    })?;
    Ok(Outcome { sha256: adapter_sha256(&artifact_dir)?, artifact_dir, metrics })
}

/// A fresh adapter from the run's seed; in the upper third of the blocks where no first one is set.
pub(crate) fn fresh_adapter(
    ctx: &Context<'_>,
    r: usize,
    alpha: f32,
    targets: &[String],
    first_block: Option<usize>,
) -> Result<Adapter, LearnError> {
    let model = ctx.base.config();
    let first_block = first_block.unwrap_or(model.layers * 2 / 3);
    let config = LoraConfig { r, alpha, targets: targets.to_vec(), layers: first_block };
    let mut rng = ChaCha8Rng::seed_from_u64(ctx.seed);
    Adapter::new(model, config, false, &mut rng)
}

/// What a forward pass keeps for its backward pass.
pub(crate) fn keep(recompute: bool) -> Keep {
    if recompute { Keep::Recompute } else { Keep::Activations }
}
