//! The gate: what a new policy must show before people get it. Pure: figures in, a report out, rule by rule.
//! The reward that PPO optimised rises easily; so it must rise on prompts that were never trained on, and only together with the
//! verdict of a judge that nothing was optimised against, a bounded distance from the reference, a sane answer length, and an engine
//! that serves what was trained.

use serde::{Deserialize, Serialize};

/// Bounds of the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// The lower end of the 95 % interval of the held-out reward's gain must lie above this.
    pub reward_gain_min: f64,
    /// The lower end of the 95 % interval of the share of held-out prompts on which the judge prefers the new answer must lie above this.
    pub judge_win_rate_min: f64,
    /// Rankings that a judge is trained on at least; with fewer there is none, as it would guess (measured: one of 22 rankings saw 55 % where
    /// the labeler saw far more). About a fifth of all rankings are the judge's.
    pub judge_rankings_min: usize,
    /// Whether a policy without a judge's verdict is refused. Where it isn't, the optimised reward alone decides about the first policies
    /// of a new server, which has too few rankings for a judge.
    pub judge_required: bool,
    /// Mean KL divergence from the reference, per answer, may be at most this. Stiennon et al. 2020 (figure 5) see the true
    /// preference fall from about 10 nats on, with a reward model of few comparisons.
    pub kl_nats_max: f64,
    /// The mean answer may become at most this many times as long, or as short: beyond it, length is what was learned.
    pub length_factor_max: f64,
    /// Held-out prompts that must have been judged.
    pub prompts_min: usize,
    /// Mean difference between the engine's and the trainer's log-probabilities, per token, may be at most this.
    pub serve_check_nats_max: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            reward_gain_min: 0.0,
            judge_win_rate_min: 0.5,
            judge_rankings_min: 50,
            judge_required: false,
            kl_nats_max: 30.0,
            length_factor_max: 3.0,
            prompts_min: 20,
            serve_check_nats_max: 0.02,
        }
    }
}

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
}

/// One rule and how the policy did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What is judged.
    pub name: String,
    /// The figure.
    pub statistic: f64,
    /// Its bound.
    pub threshold: f64,
    /// How many observations the figure is made of.
    pub n: usize,
    /// Whether the figure is within the bound.
    pub passed: bool,
    /// The same in words.
    pub sentence: String,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Whether every rule is kept.
    pub passed: bool,
    /// All rules, kept or not.
    pub rules: Vec<Rule>,
    /// What was judged.
    pub inputs: GateInputs,
    /// The bounds it was judged by.
    pub config: GateConfig,
}

impl GateReport {
    /// The sentences of the rules that weren't kept.
    #[must_use]
    pub fn reasons(&self) -> String {
        let failed: Vec<&str> = self.rules.iter().filter(|r| !r.passed).map(|r| r.sentence.as_str()).collect();
        failed.join("; ")
    }
}

/// Judges a policy. A figure that isn't a number is within no bound.
#[must_use]
pub fn decide(inputs: GateInputs, config: GateConfig) -> GateReport {
    let rules = vec![
        enough(&inputs, &config),
        reward(&inputs, &config),
        judge(&inputs, &config),
        kl(&inputs, &config),
        length(&inputs, &config),
        served(&inputs, &config),
    ];
    GateReport { passed: rules.iter().all(|r| r.passed), rules, inputs, config }
}

#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
fn enough(inputs: &GateInputs, config: &GateConfig) -> Rule {
    let (n, min) = (inputs.prompts, config.prompts_min);
    Rule {
        name: "held_out_prompts".into(),
        statistic: n as f64,
        threshold: min as f64,
        n,
        passed: n >= min,
        sentence: format!("{n} held-out prompts were judged, at least {min} are needed"),
    }
}

fn reward(inputs: &GateInputs, config: &GateConfig) -> Rule {
    let (low, high) = inputs.reward_gain_interval;
    let min = config.reward_gain_min;
    Rule {
        name: "held_out_reward_gain".into(),
        statistic: low,
        threshold: min,
        n: inputs.prompts,
        passed: low > min,
        sentence: format!(
            "the reward on held-out prompts changed by {:+.3} (95 % interval {low:+.3} to {high:+.3}); the lower end must be \
             above {min}",
            inputs.reward_gain
        ),
    }
}

fn judge(inputs: &GateInputs, config: &GateConfig) -> Rule {
    let (name, min) = ("judge_win_rate".to_owned(), config.judge_win_rate_min);
    let Some(JudgeFigures { win_rate, win_rate_interval: (low, high), best_of_n }) = inputs.judge else {
        let rankings = config.judge_rankings_min;
        let sentence = format!(
            "no judge: it takes {rankings} rankings of prompts, and better by people, that the reward model never saw, and without one the \
             optimised reward alone decides"
        );
        return Rule { name, statistic: 0.0, threshold: min, n: 0, passed: !config.judge_required, sentence };
    };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let reference = best_of_n.map(|(n, rate)| format!("; the old policy's best of {n} answers gets {}", percent(rate)));
    Rule {
        name,
        statistic: low,
        threshold: min,
        n: inputs.prompts,
        passed: low > min,
        sentence: format!(
            "a judge that nothing was optimised against prefers the new answer on {} of the held-out prompts (95 % interval {} to {}), and the \
             lower end must be above {}{}",
            percent(win_rate),
            percent(low),
            percent(high),
            percent(min),
            reference.unwrap_or_default()
        ),
    }
}

fn kl(inputs: &GateInputs, config: &GateConfig) -> Rule {
    let (kl, max) = (inputs.kl_nats, config.kl_nats_max);
    Rule {
        name: "kl_from_reference".into(),
        statistic: kl,
        threshold: max,
        n: inputs.prompts,
        passed: kl <= max,
        sentence: format!("the policy is {kl:.2} nats per answer away from its reference; at most {max} are allowed"),
    }
}

fn length(inputs: &GateInputs, config: &GateConfig) -> Rule {
    let GateInputs { tokens_old, tokens_new, .. } = *inputs;
    let factor = (tokens_new / tokens_old).max(tokens_old / tokens_new);
    let max = config.length_factor_max;
    Rule {
        name: "answer_length".into(),
        statistic: factor,
        threshold: max,
        n: inputs.prompts,
        // Both ways round, because `f64::max` passes over a NaN.
        passed: tokens_new / tokens_old <= max && tokens_old / tokens_new <= max,
        sentence: format!(
            "answers went from {tokens_old:.1} to {tokens_new:.1} tokens, a factor of {factor:.2}; at most {max} is allowed"
        ),
    }
}

fn served(inputs: &GateInputs, config: &GateConfig) -> Rule {
    let GateInputs { serve_check_tokens, serve_check_mean_nats: mean, serve_check_max_nats, .. } = *inputs;
    let max = config.serve_check_nats_max;
    let passed = inputs.serve_check_passed && mean <= max;
    let verdict = if passed { "it serves what was trained" } else { "it would not serve what was trained" };
    Rule {
        name: "serve_check".into(),
        statistic: mean,
        threshold: max,
        n: serve_check_tokens,
        passed,
        sentence: format!(
            "the engine's log-probabilities are {mean:.4} nats off the trainer's on average (at most {max} is allowed), \
             {serve_check_max_nats:.4} at the worst token: {verdict}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of a good policy.
    fn good() -> GateInputs {
        GateInputs {
            prompts: 64,
            reward_gain: 0.4,
            reward_gain_interval: (0.25, 0.55),
            judge: Some(JudgeFigures { win_rate: 0.66, win_rate_interval: (0.54, 0.76), best_of_n: Some((4, 0.7)) }),
            kl_nats: 4.0,
            tokens_old: 40.0,
            tokens_new: 46.0,
            serve_check_tokens: 300,
            serve_check_mean_nats: 1e-4,
            serve_check_max_nats: 1e-3,
            serve_check_passed: true,
        }
    }

    fn failed(change: impl Fn(&mut GateInputs)) -> Vec<String> {
        let mut inputs = good();
        change(&mut inputs);
        let report = decide(inputs, GateConfig::default());
        assert_eq!(report.passed, report.reasons().is_empty());
        report.rules.into_iter().filter(|r| !r.passed).map(|r| r.name).collect()
    }

    #[test]
    fn a_good_policy_passes() {
        assert_eq!(failed(|_| {}), [""; 0]);
    }

    #[test]
    fn without_a_judge_it_is_said_and_may_be_refused() {
        let inputs = GateInputs { judge: None, ..good() };
        let report = decide(inputs.clone(), GateConfig::default());
        assert!(report.passed && report.rules.iter().any(|r| r.sentence.starts_with("no judge: it takes 50 rankings")));
        let strict = GateConfig { judge_required: true, ..GateConfig::default() };
        assert!(!decide(inputs, strict).passed);
    }

    #[test]
    fn bad_policies_fail_for_their_own_reason() {
        assert_eq!(failed(|i| i.prompts = 19), ["held_out_prompts"]);
        // A gain that may be luck, no gain, a loss.
        assert_eq!(failed(|i| i.reward_gain_interval = (-0.01, 0.8)), ["held_out_reward_gain"]);
        assert_eq!(failed(|i| i.reward_gain_interval = (0.0, 0.0)), ["held_out_reward_gain"]);
        assert_eq!(failed(|i| i.reward_gain_interval = (-0.5, -0.1)), ["held_out_reward_gain"]);
        // Reward hacking: the reward is up, the policy is far away and talks without end.
        assert_eq!(
            failed(|i| {
                i.reward_gain_interval = (3.0, 4.0);
                i.kl_nats = 90.0;
                i.tokens_new = 200.0;
            }),
            ["kl_from_reference", "answer_length"]
        );
        // Over-optimised: the reward is up, the judge sees no gain, or a loss.
        let judged = |low: f64, high: f64| {
            Some(JudgeFigures { win_rate: (low + high) / 2.0, win_rate_interval: (low, high), best_of_n: None })
        };
        assert_eq!(failed(|i| i.judge = judged(0.45, 0.6)), ["judge_win_rate"]);
        assert_eq!(failed(|i| i.judge = judged(0.2, 0.4)), ["judge_win_rate"]);
        // Collapse into silence.
        assert_eq!(failed(|i| i.tokens_new = 1.0), ["answer_length"]);
        assert_eq!(failed(|i| i.tokens_new = 0.0), ["answer_length"]);
        assert_eq!(failed(|i| i.serve_check_passed = false), ["serve_check"]);
        assert_eq!(failed(|i| i.serve_check_mean_nats = 0.5), ["serve_check"]);
    }

    #[test]
    fn what_is_not_a_number_never_passes() {
        assert_eq!(failed(|i| i.reward_gain_interval = (f64::NAN, f64::NAN)), ["held_out_reward_gain"]);
        let unknown = JudgeFigures { win_rate: f64::NAN, win_rate_interval: (f64::NAN, f64::NAN), best_of_n: None };
        assert_eq!(failed(|i| i.judge = Some(unknown)), ["judge_win_rate"]);
        assert_eq!(failed(|i| i.kl_nats = f64::NAN), ["kl_from_reference"]);
        assert_eq!(failed(|i| i.tokens_new = f64::NAN), ["answer_length"]);
        assert_eq!(failed(|i| i.serve_check_mean_nats = f64::NAN), ["serve_check"]);
    }
}
