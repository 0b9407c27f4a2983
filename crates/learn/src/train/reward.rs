//! The reward model (Ouyang et al. 2022, section 3.5): a scalar head at the last token, trained on rankings, all pairs of a prompt
//! in one batch element, so that each completion is run forward once.

use super::data::{Encoder, Limits, Sequence};
use super::roles::{Normalisation, head_weight, last_rows, raw_scores};
use super::supervised::{self, LOSS, Objective, Plan, Step};
use super::{Context, Outcome, RewardConfig, finish, fresh_adapter, identity};
use crate::checkpoint::Checkpoints;
use crate::gae::mean_variance;
use crate::lora::{Adapter, SCORE_WEIGHT};
use crate::model::{Base, Batch, Workspace, backward, forward};
use crate::params::Params;
use crate::{LearnError, head, losses};
use hone_domain::{DataSet, RankedPrompt};
use std::collections::BTreeMap;
use std::path::Path;

/// So many demonstrations give the zero of the reward; fewer would be noise, and the candidates' mean is taken.
const DEMONSTRATIONS_MIN: usize = 8;

/// Trains LoRA and scalar head on the rankings, from the adapter in `init` (SFT's, or an earlier reward model's) or a fresh one.
/// Leaves both in `run_dir/artifact`, with the normalisation in its `reward.json`.
///
/// # Errors
/// No ranking that fits, settings out of range, a loss that isn't finite, a checkpoint of another run, a stop, a full disk.
pub fn train(
    config: &RewardConfig,
    data: &DataSet,
    init: Option<&Path>,
    ctx: &mut Context<'_>,
) -> Result<Outcome, LearnError> {
    config.check()?;
    let mut encoder = encoder(config, ctx);
    let groups = encode(&data.rankings, &mut encoder)?;
    let held_out = encode(&data.held_out_rankings, &mut encoder)?;
    let demonstrations = ideals(data, &mut encoder)?;
    let misfits = encoder.misfits;
    if groups.is_empty() {
        return Err(LearnError::BadData { reason: why_empty(data) });
    }
    let mut adapter = start(config, init, ctx)?;
    let checkpoints = Checkpoints::new(ctx.run_dir, identity("reward", config, data, &[init], ctx)?);
    let objective = Preference {
        base: ctx.base,
        sizes: groups.iter().map(Group::tokens).collect(),
        groups,
        held_out,
        recompute: config.recompute,
        micro_batch_tokens: config.micro_batch_tokens,
    };
    let mut metrics = supervised::train(&objective, &plan(config), &mut adapter, checkpoints, ctx)?;
    let normalisation = objective.normalisation(&adapter, &demonstrations)?;
    metrics.extend(misfits.report());
    metrics.extend([
        ("data/rankings".to_owned(), objective.groups.len() as f64),
        ("data/held_out_rankings".to_owned(), objective.held_out.len() as f64),
        ("reward/mean".to_owned(), normalisation.mean),
        ("reward/std".to_owned(), normalisation.std),
    ]);
    finish(&adapter, ctx, metrics, |dir| normalisation.save(dir))
}

fn plan(config: &RewardConfig) -> Plan {
    Plan {
        epochs: config.epochs,
        batch: config.batch_prompts,
        learning_rate: config.learning_rate,
        learning_rate_floor: config.learning_rate_floor,
        warmup_steps: config.warmup_steps,
        weight_decay: config.weight_decay,
        gradient_norm_max: config.gradient_norm_max,
        micro_batch_tokens: config.micro_batch_tokens,
        checkpoint_steps: config.checkpoint_steps,
    }
}

/// The adapter to start from, with a scalar head: zero where there was none (arXiv 2403.17031 starts fresh heads near zero).
fn start(config: &RewardConfig, init: Option<&Path>, ctx: &Context<'_>) -> Result<Adapter, LearnError> {
    let Some(dir) = init else {
        let lora = super::lora(config.lora_r, config.lora_alpha, &config.lora_targets, config.lora_first_layer);
        return fresh_adapter(ctx, lora, true);
    };
    let mut adapter = Adapter::load(dir, ctx.base.config())?;
    if adapter.score_weight().is_none() {
        let hidden = ctx.base.config().hidden;
        adapter.params.push(SCORE_WEIGHT, vec![1, hidden], vec![0.0; hidden]);
    }
    Ok(adapter)
}

fn why_empty(data: &DataSet) -> String {
    let advice = "rank some comparisons or import some with `hone data import`";
    if data.rankings.is_empty() {
        format!("no rankings: {advice}")
    } else {
        format!(
            "none of the {} rankings has a prompt within `prompt_tokens_max` and a pair that isn't a tie: {advice}",
            data.rankings.len()
        )
    }
}

/// A prompt's completions and the pairs that the labeler ordered.
struct Group {
    sequences: Vec<Sequence>,
    pairs: Vec<(usize, usize)>,
}

impl Group {
    fn tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.tokens.len()).sum()
    }
}

fn encoder<'a>(config: &RewardConfig, ctx: &Context<'a>) -> Encoder<'a> {
    let limits = Limits {
        prompt_tokens: config.prompt_tokens_max,
        answer_tokens: config.answer_tokens_max,
        context: ctx.base.config().context,
    };
    Encoder::new(ctx.tokenizer, limits)
}

/// Rankings that are all ties teach nothing and are left out.
fn encode(rankings: &[RankedPrompt], encoder: &mut Encoder<'_>) -> Result<Vec<Group>, LearnError> {
    let mut groups = Vec::new();
    for r in rankings.iter().filter(|r| !r.ranking.pairs().is_empty()) {
        if let Some(prompt) = encoder.prompt(&r.messages)? {
            let sequences = r.candidates.iter().map(|c| encoder.answer(&prompt, c, true)).collect::<Result<_, _>>()?;
            groups.push(Group { sequences, pairs: r.ranking.pairs() });
        }
    }
    Ok(groups)
}

fn ideals(data: &DataSet, encoder: &mut Encoder<'_>) -> Result<Vec<Sequence>, LearnError> {
    let mut sequences = Vec::new();
    for d in &data.demonstrations {
        if let Some(prompt) = encoder.prompt(&d.messages)? {
            sequences.push(encoder.answer(&prompt, &d.ideal, true)?);
        }
    }
    Ok(sequences)
}

/// The objective: the mean over a batch's prompts of `losses::ranking`.
struct Preference<'a> {
    base: &'a Base,
    groups: Vec<Group>,
    sizes: Vec<usize>,
    held_out: Vec<Group>,
    recompute: bool,
    micro_batch_tokens: usize,
}

impl Preference<'_> {
    fn scores(&self, adapter: &Adapter, groups: &[Group], ws: &mut Workspace) -> Result<Vec<f64>, LearnError> {
        let all: Vec<Sequence> = groups.iter().flat_map(|g| g.sequences.iter().cloned()).collect();
        raw_scores(self.base, adapter, &all, self.micro_batch_tokens, ws)
    }

    /// Mean 0 on the demonstrations (or on the candidates, where those are few), deviation 1 on the candidates.
    fn normalisation(&self, adapter: &Adapter, demonstrations: &[Sequence]) -> Result<Normalisation, LearnError> {
        let mut ws = Workspace::new();
        let candidates = self.scores(adapter, &self.groups, &mut ws)?;
        let (mut mean, variance) = mean_variance(&candidates);
        let enough = demonstrations.len() >= DEMONSTRATIONS_MIN;
        if enough {
            let ideal = raw_scores(self.base, adapter, demonstrations, self.micro_batch_tokens, &mut ws)?;
            mean = mean_variance(&ideal).0;
        }
        let mean_over = if enough { "demonstrations" } else { "candidates" }.to_owned();
        Ok(Normalisation { mean, std: variance.sqrt().max(1e-6), mean_over })
    }
}

impl Objective for Preference<'_> {
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
        let members: Vec<&Sequence> = micro.iter().flat_map(|&i| &self.groups[i].sequences).collect();
        let packed = Batch::pack(&members);
        let rows = last_rows(&packed);
        let weight = head_weight(adapter)?;
        let hidden = forward(self.base, Some(adapter), &packed, super::keep(self.recompute), ws)?;
        let scores = head::scores(&hidden, &rows, weight);
        let mut total = Total::default();
        for &i in micro {
            total.add(&self.groups[i], &scores[total.d_scores.len()..], step.batch.len() as f64);
        }
        let mut d_hidden = vec![0.0; hidden.len()];
        let d_weight = grads.get_mut(SCORE_WEIGHT).map(|p| p.data.as_mut_slice()).unwrap_or_default();
        head::scores_backward(&hidden, &rows, weight, &total.d_scores, &mut d_hidden, d_weight);
        ws.give(hidden);
        backward(self.base, adapter, &packed, ws, &d_hidden, grads)?;
        let pairs_batch: usize = step.batch.iter().map(|&i| self.groups[i].pairs.len()).sum();
        Ok([(LOSS, total.loss), ("accuracy", total.correct / pairs_batch as f64)].into())
    }

    fn held_out(&self, adapter: &Adapter, ws: &mut Workspace) -> Result<BTreeMap<String, f64>, LearnError> {
        if self.held_out.is_empty() {
            return Ok(BTreeMap::new());
        }
        let scores = self.scores(adapter, &self.held_out, ws)?;
        let (mut loss, mut correct, mut pairs, mut first) = (0.0, 0.0, 0.0, 0);
        for g in &self.held_out {
            let mine = &scores[first..first + g.sequences.len()];
            first += g.sequences.len();
            loss += losses::ranking(mine, &g.pairs).value / self.held_out.len() as f64;
            correct += losses::pairs_correct(mine, &g.pairs);
            pairs += g.pairs.len() as f64;
        }
        let accuracy = correct / pairs;
        let named = [("evaluate/loss", loss), ("evaluate/accuracy", accuracy), ("evaluate/pairs", pairs)];
        Ok(named.map(|(name, x)| (name.to_owned(), x)).into())
    }
}

/// A micro-batch's sums, in the groups' order.
#[derive(Default)]
struct Total {
    loss: f64,
    correct: f64,
    d_scores: Vec<f32>,
}

impl Total {
    /// Adds a group, whose scores are the first of `scores`; the loss is a mean over `prompts`.
    fn add(&mut self, group: &Group, scores: &[f32], prompts: f64) {
        let mine: Vec<f64> = scores[..group.sequences.len()].iter().map(|&s| f64::from(s)).collect();
        let loss = losses::ranking(&mine, &group.pairs);
        self.loss += loss.value / prompts;
        self.correct += losses::pairs_correct(&mine, &group.pairs);
        self.d_scores.extend(loss.grad.iter().map(|&g| (g / prompts) as f32));
    }
}
