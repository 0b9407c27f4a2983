//! Supervised fine-tuning (Ouyang et al. 2022, section 3.5): cross-entropy of the demonstrations' answers, given their prompts.

use super::data::{Encoder, Limits, Misfits, Sequence};
use super::packed::{Packed, response_tokens};
use super::roles::RewardModel;
use super::supervised::{self, CHOOSES, LOSS, Objective, Plan, Step};
use super::{Context, Outcome, SftConfig, finish, fresh_adapter, identity, roles};
use crate::checkpoint::Checkpoints;
use crate::generate::{GenerateConfig, generate};
use crate::lora::Adapter;
use crate::model::{Base, Dropout, How, Workspace, backward, forward_with};
use crate::params::Params;
use crate::{LearnError, head, losses};
use hone_domain::{DataSet, Demonstration, Message};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Fine-tunes an adapter on the demonstrations: a fresh one, or the one in `init`. Leaves that of the last epoch in
/// `run_dir/artifact`.
///
/// # Errors
/// No demonstration that fits, settings out of range, a loss that isn't finite, a checkpoint of another run, a stop, a full disk.
pub fn train(
    config: &SftConfig,
    data: &DataSet,
    init: Option<&Path>,
    ctx: &mut Context<'_>,
) -> Result<Outcome, LearnError> {
    train_judged(config, data, init, None, ctx)
}

/// [`train`], with the artifact of a reward run in `reward` to choose the epoch by: the one whose answers to held-out prompts have the
/// highest mean reward.
///
/// # Errors
/// As [`train`]; and a reward model that isn't one of this base.
pub fn train_judged(
    config: &SftConfig,
    data: &DataSet,
    init: Option<&Path>,
    reward: Option<&Path>,
    ctx: &mut Context<'_>,
) -> Result<Outcome, LearnError> {
    config.check()?;
    let mut misfits = Misfits::default();
    let sequences = encode(config, &data.demonstrations, &mut misfits, ctx)?;
    let held_out = encode(config, &data.held_out_demonstrations, &mut misfits, ctx)?;
    if sequences.is_empty() {
        let why = if data.demonstrations.is_empty() { "none" } else { "none that fits `prompt_tokens_max`" };
        let reason = format!("{why} of demonstrations: write some or import some with `hone data import`");
        return Err(LearnError::BadData { reason });
    }
    let mut adapter = match init {
        Some(dir) => Adapter::load(dir, ctx.base.config())?,
        None => fresh_adapter(ctx, config.lora_r, config.lora_alpha, &config.lora_targets, config.lora_first_layer)?,
    };
    let inputs: Vec<_> = std::iter::once(init).chain(reward.map(Some)).collect();
    let checkpoints = Checkpoints::new(ctx.run_dir, identity("sft", config, data, &inputs, ctx)?);
    let sizes = sequences.iter().map(|s| s.tokens.len()).collect();
    let objective = Imitation {
        base: ctx.base,
        sequences,
        sizes,
        held_out,
        judge: reward.map(|dir| Judge::new(config, data, dir, &mut misfits, ctx)).transpose()?,
        recompute: config.recompute,
        dropout: config.dropout,
        seed: ctx.seed,
        micro_batch_tokens: config.micro_batch_tokens,
    };
    let mut metrics = supervised::train(&objective, &plan(config), &mut adapter, checkpoints, ctx)?;
    metrics.extend(misfits.report());
    metrics.insert("data/demonstrations".to_owned(), objective.sequences.len() as f64);
    finish(&adapter, ctx, metrics, |_| Ok(()))
}

fn plan(config: &SftConfig) -> Plan {
    Plan {
        epochs: config.epochs,
        batch: config.batch_examples,
        learning_rate: config.learning_rate,
        learning_rate_floor: config.learning_rate_floor,
        warmup_steps: config.warmup_steps,
        weight_decay: config.weight_decay,
        gradient_norm_max: config.gradient_norm_max,
        micro_batch_tokens: config.micro_batch_tokens,
        checkpoint_steps: config.checkpoint_steps,
    }
}

fn encode(
    config: &SftConfig,
    demonstrations: &[Demonstration],
    misfits: &mut Misfits,
    ctx: &Context<'_>,
) -> Result<Vec<Sequence>, LearnError> {
    let limits = Limits {
        prompt_tokens: config.prompt_tokens_max,
        answer_tokens: config.answer_tokens_max,
        context: ctx.base.config().context,
    };
    let mut encoder = Encoder::new(ctx.tokenizer, limits);
    let mut sequences = Vec::new();
    for d in demonstrations {
        if let Some(prompt) = encoder.prompt(&d.messages)? {
            sequences.push(encoder.answer(&prompt, &d.ideal, false)?);
        }
    }
    misfits.add(encoder.misfits);
    Ok(sequences)
}

/// Stream of random numbers for the judged answers, apart from those of weights and data orders.
const JUDGED_STREAM: u64 = u64::MAX - 3;

/// A reward model and the prompts whose answers it scores.
struct Judge<'a> {
    base: &'a Base,
    reward: RewardModel,
    prompts: Vec<Vec<u32>>,
    sampling: GenerateConfig,
    seed: u64,
    micro_batch_tokens: usize,
}

impl<'a> Judge<'a> {
    /// Its prompts are PPO's that SFT doesn't imitate: new to it, and none of them decides in the gate later. Where there are none, those
    /// of the held-out demonstrations. Each once.
    fn new(
        config: &SftConfig,
        data: &DataSet,
        reward: &Path,
        misfits: &mut Misfits,
        ctx: &Context<'a>,
    ) -> Result<Self, LearnError> {
        let context = ctx.base.config().context;
        let max_new_tokens = config.judged_tokens_max.min(context / 2);
        let prompt_tokens = config.prompt_tokens_max.min(context - max_new_tokens);
        let limits = Limits { prompt_tokens, answer_tokens: max_new_tokens, context };
        let mut encoder = Encoder::new(ctx.tokenizer, limits);
        let mut prompts: Vec<Vec<u32>> = Vec::new();
        let imitated: HashSet<&[Message]> = data.demonstrations.iter().map(|d| d.messages.as_slice()).collect();
        let mut messages: Vec<&[Message]> = data.prompts.iter().map(|p| p.messages.as_slice()).collect();
        messages.retain(|m| !imitated.contains(m));
        if messages.is_empty() {
            messages.extend(data.held_out_demonstrations.iter().map(|d| d.messages.as_slice()));
        }
        for messages in messages {
            if prompts.len() < config.judged_prompts_max
                && let Some(prompt) = encoder.prompt(messages)?
                && !prompts.contains(&prompt)
            {
                prompts.push(prompt);
            }
        }
        misfits.add(encoder.misfits);
        if prompts.is_empty() {
            tracing::warn!(
                "there is no prompt without a demonstration for the reward model to choose the epoch by: the last one is taken"
            );
        }
        let sampling =
            GenerateConfig { max_new_tokens, temperature: 1.0, top_p: 1.0, eos_ids: ctx.tokenizer.eos_ids().to_vec() };
        let reward = RewardModel::load(reward, ctx.base)?;
        let micro_batch_tokens = config.micro_batch_tokens;
        Ok(Self { base: ctx.base, reward, prompts, sampling, seed: ctx.seed, micro_batch_tokens })
    }

    /// Mean reward and length of one answer to each prompt. Each epoch draws with the same numbers, so that luck is alike.
    fn figures(&self, adapter: &Adapter, ws: &mut Workspace) -> Result<BTreeMap<String, f64>, LearnError> {
        if self.prompts.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(JUDGED_STREAM);
        let answers = generate(self.base, Some(adapter), &self.prompts, &self.sampling, &mut rng)?;
        let pairs = self.prompts.iter().zip(&answers);
        let sequences: Vec<Sequence> = pairs.map(|(p, a)| Sequence::new(p, &a.tokens)).collect();
        let rewards =
            self.reward.rewards(self.base, &sequences, &self.sampling.eos_ids, self.micro_batch_tokens, ws)?;
        let n = answers.len() as f64;
        let tokens = answers.iter().map(|a| a.tokens.len() as f64).sum::<f64>() / n;
        let named = [(CHOOSES, rewards.iter().sum::<f64>() / n), ("evaluate/response_tokens", tokens)];
        Ok(named.map(|(name, x)| (name.to_owned(), x)).into())
    }
}

/// The objective: -(1/n) sum of log-probs of the n response tokens of a batch.
struct Imitation<'a> {
    base: &'a Base,
    sequences: Vec<Sequence>,
    sizes: Vec<usize>,
    held_out: Vec<Sequence>,
    judge: Option<Judge<'a>>,
    recompute: bool,
    dropout: f32,
    seed: u64,
    micro_batch_tokens: usize,
}

impl Objective for Imitation<'_> {
    fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    fn micro_batch(
        &self,
        adapter: &Adapter,
        micro: &[usize],
        step: Step<'_>,
        ws: &mut Workspace,
        grads: &mut Params,
    ) -> Result<BTreeMap<&'static str, f64>, LearnError> {
        let members: Vec<&Sequence> = micro.iter().map(|&i| &self.sequences[i]).collect();
        let packed = Packed::apart(&members); // dropout names its masks by sequence
        let (rows, targets) = (packed.response_rows(), response_tokens(&members));
        let tokens_batch: usize = step.batch.iter().map(|&i| self.sequences[i].response_len()).sum();
        let dropout =
            (self.dropout > 0.0).then(|| Dropout::new(self.dropout, self.seed, step.number, &packed.batch, micro));
        let hidden = forward_with(
            self.base,
            Some(adapter),
            &packed.batch,
            How { keep: super::keep(self.recompute), dropout, from: None },
            ws,
        )?;
        let (said, slope) = head::selected_logprobs_with_slope(self.base, &hidden, &rows, &targets, 1.0);
        let logprobs: Vec<f64> = said.logprob.iter().map(|&x| f64::from(x)).collect();
        let loss = losses::cross_entropy(&logprobs, tokens_batch as f64);
        let d_logprob: Vec<f32> = loss.grad.iter().map(|&g| g as f32).collect();
        let mut d_hidden = vec![0.0; hidden.len()];
        head::add_slope(&slope, &rows, &d_logprob, &mut d_hidden);
        ws.give(hidden);
        backward(self.base, adapter, &packed.batch, ws, &d_hidden, grads)?;
        Ok([(LOSS, loss.value), ("response_tokens", rows.len() as f64)].into())
    }

    fn held_out(&self, adapter: &Adapter, ws: &mut Workspace) -> Result<BTreeMap<String, f64>, LearnError> {
        let mut figures = self.judge.as_ref().map_or(Ok(BTreeMap::new()), |judge| judge.figures(adapter, ws))?;
        if self.held_out.is_empty() {
            return Ok(figures);
        }
        let said = roles::logprobs(self.base, Some(adapter), &self.held_out, 1.0, self.micro_batch_tokens, ws)?;
        let all: Vec<f64> = said.into_iter().flat_map(|s| s.logprob).collect();
        figures.insert("evaluate/loss".to_owned(), losses::cross_entropy(&all, all.len() as f64).value);
        Ok(figures)
    }
}
