//! How far a labeler has come, and how well they agree: with the gold questions, with themselves, with others.

use super::agreement::Agreement;
use super::trust::{self, Trust};
use super::{Labeling, LabelingError, hours_ago};
use crate::store::labeling::{self, Done, Kind, pick, prompts};
use hone_domain::ids::UserId;
use serde::Serialize;

/// What there is left to do, for everybody together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct QueueLeft {
    /// Items to rank: comparisons that lie ready or were left unranked, and prompts to make some of.
    pub rank: u64,
    /// Prompts without an ideal answer.
    pub demonstrate: u64,
}

/// A labeler's progress.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Progress {
    /// Tasks done since midnight, UTC.
    pub today: u64,
    /// In the last hour.
    pub last_hour: u64,
    /// Ever.
    pub total: u64,
    /// Passed over, ever.
    pub skipped: u64,
    /// What the last twenty tasks took on average.
    pub seconds_per_task: Option<f64>,
    /// What there is left.
    pub left: QueueLeft,
    /// With the expected rankings of gold questions.
    pub gold: Agreement,
    /// With themselves, on items that came back.
    pub repeats: Agreement,
    /// With others on the same items.
    pub others: Agreement,
    /// From gold and repeats; null while there are none.
    pub trust: Option<Trust>,
}

impl Labeling {
    /// A person's progress.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn progress(&self, user: UserId) -> Result<Progress, LabelingError> {
        let left_before = hours_ago(self.config.left_unranked_hours);
        let read = move |c: &rusqlite::Connection| {
            let Done { today, last_hour, total, skipped, seconds_per_task } =
                labeling::done_by(c, &user, jiff::Timestamp::now())?;
            let rank = pick::waiting(c)? + pick::left_unranked(c, &left_before)? + prompts::left(c, Kind::Rank)?;
            let left = QueueLeft { rank, demonstrate: prompts::left(c, Kind::Demonstrate)? };
            let mine = trust::report(c)?.labelers.into_iter().find(|labeler| labeler.id == user.as_str());
            let (gold, repeats, others, trust) =
                mine.map_or_else(Default::default, |me| (me.gold, me.repeats, me.others, me.trust));
            Ok(Progress { today, last_hour, total, skipped, seconds_per_task, left, gold, repeats, others, trust })
        };
        Ok(self.store.read(read).await?)
    }
}
