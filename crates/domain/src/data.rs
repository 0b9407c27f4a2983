//! Training data as the trainers take it: what a snapshot holds.

use crate::{Message, Ranking};
use serde::{Deserialize, Serialize};

/// A prompt with its ideal answer, for SFT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// The prompt; the last message is the person's.
    pub messages: Vec<Message>,
    /// The answer that a person wrote.
    pub ideal: String,
    /// Who wrote it (for splits by user).
    pub labeler: String,
}

/// A prompt with k answers and their ranking, for the reward model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankedPrompt {
    /// The prompt; the last message is the person's.
    pub messages: Vec<Message>,
    /// The k answers.
    pub candidates: Vec<String>,
    /// Their tiers, 0 = best.
    pub ranking: Ranking,
    /// Overall quality of each answer by the labeler, 1 (worst) to 7 (best), where one was given; empty where none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<Option<u8>>,
    /// What the labeler found in each answer ("inappropriate"); empty where nothing was found in any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Vec<String>>,
    /// Who ranked (for splits by user).
    pub labeler: String,
}

/// A prompt alone, for PPO and for evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptItem {
    /// The prompt; the last message is the person's.
    pub messages: Vec<Message>,
}

/// What one training run may see. `held_out_*` come from people and prompts that no training part has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSet {
    /// For SFT.
    pub demonstrations: Vec<Demonstration>,
    /// For SFT's validation.
    pub held_out_demonstrations: Vec<Demonstration>,
    /// For the reward model.
    pub rankings: Vec<RankedPrompt>,
    /// For the reward model's accuracy.
    pub held_out_rankings: Vec<RankedPrompt>,
    /// For the judge, a reward model that decides and that nothing is optimised against: by people, or of prompts, that `rankings` hasn't.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judge_rankings: Vec<RankedPrompt>,
    /// For PPO.
    pub prompts: Vec<PromptItem>,
    /// For the gate.
    pub held_out_prompts: Vec<PromptItem>,
}
