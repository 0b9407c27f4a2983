//! A micro-batch's part in a minibatch's gradients: one forward and one backward pass for the policy, and one for the value function.

use super::roles::{Learner, Roles};
use super::rollout::Episode;
use super::update::Minibatch;
use crate::lora::SCORE_WEIGHT;
use crate::losses::{PolicyLoss, ppo_policy, ppo_value, rloo_policy};
use crate::model::{Base, Workspace, backward};
use crate::train::data::Sequence;
use crate::train::packed::{Packed, response_tokens};
use crate::train::{Algorithm, PpoConfig, keep, roles};
use crate::{LearnError, head};
use std::collections::BTreeMap;

/// A micro-batch of a minibatch of so many response tokens and answers.
pub(super) struct Share<'a> {
    pub(super) episodes: &'a [Episode],
    pub(super) micro: &'a [usize],
    pub(super) tokens: f64,
    pub(super) answers: f64,
    pub(super) config: &'a PpoConfig,
}

impl Share<'_> {
    fn sequences(&self) -> Vec<&Sequence> {
        self.micro.iter().map(|&i| &self.episodes[i].sequence).collect()
    }

    /// One list over the micro-batch's response tokens.
    fn concat(&self, field: impl Fn(&Episode) -> &[f64]) -> Vec<f64> {
        self.micro.iter().flat_map(|&i| field(&self.episodes[i])).copied().collect()
    }

    /// Adds the gradient of the policy's loss; `advantages` by episode, as they enter it.
    pub(super) fn policy(
        &self,
        base: &Base,
        policy: &mut Learner,
        advantages: &BTreeMap<usize, Vec<f64>>,
        total: &mut Minibatch,
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        let (sequences, temperature) = (self.sequences(), self.config.temperature as f32);
        let packed = Packed::new(&sequences);
        let (rows, targets) = (packed.response_rows(), response_tokens(&sequences));
        let hidden = packed.forward(base, Some(&policy.adapter), keep(self.config.recompute), ws)?;
        let (said, slope) = head::selected_logprobs_with_slope(base, &hidden, &rows, &targets, temperature);
        let mut new = said.logprob.iter().map(|&x| f64::from(x));
        let mut d_logprob: Vec<f32> = Vec::with_capacity(rows.len());
        for &i in self.micro {
            let new: Vec<f64> = new.by_ref().take(self.episodes[i].logprobs.len()).collect();
            let advantages = advantages.get(&i).map(Vec::as_slice).unwrap_or_default();
            let out = self.policy_loss(&new, &self.episodes[i].logprobs, advantages);
            d_logprob.extend(out.loss.grad.iter().map(|&g| g as f32));
            total.policy_loss += out.loss.value;
            total.approx_kl += out.approx_kl;
            total.policy_clipped += out.clip_fraction;
            total.ratio += out.ratio;
        }
        let mut d_hidden = vec![0.0; hidden.len()];
        head::add_slope(&slope, &rows, &d_logprob, &mut d_hidden);
        ws.give(hidden);
        backward(base, &policy.adapter, &packed.batch, ws, &d_hidden, &mut policy.grads)
    }

    /// One answer's share of the minibatch's mean loss.
    fn policy_loss(&self, new: &[f64], old: &[f64], advantages: &[f64]) -> PolicyLoss {
        let (clip, whole) = (self.config.clip_ratio, advantages.first().copied().unwrap_or_default());
        match self.config.algorithm {
            Algorithm::Ppo => ppo_policy(new, old, advantages, clip, self.tokens),
            Algorithm::Rloo => rloo_policy(new, old, whole, clip, self.answers, self.tokens),
        }
    }

    /// Adds the gradient of the value function's loss, where there is a value function; `clip` in units of reward.
    pub(super) fn value(
        &self,
        of: &mut Roles<'_>,
        clip: f64,
        total: &mut Minibatch,
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        let (base, offset) = (of.base, of.value_offset);
        let Some(value) = &mut of.value else { return Ok(()) };
        let sequences = self.sequences();
        let packed = Packed::new(&sequences);
        let rows = packed.response_rows();
        let weight = roles::head_weight(&value.adapter)?;
        let hidden = packed.forward(base, Some(&value.adapter), keep(self.config.recompute), ws)?;
        let new: Vec<f64> = head::scores(&hidden, &rows, weight).iter().map(|&v| f64::from(v) + offset).collect();
        let (old, returns) = (self.concat(|e| &e.values), self.concat(|e| &e.returns));
        let out = ppo_value(&new, &old, &returns, clip, self.tokens);
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
