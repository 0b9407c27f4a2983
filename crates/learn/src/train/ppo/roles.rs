//! The four roles on one frozen base: who learns, who stays as it is, and what each starts from.

use super::PpoInputs;
use super::state::State;
use crate::LearnError;
use crate::checkpoint::Loaded;
use crate::lora::Adapter;
use crate::model::Base;
use crate::optim::{AdamW, clip_global_norm};
use crate::params::Params;
use crate::train::roles::RewardModel;
use crate::train::{Context, PpoConfig, fresh_adapter, lora};

/// An adapter that learns.
pub(super) struct Learner {
    pub(super) adapter: Adapter,
    pub(super) adam: AdamW,
    pub(super) grads: Params,
}

impl Learner {
    pub(super) fn new(adapter: Adapter) -> Self {
        Self { adam: AdamW::new(&adapter.params, 0.0), grads: adapter.params.zeros_like(), adapter }
    }
}

/// The four roles on one base.
pub(super) struct Roles<'a> {
    pub(super) base: &'a Base,
    pub(super) eos_ids: &'a [u32],
    pub(super) policy: Learner,
    pub(super) value: Learner,
    /// V = score head + this: the reward's normalisation, so that the value function starts in units of reward.
    pub(super) value_offset: f64,
    pub(super) reference: Option<Adapter>,
    pub(super) reward: RewardModel,
}

/// The policy's adapter without a scalar head, which a policy has no use for.
fn policy_from(config: &PpoConfig, inputs: &PpoInputs, ctx: &Context<'_>) -> Result<Adapter, LearnError> {
    match &inputs.policy {
        Some(dir) => Adapter::load(dir, ctx.base.config()),
        None => fresh_adapter(
            ctx,
            lora(config.lora_r, config.lora_alpha, &config.lora_targets, config.lora_first_layer),
            false,
        ),
    }
}

/// Reads the adapters of all roles.
pub(super) fn load_roles<'a>(
    config: &PpoConfig,
    inputs: &PpoInputs,
    ctx: &Context<'a>,
) -> Result<Roles<'a>, LearnError> {
    let reward = RewardModel::load(&inputs.reward, ctx.base)?;
    // The value function starts as the reward model (Ouyang et al. 2022), rescaled to the rewards that PPO sees.
    let (value, value_offset) = reward.value_function();
    let reference = inputs.reference.as_deref().map(|d| Adapter::load(d, ctx.base.config())).transpose()?;
    let policy = Learner::new(policy_from(config, inputs, ctx)?);
    let (base, eos_ids) = (ctx.base, ctx.tokenizer.eos_ids());
    Ok(Roles { base, eos_ids, policy, value: Learner::new(value), value_offset, reference, reward })
}

impl Learner {
    pub(super) fn restore(&mut self, name: &str, adam_step: u64, last: &Loaded<State>) -> Result<(), LearnError> {
        last.restore(name, &mut self.adapter.params)?;
        last.restore(&format!("{name}_m"), &mut self.adam.first_moment)?;
        last.restore(&format!("{name}_v"), &mut self.adam.second_moment)?;
        self.adam.step = adam_step;
        Ok(())
    }

    /// Clips, steps; answers the norm before clipping.
    pub(super) fn step(&mut self, norm_max: f64, learning_rate: f64) -> Result<f64, LearnError> {
        let norm = clip_global_norm(&mut self.grads, norm_max);
        self.adam.step(&mut self.adapter.params, &self.grads, learning_rate)?;
        Ok(norm)
    }
}
