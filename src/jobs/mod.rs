//! Training in the background: jobs and their queue, the scheduler that works them off, the child processes that train, the
//! frozen snapshots that they learn from, the gate, and the promotion of what passes it.
//! May use: store, serving, learn, report. Knows nothing of HTTP.

pub mod background;
pub mod canary;
pub mod champions;
pub mod child;
pub mod child_log;
pub mod curves;
pub mod drift;
mod error;
pub mod evaluate_policy;
pub mod evaluate_suites;
pub mod execute_run;
pub mod gate;
pub mod inputs;
pub mod params;
mod phases;
pub mod plan;
pub mod run_report;
pub mod scheduler;
pub mod sequential;
pub mod snapshot;
mod task;
mod train_ppo;
mod train_reward;
mod train_sft;
pub mod triggers;
pub mod view;

pub use background::Background;
pub use champions::Champions;
pub use child_log::LogLine;
pub use error::JobError;
pub use scheduler::Scheduler;
pub use triggers::{Outlook, Triggers};
pub use view::JobView;

use crate::report::preferences::Preferences;
use crate::store::jobs::{self, Job, JobKind};
use crate::store::policies::{self, Policy};
use crate::store::runs::{self, Run};
use crate::store::training_data::IMPORT_USER;
use crate::store::users::{self, User};
use crate::store::{Store, StoreError};
use hone_domain::ids::{JobId, PolicyId, RunId};
use jiff::Timestamp;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How often a watched job is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// A policy, all runs, and everybody's id and what they are here.
type About = (Policy, Vec<Run>, Vec<(String, &'static str)>);

/// What everybody but the scheduler may do with jobs: ask for one, look, ask it to stop. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    store: Store,
    wake: Arc<Notify>,
    triggers: Triggers,
    came_up: Timestamp,
}

impl Jobs {
    /// Over the store; `triggers` are the scheduler's.
    #[must_use]
    pub fn new(store: Store, triggers: Triggers) -> Self {
        Self { store, wake: Arc::default(), triggers, came_up: Timestamp::now() }
    }

    /// Told whenever there may be something to do, so that nobody waits for the scheduler's next round.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Queues a job. `reason` says who or what wants it.
    ///
    /// # Errors
    /// [`JobError::Invalid`] when a parameter is unknown or wrong.
    pub async fn create(&self, kind: JobKind, params: Value, reason: &str) -> Result<JobId, JobError> {
        params::JobParams::parse(kind, &params)?;
        let reason = reason.to_owned();
        let id = self.store.write(move |tx| jobs::create(tx, kind, &params, &reason)).await?;
        self.wake.notify_one();
        Ok(id)
    }

    /// The newest jobs first, without their curves.
    ///
    /// # Errors
    /// When the database can't.
    pub async fn list(&self, limit: usize) -> Result<Vec<Job>, JobError> {
        Ok(self.store.read(move |c| jobs::list(c, limit)).await?)
    }

    /// A job with its phases, and of each the run and its curves.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn get(&self, id: &JobId) -> Result<JobView, JobError> {
        let (id, data) = (id.clone(), self.store.data_dir().to_owned());
        let view = self.store.read(move |c| view::read(c, &id)).await?;
        let with_curves = tokio::task::spawn_blocking(move || view.with_curves(&data)).await;
        with_curves.map_err(|_| StoreError::Closed.into())
    }

    /// The unfinished jobs, in the order of their work, and how far it is to the next cycle that starts by itself.
    ///
    /// # Errors
    /// When the database can't.
    pub async fn outlook(&self) -> Result<(Vec<Job>, Outlook), JobError> {
        let (triggers, came_up) = (self.triggers.clone(), self.came_up);
        Ok(self.store.read(move |c| Ok((jobs::unfinished(c)?, triggers.outlook(c, came_up)?))).await?)
    }

    /// The last `most` lines that a job's training processes wrote, oldest first.
    ///
    /// # Errors
    /// When there is none of this id, or a file can't be read.
    pub async fn log(&self, id: &JobId, most: usize) -> Result<Vec<LogLine>, JobError> {
        let (id, data) = (id.clone(), self.store.data_dir().to_owned());
        let read = move |c: &rusqlite::Connection| {
            jobs::get(c, &id)?;
            runs::of_job(c, &id)
        };
        let runs = self.store.read(read).await?;
        let read = tokio::task::spawn_blocking(move || child_log::tail(&data, &runs, most)).await;
        read.map_err(|_| StoreError::Closed)?
    }

    /// The report of a run, as a page, as far as the run is.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn report(&self, id: &RunId) -> Result<String, JobError> {
        let (id, data) = (id.clone(), self.store.data_dir().to_owned());
        let run = self.store.read(move |c| runs::get(c, &id)).await?;
        let drawn = tokio::task::spawn_blocking(move || run_report::html(&data, &run)).await;
        drawn.map_err(|_| StoreError::Closed.into())
    }

    /// The page about the decision on a policy.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn decision(&self, id: &PolicyId) -> Result<String, JobError> {
        self.about(id, |data, (policy, runs, people)| run_report::decision(data, policy, &runs, &people)).await
    }

    /// Whose preferences the reward model holds that a policy was optimised against, and what it rewards.
    ///
    /// # Errors
    /// When there is no policy of this id, or no reward model behind it.
    pub async fn preferences(&self, id: &PolicyId) -> Result<Preferences, JobError> {
        let behind = |data: &Path, (policy, runs, people): About| run_report::behind(data, &policy, &runs, &people);
        let none = || StoreError::NotFound { what: "the reward model behind", id: id.to_string() };
        self.about(id, behind).await?.ok_or_else(|| none().into())
    }

    /// What `draw` makes of a policy, all runs, and everybody's id and role.
    async fn about<T: Send + 'static>(
        &self,
        id: &PolicyId,
        draw: impl FnOnce(&Path, About) -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let (id, data) = (id.clone(), self.store.data_dir().to_owned());
        let read = move |c: &rusqlite::Connection| {
            let what = |user: &User| if user.name == IMPORT_USER { "imports" } else { user.role.as_str() };
            let people = users::list(c)?.iter().map(|user| (user.id.to_string(), what(user))).collect();
            Ok((policies::get(c, &id)?, runs::list(c, usize::MAX)?, people))
        };
        let found = self.store.read(read).await?;
        tokio::task::spawn_blocking(move || draw(&data, found)).await.map_err(|_| StoreError::Closed.into())
    }

    /// Asks for a job to stop. A training process writes a checkpoint first, so it may take a moment.
    ///
    /// # Errors
    /// When there is none of this id, or it is finished.
    pub async fn cancel(&self, id: &JobId) -> Result<(), JobError> {
        let id = id.clone();
        self.store.write(move |tx| jobs::request_cancel(tx, &id)).await?;
        self.wake.notify_one();
        Ok(())
    }

    /// The job now and whenever something about it changes, up to and including its end; then the channel closes.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn watch(&self, id: &JobId) -> Result<mpsc::Receiver<Job>, JobError> {
        let (store, id) = (self.store.clone(), id.clone());
        let mut last = read(&store, &id).await?;
        let (send, events) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut sent = send.send(last.clone()).await;
            while sent.is_ok() && !last.state.is_final() {
                tokio::time::sleep(WATCH_EVERY).await;
                let Ok(job) = read(&store, &id).await else { return };
                // The lease is renewed all the time and tells a watcher nothing.
                let seen = Job { lease_until: last.lease_until.clone(), ..job.clone() };
                if seen != last {
                    sent = send.send(job.clone()).await;
                } else if send.is_closed() {
                    return;
                }
                last = job;
            }
        });
        Ok(events)
    }
}

async fn read(store: &Store, id: &JobId) -> Result<Job, StoreError> {
    let id = id.clone();
    store.read(move |c| jobs::get(c, &id)).await
}
