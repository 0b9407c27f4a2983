//! The settings of the three trainers: plain data with defaults for a small model on a few CPU cores. Each field names the paper's
//! number where it has one (Ouyang et al. 2022 unless said; "N+" is Huang et al. 2024, arXiv 2403.17031). Uses serde only.

mod ppo;

pub use ppo::{Algorithm, KlEstimator, PpoConfig, RewardNormalisation};

use crate::LearnError;
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
    /// Share of what each block adds to the residual stream that is dropped in training. Paper: 0.2, with all weights trained. Ours
    /// is 0: an adapter of low rank has few parameters to over-fit with, and the frozen weights around it were trained without
    /// dropout and can't make up for it.
    pub dropout: f32,
    /// Where there is a reward model: held-out prompts that are answered after each epoch for it to choose the epoch by. 0 makes the
    /// last epoch the result. Paper: by reward, on its validation set.
    pub judged_prompts_max: usize,
    /// Most tokens of such an answer.
    pub judged_tokens_max: usize,
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
    /// The first block that gets adapters; the blocks below stay as they are and are computed once per batch. `null`, the default, is two
    /// thirds of the way up: measured as good as all blocks at 3 to 4 times the learning rate, in under half of the time (docs/LOG.md).
    pub lora_first_layer: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_examples: 8,
            learning_rate: 6e-4,
            learning_rate_floor: 0.1,
            warmup_steps: 0,
            weight_decay: 0.0,
            gradient_norm_max: 1.0,
            dropout: 0.0,
            judged_prompts_max: 32,
            judged_tokens_max: 64,
            prompt_tokens_max: 512,
            answer_tokens_max: 512,
            micro_batch_tokens: 1024,
            recompute: false,
            lora_r: 16,
            lora_alpha: 32.0,
            lora_targets: all_targets(),
            lora_first_layer: None,
            checkpoint_steps: 20,
        }
    }
}

/// How the heads of an ensemble become one score (Coste et al. 2023, arXiv 2310.02743).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// Their mean.
    #[default]
    Mean,
    /// The lowest of them: worst-case optimisation.
    Worst,
    /// Their mean less a coefficient times their variance: uncertainty-weighted optimisation.
    MeanMinusVariance,
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
    /// Probability that a label is wrong, for the conservative loss. Paper: none. Below 0.5.
    pub label_smoothing: f64,
    /// Margin of a pair that is as far apart as can be, in units of raw score; the others' are in proportion. How far is told by the
    /// labeler's quality marks where both answers have one (of 6 points), else by the tiers between them: neighbours get no margin.
    /// Paper: 0. Llama 2 (arXiv 2307.09288): 1 or 3 for "significantly better", 0 for "negligibly better".
    pub margin_max: f64,
    /// Scalar heads on the one adapter, each with its own random start and its own bootstrap sample of the prompts. Paper: 1. Coste et
    /// al. 2023: 4 or 5 whole models. Heads cost nothing; but they share the adapter, so they differ less than models.
    pub ensemble_heads: usize,
    /// How several heads become one score.
    pub ensemble_scoring: Scoring,
    /// Of `mean_minus_variance`: taken off per unit of the heads' variance on a text, where each head has variance 1 over texts.
    pub ensemble_variance_coef: f64,
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
    /// The first block that gets adapters; `null` is two thirds of the way up, as in `SftConfig`.
    pub lora_first_layer: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            epochs: 2,
            batch_prompts: 8,
            learning_rate: 6e-4,
            learning_rate_floor: 0.1,
            warmup_steps: 0,
            weight_decay: 0.0,
            gradient_norm_max: 1.0,
            label_smoothing: 0.0,
            margin_max: 0.0,
            ensemble_heads: 1,
            ensemble_scoring: Scoring::Mean,
            ensemble_variance_coef: 0.5,
            prompt_tokens_max: 512,
            answer_tokens_max: 256,
            micro_batch_tokens: 1024,
            recompute: false,
            lora_r: 16,
            lora_alpha: 32.0,
            lora_targets: all_targets(),
            lora_first_layer: None,
            checkpoint_steps: 20,
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

/// `Err` where a setting is outside of its range, whose upper end doesn't belong to it.
fn within(name: &str, value: f64, range: std::ops::Range<f64>) -> Result<(), LearnError> {
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("is {value}, must be at least {} and below {}", range.start, range.end);
    Err(LearnError::BadConfig { name: name.to_owned(), reason })
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
        ])?;
        positive(&[("judged_tokens_max", self.judged_tokens_max as f64)])?;
        within("dropout", f64::from(self.dropout), 0.0..1.0)
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
            ("ensemble_heads", self.ensemble_heads as f64),
        ])?;
        within("label_smoothing", self.label_smoothing, 0.0..0.5)?;
        within("margin_max", self.margin_max, 0.0..f64::INFINITY)?;
        within("ensemble_variance_coef", self.ensemble_variance_coef, 0.0..f64::INFINITY)
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
        assert!(RewardConfig { label_smoothing: 0.5, ..RewardConfig::default() }.check().is_err());
        assert!(RewardConfig { ensemble_heads: 0, ..RewardConfig::default() }.check().is_err());
        assert!(RewardConfig { learning_rate: f64::NAN, ..RewardConfig::default() }.check().is_err());
        assert!(SftConfig { epochs: 0, ..SftConfig::default() }.check().is_err());
        let all = SftConfig { dropout: 1.0, ..SftConfig::default() }.check().expect_err("drops everything");
        assert!(all.to_string().contains("dropout"), "{all}");
        assert!(PpoConfig { kl_coef: -1.0, ..PpoConfig::default() }.check().is_err());
        assert!(PpoConfig { ema_decay: 1.0, ..PpoConfig::default() }.check().is_err());
        assert!(PpoConfig { ptx_coef: f64::NAN, ..PpoConfig::default() }.check().is_err());
        let rloo = PpoConfig { algorithm: Algorithm::Rloo, batch_episodes: 30, ..PpoConfig::default() };
        assert!(rloo.check().expect_err("30 isn't a multiple of 4").to_string().contains("rloo_answers"));
    }
}
