//! The gate on made-up figures: which rule refuses what.

use super::*;
use hone_domain::ids::PolicyId;
use hone_learn::evaluate::{Estimate, Round};

/// The figures of a good policy.
fn good() -> GateInputs {
    GateInputs {
        prompts: 64,
        reward_gain: 0.4,
        reward_gain_interval: (0.25, 0.55),
        judge: Some(JudgeFigures {
            win_rate: 0.66,
            win_rate_interval: (0.54, 0.76),
            best_of_n: Some((4, 0.7)),
            accuracy: Some(Accuracy { share: 0.7, low: 0.62, rankings: 200 }),
        }),
        kl_nats: 4.0,
        tokens_old: 40.0,
        tokens_new: 46.0,
        serve_check_tokens: 300,
        serve_check_mean_nats: 1e-4,
        serve_check_max_nats: 1e-3,
        serve_check_passed: true,
        changes: Vec::new(),
        equal_length: Some((0.6, (0.45, 0.73))),
        reward_accuracy: Some(Accuracy { share: 0.7, low: 0.55, rankings: 60 }),
        better: None,
        earlier: 0,
        elected: None,
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
        Some(JudgeFigures {
            win_rate: (low + high) / 2.0,
            win_rate_interval: (low, high),
            best_of_n: None,
            accuracy: None,
        })
    };
    assert_eq!(failed(|i| i.judge = judged(0.45, 0.6)), ["judge_win_rate"]);
    assert_eq!(failed(|i| i.judge = judged(0.2, 0.4)), ["judge_win_rate"]);
    // It is preferred by a judge that guesses.
    let guesses = Accuracy { share: 0.52, low: 0.47, rankings: 200 };
    assert_eq!(
        failed(|i| i.judge = i.judge.map(|j| JudgeFigures { accuracy: Some(guesses), ..j })),
        ["judge_accuracy"]
    );
    // Collapse into silence.
    assert_eq!(failed(|i| i.tokens_new = 1.0), ["answer_length"]);
    assert_eq!(failed(|i| i.tokens_new = 0.0), ["answer_length"]);
    assert_eq!(failed(|i| i.serve_check_passed = false), ["serve_check"]);
    assert_eq!(failed(|i| i.serve_check_mean_nats = 0.5), ["serve_check"]);
}

#[test]
fn what_length_alone_has_won_is_refused() {
    assert_eq!(failed(|i| i.equal_length = Some((0.3, (0.15, 0.49)))), ["win_rate_at_equal_length"]);
    assert_eq!(failed(|i| i.equal_length = Some((0.3, (0.1, 0.5)))), [""; 0], "it may be as good");
    assert_eq!(failed(|i| i.equal_length = None), [""; 0]);
    let said =
        |i: GateInputs| decide(i, GateConfig::default()).rules.into_iter().map(|r| r.sentence).collect::<String>();
    assert!(said(good()).contains("equally long, the judge would prefer the new one on 60.0 %"));
    assert!(said(GateInputs { judge: None, ..good() }).contains("equally long, the reward model would prefer"));
}

#[test]
fn a_reward_model_that_guesses_decides_nothing_alone() {
    let guesses = Some(Accuracy { share: 0.5, low: 0.2, rankings: 9 });
    assert_eq!(failed(|i| i.reward_accuracy = guesses), [""; 0], "the judge decides");
    assert_eq!(failed(|i| (i.judge, i.reward_accuracy) = (None, guesses)), ["reward_accuracy"]);
    assert_eq!(failed(|i| i.judge = None), [""; 0]);
    assert_eq!(failed(|i| (i.judge, i.reward_accuracy) = (None, None)), [""; 0], "nothing is held out");
}

#[test]
fn the_best_of_all_rounds_goes_on() {
    let estimate = |mean: f64| Estimate { mean, low: mean - 0.1, high: mean + 0.1 };
    let better = Some(Round { policy: PolicyId::from_raw("pol_2"), gain: estimate(0.3), win_rate: estimate(0.6) });
    assert_eq!(failed(|i| (i.better, i.earlier) = (better.clone(), 2)), ["best_of_rounds"]);
    assert_eq!(failed(|i| i.earlier = 2), [""; 0]);
    assert_eq!(failed(|i| i.elected = Some(PolicyId::from_raw("pol_2"))), [""; 0]);
    let rules = |inputs| decide(inputs, GateConfig::default()).rules;
    let named = |inputs| rules(inputs).into_iter().find(|r| r.name == "best_of_rounds").map(|r| r.sentence);
    assert_eq!(named(good()), None);
    assert!(
        named(GateInputs { elected: Some(PolicyId::from_raw("pol_2")), ..good() }).is_some_and(|s| s.contains("pol_2"))
    );
}

#[test]
fn what_is_not_a_number_never_passes() {
    assert_eq!(failed(|i| i.reward_gain_interval = (f64::NAN, f64::NAN)), ["held_out_reward_gain"]);
    let unknown =
        JudgeFigures { win_rate: f64::NAN, win_rate_interval: (f64::NAN, f64::NAN), best_of_n: None, accuracy: None };
    assert_eq!(failed(|i| i.judge = Some(unknown)), ["judge_win_rate"]);
    assert_eq!(failed(|i| i.kl_nats = f64::NAN), ["kl_from_reference"]);
    assert_eq!(failed(|i| i.tokens_new = f64::NAN), ["answer_length"]);
    assert_eq!(failed(|i| i.equal_length = Some((f64::NAN, (f64::NAN, f64::NAN)))), ["win_rate_at_equal_length"]);
    assert_eq!(failed(|i| i.serve_check_mean_nats = f64::NAN), ["serve_check"]);
}
