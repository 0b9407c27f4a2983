//! The four roles on one frozen base: who learns, who stays as it is, and what each starts from.

use super::PpoInputs;
use super::scale::Scale;
use crate::LearnError;
use crate::checkpoint::Loaded;
use crate::lora::{Adapter, SCORE_WEIGHT};
use crate::model::{Base, Workspace};
use crate::optim::{AdamW, clip_global_norm};
use crate::params::Params;
use crate::train::data::Sequence;
use crate::train::roles::{RewardModel, with_trunks};
use crate::train::{Algorithm, Context, PpoConfig, fresh_adapter};

/// An adapter that learns.
pub(super) struct Learner {
    pub(super) adapter: Adapter,
    pub(super) adam: AdamW,
    pub(super) grads: Params,
}

/// The four roles on one base.
pub(super) struct Roles<'a> {
    pub(super) base: &'a Base,
    pub(super) eos_ids: &'a [u32],
    pub(super) policy: Learner,
    /// `None` in RLOO, which needs none.
    pub(super) value: Option<Learner>,
    /// V = score head + this: the reward's normalisation, so that the value function starts in units of reward.
    pub(super) value_offset: f64,
    /// The same in the reward model's own rewards, before `scale`.
    pub(super) reward_offset: f64,
    pub(super) reference: Option<Adapter>,
    pub(super) reward: RewardModel,
    /// From the reward model's rewards to those that are learned from.
    pub(super) scale: Scale,
}

/// Reads the adapters of all roles. The value function starts as the reward model (Ouyang et al. 2022).
pub(super) fn load_roles<'a>(
    config: &PpoConfig,
    inputs: &PpoInputs,
    ctx: &Context<'a>,
) -> Result<Roles<'a>, LearnError> {
    let reward = RewardModel::load(&inputs.reward, ctx.base)?;
    let (value, reward_offset) = reward.value_function();
    let value = (config.algorithm == Algorithm::Ppo).then(|| Learner::new(value));
    let reference = inputs.reference.as_deref().map(|d| Adapter::load(d, ctx.base.config())).transpose()?;
    let policy = Learner::new(policy_from(config, inputs, ctx)?);
    let (base, eos_ids, value_offset, scale) = (ctx.base, ctx.tokenizer.eos_ids(), reward_offset, Scale::default());
    Ok(Roles { base, eos_ids, policy, value, value_offset, reward_offset, reference, reward, scale })
}

/// The policy's adapter without a scalar head, which a policy has no use for.
fn policy_from(config: &PpoConfig, inputs: &PpoInputs, ctx: &Context<'_>) -> Result<Adapter, LearnError> {
    match &inputs.policy {
        Some(dir) => Adapter::load(dir, ctx.base.config()),
        None => fresh_adapter(ctx, config.lora_r, config.lora_alpha, &config.lora_targets, config.lora_first_layer),
    }
}

impl Roles<'_> {
    /// Rewards are on this scale from now on; a value function that was read from a checkpoint is on it already.
    pub(super) fn set_scale(&mut self, scale: Scale) {
        self.value_offset = scale.apply(self.reward_offset);
        self.scale = scale;
    }

    /// Computes, once for all roles and epochs, what the blocks below the lowest adapter make of the answers.
    pub(super) fn bring_trunks(
        &self,
        config: &PpoConfig,
        sequences: Vec<&mut Sequence>,
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        let value = self.value.as_ref().map(|v| &v.adapter);
        let adapters = [Some(&self.policy.adapter), value, self.reference.as_ref(), Some(&self.reward.adapter)];
        let blocks = adapters.into_iter().flatten().map(|a| a.first_block(self.base.config()));
        let block = blocks.min().unwrap_or_default();
        with_trunks(self.base, block, self.eos_ids.first().copied(), sequences, config.micro_batch_tokens, ws)
    }

    /// Multiplies the value function's head.
    pub(super) fn scale_value(&mut self, factor: f64) {
        let head = self.value.as_mut().and_then(|v| v.adapter.params.get_mut(SCORE_WEIGHT));
        head.into_iter().flat_map(|h| &mut h.data).for_each(|w| *w *= factor as f32);
    }
}

impl Learner {
    pub(super) fn new(adapter: Adapter) -> Self {
        Self { adam: AdamW::new(&adapter.params, 0.0), grads: adapter.params.zeros_like(), adapter }
    }

    /// Clips, steps; answers the norm before clipping.
    pub(super) fn step(&mut self, norm_max: f64, learning_rate: f64) -> Result<f64, LearnError> {
        let norm = clip_global_norm(&mut self.grads, norm_max);
        self.adam.step(&mut self.adapter.params, &self.grads, learning_rate)?;
        Ok(norm)
    }

    /// What a checkpoint keeps of it, under `names` (weights, first and second moment).
    pub(super) fn tensors(&self, names: [&'static str; 3]) -> [(&'static str, &Params); 3] {
        let AdamW { first_moment, second_moment, .. } = &self.adam;
        [(names[0], &self.adapter.params), (names[1], first_moment), (names[2], second_moment)]
    }

    /// Takes over what a checkpoint kept.
    pub(super) fn restore<S>(&mut self, names: [&str; 3], adam_step: u64, last: &Loaded<S>) -> Result<(), LearnError> {
        last.restore(names[0], &mut self.adapter.params)?;
        last.restore(names[1], &mut self.adam.first_moment)?;
        last.restore(names[2], &mut self.adam.second_moment)?;
        self.adam.step = adam_step;
        Ok(())
    }
}
