//! When a cycle starts by itself: at the times of a cron expression, when enough new rankings have come, or when people's liking for the
//! champion falls. All are off by default.

use super::JobError;
use super::drift::{self, DriftConfig};
use super::snapshot;
use crate::store::jobs::{self, Job, JobKind};
use crate::store::{StoreError, challenger, timestamp, training_data};
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// When the model is retrained by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retrain {
    /// Cron expression in UTC ("0 3 * * *" is every night at three); none: not by time.
    pub schedule: Option<String>,
    /// Start as soon as this many rankings came since the last cycle; none: not by number.
    pub min_new_rankings: Option<u64>,
    /// When people's liking for the champion falls.
    pub drift: DriftConfig,
    /// How many rankings from before the champion's snapshot a cycle learns from for each newer one, the newest of them; none: from all there
    /// are. A cycle that drift starts takes one at most: what people said before they changed their mind contradicts what they say now.
    pub old_rankings_per_new: Option<f64>,
    /// How many policies of earlier rounds, the newest that people may be given, answer a cycle's held-out prompts beside the new one; the gate
    /// judges the best of them all. 0: the new one alone; none: two.
    pub earlier_policies_max: Option<usize>,
}

/// Why a cycle starts when people's liking for the champion falls.
const DRIFT: &str = "drift";

/// What starts cycles.
#[derive(Debug, Clone, Default)]
pub struct Triggers {
    schedule: Option<Cron>,
    min_new_rankings: Option<u64>,
    drift: DriftConfig,
    old_rankings_per_new: Option<f64>,
    earlier_policies_max: Option<usize>,
}

/// How far it is to the next cycle that starts by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Outlook {
    /// When the last cycle began, or was asked for where it still waits; null before the first.
    pub last_cycle_at: Option<String>,
    /// Rankings that can be learned from, in all.
    pub rankings: u64,
    /// Rankings beside those: their answers couldn't be ranked, or somebody excluded them.
    pub rankings_left_out: u64,
    /// Ideal answers that can be learned from, in all.
    pub demonstrations: u64,
    /// Rankings since then that can be learned from.
    pub new_rankings: u64,
    /// Ideal answers since then.
    pub new_demonstrations: u64,
    /// With so many new rankings a cycle starts; null: not by number.
    pub min_new_rankings: Option<u64>,
    /// `retrain.schedule`, a cron expression in UTC; null: not by time.
    pub schedule: Option<String>,
    /// The schedule's next time.
    pub next_at: Option<String>,
    /// Whether a cycle starts when people come to prefer the champion's predecessor (`retrain.drift`).
    pub drift: bool,
}

impl Triggers {
    /// As an operator has set them; a number of new rankings is at least 1.
    ///
    /// # Errors
    /// When the cron expression can't be read, or a share is out of its range.
    pub fn new(config: &Retrain) -> Result<Self, JobError> {
        let Retrain { schedule, min_new_rankings, drift, old_rankings_per_new, earlier_policies_max } = config;
        let (drift, old_rankings_per_new) = (drift.clone().checked()?, *old_rankings_per_new);
        let (min_new_rankings, earlier_policies_max) = (min_new_rankings.map(|n| n.max(1)), *earlier_policies_max);
        snapshot::check_old_per_new(old_rankings_per_new, "retrain")?;
        let parse = |text: &str| {
            Cron::from_str(text).map_err(|e| {
                JobError::Invalid(format!(
                    "retrain.schedule {text:?} is no cron expression ({e}); \"0 3 * * *\" is every night at three, UTC"
                ))
            })
        };
        let schedule = schedule.as_deref().map(parse).transpose()?;
        Ok(Self { schedule, min_new_rankings, drift, old_rankings_per_new, earlier_policies_max })
    }

    /// How drift is noticed.
    #[must_use]
    pub fn drift(&self) -> &DriftConfig {
        &self.drift
    }

    /// How many old rankings a job that began for this reason learns from for each new one.
    #[must_use]
    pub fn old_rankings_per_new(&self, reason: &str) -> Option<f64> {
        let most = (reason == DRIFT).then_some(1.0);
        [self.old_rankings_per_new, most].into_iter().flatten().reduce(f64::min)
    }

    /// How many policies of earlier rounds are judged beside a new one, where the operator has set it.
    #[must_use]
    pub fn earlier_policies_max(&self) -> Option<usize> {
        self.earlier_policies_max
    }

    /// Why a cycle should start now, if it should: `schedule`, `threshold` or `drift`. Never while one is waiting or at work, or while
    /// people decide about what the last one made.
    /// `since`: when this scheduler came up; times that passed before it aren't made up for.
    ///
    /// # Errors
    /// When the database can't.
    pub fn due(&self, c: &Connection, since: Timestamp, now: Timestamp) -> Result<Option<&'static str>, StoreError> {
        if self.schedule.is_none() && self.min_new_rankings.is_none() && !self.drift.is_on() {
            return Ok(None);
        }
        let last = jobs::newest_of(c, JobKind::Cycle)?;
        let on_trial = challenger::get(c)?.is_some_and(|challenge| challenge.trial.is_some());
        if on_trial || last.as_ref().is_some_and(|job| !job.state.is_final()) {
            return Ok(None);
        }
        let last_began = last.map(began);
        if self.scheduled(since, last_began.as_deref()).is_some_and(|at| at <= now) {
            return Ok(Some("schedule"));
        }
        if let Some(min) = self.min_new_rankings
            && training_data::rankings_since(c, last_began.as_deref())? >= min
        {
            return Ok(Some("threshold"));
        }
        Ok(drift::found(c, &self.drift, last_began.as_deref())?.then_some(DRIFT))
    }

    /// The schedule's next time, counted from the last cycle's beginning, or from when the scheduler came up.
    fn scheduled(&self, since: Timestamp, last_began: Option<&str>) -> Option<Timestamp> {
        let last_began = last_began.and_then(|at| at.parse().ok()).unwrap_or(since);
        next_time(self.schedule.as_ref()?, since.max(last_began))
    }

    /// How far each trigger is, by the same count that [`Triggers::due`] goes by.
    ///
    /// # Errors
    /// When the database can't.
    pub fn outlook(&self, c: &Connection, since: Timestamp) -> Result<Outlook, StoreError> {
        let last_cycle_at = jobs::newest_of(c, JobKind::Cycle)?.map(began);
        Ok(Outlook {
            rankings: training_data::rankings_since(c, None)?,
            rankings_left_out: training_data::rankings_left_out(c)?,
            demonstrations: training_data::demonstrations_since(c, None)?,
            new_rankings: training_data::rankings_since(c, last_cycle_at.as_deref())?,
            new_demonstrations: training_data::demonstrations_since(c, last_cycle_at.as_deref())?,
            min_new_rankings: self.min_new_rankings,
            schedule: self.schedule.as_ref().map(|schedule| schedule.to_string()),
            next_at: self.scheduled(since, last_cycle_at.as_deref()).map(timestamp),
            drift: self.drift.is_on(),
            last_cycle_at,
        })
    }
}

/// From when on feedback counts as new: the cycle's snapshot holds what came before.
fn began(cycle: Job) -> String {
    cycle.started_at.unwrap_or(cycle.created_at)
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
            flags: Vec::new(),
            labeler: imports::labeler(c, "ada")?,
        };
        imports::ranking(c, &ranked).map(|_| ())
    }

    #[test]
    fn a_schedule_fires_once_per_time() {
        let triggers =
            Triggers::new(&Retrain { schedule: Some("0 3 * * *".into()), ..Retrain::default() }).expect("parses");
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
        assert!(Triggers::new(&Retrain { schedule: Some("every night".into()), ..Retrain::default() }).is_err());
    }

    #[test]
    fn the_outlook_counts_as_the_triggers_do() {
        let triggers = Triggers::new(&Retrain {
            schedule: Some("0 3 * * *".into()),
            min_new_rankings: Some(2),
            ..Retrain::default()
        })
        .expect("parses");
        in_store(move |c| {
            let came_up = at("2026-01-01T12:00:00Z");
            rank(c, 1)?;
            let before = triggers.outlook(c, came_up)?;
            assert_eq!((before.new_rankings, before.min_new_rankings, before.last_cycle_at), (1, Some(2), None));
            assert_eq!(before.schedule.as_deref(), Some("0 3 * * *"));
            assert_eq!(before.next_at.as_deref(), Some("2026-01-02T03:00:00.000000Z"));
            let job = jobs::create(c, JobKind::Cycle, &Value::Null, "ada")?;
            jobs::finish(c, &job, jobs::JobState::Succeeded, None)?;
            assert_eq!(triggers.outlook(c, came_up)?.new_rankings, 0, "that cycle has learned from it");
            rank(c, 2)?;
            let after = triggers.outlook(c, came_up)?;
            assert_eq!((after.new_rankings, after.rankings, after.rankings_left_out), (1, 2, 0));
            assert!(after.next_at > before.next_at && after.last_cycle_at.is_some());
            let nothing_set = Triggers::default().outlook(c, came_up)?;
            assert_eq!((nothing_set.schedule, nothing_set.next_at, nothing_set.min_new_rankings), (None, None, None));
            assert!(!nothing_set.drift);
            Ok(())
        });
    }

    #[test]
    fn a_threshold_counts_from_the_last_cycle() {
        let triggers = Triggers::new(&Retrain { min_new_rankings: Some(2), ..Retrain::default() }).expect("parses");
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
