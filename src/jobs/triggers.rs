//! When a cycle starts by itself: at the times of a cron expression, or when enough new rankings have come. Both are off by default.

use super::JobError;
use crate::store::jobs::{self, JobKind};
use crate::store::{StoreError, training_data};
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Connection;
use std::str::FromStr;

/// What starts cycles.
#[derive(Debug, Clone, Default)]
pub struct Triggers {
    schedule: Option<Cron>,
    min_new_rankings: Option<u64>,
}

impl Triggers {
    /// `schedule`: a cron expression in UTC. `min_new_rankings`: so many since the last cycle began; at least 1.
    ///
    /// # Errors
    /// When the expression can't be read.
    pub fn new(schedule: Option<&str>, min_new_rankings: Option<u64>) -> Result<Self, JobError> {
        let parse = |text: &str| {
            Cron::from_str(text).map_err(|e| {
                JobError::Invalid(format!(
                    "retrain.schedule {text:?} is no cron expression ({e}); \"0 3 * * *\" is every night at three, UTC"
                ))
            })
        };
        Ok(Self { schedule: schedule.map(parse).transpose()?, min_new_rankings: min_new_rankings.map(|n| n.max(1)) })
    }

    /// Why a cycle should start now, if it should: `schedule` or `threshold`. Never while one is waiting or at work.
    /// `since`: when this scheduler came up; times that passed before it aren't made up for.
    ///
    /// # Errors
    /// When the database can't.
    pub fn due(&self, c: &Connection, since: Timestamp, now: Timestamp) -> Result<Option<&'static str>, StoreError> {
        if self.schedule.is_none() && self.min_new_rankings.is_none() {
            return Ok(None);
        }
        let last = jobs::newest_of(c, JobKind::Cycle)?;
        if last.as_ref().is_some_and(|job| !job.state.is_final()) {
            return Ok(None);
        }
        let last_began = last.map(|job| job.started_at.unwrap_or(job.created_at));
        if let Some(schedule) = &self.schedule {
            let last_began = last_began.as_ref().and_then(|at| at.parse().ok()).unwrap_or(since);
            if next_time(schedule, since.max(last_began)).is_some_and(|at| at <= now) {
                return Ok(Some("schedule"));
            }
        }
        if let Some(min) = self.min_new_rankings
            && training_data::rankings_since(c, last_began.as_deref())? >= min
        {
            return Ok(Some("threshold"));
        }
        Ok(None)
    }
}

/// The first time of the schedule after `from`.
fn next_time(schedule: &Cron, from: Timestamp) -> Option<Timestamp> {
    let from = from.to_zoned(TimeZone::UTC);
    schedule.find_next_occurrence(&from, false).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, imports, timestamp};
    use hone_domain::{Message, RankedPrompt, Ranking};
    use serde_json::Value;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn in_store<T: Send + 'static>(f: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static) -> T {
        let dir = tempfile::tempdir().expect("temp dir");
        Store::open(dir.path()).expect("opens").write_blocking(f).expect("works")
    }

    fn rank(c: &Connection, n: usize) -> Result<(), StoreError> {
        let ranked = RankedPrompt {
            messages: vec![Message::user(format!("question {n}"))],
            candidates: vec!["a".into(), "b".into()],
            ranking: Ranking::from_ranks(&[0, 1]).expect("ranks"),
            quality: Vec::new(),
            labeler: imports::labeler(c, "ada")?,
        };
        imports::ranking(c, &ranked).map(|_| ())
    }

    #[test]
    fn a_schedule_fires_once_per_time() {
        let triggers = Triggers::new(Some("0 3 * * *"), None).expect("parses");
        in_store(move |c| {
            let came_up = at("2026-01-01T12:00:00Z");
            assert_eq!(triggers.due(c, came_up, at("2026-01-02T02:59:59Z"))?, None);
            assert_eq!(triggers.due(c, came_up, at("2026-01-02T03:00:00Z"))?, Some("schedule"));
            let job = jobs::create(c, JobKind::Cycle, &Value::Null, "schedule")?;
            let later = Timestamp::now() + jiff::SignedDuration::from_hours(25);
            assert_eq!(triggers.due(c, came_up, later)?, None, "one is waiting");
            jobs::finish(c, &job, jobs::JobState::Failed, None)?;
            assert_eq!(triggers.due(c, came_up, Timestamp::now())?, None, "this night's has begun");
            assert_eq!(triggers.due(c, came_up, later)?, Some("schedule"));
            Ok(())
        });
        assert!(Triggers::new(Some("every night"), None).is_err());
    }

    #[test]
    fn a_threshold_counts_from_the_last_cycle() {
        let triggers = Triggers::new(None, Some(2)).expect("parses");
        in_store(move |c| {
            let now = Timestamp::now();
            rank(c, 1)?;
            assert_eq!(triggers.due(c, now, now)?, None);
            rank(c, 2)?;
            assert_eq!(triggers.due(c, now, now)?, Some("threshold"));
            let job = jobs::create(c, JobKind::Cycle, &Value::Null, "threshold")?;
            jobs::start(c, &job, "snapshot", &timestamp(now))?;
            jobs::finish(c, &job, jobs::JobState::Rejected, None)?;
            assert_eq!(triggers.due(c, now, now)?, None, "those have been learned from");
            rank(c, 3)?;
            rank(c, 4)?;
            assert_eq!(triggers.due(c, now, now)?, Some("threshold"));
            Ok(())
        });
    }
}
