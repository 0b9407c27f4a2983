//! The settings of the labeling queue.

use super::LabelingError;
use hone_domain::ranking::CANDIDATES;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What labelers are given, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelingConfig {
    /// A Markdown file that is shown beside each task; none: hone's own text. What an operator writes in the UI wins over both.
    pub guidelines: Option<PathBuf>,
    /// How long a task is its labeler's alone.
    pub lease_minutes: u64,
    /// How long a ranking may be taken back.
    pub undo_minutes: u64,
    /// Answers to rank per task, 2 to 9.
    pub k: usize,
    /// Most tokens of such an answer.
    pub max_tokens: usize,
    /// Share of ranking tasks that are gold questions, where there are any.
    pub gold_share: f64,
    /// Share that are items which the labeler has ranked before.
    pub repeat_share: f64,
    /// So many tasks lie between an item and its return.
    pub repeat_gap: usize,
    /// Share that are items which somebody else has ranked.
    pub overlap_share: f64,
    /// Further opinions on one such item.
    pub overlap_people_max: usize,
    /// Comparisons that people leave unranked go into the queue after so long.
    pub left_unranked_hours: u64,
    /// Comparisons that lie ready, so that a labeler needn't wait for answers.
    pub ready: usize,
}

impl Default for LabelingConfig {
    fn default() -> Self {
        Self {
            guidelines: None,
            lease_minutes: 15,
            undo_minutes: 10,
            k: 4,
            max_tokens: 512,
            gold_share: 0.05,
            repeat_share: 0.05,
            repeat_gap: 10,
            overlap_share: 0.1,
            overlap_people_max: 2,
            left_unranked_hours: 24,
            ready: 2,
        }
    }
}

impl LabelingConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first setting that is out of them.
    pub fn checked(self) -> Result<Self, LabelingError> {
        let refuse = |what: &str| Err(LabelingError::Config(what.to_owned()));
        let shares = [self.gold_share, self.repeat_share, self.overlap_share];
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || shares.iter().sum::<f64>() > 1.0 {
            return refuse(
                "labeling.gold_share, repeat_share and overlap_share must be 0 to 1, and no more than 1 together",
            );
        }
        if !CANDIDATES.contains(&self.k) {
            return refuse("labeling.k must be 2 to 9");
        }
        if self.max_tokens == 0 {
            return refuse("labeling.max_tokens must be at least 1");
        }
        const WEEK_MINUTES: u64 = 7 * 24 * 60;
        if !(1..=WEEK_MINUTES).contains(&self.lease_minutes) || self.undo_minutes > WEEK_MINUTES {
            return refuse("labeling.lease_minutes must be 1 to 10080 (a week), undo_minutes no more than that");
        }
        if self.left_unranked_hours > 24 * 365 * 10 {
            return refuse("labeling.left_unranked_hours must be no more than ten years");
        }
        Ok(self)
    }
}
