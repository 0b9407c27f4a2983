//! The settings of PPO. Each field names the paper's number where it has one (Ouyang et al. 2022 unless said; "N+" is Huang et al. 2024,
//! arXiv 2403.17031). Uses serde only.

use super::{all_targets, positive};
use crate::LearnError;
use crate::schedule::Decay;
use serde::{Deserialize, Serialize};

/// Settings of PPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoConfig {
    /// Episodes (one prompt, one answer) of the run. Paper: 256,000.
    pub total_episodes: usize,
    /// Episodes per iteration. Paper: 512.
    pub batch_episodes: usize,
    /// Episodes per optimiser step. Paper: 64.
    pub minibatch_episodes: usize,
    /// Passes over an iteration's episodes. Paper: 1; N+: 4.
    pub inner_epochs: usize,
    /// Most tokens of an answer, the end token included. N+: 53 for summaries.
    pub max_new_tokens: usize,
    /// Prompts that are longer are skipped, and counted in `data/skipped`.
    pub prompt_tokens_max: usize,
    /// Sampling temperature; every log-prob is taken at it. Paper: 1. Must be above 0.
    pub temperature: f64,
    /// Peak learning rate of the policy. Paper: 9.65e-6 (1.3B); N+: 3e-6; adapters take more.
    pub learning_rate: f64,
    /// Peak learning rate of the value function. Paper: 9e-6.
    pub value_learning_rate: f64,
    /// How the rates fall. N+: linear to 0.
    pub decay: Decay,
    /// Last learning rate as a share of the peak.
    pub learning_rate_floor: f64,
    /// Iterations of linear warm-up. Paper: 10 of 500.
    pub warmup_iterations: usize,
    /// Gradients are scaled down to this global norm, for policy and value each. Ziegler et al. 2019: 1.
    pub gradient_norm_max: f64,
    /// beta: reward taken off per nat of KL to the reference. Paper: 0.02; N+: 0.05; Llama 2: 0.01.
    pub kl_coef: f64,
    /// Where set, beta is adapted towards this KL per answer (Ziegler et al. 2019, section 2.2). Paper: fixed.
    pub kl_target_nats: Option<f64>,
    /// K_beta of the adaptation. Ziegler et al.: 0.1.
    pub kl_gain: f64,
    /// Where set, the run ends after an iteration whose mean KL per answer is above it, with what it has.
    pub kl_stop_nats: Option<f64>,
    /// The rest of an iteration's updates is left out once a minibatch's approximate KL to the old policy, per token, exceeds it
    /// (early stopping as in common PPO implementations; TRL's `target_kl` was 0.1). 0 switches it off.
    pub approx_kl_max_nats: f64,
    /// gamma. Paper: 1.
    pub gamma: f64,
    /// lambda of GAE. Stiennon et al. 2020: 0.95.
    pub gae_lambda: f64,
    /// epsilon of the policy's clip. Paper: 0.2.
    pub clip_ratio: f64,
    /// epsilon of the value clip, in units of reward. N+: 0.2.
    pub clip_value: f64,
    /// Weight of the value loss. N+: 0.1. The value function has an adapter and an optimiser of its own, so it scales that gradient
    /// before clipping and nothing else.
    pub value_coef: f64,
    /// Scores are held within +- this many standard deviations (PPO-max, arXiv 2307.04964, clips the reward too).
    pub score_clip: f64,
    /// Score of an answer that doesn't end by itself; N+: -1 (scores have mean 0, deviation 1). `null` leaves its own score.
    pub missing_eos_score: Option<f64>,
    /// Where `missing_eos_score` is `null`: taken off the score of an answer that doesn't end by itself.
    pub missing_eos_penalty: f64,
    /// Tokens worked off at once: bounds the memory, not the result.
    pub micro_batch_tokens: usize,
    /// Recompute activations in backward: a seventh of the memory for about a tenth of the speed.
    pub recompute: bool,
    /// Rank of the policy's adapter, where none is taken over.
    pub lora_r: usize,
    /// The adapter's product is scaled by alpha / r.
    pub lora_alpha: f32,
    /// Which linear maps of a block get an adapter.
    pub lora_targets: Vec<String>,
    /// The first block that gets adapters.
    pub lora_first_layer: usize,
    /// Iterations between checkpoints.
    pub checkpoint_iterations: usize,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            total_episodes: 320,
            batch_episodes: 32,
            minibatch_episodes: 8,
            inner_epochs: 2,
            max_new_tokens: 64,
            prompt_tokens_max: 256,
            temperature: 1.0,
            learning_rate: 5e-5,
            value_learning_rate: 1e-4,
            decay: Decay::Linear,
            learning_rate_floor: 0.1,
            warmup_iterations: 1,
            gradient_norm_max: 1.0,
            kl_coef: 0.05,
            kl_target_nats: None,
            kl_gain: 0.1,
            kl_stop_nats: None,
            approx_kl_max_nats: 0.1,
            gamma: 1.0,
            gae_lambda: 0.95,
            clip_ratio: 0.2,
            clip_value: 0.2,
            value_coef: 0.1,
            score_clip: 5.0,
            missing_eos_score: Some(-1.0),
            missing_eos_penalty: 0.0,
            micro_batch_tokens: 1024,
            recompute: false,
            lora_r: 16,
            lora_alpha: 32.0,
            lora_targets: all_targets(),
            lora_first_layer: 0,
            checkpoint_iterations: 1,
        }
    }
}

impl PpoConfig {
    /// Refuses values that can't train.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), LearnError> {
        positive(&[
            ("total_episodes", self.total_episodes as f64),
            ("batch_episodes", self.batch_episodes as f64),
            ("minibatch_episodes", self.minibatch_episodes as f64),
            ("inner_epochs", self.inner_epochs as f64),
            ("max_new_tokens", self.max_new_tokens as f64),
            ("prompt_tokens_max", self.prompt_tokens_max as f64),
            ("temperature", self.temperature),
            ("learning_rate", self.learning_rate),
            ("value_learning_rate", self.value_learning_rate),
            ("gradient_norm_max", self.gradient_norm_max),
            ("clip_ratio", self.clip_ratio),
            ("clip_value", self.clip_value),
            ("value_coef", self.value_coef),
            ("score_clip", self.score_clip),
            ("kl_target_nats", self.kl_target_nats.unwrap_or(1.0)),
            ("kl_stop_nats", self.kl_stop_nats.unwrap_or(1.0)),
            ("lora_r", self.lora_r as f64),
            ("checkpoint_iterations", self.checkpoint_iterations as f64),
        ])?;
        if self.kl_coef < 0.0 || self.kl_coef.is_nan() {
            return Err(LearnError::BadConfig { name: "kl_coef".into(), reason: "must be 0 or more".into() });
        }
        Ok(())
    }
}
