//! One iteration's experience: answers drawn from the policy, what the four roles say of them, and the credit that each token gets.
//! Nothing is learned here.

use super::roles::Roles;
use crate::LearnError;
use crate::gae::{EosRule, gae, leave_one_out, token_rewards};
use crate::generate::{GenerateConfig, generate};
use crate::lora::Adapter;
use crate::losses::{kl_k1, kl_k3};
use crate::model::Workspace;
use crate::train::data::Sequence;
use crate::train::reward_model::Judged;
use crate::train::{Algorithm, KlEstimator, PpoConfig, roles};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A prompt, one answer, and everything the update needs. Lists are (response tokens).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) sequence: Sequence,
    /// Whether the answer ended by itself.
    pub(super) ended: bool,
    /// log pi_old, by a forward pass at the sampling temperature: the sampler's own numbers come from other kernels.
    pub(super) logprobs: Vec<f64>,
    /// Entropy of each token's distribution, nats.
    pub(super) entropy: Vec<f64>,
    /// k1 and k3 estimates of KL(pi_old, pi_ref), nats.
    pub(super) kl: Vec<f64>,
    pub(super) kl_k3: Vec<f64>,
    /// V_old, in units of reward; none in RLOO.
    pub(super) values: Vec<f64>,
    /// The reward model's reward on the run's scale, and what the EOS rule and the clip make of it.
    pub(super) reward: f64,
    pub(super) score: f64,
    /// How far the heads of an ensemble are apart on the answer; 0 with one.
    #[serde(default)]
    pub(super) disagreement: f64,
    pub(super) advantages: Vec<f64>,
    /// What the value function is trained towards; none in RLOO.
    pub(super) returns: Vec<f64>,
}

impl Episode {
    /// The estimate of the KL that each token is charged, nats.
    pub(super) fn charged(&self, config: &PpoConfig) -> &[f64] {
        match config.kl_estimator {
            KlEstimator::K1 => &self.kl,
            KlEstimator::K3 => &self.kl_k3,
        }
    }
}

/// Draws one answer for each prompt; says whether it ended by itself.
pub(super) fn answers(
    roles: &Roles<'_>,
    policy: Option<&Adapter>,
    config: &PpoConfig,
    prompts: &[Vec<u32>],
    rng: &mut ChaCha8Rng,
) -> Result<Vec<(Sequence, bool)>, LearnError> {
    let sampling = GenerateConfig {
        max_new_tokens: config.max_new_tokens,
        temperature: config.temperature as f32,
        top_p: 1.0, // any cut would make the ratio's denominator another distribution than the sampled one
        eos_ids: roles.eos_ids.to_vec(),
    };
    let drawn = generate(roles.base, policy, prompts, &sampling, rng)?;
    Ok(prompts.iter().zip(drawn).map(|(p, g)| (Sequence::new(p, &g.tokens), g.ended)).collect())
}

/// What an answer is worth: its reward on the run's scale, and what the EOS rule and the clip make of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Score {
    pub(super) reward: f64,
    pub(super) score: f64,
    pub(super) disagreement: f64,
}

/// What each answer is worth.
pub(super) fn scores(
    roles: &Roles<'_>,
    config: &PpoConfig,
    sequences: &[Sequence],
    ended: &[bool],
    ws: &mut Workspace,
) -> Result<Vec<Score>, LearnError> {
    let rule = EosRule { replace: config.missing_eos_score, penalty: config.missing_eos_penalty };
    let judged = roles.reward.judge(roles.base, sequences, roles.eos_ids, config.micro_batch_tokens, ws)?;
    let score = |(judged, &ended): (Judged, &bool)| {
        let reward = roles.scale.apply(judged.reward);
        let score = rule.apply(reward, ended).clamp(-config.score_clip, config.score_clip);
        Score { reward, score, disagreement: judged.disagreement }
    };
    Ok(judged.into_iter().zip(ended).map(score).collect())
}

/// What the four roles say of the answers: old and reference log-probs at the sampling temperature, values, rewards. Credit comes later.
pub(super) fn judge(
    roles: &Roles<'_>,
    config: &PpoConfig,
    answers: Vec<(Sequence, bool)>,
    ws: &mut Workspace,
) -> Result<Vec<Episode>, LearnError> {
    let (mut sequences, ended): (Vec<Sequence>, Vec<bool>) = answers.into_iter().unzip();
    roles.bring_trunks(config, sequences.iter_mut().collect(), ws)?;
    let (base, budget, t) = (roles.base, config.micro_batch_tokens, config.temperature);
    let old = roles::logprobs(base, Some(&roles.policy.adapter), &sequences, t, budget, ws)?;
    let reference = roles::logprobs(base, roles.reference.as_ref(), &sequences, t, budget, ws)?;
    let scores = scores(roles, config, &sequences, &ended, ws)?;
    let values = values(roles, config, &sequences, ws)?;
    let judged =
        sequences.into_iter().zip(ended).zip(old.into_iter().zip(reference)).zip(scores.into_iter().zip(values));
    let episode = |(((sequence, ended), (old, reference)), (score, values))| {
        let Score { reward, score, disagreement } = score;
        let (old, reference): (roles::TokenLogprobs, roles::TokenLogprobs) = (old, reference);
        let pairs = || old.logprob.iter().zip(&reference.logprob);
        let kl: Vec<f64> = pairs().map(|(&p, &r)| kl_k1(p, r)).collect();
        let kl_k3 = pairs().map(|(&p, &r)| kl_k3(p, r)).collect();
        let (logprobs, entropy, advantages, returns) = (old.logprob, old.entropy, Vec::new(), Vec::new());
        Episode {
            sequence,
            ended,
            logprobs,
            entropy,
            kl,
            kl_k3,
            values,
            reward,
            score,
            disagreement,
            advantages,
            returns,
        }
    };
    Ok(judged.map(episode).collect())
}

/// Refuses numbers that aren't finite before anything is learned from them: the weights that the iteration began with gave them.
pub(super) fn check_finite(episodes: &[Episode]) -> Result<(), LearnError> {
    for e in episodes {
        let mut named = [("log-prob", &e.logprobs), ("KL", &e.kl), ("value", &e.values)].into_iter();
        let what = named.find(|(_, xs)| xs.iter().any(|x| !x.is_finite())).map(|(what, _)| what);
        if let Some(what) = what.or_else(|| (!e.reward.is_finite()).then_some("reward")) {
            return Err(LearnError::NonFinite { what: format!("a {what} of an answer") });
        }
    }
    Ok(())
}

/// V of the state before each response token; empty lists without a value function.
pub(super) fn values(
    roles: &Roles<'_>,
    config: &PpoConfig,
    sequences: &[Sequence],
    ws: &mut Workspace,
) -> Result<Vec<Vec<f64>>, LearnError> {
    let Some(value) = &roles.value else { return Ok(vec![Vec::new(); sequences.len()]) };
    let mut values = roles::values(roles.base, &value.adapter, sequences, config.micro_batch_tokens, ws)?;
    values.iter_mut().flatten().for_each(|v| *v += roles.value_offset);
    Ok(values)
}

/// Gives each token its advantage. PPO: GAE of r_t = -beta kl_t + score at the last token. RLOO: the whole answer's reward,
/// score - beta sum_t kl_t, against the other answers to the same prompt, which lie beside it; every token gets the same.
pub(super) fn credit(config: &PpoConfig, kl_coef: f64, episodes: &mut [Episode]) {
    if config.algorithm == Algorithm::Rloo {
        let whole = |e: &Episode| e.score - kl_coef * e.charged(config).iter().sum::<f64>();
        let rewards: Vec<f64> = episodes.iter().map(whole).collect();
        for (e, advantage) in episodes.iter_mut().zip(leave_one_out(&rewards, config.rloo_answers)) {
            e.advantages = vec![advantage; e.logprobs.len()];
        }
        return;
    }
    for e in episodes {
        let rewards = token_rewards(e.charged(config), kl_coef, e.score);
        let out = gae(&rewards, &e.values, config.gamma, config.gae_lambda);
        (e.advantages, e.returns) = (out.advantages, out.returns);
    }
}
