//! The gate: what a new policy must show before people get it. Pure: figures in, a report out, rule by rule.
//! The reward that PPO optimised rises easily; so it must rise on prompts that were never trained on, and only together with the
//! verdict of a judge that nothing was optimised against, a bounded distance from the reference, a sane answer length, and an engine
//! that serves what was trained. The rules are in `rules` and `regression`.

mod config;
mod inputs;
mod regression;
mod rules;
#[cfg(test)]
mod tests;

pub use config::GateConfig;
pub use inputs::{Accuracies, Accuracy, GateInputs, JudgeFigures};

use serde::{Deserialize, Serialize};

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
    let mut all = vec![
        rules::enough(&inputs, &config),
        rules::reward(&inputs, &config),
        rules::judge(&inputs, &config),
        rules::kl(&inputs, &config),
        rules::length(&inputs, &config),
        rules::served(&inputs, &config),
    ];
    let maybe = [
        rules::equal_length(&inputs, &config),
        rules::best_of_rounds(&inputs),
        rules::optimised(&inputs, &config),
        rules::believed(&inputs, &config),
    ];
    all.extend(maybe.into_iter().flatten());
    all.extend(inputs.changes.iter().filter_map(|change| regression::rule(change, &config)));
    GateReport { passed: all.iter().all(|r| r.passed), rules: all, inputs, config }
}
