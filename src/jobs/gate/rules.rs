//! The gate's rules, one a function: its figure, its bound and the same in words. Pure. The suites' rules are in `regression`.

use super::{Accuracy, GateConfig, GateInputs, JudgeFigures, Rule};
use hone_learn::evaluate::{Estimate, Round};

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
pub(super) fn enough(inputs: &GateInputs, config: &GateConfig) -> Rule {
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

pub(super) fn reward(inputs: &GateInputs, config: &GateConfig) -> Rule {
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

pub(super) fn judge(inputs: &GateInputs, config: &GateConfig) -> Rule {
    let (name, min) = ("judge_win_rate".to_owned(), config.judge_win_rate_min);
    let Some(JudgeFigures { win_rate, win_rate_interval: (low, high), best_of_n, .. }) = inputs.judge else {
        let rankings = config.judge_rankings_min;
        let sentence = format!(
            "no judge: it takes {rankings} rankings of prompts, and better by people, that the reward model never saw, and without one the \
             optimised reward alone decides"
        );
        return Rule { name, statistic: 0.0, threshold: min, n: 0, passed: !config.judge_required, sentence };
    };
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

/// A judge that guesses decides nothing.
pub(super) fn believed(inputs: &GateInputs, config: &GateConfig) -> Option<Rule> {
    let (Accuracy { share, low, rankings }, min) = (inputs.judge?.accuracy?, config.judge_accuracy_min);
    Some(Rule {
        name: "judge_accuracy".into(),
        statistic: low,
        threshold: min,
        n: rankings,
        passed: low > min,
        sentence: format!(
            "the judge orders {} of the pairs as people did in {rankings} rankings that it never saw; the lower end of the 95 % interval, \
             {}, must be above {}, or its verdict means nothing",
            percent(share),
            percent(low),
            percent(min)
        ),
    })
}

/// Nor does a reward model that guesses, where there is no judge beside it.
pub(super) fn optimised(inputs: &GateInputs, config: &GateConfig) -> Option<Rule> {
    let accuracy = inputs.reward_accuracy.filter(|_| inputs.judge.is_none())?;
    let (Accuracy { share, low, rankings }, min) = (accuracy, config.reward_accuracy_min);
    Some(Rule {
        name: "reward_accuracy".into(),
        statistic: share,
        threshold: min,
        n: rankings,
        passed: share > min,
        sentence: format!(
            "the reward model, which alone decides, orders {} of the pairs as people did in {rankings} rankings that it never saw (lower end of \
             the 95 % interval {}); it must be above {}",
            percent(share),
            percent(low),
            percent(min)
        ),
    })
}

/// Like the suites' rules: no significant regression. Wins that people's own liking for longer answers explains are theirs to give.
pub(super) fn equal_length(inputs: &GateInputs, config: &GateConfig) -> Option<Rule> {
    let ((share, (low, high)), min) = (inputs.equal_length?, config.equal_length_win_rate_min);
    let who = if inputs.judge.is_some() { "the judge" } else { "the reward model" };
    Some(Rule {
        name: "win_rate_at_equal_length".into(),
        statistic: high,
        threshold: min,
        n: inputs.prompts,
        passed: high >= min,
        sentence: format!(
            "if both answers were equally long, {who} would prefer the new one on {} of the held-out prompts (95 % interval {} to \
             {}); where the upper end is below {} it won by its length",
            percent(share),
            percent(low),
            percent(high),
            percent(min)
        ),
    })
}

/// What people get should be the best of all rounds.
pub(super) fn best_of_rounds(inputs: &GateInputs) -> Option<Rule> {
    let GateInputs { better, earlier, elected, .. } = inputs;
    let (statistic, sentence) = match (better, elected) {
        (Some(Round { policy, gain: Estimate { mean, low, high }, .. }), _) => (
            *low,
            format!(
                "policy {policy} of an earlier round is surely better on the same held-out prompts, by {mean:+.3} of reward (95 % interval \
                 {low:+.3} to {high:+.3}): it is judged instead"
            ),
        ),
        (None, Some(id)) => (
            0.0,
            format!(
                "this is policy {id} of an earlier round again: it was surely better than what this round has made"
            ),
        ),
        (None, None) if *earlier > 0 => {
            let text =
                format!("of {earlier} policies of earlier rounds none is surely better on the same held-out prompts");
            (0.0, text)
        }
        (None, None) => return None,
    };
    let passed = better.is_none();
    Some(Rule { name: "best_of_rounds".into(), statistic, threshold: 0.0, n: inputs.prompts, passed, sentence })
}

pub(super) fn kl(inputs: &GateInputs, config: &GateConfig) -> Rule {
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

pub(super) fn length(inputs: &GateInputs, config: &GateConfig) -> Rule {
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

pub(super) fn served(inputs: &GateInputs, config: &GateConfig) -> Rule {
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
