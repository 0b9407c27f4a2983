//! Settings of an evaluation. Plain data: serde and std.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Items of a suite in a job: a share is then known to 7 points, a paired difference better, in minutes on a CPU.
const SUITE_ITEMS: usize = 200;

/// Settings of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Most prompts that are used, the first ones of the list.
    pub prompts_max: usize,
    /// Longer prompts are skipped.
    pub prompt_tokens_max: usize,
    /// Most tokens of an answer; the same as in PPO, or lengths and rewards can't be compared.
    pub max_new_tokens: usize,
    /// Sampling temperature of both policies. Above 0.
    pub temperature: f64,
    /// As in PPO: the score of an answer that doesn't end by itself. `null` (the default) asks only what the reward model says.
    pub missing_eos_score: Option<f64>,
    /// Tokens worked off at once: bounds the memory, not the result.
    pub micro_batch_tokens: usize,
    /// Prompts that are answered together.
    pub batch_prompts: usize,
    /// Answers of which the old policy's best is compared too, where there is a judge; 0 or 1 leaves it out.
    pub best_of: usize,
    /// Pairs of answers that the report keeps to be looked at.
    pub samples_max: usize,
    /// Suites that both policies are asked, and their data files; see [`super::suites`].
    pub suites: BTreeMap<String, PathBuf>,
    /// The folder of the classifier that scores the suite "toxicity"; `null` is the built-in one.
    pub classifier: Option<PathBuf>,
    /// Most items of each suite, drawn with the seed; `null` takes all, 0 asks no suite.
    pub suite_items_max: Option<usize>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            prompts_max: 128,
            prompt_tokens_max: 256,
            max_new_tokens: 64,
            temperature: 1.0,
            missing_eos_score: None,
            micro_batch_tokens: 1024,
            batch_prompts: 32,
            best_of: 4,
            samples_max: 16,
            suites: BTreeMap::new(),
            classifier: None,
            suite_items_max: Some(SUITE_ITEMS),
        }
    }
}
