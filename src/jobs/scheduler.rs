//! The scheduler: works off the queue of jobs, one at a time. [`Scheduler::tick`] is one iteration, and the ONLY place where a
//! job changes state. A background task calls it; tests step it.

mod options;
mod steps;
mod trial;

pub use options::Options;
pub use trial::standing;

use super::child::{self, Child};
use super::gate::GateConfig;
use super::params::{JobParams, with_overrides};
use super::plan::{self, Phase, Work};
use super::{Champions, JobError};
use crate::serving::SharedPolicy;
use crate::store::jobs::{self, Job, JobKind, JobState};
use crate::store::runs::{self, RunState};
use crate::store::{Store, StoreError, frozen, timestamp};
use hone_domain::ids::JobId;
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::Value;
use std::process::ExitStatus;
use std::sync::Arc;

/// How long a job is held without a sign of life. After a crash, its next scheduler waits until then: the training process of the
/// old one notices the crash and writes its checkpoint in that time.
pub const LEASE: SignedDuration = SignedDuration::from_secs(10);
/// Processes that one phase may lose before its job fails.
const LOST_PROCESSES_MAX: u32 = 3;

/// Where a test can plan for the scheduler to die, as if the machine had lost power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailAt {
    /// The job is running, nothing else has happened.
    JobStarted,
    /// The data is frozen, the job doesn't know it.
    SnapshotTaken,
    /// The run is in the database, its process hasn't started.
    RunCreated,
    /// The process has just started.
    ProcessStarted,
    /// The run has succeeded, the job doesn't know it.
    ProcessEnded,
    /// The policy's id is chosen, nothing else of it is there.
    PolicyNamed,
    /// The gate has decided, the job doesn't know it.
    PolicyJudged,
    /// The policy is champion in the database, but isn't served.
    Promoted,
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing: there is nothing to do.
    Idle,
    /// Nothing: a training process is at work.
    Training,
    /// Something; there may be more.
    Stepped,
}

/// The job that this scheduler works on.
struct Held {
    id: JobId,
    kind: JobKind,
    params: JobParams,
    work: Work,
    lease_until: Timestamp,
    child: Option<Child>,
    /// The policy that passed the gate, kept loaded until it is promoted.
    loaded: Option<SharedPolicy>,
}

/// Works off the queue.
pub struct Scheduler {
    store: Store,
    champions: Arc<Champions>,
    options: Options,
    came_up: Timestamp,
    held: Option<Held>,
}

/// What has become of the held job in a step.
enum Outcome {
    /// It goes on.
    GoesOn,
    /// It is over.
    Over(JobState, Option<String>),
    /// It is over, and the database knows already.
    Recorded,
}

fn is_cancelled(unfinished: &[Job], id: &JobId) -> bool {
    unfinished.iter().any(|job| job.id == *id && job.cancel_requested)
}

impl Scheduler {
    /// A scheduler that holds nothing yet. One per data folder.
    #[must_use]
    pub fn new(store: Store, champions: Arc<Champions>, options: Options) -> Self {
        Self { store, champions, options, came_up: Timestamp::now(), held: None }
    }

    /// One iteration:
    ///
    /// 1. Serve the champion and the challenger that the database names, where the command line has changed them. A challenger on trial
    ///    whose verdict is clear, or whose time is up, is promoted, rejected, or becomes a candidate again. Where drift is looked for, the
    ///    champion's predecessor is put up against it.
    /// 2. Read the unfinished jobs. Cancel queued ones that nobody wants any more.
    /// 3. Holding none, take over a running job whose lease has run out.
    /// 4. Holding none, queue a cycle if a trigger says so, and start the oldest queued job. Frozen: stop the process of the held one,
    ///    which goes on from its checkpoint later, and do nothing more.
    /// 5. Keep the held job's lease and its process's newest progress.
    /// 6. Asked to cancel it: stop its process; once that is gone, the job is cancelled.
    /// 7. Its process has ended: the phase is done, or to be resumed, or the job has failed.
    /// 8. No process runs: do the next phase, or start its process, or the job has succeeded.
    ///
    /// # Errors
    /// When the database can't; nothing is lost, the next tick tries again.
    pub async fn tick(&mut self) -> Result<Tick, JobError> {
        if let Err(e) = self.champions.follow().await {
            tracing::error!(error = %e, "can't serve the champion that was chosen; the one before it stays");
        }
        if let Err(e) = self.champions.follow_challenge().await {
            tracing::error!(error = %e, "can't serve the challenger: its challenge has ended");
        }
        let is_frozen = self.store.read(frozen::get).await?.is_some();
        if !is_frozen && let Err(e) = self.decide_trial().await {
            tracing::error!(error = %e, "the challenger's trial is decided, but that can't be carried out; it is tried again");
        }
        if !is_frozen && let Err(e) = self.keep_control().await {
            tracing::error!(error = %e, "the champion's predecessor can't be its control: drift goes unnoticed");
        }
        let unfinished = self.store.read(jobs::unfinished).await?;
        let unfinished = self.cancel_queued(unfinished).await?;
        if self.held.is_none() {
            self.take_over(&unfinished).await?;
        }
        if is_frozen && !self.held.as_ref().is_some_and(|held| is_cancelled(&unfinished, &held.id)) {
            return self.pause().await;
        }
        if self.held.is_none() && !unfinished.iter().any(|job| job.state == JobState::Running) {
            self.start_next(&unfinished).await?;
        }
        let Some(mut held) = self.held.take() else { return Ok(Tick::Idle) };
        let cancelled = is_cancelled(&unfinished, &held.id);
        let stepped = self.advance(&mut held, cancelled).await;
        match stepped {
            Ok((tick, Outcome::GoesOn)) => {
                self.held = Some(held);
                Ok(tick)
            }
            Ok((_, Outcome::Recorded)) => Ok(Tick::Stepped),
            Ok((_, Outcome::Over(state, error))) => {
                self.finish(&held, state, error).await?;
                Ok(Tick::Stepped)
            }
            Err(e @ JobError::Planned(_)) => Err(e),
            // No reason to give up hours of training.
            Err(JobError::Store(e)) if e.may_pass() => {
                self.held = Some(held);
                Err(e.into())
            }
            Err(e) => {
                tracing::error!(job = %held.id, error = %e, "a job has failed");
                if let Some(child) = &mut held.child {
                    child.quit().await;
                }
                self.finish(&held, JobState::Failed, Some(e.to_string())).await?;
                Ok(Tick::Stepped)
            }
        }
    }

    /// Frozen: the held job's process writes its checkpoint and ends; the job stays held, as it is.
    async fn pause(&mut self) -> Result<Tick, JobError> {
        let Some(mut held) = self.held.take() else { return Ok(Tick::Idle) };
        if let Some(mut child) = held.child.take() {
            tracing::info!(job = %held.id, "the loop is frozen: stopping the training process");
            child.quit().await;
        }
        let renewed = self.renew(&mut held).await;
        self.held = Some(held);
        renewed.map(|()| Tick::Idle)
    }

    /// The training process that is at work.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.held.as_ref().and_then(|held| held.child.as_ref()).map(Child::id)
    }

    /// Stops the training process, if one runs, and lets the job go: the next scheduler resumes it at once.
    ///
    /// # Errors
    /// When the database can't.
    pub async fn shut_down(mut self) -> Result<(), JobError> {
        let Some(mut held) = self.held.take() else { return Ok(()) };
        if let Some(child) = &mut held.child {
            child.quit().await;
        }
        Ok(self.store.write(move |tx| jobs::release(tx, &held.id)).await?)
    }

    async fn cancel_queued(&self, unfinished: Vec<Job>) -> Result<Vec<Job>, JobError> {
        let unwanted = |job: &Job| job.state == JobState::Queued && job.cancel_requested;
        let (cancelled, rest): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(unwanted);
        for job in cancelled {
            self.store.write(move |tx| jobs::finish(tx, &job.id, JobState::Cancelled, None)).await?;
        }
        Ok(rest)
    }

    async fn take_over(&mut self, unfinished: &[Job]) -> Result<(), JobError> {
        let now = timestamp(Timestamp::now());
        let expired =
            |job: &&Job| job.state == JobState::Running && job.lease_until.as_ref().is_none_or(|until| *until < now);
        if let Some(job) = unfinished.iter().find(expired) {
            tracing::info!(job = %job.id, phase = job.phase, "taking over a job that lost its scheduler");
            self.hold(job).await?;
        }
        Ok(())
    }

    async fn start_next(&mut self, unfinished: &[Job]) -> Result<(), JobError> {
        let mut queued = unfinished.iter().find(|job| job.state == JobState::Queued).cloned();
        if queued.is_none() {
            let (triggers, came_up) = (self.options.triggers.clone(), self.came_up);
            let due = move |c: &Connection| triggers.due(c, came_up, Timestamp::now());
            if let Some(reason) = self.store.read(due).await? {
                let create = move |tx: &Connection| {
                    let id = jobs::create(tx, JobKind::Cycle, &Value::Object(serde_json::Map::new()), reason)?;
                    jobs::get(tx, &id)
                };
                queued = Some(self.store.write(create).await?);
            }
        }
        let Some(job) = queued else { return Ok(()) };
        let id = job.id.clone();
        let until = timestamp(Timestamp::now() + self.options.lease);
        self.store.write(move |tx| jobs::start(tx, &id, "starting", &until)).await?;
        tracing::info!(job = %job.id, kind = %job.kind, reason = job.reason, "a job begins");
        self.fail_at(FailAt::JobStarted)?;
        self.hold(&job).await
    }

    /// Makes a running job the held one. One whose record can't be read fails.
    async fn hold(&mut self, job: &Job) -> Result<(), JobError> {
        let read = JobParams::parse(job.kind, &job.params)
            .and_then(|params| Ok((params, serde_json::from_value(job.work.clone()).map_err(StoreError::from)?)));
        let (mut params, mut work): (JobParams, Work) = match read {
            Ok(read) => read,
            Err(e) => {
                let (id, text) = (job.id.clone(), e.to_string());
                self.store.write(move |tx| jobs::finish(tx, &id, JobState::Failed, Some(&text))).await?;
                return Ok(());
            }
        };
        if work.done.is_empty() {
            work.seed = params.seed.unwrap_or_else(rand::random);
        }
        let of_server = &self.options.triggers;
        params.old_rankings_per_new =
            params.old_rankings_per_new.or_else(|| of_server.old_rankings_per_new(&job.reason));
        params.earlier_policies_max = params.earlier_policies_max.or_else(|| of_server.earlier_policies_max());
        let (id, kind) = (job.id.clone(), job.kind);
        // An old lease: the first step renews it.
        self.held =
            Some(Held { id, kind, params, work, lease_until: Timestamp::UNIX_EPOCH, child: None, loaded: None });
        Ok(())
    }

    /// Steps 5 to 8.
    async fn advance(&self, held: &mut Held, cancelled: bool) -> Result<(Tick, Outcome), JobError> {
        self.renew(held).await?;
        if let Some(child) = &mut held.child {
            let ended = child.ended()?;
            if cancelled && ended.is_none() {
                child.stop();
            }
            let Some(status) = ended else { return Ok((Tick::Training, Outcome::GoesOn)) };
            if !cancelled {
                self.fail_at(FailAt::ProcessEnded)?;
                return Ok((Tick::Stepped, self.reap(held, status).await?));
            }
        }
        if cancelled {
            return Ok((Tick::Stepped, Outcome::Over(JobState::Cancelled, None)));
        }
        let wanted = if self.options.canary.enabled { Phase::Canary } else { Phase::Promote };
        let last = held.params.promote.unwrap_or(true).then_some(wanted);
        let Some(phase) = plan::next(held.kind, &held.work, last) else {
            return Ok((Tick::Stepped, Outcome::Over(JobState::Succeeded, None)));
        };
        let outcome = match (phase, phase.run_kind()) {
            (_, Some(kind)) => self.start_process(held, phase, kind).await?,
            (Phase::Gate, None) => self.judge(held).await?,
            (Phase::Promote, None) => self.promote(held).await?,
            (Phase::Canary, None) => self.begin_trial(held).await?,
            (_, None) => self.take_snapshot(held).await?,
        };
        Ok((Tick::Stepped, outcome))
    }

    /// Writes when there is something new to say, or when half of the lease is gone.
    async fn renew(&self, held: &mut Held) -> Result<(), JobError> {
        let progress = held.child.as_ref().and_then(Child::progress);
        let now = Timestamp::now();
        if progress.is_none() && held.lease_until > now + self.options.lease / 2 {
            return Ok(());
        }
        held.lease_until = now + self.options.lease;
        let (id, until) = (held.id.clone(), timestamp(held.lease_until));
        Ok(self.store.write(move |tx| jobs::renew(tx, &id, &until, progress.as_ref())).await?)
    }

    /// The process of the current phase has ended.
    async fn reap(&self, held: &mut Held, status: ExitStatus) -> Result<Outcome, JobError> {
        let Some(child) = held.child.take() else { return Ok(Outcome::GoesOn) };
        let id = child.run.clone();
        let run = self.store.read(move |c| runs::get(c, &id)).await?;
        match run.state {
            RunState::Succeeded => {
                held.work.lost_processes = 0;
                self.done(held, run.kind.into()).await?;
            }
            RunState::Failed => return Err(JobError::Process(run.error.unwrap_or_default())),
            RunState::Cancelled => return Ok(Outcome::Over(JobState::Cancelled, None)),
            RunState::Running => {
                held.work.lost_processes += 1;
                let how = child::how_it_ended(status);
                tracing::warn!(job = %held.id, run = %run.id, how, "a training process ended without a result");
                if held.work.lost_processes >= LOST_PROCESSES_MAX {
                    return Err(JobError::Process(format!(
                        "the training process of phase {} ended {LOST_PROCESSES_MAX} times without a result: {how}",
                        run.kind
                    )));
                }
                self.save(held, Phase::from(run.kind)).await?;
            }
        }
        Ok(Outcome::GoesOn)
    }

    async fn done(&self, held: &mut Held, phase: Phase) -> Result<(), JobError> {
        held.work.done.push(phase);
        self.save(held, phase).await
    }

    async fn save(&self, held: &Held, phase: Phase) -> Result<(), JobError> {
        let (id, work) = (held.id.clone(), serde_json::to_value(&held.work).map_err(StoreError::from)?);
        Ok(self.store.write(move |tx| jobs::save(tx, &id, phase.as_str(), &work)).await?)
    }

    /// The job's end, and that of a run of it which hasn't ended by itself.
    async fn finish(&self, held: &Held, state: JobState, error: Option<String>) -> Result<(), JobError> {
        let id = held.id.clone();
        let run_state = if state == JobState::Cancelled { RunState::Cancelled } else { RunState::Failed };
        let finish = move |tx: &Connection| {
            for run in runs::of_job(tx, &id)?.iter().filter(|run| run.state == RunState::Running) {
                runs::stop(tx, &run.id, run_state, error.as_deref())?;
            }
            jobs::finish(tx, &id, state, error.as_deref())
        };
        tracing::info!(job = %held.id, %state, "a job is over");
        Ok(self.store.write(finish).await?)
    }

    fn gate(&self, held: &Held) -> Result<GateConfig, JobError> {
        with_overrides(&self.options.gate, &held.params.gate, "params.gate")
    }

    fn fail_at(&self, here: FailAt) -> Result<(), JobError> {
        if self.options.fail_at == Some(here) { Err(JobError::Planned(here)) } else { Ok(()) }
    }
}
