//! One iteration's experience: answers drawn from the policy, and what the four roles say of them. Nothing is learned here.

use super::roles::Roles;
use crate::LearnError;
use crate::gae::{EosRule, gae, token_rewards};
use crate::generate::{GenerateConfig, generate};
use crate::losses::{kl_k1, kl_k3};
use crate::model::Workspace;
use crate::train::config::PpoConfig;
use crate::train::data::Sequence;
use crate::train::roles;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// A prompt, one answer, and everything the update needs. Lists are (response tokens).
#[derive(Debug, Clone)]
pub(crate) struct Episode {
    pub(crate) sequence: Sequence,
    /// Whether the answer ended by itself.
    pub(crate) ended: bool,
    /// log pi_old, by a forward pass at the sampling temperature: the sampler's own numbers come from other kernels.
    pub(crate) logprobs: Vec<f64>,
    /// Entropy of each token's distribution, nats.
    pub(crate) entropy: Vec<f64>,
    /// k1 and k3 estimates of KL(pi_old, pi_ref), nats.
    pub(crate) kl: Vec<f64>,
    pub(crate) kl_k3: Vec<f64>,
    /// V_old, in units of reward.
    pub(crate) values: Vec<f64>,
    /// The reward model's reward, and what the EOS rule and the clip make of it.
    pub(crate) reward: f64,
    pub(crate) score: f64,
    pub(crate) advantages: Vec<f64>,
    pub(crate) returns: Vec<f64>,
}

/// Draws one answer for each prompt.
pub(crate) fn answers(
    roles: &Roles<'_>,
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
    let drawn = generate(roles.base, Some(&roles.policy.adapter), prompts, &sampling, rng)?;
    Ok(prompts.iter().zip(drawn).map(|(p, g)| (Sequence::new(p, &g.tokens), g.ended)).collect())
}

/// Scores the answers: old and reference log-probs, values, rewards, advantages.
pub(crate) fn judge(
    roles: &Roles<'_>,
    config: &PpoConfig,
    answers: Vec<(Sequence, bool)>,
    kl_coef: f64,
    ws: &mut Workspace,
) -> Result<Vec<Episode>, LearnError> {
    let (sequences, ended): (Vec<Sequence>, Vec<bool>) = answers.into_iter().unzip();
    let (base, budget, t) = (roles.base, config.micro_batch_tokens, config.temperature);
    let old = roles::logprobs(base, Some(&roles.policy.adapter), &sequences, t, budget, ws)?;
    let reference = roles::logprobs(base, roles.reference.as_ref(), &sequences, t, budget, ws)?;
    let values = roles::values(base, &roles.value.adapter, &sequences, budget, ws)?;
    let rewards = roles.reward.rewards(base, &sequences, roles.eos_ids, budget, ws)?;
    let rule = EosRule { replace: config.missing_eos_score, penalty: config.missing_eos_penalty };
    let judged =
        sequences.into_iter().zip(ended).zip(old.into_iter().zip(reference)).zip(values.into_iter().zip(rewards));
    let episode = |(((sequence, ended), (old, reference)), (values, reward)): (((_, bool), _), (Vec<f64>, f64))| {
        let (old, reference): (roles::TokenLogprobs, roles::TokenLogprobs) = (old, reference);
        let pairs = || old.logprob.iter().zip(&reference.logprob);
        let kl: Vec<f64> = pairs().map(|(&p, &r)| kl_k1(p, r)).collect();
        let values: Vec<f64> = values.iter().map(|v| v + roles.value_offset).collect();
        let score = rule.apply(reward, ended).clamp(-config.score_clip, config.score_clip);
        let rewards = token_rewards(&kl, kl_coef, score);
        let out = gae(&rewards, &values, config.gamma, config.gae_lambda);
        let kl_k3 = pairs().map(|(&p, &r)| kl_k3(p, r)).collect();
        let (advantages, returns) = (out.advantages, out.returns);
        let (logprobs, entropy) = (old.logprob, old.entropy);
        Episode { sequence, ended, logprobs, entropy, kl, kl_k3, values, reward, score, advantages, returns }
    };
    Ok(judged.map(episode).collect())
}

/// Refuses numbers that aren't finite before anything is learned from them: the weights that the iteration began with gave them.
pub(crate) fn check_finite(episodes: &[Episode]) -> Result<(), LearnError> {
    for e in episodes {
        let mut named = [("log-prob", &e.logprobs), ("KL", &e.kl), ("value", &e.values)].into_iter();
        let what = named.find(|(_, xs)| xs.iter().any(|x| !x.is_finite())).map(|(what, _)| what);
        if let Some(what) = what.or_else(|| (!e.reward.is_finite()).then_some("reward")) {
            return Err(LearnError::NonFinite { what: format!("a {what} of an answer") });
        }
    }
    Ok(())
}

/// The iteration's figures under the field's names. Sums run over an answer's tokens, means over answers.
pub(crate) fn figures(episodes: &[Episode], kl_coef: f64) -> BTreeMap<String, f64> {
    let mean = |f: &dyn Fn(&Episode) -> f64| episodes.iter().map(f).sum::<f64>() / episodes.len() as f64;
    let sum = |xs: &[f64]| xs.iter().sum::<f64>();
    let kl = mean(&|e| sum(&e.kl));
    let scores = mean(&|e| e.score);
    let tokens = mean(&|e| e.kl.len() as f64);
    let all = |f: fn(&Episode) -> &Vec<f64>| episodes.iter().flat_map(|e| f(e).iter().copied()).collect::<Vec<f64>>();
    let explained = crate::gae::explained_variance(&all(|e| &e.values), &all(|e| &e.returns));
    let named = [
        ("objective/kl", kl),
        ("objective/kl_k3", mean(&|e| sum(&e.kl_k3))),
        ("objective/kl_coef", kl_coef),
        ("objective/entropy", mean(&|e| -sum(&e.logprobs))),
        ("objective/non_score_reward", -kl_coef * kl),
        ("objective/rlhf_reward", scores - kl_coef * kl),
        ("objective/scores", scores),
        ("objective/rewards_before_eos_rule", mean(&|e| e.reward)),
        ("policy/entropy_avg", mean(&|e| sum(&e.entropy)) / tokens.max(1e-9)),
        ("val/num_eos_tokens", episodes.iter().filter(|e| e.ended).count() as f64),
        ("val/explained_variance", explained),
        ("response_tokens", tokens),
    ];
    named.map(|(name, x)| (name.to_owned(), x)).into()
}
