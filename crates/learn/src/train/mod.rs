//! The three trainers: supervised fine-tuning, reward model, PPO. What they share is here: what a trainer is given, what it
//! reports, what it leaves behind.

pub mod config;

pub use config::{PpoConfig, RewardConfig, SftConfig};

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
