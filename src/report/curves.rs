//! Which curves a report shows for each kind of run: those that tell whether it went well. A run writes more; all of its last figures
//! are in the report's table.

use super::svg::{Line, Points};
use crate::store::runs::RunKind;
use std::collections::BTreeMap;

/// One chart: a title, what to look for, and (name, metric) of up to three lines.
pub(super) struct Plan {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    lines: &'static [(&'static str, &'static str)],
}

const fn plan(title: &'static str, about: &'static str, lines: &'static [(&'static str, &'static str)]) -> Plan {
    Plan { title, about, lines }
}

const SFT: &[Plan] = &[
    plan(
        "Loss",
        "Nats per response token. Held out rising while training falls is over-fitting.",
        &[("training", "loss"), ("held out", "evaluate/loss")],
    ),
    plan("Reward", "The reward model’s score of held-out answers.", &[("reward", "evaluate/reward")]),
    LEARNING_RATE,
    GRADIENT,
];

const REWARD: &[Plan] = &[
    plan(
        "Accuracy",
        "Share of pairs ordered as people ordered them. Held out is what counts; 0.5 is guessing.",
        &[("training", "accuracy"), ("held out", "evaluate/accuracy")],
    ),
    plan("Loss", "0.693 is guessing.", &[("training", "loss"), ("held out", "evaluate/loss")]),
    LEARNING_RATE,
    GRADIENT,
];

const PPO: &[Plan] = &[
    plan(
        "Reward",
        "Mean score of the answers; after KL is what PPO maximises.",
        &[("score", "objective/scores"), ("after KL", "objective/rlhf_reward")],
    ),
    plan("KL to the reference", "Nats per answer. It should rise slowly and stay bounded.", &[("KL", "objective/kl")]),
    plan(
        "Entropy",
        "Nats per answer. A collapse towards 0 is a policy that says one thing.",
        &[("entropy", "objective/entropy")],
    ),
    plan("Answer length", "Tokens. A reward that grows with it alone is a warning.", &[("tokens", "response_tokens")]),
    plan("Policy loss", "The clipped objective, negated.", &[("policy", "loss/policy_avg")]),
    plan("Value loss", "It should fall.", &[("value", "loss/value_avg")]),
    plan(
        "Explained variance",
        "Of the returns, by the value function. 1 is perfect, 0 is no help.",
        &[("explained", "val/explained_variance")],
    ),
    plan(
        "Clipped",
        "Share of tokens whose ratio or value ran into the clip.",
        &[("policy", "policy/clipfrac_avg"), ("value", "val/clipfrac_avg")],
    ),
    plan("KL of an update", "Nats per token, new to old policy.", &[("KL", "policy/approxkl_avg")]),
    LEARNING_RATE,
    plan("Gradient norms", "Before clipping.", &[("policy", "policy/grad_norm"), ("value", "value/grad_norm")]),
    plan(
        "Seconds",
        "Per iteration, phase by phase.",
        &[("rollout", "seconds/rollout"), ("update", "seconds/update"), ("scoring", "seconds/score")],
    ),
];

const LEARNING_RATE: Plan = plan("Learning rate", "As scheduled.", &[("rate", "lr")]);
const GRADIENT: Plan = plan("Gradient norm", "Before clipping.", &[("norm", "grad_norm")]);

/// The charts of a kind for which there is something to draw.
pub(super) fn of(kind: RunKind, curves: &BTreeMap<String, Points>) -> Vec<(&'static Plan, Vec<Line>)> {
    let plans = match kind {
        RunKind::Sft => SFT,
        RunKind::Reward | RunKind::Judge => REWARD,
        RunKind::Ppo => PPO,
        RunKind::Evaluate => &[],
    };
    let line = |(name, metric): &(&'static str, &'static str)| {
        let points = curves.get(*metric).filter(|points| !points.is_empty())?;
        Some(Line { name, points: points.clone() })
    };
    let chart = |plan: &'static Plan| (plan, plan.lines.iter().filter_map(line).collect::<Vec<_>>());
    plans.iter().map(chart).filter(|(_, lines)| !lines.is_empty()).collect()
}
