//! What a job's phases do: freeze the data, start a training process, judge the new policy, promote it. Each step saves what it has
//! done, so that after a crash the next scheduler goes on from there.

use super::{FailAt, Held, Outcome, Scheduler};
use crate::jobs::JobError;
use crate::jobs::child::Child;
use crate::jobs::phases::{self, Judged};
use crate::jobs::plan::Phase;
use crate::store::jobs::{self, JobState};
use crate::store::runs::{self, RunKind, RunState};
use crate::store::{StoreError, policies};
use hone_domain::ids::PolicyId;
use rusqlite::Connection;

impl Scheduler {
    pub(super) async fn take_snapshot(&self, held: &mut Held) -> Result<Outcome, JobError> {
        self.save(held, Phase::Snapshot).await?;
        let (store, gate) = (self.store.clone(), self.gate(held)?);
        let (kind, params, mut work) = (held.kind, held.params.clone(), held.work.clone());
        let taken = tokio::task::spawn_blocking(move || {
            phases::take_snapshot(&store, kind, &params, &gate, &mut work)?;
            Ok::<_, JobError>(work)
        });
        held.work = taken.await.map_err(|_| JobError::Process("the server is shutting down".into()))??;
        self.fail_at(FailAt::SnapshotTaken)?;
        self.done(held, Phase::Snapshot).await?;
        Ok(Outcome::GoesOn)
    }

    /// The run's row and the job's record of it are one transaction; then the process is started. Where the row is there already,
    /// the process goes on from its last checkpoint, or has succeeded without anybody noticing.
    pub(super) async fn start_process(
        &self,
        held: &mut Held,
        phase: Phase,
        kind: RunKind,
    ) -> Result<Outcome, JobError> {
        if !held.work.runs.contains_key(&kind) {
            let (id, params, mut work) = (held.id.clone(), held.params.clone(), held.work.clone());
            let suites = self.options.suites.clone();
            let create = move |tx: &Connection| {
                let created = phases::create_run(tx, kind, &id, &params, &work, &suites);
                created.map_or_else(
                    |e| Ok(Err(e)),
                    |run| {
                        work.runs.insert(kind, run);
                        jobs::save(tx, &id, phase.as_str(), &serde_json::to_value(&work)?)?;
                        Ok(Ok(work))
                    },
                )
            };
            held.work = self.store.write(create).await??;
            self.fail_at(FailAt::RunCreated)?;
        }
        let run = held.work.runs[&kind].clone();
        let id = run.clone();
        if self.store.read(move |c| runs::get(c, &id)).await?.state == RunState::Succeeded {
            self.done(held, phase).await?;
            return Ok(Outcome::GoesOn);
        }
        tracing::info!(job = %held.id, run = %run, phase = phase.as_str(), "starting a training process");
        held.child = Some(Child::start(&self.options.program, self.store.data_dir(), &run)?);
        self.fail_at(FailAt::ProcessStarted)?;
        Ok(Outcome::GoesOn)
    }

    pub(super) async fn judge(&self, held: &mut Held) -> Result<Outcome, JobError> {
        let id = match &held.work.policy {
            Some(id) => id.clone(),
            None => held.work.policy.insert(PolicyId::new()).clone(),
        };
        self.save(held, Phase::Gate).await?;
        self.fail_at(FailAt::PolicyNamed)?;
        let gate = self.gate(held)?;
        let Judged { policy, loaded, report } =
            phases::judge(&self.store, &self.champions, gate, &held.work, id).await?;
        self.fail_at(FailAt::PolicyJudged)?;
        let (passed, reasons) = (report.passed, report.reasons());
        tracing::info!(job = %held.id, policy = %policy.id, passed, reasons, "the gate has decided");
        held.work.done.push(Phase::Gate);
        let (job, mut work) = (held.id.clone(), held.work.clone());
        let keep = move |tx: &Connection| {
            policies::keep_gate_report(tx, &policy.id, &serde_json::to_value(&report)?, passed)?;
            let elected = phases::elect(tx, &report, &mut work)?;
            jobs::save(tx, &job, Phase::Gate.as_str(), &serde_json::to_value(&work)?)?;
            Ok((work, elected))
        };
        let (work, elected) = self.store.write(keep).await?;
        held.work = work;
        if !passed {
            drop(loaded);
            self.champions.prune().await;
            return Ok(if elected { Outcome::GoesOn } else { Outcome::Over(JobState::Rejected, Some(reasons)) });
        }
        held.loaded = Some(loaded);
        Ok(Outcome::GoesOn)
    }

    /// The promotion and the job's end are one transaction: after a crash it isn't promoted again, which might undo what an operator
    /// has done meanwhile.
    pub(super) async fn promote(&self, held: &mut Held) -> Result<Outcome, JobError> {
        let Some(id) = held.work.policy.clone() else { return Err(JobError::Conflict("the policy is gone".into())) };
        self.save(held, Phase::Promote).await?;
        let policy = self.store.read(move |c| policies::get(c, &id)).await?;
        held.work.done.push(Phase::Promote);
        let (job, parent) = (held.id.clone(), held.work.parent.clone());
        let work = serde_json::to_value(&held.work).map_err(StoreError::from)?;
        let also = move |tx: &Connection| {
            still_champion(tx, parent.as_ref())?;
            jobs::save(tx, &job, Phase::Promote.as_str(), &work)?;
            jobs::finish(tx, &job, JobState::Succeeded, None)
        };
        let crash = self.options.fail_at == Some(FailAt::Promoted);
        let before_publishing = || if crash { Err(JobError::Planned(FailAt::Promoted)) } else { Ok(()) };
        self.champions.promote_with(policy, held.loaded.take(), "gate", also, before_publishing).await?;
        Ok(Outcome::Recorded)
    }
}

/// What a job has found holds against the champion that it began with.
pub(super) fn still_champion(c: &Connection, parent: Option<&PolicyId>) -> Result<(), StoreError> {
    if policies::champion(c)?.map(|p| p.id).as_ref() == parent {
        return Ok(());
    }
    Err(StoreError::Conflict(
        "the champion has changed since this job began, so its gain over the champion isn't known: judge its policy again \
         with a job of kind \"evaluate\""
            .into(),
    ))
}
