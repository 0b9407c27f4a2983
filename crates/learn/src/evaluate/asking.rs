//! Policies answer the held-out prompts, and the reward model and the judge say what they think of it.

use super::{EvaluateConfig, judge};
use crate::LearnError;
use crate::gae::EosRule;
use crate::generate::{GenerateConfig, generate};
use crate::lora::Adapter;
use crate::model::Workspace;
use crate::train::data::Sequence;
use crate::train::roles::{self, RewardModel};
use crate::train::{Clock, Context, Progress};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;

/// What one policy did on all prompts.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) sequences: Vec<Sequence>,
    pub(super) ended: Vec<bool>,
    /// By the model that the policy was optimised against.
    pub(super) rewards: Vec<f64>,
}

impl Answers {
    /// Tokens of each answer.
    pub(super) fn lengths(&self) -> Vec<f64> {
        self.sequences.iter().map(|s| s.response_len() as f64).collect()
    }
}

/// What every policy is asked with, and how far the evaluation is.
pub(super) struct Asking<'a> {
    config: &'a EvaluateConfig,
    reward: &'a RewardModel,
    judge: Option<&'a RewardModel>,
    clock: Clock,
    answers: usize,
    answers_total: usize,
    ws: Workspace,
}

impl<'a> Asking<'a> {
    /// Before the first of `answers_total` answers.
    pub(super) fn new(
        config: &'a EvaluateConfig,
        reward: &'a RewardModel,
        judge: Option<&'a RewardModel>,
        answers_total: usize,
    ) -> Self {
        Self { config, reward, judge, clock: Clock::new(0, 0.0), answers: 0, answers_total, ws: Workspace::new() }
    }

    /// One policy's answers and their rewards. All draw from the context's seed, so equal policies give equal answers.
    pub(super) fn answer(
        &mut self,
        prompts: &[Vec<u32>],
        policy: Option<&Adapter>,
        ctx: &mut Context<'_>,
    ) -> Result<Answers, LearnError> {
        let config = self.config;
        let eos_ids = ctx.tokenizer.eos_ids();
        let sampling = GenerateConfig {
            max_new_tokens: config.max_new_tokens,
            temperature: config.temperature as f32,
            top_p: 1.0,
            eos_ids: eos_ids.to_vec(),
        };
        let rule = EosRule { replace: config.missing_eos_score, penalty: 0.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(ctx.seed);
        let mut out = Answers::default();
        for chunk in prompts.chunks(config.batch_prompts.max(1)) {
            if ctx.stopped() {
                return Err(LearnError::Stopped);
            }
            let drawn = generate(ctx.base, policy, chunk, &sampling, &mut rng)?;
            let sequences: Vec<Sequence> = chunk.iter().zip(&drawn).map(|(p, g)| Sequence::new(p, &g.tokens)).collect();
            let rewards =
                self.reward.rewards(ctx.base, &sequences, eos_ids, config.micro_batch_tokens, &mut self.ws)?;
            out.rewards.extend(rewards.iter().zip(&drawn).map(|(&r, g)| rule.apply(r, g.ended)));
            out.ended.extend(drawn.iter().map(|g| g.ended));
            out.sequences.extend(sequences);
            self.tell(chunk.len(), ctx);
        }
        Ok(out)
    }

    fn tell(&mut self, more: usize, ctx: &mut Context<'_>) {
        self.clock.add(more as f64);
        self.answers += more;
        let (step, steps_total) = (self.answers, self.answers_total);
        (ctx.report)(&Progress {
            phase: "evaluate".to_owned(),
            step,
            steps_total,
            rate: self.clock.rate(),
            rate_unit: "answers/s",
            seconds_left: self.clock.seconds_left(step, steps_total),
            metrics: BTreeMap::new(),
        });
    }

    /// KL(policy, reference) of each answer that the policy gave, nats: the sum over its tokens of log p - log q.
    pub(super) fn kl(
        &mut self,
        answers: &Answers,
        policy: Option<&Adapter>,
        reference: Option<&Adapter>,
        ctx: &Context<'_>,
    ) -> Result<Vec<f64>, LearnError> {
        let EvaluateConfig { temperature, micro_batch_tokens, .. } = *self.config;
        let mut logprobs = |adapter| {
            roles::logprobs(ctx.base, adapter, &answers.sequences, temperature, micro_batch_tokens, &mut self.ws)
        };
        let (p, q) = (logprobs(policy)?, logprobs(reference)?);
        let sum = |logprobs: &[f64]| logprobs.iter().sum::<f64>();
        Ok(p.iter().zip(&q).map(|(p, q)| sum(&p.logprob) - sum(&q.logprob)).collect())
    }

    /// A policy's answers of which the reward model likes each the most of `n` to its prompt; none where `n` is 0.
    pub(super) fn best_of(
        &mut self,
        n: usize,
        prompts: &[Vec<u32>],
        policy: Option<&Adapter>,
        ctx: &mut Context<'_>,
    ) -> Result<Answers, LearnError> {
        let repeated: Vec<Vec<u32>> = prompts.iter().flat_map(|p| std::iter::repeat_n(p, n)).cloned().collect();
        let drawn = self.answer(&repeated, policy, ctx)?;
        let best = judge::best_of(&drawn.rewards, n);
        Ok(Answers {
            sequences: best.iter().map(|&i| drawn.sequences[i].clone()).collect(),
            ended: best.iter().map(|&i| drawn.ended[i]).collect(),
            rewards: best.iter().map(|&i| drawn.rewards[i]).collect(),
        })
    }

    /// What is believed of answers: the judge's rewards, or, where there is no judge, those of the model that was optimised against.
    pub(super) fn verdict(&mut self, answers: &Answers, ctx: &Context<'_>) -> Result<Vec<f64>, LearnError> {
        let Some(judge) = self.judge else { return Ok(answers.rewards.clone()) };
        let (eos_ids, budget) = (ctx.tokenizer.eos_ids(), self.config.micro_batch_tokens);
        judge.rewards(ctx.base, &answers.sequences, eos_ids, budget, &mut self.ws)
    }
}
