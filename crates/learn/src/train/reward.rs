//! The reward model (Ouyang et al. 2022, section 3.5): a scalar head at the last token, trained on rankings, all pairs of a prompt
//! in one batch element, so that each completion is run forward once.

use super::agreement::agreement;
use super::calibration::calibration;
use super::data::{Encoder, Limits, Sequence};
use super::packed::Packed;
use super::reward_model::Normalisation;
use super::reward_report::{Scored, differences, mean_score, report};
use super::roles::{head_scores, head_weight};
use super::supervised::{self, LOSS, Objective, Plan, Step};
use super::{Context, Outcome, RewardConfig, finish, fresh_adapter, identity};
use crate::checkpoint::Checkpoints;
use crate::evaluate::ratio_interval;
use crate::lora::{Adapter, SCORE_WEIGHT};
use crate::model::{Base, Workspace, backward, forward};
use crate::params::Params;
use crate::{LearnError, head, losses};
use hone_domain::{DataSet, RankedPrompt};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::path::Path;

/// So many demonstrations give the zero of the reward; fewer would be noise, and the candidates' mean is taken.
const DEMONSTRATIONS_MIN: usize = 8;

/// Stream of random numbers for the heads' start and samples, apart from those of weights and data orders.
const ENSEMBLE_STREAM: u64 = u64::MAX - 1;

/// Trains LoRA and scalar head (or heads) on the rankings, from the adapter in `init` (SFT's, or an earlier reward model's) or a fresh one.
/// Leaves both in `run_dir/artifact`, with the normalisation in its `reward.json` and what it is worth in `reward_report.json`.
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
    let groups = encode(&data.rankings, config.margin_max, &mut encoder)?;
    let held_out = encode(&data.held_out_rankings, config.margin_max, &mut encoder)?;
    let demonstrations = ideals(data, &mut encoder)?;
    let misfits = encoder.misfits;
    if groups.is_empty() {
        return Err(LearnError::BadData { reason: why_empty(data) });
    }
    let mut adapter = start(config, init, ctx)?;
    let checkpoints = Checkpoints::new(ctx.run_dir, identity("reward", config, data, &[init], ctx)?);
    let objective = Preference {
        base: ctx.base,
        samples: bootstrap(config.ensemble_heads, groups.len(), ctx.seed),
        smoothing: config.label_smoothing,
        sizes: groups.iter().map(Group::tokens).collect(),
        groups,
        held_out,
        recompute: config.recompute,
        micro_batch_tokens: config.micro_batch_tokens,
    };
    let mut metrics = supervised::train(&objective, &plan(config), &mut adapter, checkpoints, ctx)?;
    let mut ws = Workspace::new();
    let train = objective.scored(&adapter, &objective.groups, &mut ws)?;
    let held_out = objective.scored(&adapter, &objective.held_out, &mut ws)?;
    let ideal = match demonstrations.len() {
        0..DEMONSTRATIONS_MIN => None,
        _ => Some(head_scores(ctx.base, &adapter, &demonstrations, config.micro_batch_tokens, &mut ws)?),
    };
    let normalisation = Normalisation::fit(config, &train.raw, ideal.as_deref());
    let agreement = agreement(data.rankings.iter().chain(&data.held_out_rankings));
    let report = report(&train, &held_out, &agreement, &normalisation);
    metrics.extend(report.metrics());
    metrics.extend(misfits.report());
    metrics.extend([
        ("data/rankings".to_owned(), objective.groups.len() as f64),
        ("data/held_out_rankings".to_owned(), objective.held_out.len() as f64),
        ("reward/mean".to_owned(), normalisation.mean),
        ("reward/std".to_owned(), normalisation.std),
    ]);
    finish(&adapter, ctx, metrics, |dir| {
        normalisation.save(dir)?;
        report.save(dir)
    })
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

/// The adapter to start from, with its scalar heads: an earlier reward model's, or fresh ones.
fn start(config: &RewardConfig, init: Option<&Path>, ctx: &Context<'_>) -> Result<Adapter, LearnError> {
    let (n, hidden) = (config.ensemble_heads, ctx.base.config().hidden);
    let mut adapter = match init {
        Some(dir) => Adapter::load(dir, ctx.base.config())?,
        None => fresh_adapter(ctx, config.lora_r, config.lora_alpha, &config.lora_targets, config.lora_first_layer)?,
    };
    match adapter.score_weight().map(|w| w.len() / hidden) {
        None => adapter.params.push(SCORE_WEIGHT, vec![n, hidden], fresh_heads(n, hidden, ctx.seed)),
        Some(found) if found == n => {}
        Some(found) => {
            let reason =
                format!("is {n}, but the reward model to start from has {found}: set it to {found}, or start from SFT");
            return Err(LearnError::BadConfig { name: "ensemble_heads".into(), reason });
        }
    }
    Ok(adapter)
}

/// One head starts at zero: it knows nothing. Several start small and apart, uniform in +-sqrt(3 / (hidden + 1)), whose deviation
/// is that of Huang et al. 2024 (arXiv 2403.17031), 1 / sqrt(hidden + 1): where no ranking tells them otherwise they go on to differ.
fn fresh_heads(n: usize, hidden: usize, seed: u64) -> Vec<f32> {
    if n == 1 {
        return vec![0.0; hidden];
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(ENSEMBLE_STREAM);
    let bound = (3.0 / (hidden as f32 + 1.0)).sqrt();
    (0..n * hidden).map(|_| rng.random_range(-bound..bound)).collect()
}

/// How often each of `prompts` is in each head's sample, `(heads, prompts)`: as many draws with replacement as there are prompts
/// (Efron 1979). A single head takes every prompt once.
fn bootstrap(heads: usize, prompts: usize, seed: u64) -> Vec<Vec<f64>> {
    if heads == 1 {
        return vec![vec![1.0; prompts]];
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(ENSEMBLE_STREAM - 1);
    let sample = |_| {
        let mut times = vec![0.0; prompts];
        (0..prompts).for_each(|_| times[rng.random_range(0..prompts)] += 1.0);
        times
    };
    (0..heads).map(sample).collect()
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

/// A prompt's completions, the pairs that the labeler ordered, and by what margin.
pub(crate) struct Group {
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) pairs: Vec<(usize, usize)>,
    pub(crate) margins: Vec<f64>,
    pub(crate) labeler: String,
    /// The prompt's last message, and the completions' texts and flags, as people saw them: for the report.
    pub(crate) prompt: String,
    pub(crate) answers: Vec<String>,
    pub(crate) flags: Vec<Vec<String>>,
}

impl Group {
    fn tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.tokens.len()).sum()
    }
}

/// How far apart the labeler sees two answers, 0 to 1: by the quality marks where both have one (1 to 7, so 6 is the most), else by
/// the tiers that lie between them, 1 for the best and the worst of K > 2.
fn apart(r: &RankedPrompt, better: usize, worse: usize) -> f64 {
    let mark = |i: usize| r.quality.get(i).copied().flatten().map(f64::from);
    if let (Some(b), Some(w)) = (mark(better), mark(worse)) {
        return ((b - w) / 6.0).clamp(0.0, 1.0);
    }
    let (ranks, between) = (r.ranking.ranks(), r.candidates.len().saturating_sub(2).max(1));
    f64::from(ranks[worse] - ranks[better] - 1) / between as f64
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
fn encode(rankings: &[RankedPrompt], margin_max: f64, encoder: &mut Encoder<'_>) -> Result<Vec<Group>, LearnError> {
    let mut groups = Vec::new();
    for r in rankings.iter().filter(|r| !r.ranking.pairs().is_empty()) {
        if let Some(prompt) = encoder.prompt(&r.messages)? {
            let sequences = r.candidates.iter().map(|c| encoder.answer(&prompt, c, true)).collect::<Result<_, _>>()?;
            let pairs = r.ranking.pairs();
            let margins = pairs.iter().map(|&(w, l)| margin_max * apart(r, w, l)).collect();
            let asked = r.messages.last().map(|m| m.content.clone()).unwrap_or_default();
            groups.push(Group {
                sequences,
                pairs,
                margins,
                labeler: r.labeler.clone(),
                prompt: asked,
                answers: r.candidates.clone(),
                flags: r.flags.clone(),
            });
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

/// The objective: the mean over heads and over a batch's prompts of `losses::ranking_with`, each prompt as often as it is in the
/// head's sample.
struct Preference<'a> {
    base: &'a Base,
    groups: Vec<Group>,
    sizes: Vec<usize>,
    held_out: Vec<Group>,
    /// How often a head takes a prompt, `(heads, prompts)`.
    samples: Vec<Vec<f64>>,
    smoothing: f64,
    recompute: bool,
    micro_batch_tokens: usize,
}

impl Preference<'_> {
    fn scored<'g>(&self, adapter: &Adapter, groups: &'g [Group], ws: &mut Workspace) -> Result<Scored<'g>, LearnError> {
        let all: Vec<Sequence> = groups.iter().flat_map(|g| g.sequences.iter().cloned()).collect();
        Ok(Scored { groups, raw: head_scores(self.base, adapter, &all, self.micro_batch_tokens, ws)? })
    }

    /// The loss of one head on a micro-batch, of which `scores` are the completions', and its gradient.
    fn head_loss(&self, head: usize, micro: &[usize], scores: &[f32], prompts: usize) -> (f64, Vec<f32>) {
        let (mut value, mut d_scores) = (0.0, Vec::with_capacity(scores.len()));
        for &i in micro {
            let g = &self.groups[i];
            let mine: Vec<f64> = scores[d_scores.len()..][..g.sequences.len()].iter().map(|&s| f64::from(s)).collect();
            let loss = losses::ranking_with(&mine, &g.pairs, &g.margins, self.smoothing);
            let weight = self.samples[head][i] / (prompts * self.samples.len()) as f64;
            value += weight * loss.value;
            d_scores.extend(loss.grad.iter().map(|&g| (weight * g) as f32));
        }
        (value, d_scores)
    }

    /// Pairs of a micro-batch that the mean of the heads' scores orders as the labeler did.
    fn correct(&self, micro: &[usize], mean: &[f64]) -> f64 {
        let mut first = 0;
        let of = |&i: &usize| {
            let g = &self.groups[i];
            first += g.sequences.len();
            losses::pairs_correct(&mean[first - g.sequences.len()..first], &g.pairs)
        };
        micro.iter().map(of).sum()
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
        let packed = Packed::new(&members);
        let rows = packed.last_rows();
        let weights = head_weight(adapter)?;
        let hidden = forward(self.base, Some(adapter), &packed.batch, super::keep(self.recompute), ws)?;
        let (mut loss, mut mean, mut d_hidden) = (0.0, vec![0.0; rows.len()], vec![0.0; hidden.len()]);
        let d_weights = grads.get_mut(SCORE_WEIGHT).map(|p| p.data.as_mut_slice()).unwrap_or_default();
        let width = self.base.config().hidden;
        let heads = weights.chunks_exact(width).zip(d_weights.chunks_exact_mut(width)).enumerate();
        for (head, (weight, d_weight)) in heads {
            let scores = head::scores(&hidden, &rows, weight);
            let (share, d_scores) = self.head_loss(head, micro, &scores, step.batch.len());
            loss += share;
            mean.iter_mut().zip(&scores).for_each(|(m, &s)| *m += f64::from(s) / self.samples.len() as f64);
            head::scores_backward(&hidden, &rows, weight, &d_scores, &mut d_hidden, d_weight);
        }
        ws.give(hidden);
        backward(self.base, adapter, &packed.batch, ws, &d_hidden, grads)?;
        let pairs_batch: usize = step.batch.iter().map(|&i| self.groups[i].pairs.len()).sum();
        Ok([(LOSS, loss), ("accuracy", self.correct(micro, &mean) / pairs_batch as f64)].into())
    }

    fn held_out(&self, adapter: &Adapter, ws: &mut Workspace) -> Result<BTreeMap<String, f64>, LearnError> {
        if self.held_out.is_empty() {
            return Ok(BTreeMap::new());
        }
        let scored = self.scored(adapter, &self.held_out, ws)?;
        let (mut loss, mut correct, mut pairs) = (0.0, Vec::new(), Vec::new());
        for (g, scores) in scored.each(mean_score) {
            // Without margin and smoothing: so that runs with different settings can be compared.
            loss += losses::ranking(&scores, &g.pairs).value / self.held_out.len() as f64;
            correct.push(losses::pairs_correct(&scores, &g.pairs));
            pairs.push(g.pairs.len() as f64);
        }
        let accuracy = ratio_interval(&correct, &pairs);
        let named = [
            ("evaluate/loss", loss),
            ("evaluate/accuracy", accuracy.mean),
            ("evaluate/accuracy_low", accuracy.low),
            ("evaluate/pairs", pairs.iter().sum()),
            ("evaluate/rankings", pairs.len() as f64),
        ];
        let mut figures: BTreeMap<String, f64> = named.map(|(name, x)| (name.to_owned(), x)).into();
        let calibrated = calibration(&differences(&scored));
        figures.extend(calibrated.map(|c| ("evaluate/calibration_error".to_owned(), c.error)));
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::{Message, Ranking};

    #[test]
    fn margins_follow_the_marks_or_else_the_tiers() {
        let mut r = RankedPrompt {
            messages: vec![Message::user("q")],
            candidates: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
            ranking: Ranking::from_ranks(&[0, 1, 2, 3]).expect("a ranking"),
            quality: Vec::new(),
            flags: Vec::new(),
            labeler: "ann".into(),
        };
        assert_eq!([(0, 1), (0, 2), (0, 3)].map(|(w, l)| apart(&r, w, l)), [0.0, 0.5, 1.0]);
        r.quality = vec![Some(7), Some(4), Some(1), None];
        assert_eq!([(0, 1), (0, 2), (0, 3)].map(|(w, l)| apart(&r, w, l)), [0.5, 1.0, 1.0], "the last has no mark");
        r.quality[1] = Some(7);
        assert_eq!(apart(&r, 0, 1), 0.0);
        r.candidates.truncate(2);
        r.ranking = Ranking::from_ranks(&[1, 0]).expect("a ranking");
        r.quality.clear();
        assert_eq!(apart(&r, 1, 0), 0.0, "of two, who knows how much");
    }

    #[test]
    fn each_head_has_its_own_sample_of_as_many_prompts() {
        let samples = bootstrap(4, 300, 9);
        assert_eq!(samples, bootstrap(4, 300, 9));
        assert!(samples.iter().all(|s| s.iter().sum::<f64>() == 300.0));
        assert!(samples[0] != samples[1]);
        let left_out = samples[0].iter().filter(|&&n| n == 0.0).count() as f64 / 300.0;
        assert!((left_out - (-1f64).exp()).abs() < 0.1, "about 1/e of the prompts are left out: {left_out}");
        assert_eq!(bootstrap(1, 3, 9), [[1.0; 3]]);
        assert_eq!(fresh_heads(1, 5, 9), [0.0; 5]);
        let heads = fresh_heads(2, 500, 9);
        assert!(heads[..500] != heads[500..] && heads.iter().all(|w| w.abs() < 0.08));
    }
}
