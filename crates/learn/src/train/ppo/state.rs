//! What a checkpoint of PPO holds, and how it is written and read.

use crate::train::PpoConfig;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a checkpoint holds beside the tensors. Checkpoints lie between iterations, so no rollout is under way.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) wall_seconds: f64,
    pub(super) rng: ChaCha8Rng,
    /// Prompts drawn so far: the data cursor.
    pub(super) prompts_drawn: usize,
    pub(super) kl_coef: f64,
    pub(super) policy_adam_step: u64,
    pub(super) value_adam_step: u64,
    /// KL went past `kl_stop_nats`: there is nothing left to do.
    pub(super) halted: bool,
    pub(super) metrics: BTreeMap<String, f64>,
}

impl State {
    /// Before the first iteration.
    pub(super) fn new(config: &PpoConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX); // apart from the streams of weights and data orders
        Self {
            wall_seconds: 0.0,
            rng,
            prompts_drawn: 0,
            kl_coef: config.kl_coef,
            policy_adam_step: 0,
            value_adam_step: 0,
            halted: false,
            metrics: BTreeMap::new(),
        }
    }
}
