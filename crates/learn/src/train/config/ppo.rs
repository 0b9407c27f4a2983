//! The settings of PPO. Each field names the paper's number where it has one (Ouyang et al. 2022 unless said; "N+" is Huang et al. 2024,
//! arXiv 2403.17031). Uses serde only.

use super::{all_targets, positive};
use crate::LearnError;
use crate::schedule::Decay;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the policy learns from scored answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Token by token with a value function (Schulman et al. 2017; Ouyang et al. 2022).
    Ppo,
    /// Answer by answer: several answers to a prompt are each other's baseline, there is no value function (Ahmadian et al. 2024,
    /// arXiv 2402.14740).
    Rloo,
}

/// Which estimate of the KL to the reference a token is charged (Schulman 2020, "Approximating KL divergence").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// log pi - log pi_ref: what the paper subtracts. As a reward its gradient is that of the KL.
    K1,
    /// e^d - 1 - d, d = log pi_ref - log pi: never negative, of lower variance. As a reward its gradient is a biased one.
    K3,
}

/// Where a reward of 0 lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardNormalisation {
    /// As the reward model leaves it: mean 0 on the demonstrations (Ouyang et al. 2022) or on the ranked answers.
    Training,
    /// Mean 0 on the reference policy's answers to the training prompts (N+; Ziegler et al. 2019, section 2.1).
    ReferenceMean,
    /// Mean 0 and deviation 1 on them (Ziegler et al. 2019, section 2.1).
    ReferenceMeanStd,
}

/// Settings of PPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoConfig {
    /// PPO, or RLOO on the same rollouts and the same reward.
    pub algorithm: Algorithm,
    /// k of RLOO: answers to one prompt; `batch_episodes` must be a multiple of it. Ahmadian et al. 2024: 2 and 4. PPO draws 1.
    pub rloo_answers: usize,
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
    /// What a token is charged beta times of. Paper: k1. The adaptive beta aims at the estimate that is charged.
    pub kl_estimator: KlEstimator,
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
    /// Passes of the value function alone over the first iteration's episodes, before the policy's first step. Paper: none, on 512
    /// episodes an iteration. Few iterations leave no time to learn the
    /// value on the way: on a tiny base 4 passes raised the explained variance of the second iteration at each of four settings of the
    /// learning rates (from -1.21, -0.21, 0.06, -0.05 to -0.61, 0.06, 0.13, 0.18). 0 switches it off.
    pub value_warmup_epochs: usize,
    /// Where set, whitened advantages are held within +- this (PPO-max, arXiv 2307.04964). Paper and N+: not clipped.
    pub advantage_clip: Option<f64>,
    /// Scores are held within +- this many standard deviations (PPO-max, arXiv 2307.04964, clips the reward too).
    pub score_clip: f64,
    /// Where a reward of 0 lies. N+: the mean of the reference's answers. So is ours: a reward model whose 0 is the demonstrations' mean
    /// rates most answers of a small model under -1, and `missing_eos_score` would then reward an answer for not ending. The deviation is
    /// left alone, because it is 1 on the ranked answers already, and few answers measure it badly.
    pub reward_normalisation: RewardNormalisation,
    /// Answers of the reference that are drawn for it, once, at the start. 64 place the mean within an eighth of a deviation.
    pub reference_answers: usize,
    /// Score of an answer that doesn't end by itself; N+: -1 (scores have mean 0, deviation 1). `null` leaves its own score.
    pub missing_eos_score: Option<f64>,
    /// Where `missing_eos_score` is `null`: taken off the score of an answer that doesn't end by itself.
    pub missing_eos_penalty: f64,
    /// gamma_ptx: weight of the log-likelihood of other text in the policy's loss (PPO-ptx); it takes back what PPO costs elsewhere. Both
    /// terms are means over their tokens here and advantages have deviation 1, so 1 makes a token of text as strong as one of an answer;
    /// try 0.1 to 1. Paper: 27.8, on its own scale (it sums differently), which is not ours. 0, the default, switches it off: it costs
    /// another forward and backward pass, and an adapter of low rank on a frozen base forgets little.
    pub ptx_coef: f64,
    /// The text: a `.jsonl` file of `{"text": ...}` lines, or any other file as plain text. Its hash is part of the run.
    pub ptx_text: Option<PathBuf>,
    /// Whether the data set's demonstrations are part of the text; their answers count, not their prompts.
    pub ptx_demonstrations: bool,
    /// Examples of text per episode. Paper: 8. Ours is lower: it is most of the update's cost at 8.
    pub ptx_examples_ratio: f64,
    /// `ptx_text` is cut into examples of so many tokens.
    pub ptx_chunk_tokens: usize,
    /// Where above 0, the artifact is a moving average of the policies, decayed by this per iteration. Paper: 0.992 over 500 iterations.
    /// Off by default: over tens of iterations 0.992 would be little more than the start; try 0.8.
    pub ema_decay: f64,
    /// `warning/length` is raised once answers are this many times as long, or as short, as in the first iteration: the commonest sign
    /// that the reward model is being exploited (PPO-max: watch length, KL and perplexity).
    pub warn_length_ratio: f64,
    /// `warning/kl` is raised once the KL per answer is above it. Best of 1,000 answers lies at 5.9 nats: a policy far beyond is
    /// seldom where the reward model still tells good from bad (Gao et al. 2022, arXiv 2210.10760).
    pub warn_kl_nats: f64,
    /// After PPO, train RLOO with the same budget, draw best-of-n, and compare all on the held-out prompts.
    pub baselines: bool,
    /// n of best-of-n.
    pub best_of: usize,
    /// Most held-out prompts of the comparison.
    pub baseline_prompts_max: usize,
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
    /// The first block that gets adapters; `null` is two thirds of the way up, as in `SftConfig`. Where policy, reference, value and reward
    /// all start there, the blocks below run once per batch for the four of them and all epochs.
    pub lora_first_layer: Option<usize>,
    /// Iterations between checkpoints.
    pub checkpoint_iterations: usize,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Ppo,
            rloo_answers: 4,
            total_episodes: 320,
            batch_episodes: 32,
            minibatch_episodes: 8,
            inner_epochs: 2,
            max_new_tokens: 64,
            prompt_tokens_max: 256,
            temperature: 1.0,
            learning_rate: 4e-4,
            value_learning_rate: 4e-4,
            decay: Decay::Linear,
            learning_rate_floor: 0.1,
            warmup_iterations: 1,
            gradient_norm_max: 1.0,
            kl_coef: 0.05,
            kl_estimator: KlEstimator::K1,
            kl_target_nats: None,
            kl_gain: 0.1,
            kl_stop_nats: None,
            approx_kl_max_nats: 0.1,
            gamma: 1.0,
            gae_lambda: 0.95,
            clip_ratio: 0.2,
            clip_value: 0.2,
            value_coef: 0.1,
            value_warmup_epochs: 4,
            advantage_clip: None,
            score_clip: 5.0,
            reward_normalisation: RewardNormalisation::ReferenceMean,
            reference_answers: 64,
            missing_eos_score: Some(-1.0),
            missing_eos_penalty: 0.0,
            ptx_coef: 0.0,
            ptx_text: None,
            ptx_demonstrations: true,
            ptx_examples_ratio: 1.0,
            ptx_chunk_tokens: 128,
            ema_decay: 0.0,
            warn_length_ratio: 2.0,
            warn_kl_nats: 10.0,
            baselines: false,
            best_of: 8,
            baseline_prompts_max: 64,
            micro_batch_tokens: 1024,
            recompute: false,
            lora_r: 16,
            lora_alpha: 32.0,
            lora_targets: all_targets(),
            lora_first_layer: None,
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
            ("reference_answers", self.reference_answers as f64),
            ("advantage_clip", self.advantage_clip.unwrap_or(1.0)),
            ("ptx_examples_ratio", self.ptx_examples_ratio),
            ("ptx_chunk_tokens", self.ptx_chunk_tokens as f64),
            ("warn_length_ratio", self.warn_length_ratio),
            ("warn_kl_nats", self.warn_kl_nats),
            ("best_of", self.best_of as f64),
            ("baseline_prompts_max", self.baseline_prompts_max as f64),
            ("lora_r", self.lora_r as f64),
            ("checkpoint_iterations", self.checkpoint_iterations as f64),
        ])?;
        let bad = |name: &str, reason: &str| Err(LearnError::BadConfig { name: name.into(), reason: reason.into() });
        if self.kl_coef < 0.0 || self.kl_coef.is_nan() {
            return bad("kl_coef", "must be 0 or more");
        }
        if !(self.ptx_coef >= 0.0 && self.ptx_coef.is_finite()) {
            return bad("ptx_coef", "must be 0 or more");
        }
        if !(0.0..1.0).contains(&self.ema_decay) {
            return bad("ema_decay", "must be 0 (off) or more, and below 1");
        }
        if self.algorithm == Algorithm::Rloo || self.baselines {
            if self.rloo_answers < 2 {
                return bad("rloo_answers", "must be 2 or more: answers are each other's baseline");
            }
            if !self.batch_episodes.is_multiple_of(self.rloo_answers) {
                return bad("batch_episodes", "must be a multiple of `rloo_answers`");
            }
        }
        Ok(())
    }
}
