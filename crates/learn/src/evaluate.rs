//! Two policies on held-out prompts: rewards, win rate, KL to the reference, answer lengths, each with an interval. The gate decides
//! on this report; nothing is learned here.

mod asking;
mod config;
mod judge;
pub mod length;
mod rounds;
pub mod suites;

pub use config::EvaluateConfig;
pub use judge::{BestOfN, Judgement};
pub use rounds::{Round, better};

use crate::LearnError;
use crate::gae::mean_variance;
use crate::head;
use crate::lora::Adapter;
use crate::model::{Base, Batch, Keep, Workspace, forward};
use crate::train::Context;
use crate::train::data::{Encoder, Limits, Sequence};
use crate::train::roles::RewardModel;
use asking::{Answers, Asking};
use hone_domain::ids::PolicyId;
use hone_domain::{Message, PromptItem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Two-sided 95 % quantile of the normal distribution.
pub(crate) const Z95: f64 = 1.959_963_984_540_054;

/// The adapters that are compared; `None` is the bare base.
#[derive(Debug, Clone, Copy)]
pub struct Contenders<'a> {
    /// The policy in service.
    pub old: Option<&'a Path>,
    /// The candidate.
    pub new: Option<&'a Path>,
    /// What KL is measured to.
    pub reference: Option<&'a Path>,
    /// What the policy was optimised against: a reward run's artifact.
    pub reward: &'a Path,
    /// The judge: a reward model that the policy was not optimised against, where there is one.
    pub judge: Option<&'a Path>,
    /// Policies of earlier rounds that might be better than the candidate.
    pub earlier: &'a BTreeMap<PolicyId, PathBuf>,
}

/// A figure and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One prompt, both answers, and what the judge gave them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt.
    pub messages: Vec<Message>,
    /// The old policy's answer.
    pub old: String,
    /// The new policy's.
    pub new: String,
    /// Reward of the old answer.
    pub reward_old: f64,
    /// Reward of the new one.
    pub reward_new: f64,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluateReport {
    /// Mean reward of the old policy's answers (mean 0, deviation 1 on the reward model's training answers).
    pub reward_old_mean: Estimate,
    /// Mean reward of the new policy's answers.
    pub reward_new_mean: Estimate,
    /// Mean of new - old, prompt by prompt.
    pub reward_gain: Estimate,
    /// Share of prompts on which the new answer has the higher reward, ties half.
    pub win_rate: Estimate,
    /// Win rate if both answers were equally long (`length::controlled_win_rate`). `None` where that can't be told, and in reports
    /// from before it was measured.
    #[serde(default)]
    pub win_rate_length_controlled: Option<Estimate>,
    /// Correlation of reward with length in the new policy's answers (`length::correlation`). `None` where either is constant.
    #[serde(default)]
    pub reward_length_correlation: Option<Estimate>,
    /// KL(new, reference) per answer, nats.
    pub kl_nats: Estimate,
    /// Mean answer length of the old policy, tokens.
    pub response_tokens_old: f64,
    /// Mean answer length of the new policy, tokens.
    pub response_tokens_new: f64,
    /// Share of the new policy's answers that end by themselves.
    pub ended_new: f64,
    /// Prompts that were used.
    pub n: usize,
    /// Prompts that were too long.
    pub skipped: usize,
    /// What the judge says, where there was one.
    #[serde(default)]
    pub judge: Option<Judgement>,
    /// What policies of earlier rounds do on the same prompts, against the new one.
    #[serde(default)]
    pub earlier: Vec<Round>,
    /// Some pairs of answers.
    pub samples: Vec<Sample>,
}

/// Lets both policies answer the prompts and compares them. Both draw from the same seed, so equal policies give equal answers.
///
/// # Errors
/// No prompt that fits, adapters of another base, a stop.
pub fn policies(
    config: &EvaluateConfig,
    prompts: &[PromptItem],
    contenders: &Contenders<'_>,
    ctx: &mut Context<'_>,
) -> Result<EvaluateReport, LearnError> {
    let Contenders { old, new, reference, reward, judge, earlier } = *contenders;
    let load = |dir: Option<&Path>| dir.map(|d| Adapter::load(d, ctx.base.config())).transpose();
    let (old, new, reference) = (load(old)?, load(new)?, load(reference)?);
    let reward = RewardModel::load(reward, ctx.base)?;
    let judge = judge.map(|dir| RewardModel::load(dir, ctx.base)).transpose()?;
    let (used, encoded, skipped) = encode(config, prompts, ctx)?;
    let best_of = if judge.is_some() && config.best_of > 1 { config.best_of } else { 0 };
    let answers_total = (2 + best_of + earlier.len()) * encoded.len();
    let mut asking = Asking::new(config, &reward, judge.as_ref(), answers_total);
    let by_old = asking.answer(&encoded, old.as_ref(), ctx)?;
    let by_new = asking.answer(&encoded, new.as_ref(), ctx)?;
    let kl = asking.kl(&by_new, new.as_ref(), reference.as_ref(), ctx)?;
    let mut report = compare(&by_old, &by_new, &kl);
    let of_new = asking.verdict(&by_new, ctx)?;
    if judge.is_some() {
        let best = asking.best_of(best_of, &encoded, old.as_ref(), ctx)?;
        let (of_old, of_best) = (asking.verdict(&by_old, ctx)?, asking.verdict(&best, ctx)?);
        let best = (best_of > 0).then_some((best_of, of_best.as_slice()));
        report.judge = Some(judge::judgement(&of_old, &of_new, &length_differences(&by_old, &by_new), best));
    }
    report.earlier = rounds::compare(earlier, &encoded, &of_new, &mut asking, ctx)?;
    report.skipped = skipped;
    report.samples = samples(&used, &by_old, &by_new, ctx, config.samples_max);
    Ok(report)
}

type Encoded<'p> = (Vec<&'p PromptItem>, Vec<Vec<u32>>, usize);

fn encode<'p>(
    config: &EvaluateConfig,
    prompts: &'p [PromptItem],
    ctx: &Context<'_>,
) -> Result<Encoded<'p>, LearnError> {
    let context = ctx.base.config().context;
    let room = context.saturating_sub(config.max_new_tokens);
    let limits =
        Limits { prompt_tokens: config.prompt_tokens_max.min(room), answer_tokens: config.max_new_tokens, context };
    let mut encoder = Encoder::new(ctx.tokenizer, limits);
    let (mut used, mut encoded) = (Vec::new(), Vec::new());
    for item in prompts {
        if let Some(tokens) = encoder.prompt(&item.messages)? {
            used.push(item);
            encoded.push(tokens);
        }
        if used.len() == config.prompts_max {
            break;
        }
    }
    if used.is_empty() {
        let reason = format!(
            "none of the {} held-out prompts can be evaluated (at most {} tokens each): let more people chat, or import more",
            prompts.len(),
            limits.prompt_tokens
        );
        return Err(LearnError::BadData { reason });
    }
    Ok((used, encoded, encoder.misfits.skipped))
}

/// What a difference above, at and below 0 counts as: a win, half of one, none.
fn won(gain: &f64) -> f64 {
    if *gain > 0.0 { 1.0 } else { f64::from(u8::from(*gain == 0.0)) / 2.0 }
}

/// New - old, tokens, prompt by prompt.
fn length_differences(old: &Answers, new: &Answers) -> Vec<f64> {
    new.lengths().iter().zip(old.lengths()).map(|(n, o)| n - o).collect()
}

fn compare(old: &Answers, new: &Answers, kl: &[f64]) -> EvaluateReport {
    let gains: Vec<f64> = new.rewards.iter().zip(&old.rewards).map(|(n, o)| n - o).collect();
    let wins: Vec<f64> = gains.iter().map(won).collect();
    let n = gains.len();
    let (tokens_old, tokens_new) = (old.lengths(), new.lengths());
    let mean = |tokens: &[f64]| tokens.iter().sum::<f64>() / n as f64;
    EvaluateReport {
        reward_old_mean: mean_interval(&old.rewards),
        reward_new_mean: mean_interval(&new.rewards),
        reward_gain: mean_interval(&gains),
        win_rate: wilson_interval(wins.iter().sum(), n),
        win_rate_length_controlled: length::controlled_win_rate(&wins, &length_differences(old, new)),
        reward_length_correlation: length::correlation(&new.rewards, &tokens_new),
        kl_nats: mean_interval(kl),
        response_tokens_old: mean(&tokens_old),
        response_tokens_new: mean(&tokens_new),
        ended_new: new.ended.iter().filter(|&&e| e).count() as f64 / n as f64,
        n,
        skipped: 0,
        judge: None,
        earlier: Vec::new(),
        samples: Vec::new(),
    }
}

fn samples(used: &[&PromptItem], old: &Answers, new: &Answers, ctx: &Context<'_>, most: usize) -> Vec<Sample> {
    let text = |s: &Sequence| ctx.tokenizer.decode(&s.tokens[s.prompt_len..]);
    let sample = |i: usize| Sample {
        messages: used[i].messages.clone(),
        old: text(&old.sequences[i]),
        new: text(&new.sequences[i]),
        reward_old: old.rewards[i],
        reward_new: new.rewards[i],
    };
    (0..used.len().min(most)).map(sample).collect()
}

/// Mean +- 1.96 s / sqrt(n), s the sample deviation. One value alone has no interval: both ends are infinitely far, which JSON can't
/// say, so they are the largest numbers.
#[must_use]
pub fn mean_interval(xs: &[f64]) -> Estimate {
    let n = xs.len() as f64;
    let (mean, population) = mean_variance(xs);
    let half = if n > 1.0 { Z95 * (population / (n - 1.0)).sqrt() } else { f64::MAX / 2.0 };
    Estimate { mean, low: mean - half, high: mean + half }
}

/// Sum of `of` / sum of `all`, where each place is one independent group: the interval of a ratio by linearisation (Cochran, "Sampling
/// Techniques", 1977, 6.4), so that the pairs of one ranking don't count as so many witnesses.
#[must_use]
pub fn ratio_interval(of: &[f64], all: &[f64]) -> Estimate {
    let (n, total) = (of.len() as f64, all.iter().sum::<f64>());
    let mean = of.iter().sum::<f64>() / total;
    let squares: f64 = of.iter().zip(all).map(|(x, y)| (x - mean * y).powi(2)).sum();
    let half = if n > 1.0 { Z95 * (n / (n - 1.0) * squares).sqrt() / total } else { f64::MAX / 2.0 };
    Estimate { mean, low: mean - half, high: mean + half }
}

/// Wilson's score interval of a share (Wilson 1927): it stays within 0..1 and has a width where all or none won.
#[must_use]
pub fn wilson_interval(wins: f64, n: usize) -> Estimate {
    let n = (n as f64).max(1.0);
    let (p, z2) = (wins / n, Z95 * Z95);
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // Rounding may put an end on the wrong side of 0 or 1.
    Estimate { mean: p, low: (middle - half).min(p), high: (middle + half).max(p) }
}

/// log p(token[t] | token[..t]) at temperature 1 for t = 1..T, natural log: the trainer's side of the serve check.
///
/// # Shapes
/// `tokens` (T), answer (T - 1).
///
/// # Errors
/// A token outside of the vocabulary, more tokens than the context.
pub fn logprobs(base: &Base, adapter: Option<&Adapter>, tokens: &[u32]) -> Result<Vec<f32>, LearnError> {
    if tokens.len() < 2 {
        return Ok(Vec::new());
    }
    let hidden = forward(base, adapter, &Batch::pack(&[tokens]), Keep::Nothing, &mut Workspace::new())?;
    let rows: Vec<usize> = (0..tokens.len() - 1).collect();
    Ok(head::selected_logprobs(base, &hidden, &rows, &tokens[1..], 1.0).logprob)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answers(rewards: &[f64]) -> Answers {
        let sequences = rewards.iter().map(|_| Sequence::new(&[1], &[2, 3])).collect();
        Answers { sequences, ended: vec![true; rewards.len()], rewards: rewards.to_vec() }
    }

    #[test]
    fn a_ratio_has_the_interval_of_its_groups() {
        // With groups of equal size it is the mean of their shares; R: t.test(c(1, .5, 0, 1), ...) has the same standard error, 0.2394.
        let (ratio, mean) = (ratio_interval(&[6.0, 3.0, 0.0, 6.0], &[6.0; 4]), mean_interval(&[1.0, 0.5, 0.0, 1.0]));
        assert!((ratio.mean - 0.625).abs() < 1e-12 && (ratio.low - mean.low).abs() < 1e-12, "{ratio:?} {mean:?}");
        // A group without a pair says nothing.
        assert!((ratio_interval(&[6.0, 0.0], &[6.0, 0.0]).mean - 1.0).abs() < 1e-12);
        assert!(ratio_interval(&[1.0], &[2.0]).low < -1e9, "one group alone");
    }

    #[test]
    fn ties_count_half_and_gains_are_paired() {
        let r = compare(&answers(&[0.0, 1.0, 5.0, 2.0]), &answers(&[1.0, 1.0, 6.0, 1.0]), &[0.5; 4]);
        assert_eq!((r.win_rate.mean, r.reward_gain.mean, r.n), (0.625, 0.25, 4));
        assert_eq!((r.kl_nats.mean, r.kl_nats.low, r.response_tokens_new), (0.5, 0.5, 2.0));
        // Equally long answers: only the smoothing of 2.5 wins of 4 is left, and no correlation.
        assert!(r.win_rate_length_controlled.is_some_and(|w| (w.mean - 3.0 / 5.0).abs() < 1e-9));
        assert!(r.reward_length_correlation.is_none());
    }

    #[test]
    fn reports_from_before_the_length_figures_are_read() {
        let report = compare(&answers(&[0.0, 1.0]), &answers(&[1.0, 1.0]), &[0.5; 2]);
        let mut json = serde_json::to_value(&report).unwrap();
        let fields = json.as_object_mut().unwrap();
        assert!(fields.remove("win_rate_length_controlled").is_some_and(|v| v.is_object()));
        assert!(fields.remove("reward_length_correlation").is_some());
        let old: EvaluateReport = serde_json::from_value(json).unwrap();
        assert_eq!(old, EvaluateReport { win_rate_length_controlled: None, ..report });
    }

    #[test]
    fn intervals_match_known_values() {
        // R: t.test-like normal interval of 1..5 is 3 +- 1.96 * sqrt(2.5 / 5); binom::binom.wilson(8, 10) is .4902..0.9433
        let m = mean_interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((m.high - 3.0 - 1.959_964 * (0.5f64).sqrt()).abs() < 1e-5 && (m.low + m.high - 6.0).abs() < 1e-12);
        let w = wilson_interval(8.0, 10);
        assert!((w.low - 0.490_2).abs() < 1e-4 && (w.high - 0.943_3).abs() < 1e-4, "{w:?}");
        let all = wilson_interval(20.0, 20);
        assert!(all.high <= 1.0 + 1e-12 && all.low > 0.8 && all.low < 1.0);
        assert!((1..300).all(|n| wilson_interval(0.0, n).low <= 0.0 && wilson_interval(n as f64, n).high >= 1.0));
    }
}
