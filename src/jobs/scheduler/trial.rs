//! The canary's two steps: a policy that has passed the gate goes on trial; and a trial that is over is carried out.

use super::steps::still_champion;
use super::{Held, Outcome, Scheduler};
use crate::jobs::JobError;
use crate::jobs::canary::{self, Ending, Trial};
use crate::jobs::drift;
use crate::jobs::plan::Phase;
use crate::store::challenger::{self, Challenge};
use crate::store::jobs::JobState;
use crate::store::{StoreError, audit, policies};
use hone_domain::ids::PolicyId;
use jiff::Timestamp;
use rusqlite::Connection;

/// Who decides about a trial, in the audit log and the history of champions.
const ACTOR: &str = "canary";

impl Scheduler {
    /// The job's policy becomes the challenger, on trial; the job is done. Doing it again after a crash changes nothing.
    pub(super) async fn begin_trial(&self, held: &mut Held) -> Result<Outcome, JobError> {
        let Some(policy_id) = held.work.policy.clone() else {
            return Err(JobError::Conflict("the policy is gone".into()));
        };
        self.save(held, Phase::Canary).await?;
        let parent = held.work.parent.clone();
        self.store.read(move |c| still_champion(c, parent.as_ref())).await?;
        let trial = self.options.canary.trial();
        let (traffic, bounds) = trial.map_err(|e| JobError::Invalid(format!("[canary]: {e}")))?;
        self.champions.challenge(Challenge { policy_id, traffic, trial: Some(bounds) }, ACTOR).await?;
        held.loaded = None;
        self.done(held, Phase::Canary).await?;
        Ok(Outcome::Over(JobState::Succeeded, None))
    }

    /// Looks at the challenger's trial, where there is one, and carries out what it comes to.
    pub(super) async fn decide_trial(&self) -> Result<(), JobError> {
        let Some((id, trial)) = self.store.read(|c| standing(c, Timestamp::now())).await? else { return Ok(()) };
        let Some(ending) = trial.ending else { return Ok(()) };
        tracing::info!(policy = %id, sentence = trial.sentence, "a trial is over");
        let record = serde_json::to_value(&trial).map_err(StoreError::from)?;
        let policy = id.clone();
        let note = move |tx: &Connection| {
            policies::keep_trial(tx, &policy, &record, ending == Ending::RolledBack)?;
            audit::note(tx, ACTOR, "trial.end", policy.as_str(), &record)
        };
        if ending == Ending::Promoted {
            let policy = self.store.read(move |c| policies::promotable(c, &id)).await?;
            self.champions.promote_with(policy, None, ACTOR, note, || Ok(())).await?;
        } else {
            self.store.write(note).await?;
            self.champions.end_challenge().await?;
        }
        Ok(())
    }

    /// Where drift is looked for and nobody else challenges, the champion's predecessor goes on answering in some comparisons.
    pub(super) async fn keep_control(&self) -> Result<(), JobError> {
        let config = self.options.triggers.drift().clone();
        if let Some(challenge) = self.store.read(move |c| drift::control(c, &config)).await? {
            tracing::info!(policy = %challenge.policy_id, "the champion's predecessor is its control in comparisons");
            self.champions.challenge(challenge, drift::ACTOR).await?;
        }
        Ok(())
    }
}

/// The challenger on trial and how it stands, where there is one.
///
/// # Errors
/// When the database can't.
pub fn standing(c: &Connection, now: Timestamp) -> Result<Option<(PolicyId, Trial)>, StoreError> {
    let (Some(Challenge { policy_id, trial: Some(bounds), .. }), Some(since), Some(champion)) =
        (challenger::get(c)?, challenger::since(c)?, policies::champion(c)?)
    else {
        return Ok(None);
    };
    let score =
        challenger::scores(c, &policy_id, &champion.id, &since)?.into_iter().fold(Default::default(), |a, b| a + b);
    Ok(Some((policy_id, canary::judge(score, &since, bounds, now))))
}
