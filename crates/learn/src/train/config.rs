//! The settings of the three trainers: plain data with defaults for a small model on a few CPU cores. Each field names the paper's
//! number where it has one (Ouyang et al. 2022 unless said; "N+" is Huang et al. 2024, arXiv 2403.17031). Uses serde only.

use crate::LearnError;
use crate::schedule::Decay;
use serde::{Deserialize, Serialize};

/// Settings of supervised fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Passes over the demonstrations. Paper: 16 on 13,000 demonstrations, the checkpoint chosen by reward. Ours is lower: a LoRA
    /// on few demonstrations over-fits within a handful.
    pub epochs: usize,
    /// Demonstrations per optimiser step. Paper: 32 (8 for the largest model).
    pub batch_examples: usize,
    /// Peak learning rate. Paper: 9.65e-6 for all weights; adapters of low rank take ten to a hundred times that.
    pub learning_rate: f64,
    /// Last learning rate as a share of the peak. Paper: 0.1, by cosine.
    pub learning_rate_floor: f64,
    /// Steps of linear warm-up. Paper: none.
    pub warmup_steps: usize,
    /// Decoupled weight decay of AdamW. Paper: none stated.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm. Paper: none stated; 1 is the field's habit.
    pub gradient_norm_max: f64,
    /// Longer prompts are skipped, and counted in `data/skipped`.
    pub prompt_tokens_max: usize,
    /// Longer answers are cut, and counted in `data/truncated`.
    pub answer_tokens_max: usize,
    /// Tokens worked off at once: bounds the memory (about 1 MB a token on a 135M model), not the result.
    pub micro_batch_tokens: usize,
    /// Recompute activations in backward: a seventh of the memory for about a tenth of the speed.
    pub recompute: bool,
    /// Rank of the adapter.
    pub lora_r: usize,
    /// The adapter's product is scaled by alpha / r.
    pub lora_alpha: f32,
    /// Which linear maps of a block get an adapter.
    pub lora_targets: Vec<String>,
    /// The first block that gets adapters; the blocks below stay as they are.
    pub lora_first_layer: usize,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_examples: 8,
            learning_rate: 2e-4,
            learning_rate_floor: 0.1,
            warmup_steps: 0,
            weight_decay: 0.0,
            gradient_norm_max: 1.0,
            prompt_tokens_max: 512,
            answer_tokens_max: 512,
            micro_batch_tokens: 1024,
            recompute: false,
            lora_r: 16,
            lora_alpha: 32.0,
            lora_targets: all_targets(),
            lora_first_layer: 0,
            checkpoint_steps: 20,
        }
    }
}

/// Settings of the reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// Passes over the rankings. Paper: 1 (more over-fits, at 33,000 prompts). Few rankings bear 2.
    pub epochs: usize,
    /// Prompts per optimiser step, each with all its completions. Paper: 64.
    pub batch_prompts: usize,
    /// Peak learning rate. Paper: 9e-6 for all weights; adapters take more.
    pub learning_rate: f64,
    /// Last learning rate as a share of the peak. Paper: 0.1, by cosine.
    pub learning_rate_floor: f64,
    /// Steps of linear warm-up. Paper: none stated.
    pub warmup_steps: usize,
    /// Decoupled weight decay of AdamW. Paper: none stated.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm.
    pub gradient_norm_max: f64,
    /// Rankings with longer prompts are skipped, and counted in `data/skipped`.
    pub prompt_tokens_max: usize,
    /// Longer answers are cut (the end token stays), and counted in `data/truncated`.
    pub answer_tokens_max: usize,
    /// Tokens worked off at once; the completions of one prompt are never parted, so one prompt may exceed it.
    pub micro_batch_tokens: usize,
    /// Recompute activations in backward: a seventh of the memory for about a tenth of the speed.
    pub recompute: bool,
    /// Rank of the adapter, where none is taken over from SFT.
    pub lora_r: usize,
    /// The adapter's product is scaled by alpha / r.
    pub lora_alpha: f32,
    /// Which linear maps of a block get an adapter.
    pub lora_targets: Vec<String>,
    /// The first block that gets adapters.
    pub lora_first_layer: usize,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            epochs: 2,
            batch_prompts: 8,
            learning_rate: 2e-4,
            learning_rate_floor: 0.1,
            warmup_steps: 0,
            weight_decay: 0.0,
            gradient_norm_max: 1.0,
            prompt_tokens_max: 512,
            answer_tokens_max: 256,
            micro_batch_tokens: 1024,
            recompute: false,
            lora_r: 16,
            lora_alpha: 32.0,
            lora_targets: all_targets(),
            lora_first_layer: 0,
            checkpoint_steps: 20,
        }
    }
}

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

/// All seven linear maps of a block.
fn all_targets() -> Vec<String> {
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"].map(str::to_owned).to_vec()
}

/// `Err` naming the first setting that isn't above zero (or isn't a number).
fn positive(settings: &[(&str, f64)]) -> Result<(), LearnError> {
    match settings.iter().find(|(_, v)| !(*v > 0.0 && v.is_finite())) {
        Some((name, v)) => {
            Err(LearnError::BadConfig { name: (*name).to_owned(), reason: format!("is {v}, must be above 0") })
        }
        None => Ok(()),
    }
}

impl SftConfig {
    /// Refuses values that can't train.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), LearnError> {
        positive(&[
            ("epochs", self.epochs as f64),
            ("batch_examples", self.batch_examples as f64),
            ("learning_rate", self.learning_rate),
            ("gradient_norm_max", self.gradient_norm_max),
            ("prompt_tokens_max", self.prompt_tokens_max as f64),
            ("answer_tokens_max", self.answer_tokens_max as f64),
            ("lora_r", self.lora_r as f64),
            ("checkpoint_steps", self.checkpoint_steps as f64),
        ])
    }
}

impl RewardConfig {
    /// Refuses values that can't train.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), LearnError> {
        positive(&[
            ("epochs", self.epochs as f64),
            ("batch_prompts", self.batch_prompts as f64),
            ("learning_rate", self.learning_rate),
            ("gradient_norm_max", self.gradient_norm_max),
            ("prompt_tokens_max", self.prompt_tokens_max as f64),
            ("answer_tokens_max", self.answer_tokens_max as f64),
            ("lora_r", self.lora_r as f64),
            ("checkpoint_steps", self.checkpoint_steps as f64),
        ])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_refused_and_missing_ones_have_defaults() {
        let some: PpoConfig = serde_json::from_str(r#"{"kl_coef": 0.1}"#).expect("known field");
        assert_eq!(some, PpoConfig { kl_coef: 0.1, ..PpoConfig::default() });
        let unknown = serde_json::from_str::<SftConfig>(r#"{"learn_rate": 1}"#).expect_err("a typo");
        assert!(unknown.to_string().contains("learning_rate"), "the error lists the names: {unknown}");
    }

    #[test]
    fn values_that_cannot_train_are_named() {
        assert!(PpoConfig::default().check().is_ok());
        let bad = PpoConfig { temperature: 0.0, ..PpoConfig::default() }.check().expect_err("zero");
        assert!(bad.to_string().contains("temperature"), "{bad}");
        assert!(RewardConfig { learning_rate: f64::NAN, ..RewardConfig::default() }.check().is_err());
        assert!(SftConfig { epochs: 0, ..SftConfig::default() }.check().is_err());
        assert!(PpoConfig { kl_coef: -1.0, ..PpoConfig::default() }.check().is_err());
    }
}
