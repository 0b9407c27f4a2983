//! The figures that the gate decides on, from what an evaluation, a serve check and the runs of the reward models have found. Pure.

use crate::jobs::evaluate_policy::Evaluation;
use crate::serving::ServeCheckReport;
use hone_domain::ids::PolicyId;
use hone_learn::evaluate::suites::Change;
use hone_learn::evaluate::{self, Round};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The figures that the gate decides on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateInputs {
    /// Held-out prompts that were judged.
    pub prompts: usize,
    /// Mean of (reward of the new policy's answer - reward of the old one's) over the prompts.
    pub reward_gain: f64,
    /// Its 95 % interval.
    pub reward_gain_interval: (f64, f64),
    /// The judge's verdict, where there was one.
    pub judge: Option<JudgeFigures>,
    /// The win rate if answers were equally long, and its 95 % interval: the judge's, or the reward's where there is no judge. `None` where it
    /// can't be told.
    #[serde(default)]
    pub equal_length: Option<(f64, (f64, f64))>,
    /// How far the reward model that was optimised against can be believed.
    #[serde(default)]
    pub reward_accuracy: Option<Accuracy>,
    /// The policy of an earlier round that is surely better than this one, the best of several.
    #[serde(default)]
    pub better: Option<Round>,
    /// How many policies of earlier rounds answered the same prompts.
    #[serde(default)]
    pub earlier: usize,
    /// The policy of an earlier round that this one is, where it was surely better than what this round has made.
    #[serde(default)]
    pub elected: Option<PolicyId>,
    /// Mean KL(new || reference) per answer.
    pub kl_nats: f64,
    /// Mean length of the old policy's answers.
    pub tokens_old: f64,
    /// Mean length of the new policy's answers.
    pub tokens_new: f64,
    /// Tokens whose log-probability the engine and the trainer computed.
    pub serve_check_tokens: usize,
    /// Mean of their absolute difference.
    pub serve_check_mean_nats: f64,
    /// Largest of them.
    pub serve_check_max_nats: f64,
    /// Whether the engine's own bounds, on outliers too, are kept.
    pub serve_check_passed: bool,
    /// The suites' figures, new against old.
    #[serde(default)]
    pub changes: Vec<Change>,
}

impl GateInputs {
    /// The figures that an evaluation, a serve check, and the judge's and the reward model's own runs have found.
    #[must_use]
    pub fn of(
        evaluation: &Evaluation,
        served: &ServeCheckReport,
        accuracy: Accuracies,
        elected: Option<PolicyId>,
    ) -> Self {
        let report = &evaluation.report;
        let equal_length = match &report.judge {
            Some(judge) => judge.win_rate_length_controlled,
            None => report.win_rate_length_controlled,
        };
        Self {
            prompts: report.n,
            reward_gain: report.reward_gain.mean,
            reward_gain_interval: (report.reward_gain.low, report.reward_gain.high),
            judge: report.judge.as_ref().map(|judge| JudgeFigures {
                win_rate: judge.win_rate.mean,
                win_rate_interval: (judge.win_rate.low, judge.win_rate.high),
                best_of_n: judge.best_of_n.map(|best| (best.n, best.win_rate.mean)),
                accuracy: accuracy.judge,
            }),
            equal_length: equal_length.map(|rate| (rate.mean, (rate.low, rate.high))),
            reward_accuracy: accuracy.reward,
            better: evaluate::better(&report.earlier).cloned(),
            earlier: report.earlier.len(),
            elected,
            kl_nats: report.kl_nats.mean,
            tokens_old: report.response_tokens_old,
            tokens_new: report.response_tokens_new,
            serve_check_tokens: served.tokens,
            serve_check_mean_nats: served.mean_abs_diff_nats,
            serve_check_max_nats: served.max_abs_diff_nats,
            serve_check_passed: served.passed,
            changes: evaluation.suites.iter().flat_map(|suite| suite.changes.clone()).collect(),
        }
    }
}

/// What the judge found on the held-out prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct JudgeFigures {
    /// Share of prompts on which the new answer is better, ties half.
    pub win_rate: f64,
    /// Its 95 % interval.
    pub win_rate_interval: (f64, f64),
    /// The same of the old policy's best of so many answers.
    pub best_of_n: Option<(usize, f64)>,
    /// How far the judge itself can be believed; `None` in decisions from before that was asked.
    #[serde(default)]
    pub accuracy: Option<Accuracy>,
}

/// What the runs of the judge and of the reward model say of themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Accuracies {
    /// Of the judge, where there is one.
    pub judge: Option<Accuracy>,
    /// Of the model that was optimised against.
    pub reward: Option<Accuracy>,
}

/// A reward model on rankings that it never saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of the pairs that it orders as people did.
    pub share: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// The rankings.
    pub rankings: usize,
}

impl Accuracy {
    /// As its run has measured it.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
    pub fn of(metrics: &Value) -> Option<Self> {
        let figure = |name: &str| metrics[name].as_f64();
        let rankings = figure("evaluate/rankings")? as usize;
        Some(Self { share: figure("evaluate/accuracy")?, low: figure("evaluate/accuracy_low")?, rankings })
    }
}
