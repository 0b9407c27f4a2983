//! Supervised fine-tuning (Ouyang et al. 2022, section 3.5): cross-entropy of the demonstrations' answers, given their prompts.

use super::data::{Encoder, Limits, Misfits, Sequence};
use super::packed::{Packed, response_tokens};
use super::supervised::{self, LOSS, Objective, Plan, Step};
use super::{Context, Outcome, SftConfig, finish, fresh_adapter, identity, roles};
use crate::checkpoint::Checkpoints;
use crate::lora::Adapter;
use crate::model::{Base, Dropout, How, Workspace, backward, forward_with};
use crate::params::Params;
use crate::{LearnError, head, losses};
use hone_domain::{DataSet, Demonstration};
use std::collections::BTreeMap;
use std::path::Path;

/// Fine-tunes an adapter on the demonstrations: a fresh one, or the one in `init`. Leaves it in `run_dir/artifact`.
///
/// # Errors
/// No demonstration that fits, settings out of range, a loss that isn't finite, a checkpoint of another run, a stop, a full disk.
pub fn train(
    config: &SftConfig,
    data: &DataSet,
    init: Option<&Path>,
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
    let lora = super::lora(config.lora_r, config.lora_alpha, &config.lora_targets, config.lora_first_layer);
    let mut adapter = match init {
        Some(dir) => Adapter::load(dir, ctx.base.config())?,
        None => fresh_adapter(ctx, lora, false)?,
    };
    let checkpoints = Checkpoints::new(ctx.run_dir, identity("sft", config, data, &[init], ctx)?);
    let sizes = sequences.iter().map(|s| s.tokens.len()).collect();
    let objective = Imitation {
        base: ctx.base,
        sequences,
        sizes,
        held_out,
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

/// The objective: -(1/n) sum of log-probs of the n response tokens of a batch.
struct Imitation<'a> {
    base: &'a Base,
    sequences: Vec<Sequence>,
    sizes: Vec<usize>,
    held_out: Vec<Sequence>,
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
        if self.held_out.is_empty() {
            return Ok(BTreeMap::new());
        }
        let said = roles::logprobs(self.base, Some(adapter), &self.held_out, 1.0, self.micro_batch_tokens, ws)?;
        let all: Vec<f64> = said.into_iter().flat_map(|s| s.logprob).collect();
        Ok([("evaluate/loss".to_owned(), losses::cross_entropy(&all, all.len() as f64).value)].into())
    }
}
