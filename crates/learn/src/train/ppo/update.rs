//! Learning from one iteration's episodes: inner epochs over minibatches, each one step of policy and value function. `share` has the
//! gradients of a micro-batch, `ptx` those of other text.

use super::ptx::{self, Ptx};
use super::roles::Roles;
use super::rollout::{self, Episode};
use super::share::Share;
use super::state::State;
use crate::LearnError;
use crate::gae::{gae, mean_variance, token_rewards, whiten};
use crate::model::Workspace;
use crate::train::data::{Sequence, micro_batches};
use crate::train::{Algorithm, PpoConfig};
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// The learning rates of an iteration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) policy: f64,
    pub(super) value: f64,
}

/// A minibatch's figures; all but the norms are means over its response tokens (ratio and clip fraction of RLOO: over its answers).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Minibatch {
    pub(super) policy_loss: f64,
    pub(super) value_loss: f64,
    pub(super) ptx_loss: f64,
    pub(super) approx_kl: f64,
    pub(super) policy_clipped: f64,
    pub(super) value_clipped: f64,
    pub(super) ratio: f64,
    pub(super) policy_norm: f64,
    pub(super) value_norm: f64,
}

/// What an update is made with.
pub(super) struct Update<'a> {
    pub(super) config: &'a PpoConfig,
    pub(super) rates: Rates,
    pub(super) ptx: Option<&'a Ptx>,
    pub(super) seed: u64,
    /// Called before each minibatch; may end it all.
    pub(super) between: &'a dyn Fn() -> Result<(), LearnError>,
}

impl Update<'_> {
    /// Updates policy and value function in place; answers the figures. Random order and the text's cursor go on in `state`.
    pub(super) fn run(
        &self,
        roles: &mut Roles<'_>,
        episodes: &[Episode],
        state: &mut State,
        ws: &mut Workspace,
    ) -> Result<BTreeMap<String, f64>, LearnError> {
        let config = self.config;
        let mut seen = Vec::new();
        let mut order: Vec<usize> = (0..episodes.len()).collect();
        'epochs: for _ in 0..config.inner_epochs {
            order.shuffle(&mut state.rng);
            for members in order.chunks(config.minibatch_episodes) {
                (self.between)()?;
                let mut figures = gradients(roles, config, episodes, members, ws)?;
                if config.approx_kl_max_nats > 0.0 && figures.approx_kl > config.approx_kl_max_nats {
                    break 'epochs;
                }
                if let Some(text) = self.ptx {
                    let examples = text.draw(config, members.len(), self.seed, &mut state.ptx_drawn);
                    figures.ptx_loss = ptx::add_gradient(roles.base, &mut roles.policy, &examples, config, ws)?;
                }
                figures.policy_norm = roles.policy.step(config.gradient_norm_max, self.rates.policy)?;
                if let Some(value) = &mut roles.value {
                    figures.value_norm = value.step(config.gradient_norm_max, self.rates.value)?;
                }
                seen.push(figures);
            }
        }
        Ok(self.summary(&seen))
    }

    /// Before the policy's first step: teaches the value function alone the Monte-Carlo returns of the first episodes, without its clip,
    /// which would hold it within `clip_value` of a start that knows whole answers only. Then the episodes get their values and
    /// credit anew. Not part of the paper's recipe.
    pub(super) fn warm_value_up(
        &self,
        roles: &mut Roles<'_>,
        episodes: &mut [Episode],
        state: &mut State,
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        if self.config.value_warmup_epochs == 0 || roles.value.is_none() {
            return Ok(());
        }
        for e in episodes.iter_mut() {
            let rewards = token_rewards(e.charged(self.config), state.kl_coef, e.score);
            e.returns = gae(&rewards, &vec![0.0; rewards.len()], self.config.gamma, 1.0).returns;
        }
        let mut order: Vec<usize> = (0..episodes.len()).collect();
        for _ in 0..self.config.value_warmup_epochs {
            order.shuffle(&mut state.rng);
            for members in order.chunks(self.config.minibatch_episodes) {
                (self.between)()?;
                roles.value.iter_mut().for_each(|v| v.grads.fill(0.0));
                let mut total = Minibatch::default();
                for_each_share(self.config, episodes, members, |share| {
                    share.value(roles, f64::INFINITY, &mut total, ws)
                })?;
                finite("value loss of the warm-up", total.value_loss)?;
                if let Some(value) = &mut roles.value {
                    value.step(self.config.gradient_norm_max, self.config.value_learning_rate)?;
                }
            }
        }
        let sequences: Vec<Sequence> = episodes.iter().map(|e| e.sequence.clone()).collect();
        let values = rollout::values(roles, self.config, &sequences, ws)?;
        episodes.iter_mut().zip(values).for_each(|(e, values)| e.values = values);
        rollout::credit(self.config, state.kl_coef, episodes);
        Ok(())
    }

    /// Means over the minibatches; `val/ratio_var` is the variance of their mean ratios.
    fn summary(&self, seen: &[Minibatch]) -> BTreeMap<String, f64> {
        let stats = |f: fn(&Minibatch) -> f64| mean_variance(&seen.iter().map(f).collect::<Vec<_>>());
        let (ratio, ratio_var) = stats(|m| m.ratio);
        let mut named = vec![
            ("loss/policy_avg", stats(|m| m.policy_loss).0),
            ("policy/approxkl_avg", stats(|m| m.approx_kl).0),
            ("policy/clipfrac_avg", stats(|m| m.policy_clipped).0),
            ("policy/grad_norm", stats(|m| m.policy_norm).0),
            ("val/ratio", ratio),
            ("val/ratio_var", ratio_var),
            ("val/optimiser_steps", seen.len() as f64),
        ];
        if self.config.algorithm == Algorithm::Ppo {
            named.push(("loss/value_avg", stats(|m| m.value_loss).0));
            named.push(("value/grad_norm", stats(|m| m.value_norm).0));
            named.push(("val/clipfrac_avg", stats(|m| m.value_clipped).0));
        }
        if self.ptx.is_some() {
            named.push(("loss/ptx_avg", stats(|m| m.ptx_loss).0));
        }
        named.into_iter().map(|(name, x)| (name.to_owned(), x)).collect()
    }
}

/// Fills both learners' gradients with those of the minibatch's mean losses.
fn gradients(
    roles: &mut Roles<'_>,
    config: &PpoConfig,
    episodes: &[Episode],
    members: &[usize],
    ws: &mut Workspace,
) -> Result<Minibatch, LearnError> {
    roles.policy.grads.fill(0.0);
    roles.value.iter_mut().for_each(|v| v.grads.fill(0.0));
    let advantages = advantages(config, episodes, members);
    let mut total = Minibatch::default();
    for_each_share(config, episodes, members, |share| {
        share.policy(roles.base, &mut roles.policy, &advantages, &mut total, ws)?;
        share.value(roles, config.clip_value, &mut total, ws)
    })?;
    finite("policy loss", total.policy_loss)?;
    finite("value loss", total.value_loss)?;
    Ok(total)
}

/// Splits a minibatch by the token budget.
fn for_each_share(
    config: &PpoConfig,
    episodes: &[Episode],
    members: &[usize],
    mut work: impl FnMut(Share<'_>) -> Result<(), LearnError>,
) -> Result<(), LearnError> {
    let sizes: Vec<usize> = episodes.iter().map(|e| e.sequence.tokens.len()).collect();
    let tokens = members.iter().map(|&i| episodes[i].logprobs.len()).sum::<usize>() as f64;
    let answers = members.len() as f64;
    let micro = micro_batches(members, &sizes, config.micro_batch_tokens);
    micro.iter().try_for_each(|micro| work(Share { episodes, micro, tokens, answers, config }))
}

/// A minibatch's advantages as they enter its loss, by episode. PPO: whitened over all its response tokens (N+), then clipped where
/// that is set (PPO-max). RLOO: as they are.
fn advantages(config: &PpoConfig, episodes: &[Episode], members: &[usize]) -> BTreeMap<usize, Vec<f64>> {
    let mut all: Vec<f64> = members.iter().flat_map(|&i| &episodes[i].advantages).copied().collect();
    if config.algorithm == Algorithm::Ppo {
        whiten(&mut all);
    }
    if let Some(most) = config.advantage_clip {
        all.iter_mut().for_each(|a| *a = a.clamp(-most, most));
    }
    let mut rest = all.into_iter();
    members.iter().map(|&i| (i, rest.by_ref().take(episodes[i].advantages.len()).collect())).collect()
}

/// Refuses a loss that isn't a number.
pub(super) fn finite(what: &str, loss: f64) -> Result<(), LearnError> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(LearnError::NonFinite { what: format!("the {what} ({loss}; the newest checkpoint is good)") })
}
