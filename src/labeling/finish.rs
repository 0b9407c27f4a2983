//! How a task ends: ranked, answered, passed over, or taken back.

use super::{Labeling, LabelingError, Shown, lease_until, minutes, place_name, shown};
use crate::chat::comparison::{self, Verdict};
use crate::store::demonstrations::NewDemonstration;
use crate::store::labeling::{self, Kind, Purpose, Task};
use crate::store::rankings::NewRanking;
use crate::store::{StoreError, audit, comparisons, demonstrations, judgements, rankings, timestamp};
use hone_domain::Ranking;
use hone_domain::ids::{ComparisonId, TaskId, UserId};
use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;

/// Characters of a reason to skip.
const REASON_CHARS_MAX: usize = 2_000;

fn refuse<T>(param: &'static str, message: impl Into<String>) -> Result<T, LabelingError> {
    Err(LabelingError::Answer { param, message: message.into() })
}

impl Labeling {
    /// Ends a ranking task. What it is kept as depends on the task's purpose; an ideal answer is a demonstration in any case.
    ///
    /// # Errors
    /// When the task isn't theirs, has ended, or the verdict doesn't fit.
    pub async fn rank(&self, id: TaskId, user: UserId, verdict: Verdict) -> Result<(), LabelingError> {
        let (task_id, owner) = (id.clone(), user.clone());
        let task = self.store.read(move |c| labeling::to_be_ended(c, &task_id, &owner)).await?;
        let Some(of) = task.asked.comparison else {
            return refuse("ranking", "this task asks for an ideal answer, not for a ranking");
        };
        let names: Vec<String> = (0..task.asked.order.len()).map(place_name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let ideal = verdict.ideal.clone().filter(|text| !text.trim().is_empty());
        let ranking = comparison::checked(&names, verdict)?;
        let write = move |tx: &Connection| {
            // Once more, in the transaction: the lease may have run out and the item be somebody else's.
            let task = labeling::to_be_ended(tx, &id, &user)?;
            let stored = as_stored(tx, &of, &task, ranking)?;
            match task.asked.purpose {
                Purpose::New => rankings::insert(tx, &of, &user, &stored)?,
                further => judgements::insert(tx, &task.id, &of, &user, further, &stored)?,
            }
            let ideal = ideal.map(|text| demonstrate(tx, &task, &user, &text)).transpose()?;
            labeling::done(tx, &task.id, ideal.as_ref())
        };
        Ok(self.store.write(write).await?)
    }

    /// Ends a demonstration task.
    ///
    /// # Errors
    /// When the task isn't theirs, has ended, or the answer is empty.
    pub async fn demonstrate(&self, id: TaskId, user: UserId, ideal: String) -> Result<(), LabelingError> {
        if ideal.trim().is_empty() {
            return refuse("ideal", "`ideal` is empty: write the answer that you would want, or skip the task");
        }
        let (task_id, owner) = (id.clone(), user.clone());
        let task = self.store.read(move |c| labeling::to_be_ended(c, &task_id, &owner)).await?;
        if task.asked.kind != Kind::Demonstrate {
            return refuse("ideal", "this task asks for a ranking: send `ideal` along with it");
        }
        let write = move |tx: &Connection| {
            let task = labeling::to_be_ended(tx, &id, &user)?;
            let demonstration = demonstrate(tx, &task, &user, &ideal)?;
            labeling::done(tx, &task.id, Some(&demonstration))
        };
        Ok(self.store.write(write).await?)
    }

    /// Passes a task over.
    ///
    /// # Errors
    /// When the task isn't theirs, has ended, or there is no reason.
    pub async fn skip(&self, id: TaskId, user: UserId, reason: String) -> Result<(), LabelingError> {
        let reason = reason.trim().to_owned();
        if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
            return refuse("reason", format!("say in 1 to {REASON_CHARS_MAX} characters why you skip it"));
        }
        Ok(self.store.write(move |tx| labeling::skip(tx, &id, &user, &reason)).await?)
    }

    /// Takes back what a person has done last, as long as that may be: what it was kept as is gone, and the task is theirs again.
    ///
    /// # Errors
    /// When there is nothing that may be taken back.
    pub async fn undo(&self, user: UserId) -> Result<Shown, LabelingError> {
        let config = self.config.clone();
        let write = move |tx: &Connection| {
            let since = timestamp(Timestamp::now() - minutes(config.undo_minutes));
            let Some(task) = labeling::last_done(tx, &user, &since)? else {
                return Err(StoreError::Conflict(format!(
                    "there is nothing to take back: only what was done last may be, within {} minutes",
                    config.undo_minutes
                )));
            };
            match (&task.asked.comparison, task.asked.purpose) {
                (Some(of), Purpose::New) => rankings::delete(tx, of, &user)?,
                _ => judgements::delete(tx, &task.id)?,
            }
            labeling::reopen(tx, &task.id, &lease_until(&config))?;
            if let Some(demonstration) = &task.demonstration {
                demonstrations::delete(tx, demonstration)?;
            }
            audit::note(tx, user.as_str(), "labeling.undo", task.id.as_str(), &json!({"kind": task.asked.kind}))?;
            shown(tx, labeling::owned(tx, &task.id, &user)?)
        };
        Ok(self.store.write(write).await?)
    }
}

fn demonstrate(
    tx: &Connection,
    task: &Task,
    user: &UserId,
    ideal: &str,
) -> Result<hone_domain::ids::DemonstrationId, StoreError> {
    let source = if task.asked.comparison.is_some() { comparisons::Source::Ranking } else { comparisons::Source::Live };
    let (prompt_from, comparison) = (Some(&task.asked.prompt_from), task.asked.comparison.as_ref());
    demonstrations::insert(
        tx,
        &NewDemonstration { user, messages: &task.asked.messages, ideal, source, prompt_from, comparison },
    )
}

/// From the order shown to the order stored, and from names of places to candidates' ids.
fn as_stored(
    c: &Connection,
    of: &ComparisonId,
    task: &Task,
    NewRanking { ranking, labels, comment }: NewRanking,
) -> Result<NewRanking, StoreError> {
    let candidates = comparisons::any(c, of)?.0.candidates;
    let id_of = |name: &str| {
        let shown = (0..task.asked.order.len()).find(|place| place_name(*place) == name)?;
        Some(candidates.get(task.asked.order[shown])?.id.to_string())
    };
    let labels = labels.into_iter().filter_map(|(name, label)| Some((id_of(&name)?, label))).collect();
    Ok(NewRanking { ranking: ranking.and_then(|shown| reordered(&shown, &task.asked.order)), labels, comment })
}

/// A ranking of the answers as they were shown, as one of the answers as they are stored.
fn reordered(shown: &Ranking, order: &[usize]) -> Option<Ranking> {
    let mut ranks = vec![0; order.len()];
    for (rank, place) in shown.ranks().iter().zip(order) {
        *ranks.get_mut(*place)? = u32::from(*rank);
    }
    Ranking::from_ranks(&ranks).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_goes_back_to_the_stored_order() {
        // Shown: the third, the first, the second; the first shown is the best, the other two tie.
        let shown = Ranking::from_ranks(&[0, 1, 1]).expect("ranks");
        let stored = reordered(&shown, &[2, 0, 1]).expect("a permutation");
        assert_eq!(stored.ranks(), [1, 1, 0]);
    }
}
