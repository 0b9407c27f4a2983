//! What a PPO run must be held against (recipe of Stiennon et al. 2020 and Ahmadian et al. 2024): the policy it started from, best-of-n
//! of that policy, and RLOO with the same budget, all with the same reward model, on the same held-out prompts.

use super::roles::{Learner, Roles, load_roles};
use super::rollout::{self, Episode};
use super::{PpoInputs, Trained, encode, train_policy};
use crate::LearnError;
use crate::evaluate::{Estimate, mean_interval};
use crate::files::write_atomic;
use crate::lora::Adapter;
use crate::model::Workspace;
use crate::train::data::Sequence;
use crate::train::{Algorithm, Context, PpoConfig};
use hone_domain::DataSet;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::path::Path;
use std::time::Instant;

/// The comparison's file in a run's folder: a list of [`Contender`].
pub const BASELINES: &str = "baselines.json";

/// One way to use the reward model, on the held-out prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    /// start, best-of-N, rloo or ppo.
    pub name: String,
    /// Mean score (the reward after the rule for answers that don't end) with its 95 % interval.
    pub reward: Estimate,
    /// KL to the reference per answer, nats: sampled, and for best-of-n log n - (n - 1) / n to the start (Stiennon et al. 2020).
    pub kl_nats: f64,
    /// Mean length of an answer, tokens.
    pub response_tokens: f64,
    /// Share of answers that end by themselves.
    pub ended: f64,
    /// Seconds of training; best-of-n trains nothing, and needs these for its answers.
    pub seconds: f64,
    /// Episodes of training; for best-of-n the answers that were drawn.
    pub episodes: usize,
}

/// The held-out prompts of the comparison.
pub(super) fn held_out(config: &PpoConfig, data: &DataSet, ctx: &Context<'_>) -> Result<Vec<Vec<u32>>, LearnError> {
    let some = &data.held_out_prompts[..data.held_out_prompts.len().min(config.baseline_prompts_max)];
    if some.is_empty() {
        let reason =
            "`baselines` compares on held-out prompts, and there are none: let more people chat, or switch it off";
        return Err(LearnError::BadData { reason: reason.into() });
    }
    Ok(encode(config, some, ctx)?.0)
}

/// Trains RLOO in `run_dir/rloo` (which goes on where it was, if it was), compares all four, and writes [`BASELINES`].
pub(super) fn compare(
    config: &PpoConfig,
    data: &DataSet,
    inputs: &PpoInputs,
    prompts: &[Vec<u32>],
    ppo: &Trained,
    ctx: &mut Context<'_>,
) -> Result<Vec<Contender>, LearnError> {
    let plain = PpoConfig { algorithm: Algorithm::Rloo, baselines: false, ..config.clone() };
    let run_dir = ctx.run_dir.join("rloo");
    let rloo = {
        let Context { base, tokenizer, base_name, seed, resume, stop, .. } = *ctx;
        let report = &mut *ctx.report;
        let mut ctx = Context { base, tokenizer, base_name, run_dir: &run_dir, seed, resume, report, stop };
        train_policy(&plain, data, inputs, &mut ctx)?
    };
    let mut judge =
        Judge { config: &plain, prompts, ctx, ws: Workspace::new(), roles: load_roles(&plain, inputs, ctx)? };
    judge.roles.set_scale(ppo.scale);
    let mut all = vec![judge.contender("start", 0.0, 0)?, judge.best_of()?];
    for (name, trained) in [("rloo", &rloo), ("ppo", ppo)] {
        judge.take(&trained.outcome.artifact_dir)?;
        all.push(judge.contender(name, trained.wall_seconds, trained.episodes)?);
    }
    let path = ctx.run_dir.join(BASELINES);
    let json = serde_json::to_vec_pretty(&all).map_err(|e| LearnError::BadData { reason: e.to_string() })?;
    write_atomic(&path, &json)?;
    Ok(all)
}

/// The comparison as figures of the run: `baselines/NAME/reward` and so on.
pub(super) fn figures(all: &[Contender]) -> BTreeMap<String, f64> {
    let of = |c: &Contender| {
        let named = [("reward", c.reward.mean), ("kl", c.kl_nats), ("response_tokens", c.response_tokens)];
        named.map(|(figure, x)| (format!("baselines/{}/{figure}", c.name), x))
    };
    all.iter().flat_map(of).collect()
}

/// Answers and scores the held-out prompts; every contender from the same random numbers.
struct Judge<'j, 'c> {
    config: &'j PpoConfig,
    prompts: &'j [Vec<u32>],
    ctx: &'j Context<'c>,
    ws: Workspace,
    roles: Roles<'c>,
}

impl Judge<'_, '_> {
    /// Lets another policy answer from now on.
    fn take(&mut self, policy: &Path) -> Result<(), LearnError> {
        self.roles.policy = Learner::new(Adapter::load(policy, self.ctx.base.config())?);
        Ok(())
    }

    fn contender(&mut self, name: &str, seconds: f64, episodes: usize) -> Result<Contender, LearnError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.ctx.seed);
        let mut judged: Vec<Episode> = Vec::new();
        for chunk in self.prompts.chunks(self.config.batch_episodes) {
            self.go_on()?;
            let policy = Some(&self.roles.policy.adapter);
            let answers = rollout::answers(&self.roles, policy, self.config, chunk, &mut rng)?;
            judged.extend(rollout::judge(&self.roles, self.config, answers, &mut self.ws)?);
        }
        let mean = |f: &dyn Fn(&Episode) -> f64| judged.iter().map(f).sum::<f64>() / judged.len() as f64;
        Ok(Contender {
            name: name.to_owned(),
            reward: mean_interval(&judged.iter().map(|e| e.score).collect::<Vec<_>>()),
            kl_nats: mean(&|e| e.kl.iter().sum()),
            response_tokens: mean(&|e| e.kl.len() as f64),
            ended: mean(&|e| f64::from(e.ended)),
            seconds,
            episodes,
        })
    }

    /// n answers of the start policy to each prompt, of which the one with the highest score counts.
    fn best_of(&mut self) -> Result<Contender, LearnError> {
        let (n, begun) = (self.config.best_of, Instant::now());
        let mut rng = ChaCha8Rng::seed_from_u64(self.ctx.seed);
        let mut chosen: Vec<(f64, f64, f64)> = Vec::new();
        for chunk in self.prompts.chunks((self.config.batch_episodes / n).max(1)) {
            self.go_on()?;
            let asked: Vec<Vec<u32>> = chunk.iter().flat_map(|p| repeat_n(p.clone(), n)).collect();
            let policy = Some(&self.roles.policy.adapter);
            let answers = rollout::answers(&self.roles, policy, self.config, &asked, &mut rng)?;
            let (sequences, ended): (Vec<Sequence>, Vec<bool>) = answers.into_iter().unzip();
            let scores = rollout::scores(&self.roles, self.config, &sequences, &ended, &mut self.ws)?;
            let answers = scores.iter().zip(&sequences).zip(&ended);
            let all: Vec<(f64, f64, f64)> =
                answers.map(|((s, q), &e)| (s.score, q.response_len() as f64, f64::from(e))).collect();
            chosen.extend(all.chunks(n).filter_map(|of| of.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0))));
        }
        let mean = |f: fn(&(f64, f64, f64)) -> f64| chosen.iter().map(f).sum::<f64>() / chosen.len() as f64;
        Ok(Contender {
            name: format!("best-of-{n}"),
            reward: mean_interval(&chosen.iter().map(|c| c.0).collect::<Vec<_>>()),
            kl_nats: best_of_kl(n),
            response_tokens: mean(|c| c.1),
            ended: mean(|c| c.2),
            seconds: begun.elapsed().as_secs_f64(),
            episodes: n * chosen.len(),
        })
    }

    fn go_on(&self) -> Result<(), LearnError> {
        if self.ctx.stopped() { Err(LearnError::Stopped) } else { Ok(()) }
    }
}

/// KL of best-of-n to the policy that it draws from: log n - (n - 1) / n nats, whatever the reward, as long as no two answers tie
/// (Stiennon et al. 2020, arXiv 2009.01325, appendix G.3).
fn best_of_kl(n: usize) -> f64 {
    let n = n as f64;
    n.ln() - (n - 1.0) / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_of_n_has_the_kl_of_its_distribution() {
        assert_eq!(best_of_kl(1), 0.0);
        // Best of n of a uniform distribution over many ranked answers: p_i = (i^n - (i-1)^n) / m^n, against 1 / m.
        let (m, n) = (20_000, 4);
        let p = |i: i32| (f64::from(i) / f64::from(m)).powi(n) - (f64::from(i - 1) / f64::from(m)).powi(n);
        let kl: f64 = (1..=m).map(|i| p(i) * (p(i) * f64::from(m)).ln()).sum();
        assert!((best_of_kl(4) - kl).abs() < 1e-3, "{kl}");
    }
}
