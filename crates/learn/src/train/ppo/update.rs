//! Learning from one iteration's episodes: inner epochs over minibatches, each one step of policy and value function.

use super::roles::{Learner, Roles};
use super::rollout::Episode;
use crate::gae::{mean_variance, whiten};
use crate::lora::SCORE_WEIGHT;
use crate::losses::{ppo_policy, ppo_value};
use crate::model::{Base, Workspace, backward, forward};
use crate::train::config::PpoConfig;
use crate::train::data::{Sequence, micro_batches};
use crate::train::packed::{Packed, response_tokens};
use crate::train::{keep, roles};
use crate::{LearnError, head};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// The learning rates of an iteration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) policy: f64,
    pub(crate) value: f64,
}

/// A minibatch's figures; all but the norms are means over its response tokens.
#[derive(Debug, Clone, Copy, Default)]
struct Minibatch {
    policy_loss: f64,
    value_loss: f64,
    approx_kl: f64,
    policy_clipped: f64,
    value_clipped: f64,
    ratio: f64,
    policy_norm: f64,
    value_norm: f64,
}

/// Updates policy and value function in place; answers the figures. `between` is called before each minibatch and may end it all.
pub(crate) fn update(
    roles: &mut Roles<'_>,
    config: &PpoConfig,
    episodes: &[Episode],
    rates: Rates,
    rng: &mut ChaCha8Rng,
    ws: &mut Workspace,
    between: &mut dyn FnMut() -> Result<(), LearnError>,
) -> Result<BTreeMap<String, f64>, LearnError> {
    let mut seen = Vec::new();
    let mut order: Vec<usize> = (0..episodes.len()).collect();
    'epochs: for _ in 0..config.inner_epochs {
        order.shuffle(rng);
        for members in order.chunks(config.minibatch_episodes) {
            between()?;
            let mut figures = gradients(roles, config, episodes, members, ws)?;
            if config.approx_kl_max_nats > 0.0 && figures.approx_kl > config.approx_kl_max_nats {
                break 'epochs;
            }
            figures.policy_norm = roles.policy.step(config.gradient_norm_max, rates.policy)?;
            figures.value_norm = roles.value.step(config.gradient_norm_max, rates.value)?;
            seen.push(figures);
        }
    }
    Ok(summary(&seen))
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
    roles.value.grads.fill(0.0);
    let sizes: Vec<usize> = episodes.iter().map(|e| e.sequence.tokens.len()).collect();
    let tokens: usize = members.iter().map(|&i| episodes[i].advantages.len()).sum();
    let white = Whitened::of(episodes, members);
    let mut total = Minibatch::default();
    for micro in micro_batches(members, &sizes, config.micro_batch_tokens) {
        let share = Share { episodes, micro: &micro, tokens: tokens as f64, config };
        share.policy(roles.base, &mut roles.policy, &white, &mut total, ws)?;
        share.value(roles.base, &mut roles.value, roles.value_offset, &mut total, ws)?;
    }
    for (what, loss) in [("policy loss", total.policy_loss), ("value loss", total.value_loss)] {
        if !loss.is_finite() {
            let what = format!("the {what} ({loss}; the newest checkpoint is good)");
            return Err(LearnError::NonFinite { what });
        }
    }
    Ok(total)
}

/// A minibatch's advantages, whitened over all its response tokens, by episode.
struct Whitened(BTreeMap<usize, Vec<f64>>);

impl Whitened {
    fn of(episodes: &[Episode], members: &[usize]) -> Self {
        let mut all: Vec<f64> = members.iter().flat_map(|&i| episodes[i].advantages.iter().copied()).collect();
        whiten(&mut all);
        let mut rest = all.into_iter();
        Self(members.iter().map(|&i| (i, rest.by_ref().take(episodes[i].advantages.len()).collect())).collect())
    }
}

/// A micro-batch's part in a minibatch of `tokens` response tokens.
struct Share<'a> {
    episodes: &'a [Episode],
    micro: &'a [usize],
    tokens: f64,
    config: &'a PpoConfig,
}

impl Share<'_> {
    fn sequences(&self) -> Vec<&Sequence> {
        self.micro.iter().map(|&i| &self.episodes[i].sequence).collect()
    }

    /// One list over the micro-batch's response tokens.
    fn concat(&self, field: impl Fn(usize, &Episode) -> Vec<f64>) -> Vec<f64> {
        self.micro.iter().flat_map(|&i| field(i, &self.episodes[i])).collect()
    }

    fn policy(
        &self,
        base: &Base,
        policy: &mut Learner,
        white: &Whitened,
        total: &mut Minibatch,
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        let (sequences, temperature) = (self.sequences(), self.config.temperature as f32);
        let packed = Packed::new(&sequences);
        let (rows, targets) = (packed.response_rows(), response_tokens(&sequences));
        let hidden = forward(base, Some(&policy.adapter), &packed.batch, keep(self.config.recompute), ws)?;
        let (said, slope) = head::selected_logprobs_with_slope(base, &hidden, &rows, &targets, temperature);
        let new: Vec<f64> = said.logprob.iter().map(|&x| f64::from(x)).collect();
        let old = self.concat(|_, e| e.logprobs.clone());
        let advantages = self.concat(|i, _| white.0.get(&i).cloned().unwrap_or_default());
        let out = ppo_policy(&new, &old, &advantages, self.config.clip_ratio, self.tokens);
        let d_logprob: Vec<f32> = out.loss.grad.iter().map(|&g| g as f32).collect();
        let mut d_hidden = vec![0.0; hidden.len()];
        head::add_slope(&slope, &rows, &d_logprob, &mut d_hidden);
        ws.give(hidden);
        backward(base, &policy.adapter, &packed.batch, ws, &d_hidden, &mut policy.grads)?;
        total.policy_loss += out.loss.value;
        total.approx_kl += out.approx_kl;
        total.policy_clipped += out.clip_fraction;
        total.ratio += out.ratio;
        Ok(())
    }

    fn value(
        &self,
        base: &Base,
        value: &mut Learner,
        offset: f64,
        total: &mut Minibatch,
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        let sequences = self.sequences();
        let packed = Packed::new(&sequences);
        let rows = packed.response_rows();
        let weight = roles::head_weight(&value.adapter)?;
        let hidden = forward(base, Some(&value.adapter), &packed.batch, keep(self.config.recompute), ws)?;
        let new: Vec<f64> = head::scores(&hidden, &rows, weight).iter().map(|&v| f64::from(v) + offset).collect();
        let (old, returns) = (self.concat(|_, e| e.values.clone()), self.concat(|_, e| e.returns.clone()));
        let out = ppo_value(&new, &old, &returns, self.config.clip_value, self.tokens);
        let d_scores: Vec<f32> = out.loss.grad.iter().map(|&g| (self.config.value_coef * g) as f32).collect();
        let mut d_hidden = vec![0.0; hidden.len()];
        let d_weight = value.grads.get_mut(SCORE_WEIGHT).map(|p| p.data.as_mut_slice()).unwrap_or_default();
        head::scores_backward(&hidden, &rows, weight, &d_scores, &mut d_hidden, d_weight);
        ws.give(hidden);
        backward(base, &value.adapter, &packed.batch, ws, &d_hidden, &mut value.grads)?;
        total.value_loss += out.loss.value;
        total.value_clipped += out.clip_fraction;
        Ok(())
    }
}

/// Means over the minibatches; `val/ratio_var` is the variance of their mean ratios.
fn summary(seen: &[Minibatch]) -> BTreeMap<String, f64> {
    let stats = |f: fn(&Minibatch) -> f64| mean_variance(&seen.iter().map(f).collect::<Vec<_>>());
    let (ratio, ratio_var) = stats(|m| m.ratio);
    let named = [
        ("loss/policy_avg", stats(|m| m.policy_loss).0),
        ("loss/value_avg", stats(|m| m.value_loss).0),
        ("policy/approxkl_avg", stats(|m| m.approx_kl).0),
        ("policy/clipfrac_avg", stats(|m| m.policy_clipped).0),
        ("policy/grad_norm", stats(|m| m.policy_norm).0),
        ("value/grad_norm", stats(|m| m.value_norm).0),
        ("val/clipfrac_avg", stats(|m| m.value_clipped).0),
        ("val/ratio", ratio),
        ("val/ratio_var", ratio_var),
        ("val/optimiser_steps", seen.len() as f64),
    ];
    named.map(|(name, x)| (name.to_owned(), x)).into()
}
