//! Which policy people talk to, and how that changes: promotion, roll-back, and following what the command line decided.
//!
//! There is ONE order: the policy is loaded beside the live one, then the database says who is champion, then the live pointer is
//! swapped. A crash in between leaves the database right, and the next start (or the next tick) serves what it says.

use super::JobError;
use crate::serving::{Challenger, Serving, SharedPolicy};
use crate::store::challenger::{self, Challenge};
use crate::store::policies::{self, Policy, PolicyState};
use crate::store::{Store, StoreError};
use hone_domain::ids::PolicyId;
use hone_domain::{Engine, PolicyFiles};
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Changes the champion, one change at a time.
pub struct Champions {
    store: Store,
    serving: Arc<Serving>,
    changing: tokio::sync::Mutex<()>,
    /// A champion that couldn't be loaded: not tried again until the database names another.
    unloadable: Mutex<Option<PolicyId>>,
}

impl Champions {
    /// Over a server that has started with [`starting_files`].
    #[must_use]
    pub fn new(store: Store, serving: Arc<Serving>) -> Self {
        Self { store, serving, changing: tokio::sync::Mutex::default(), unloadable: Mutex::default() }
    }

    /// Who answers.
    #[must_use]
    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    /// Makes the policy that the server has started with the champion, if it isn't.
    ///
    /// # Errors
    /// When the database can't.
    pub async fn start(&self) -> Result<(), StoreError> {
        let id = self.serving.live().id().clone();
        self.store.write(move |tx| policies::start(tx, &id)).await.map(drop)
    }

    /// Makes a policy the champion and serves it. For the champion itself nothing changes.
    ///
    /// # Errors
    /// When there is no such policy, the gate has rejected it, it belongs to another base, or it can't be loaded.
    pub async fn promote(&self, id: &PolicyId, actor: &str) -> Result<Policy, JobError> {
        let id = id.clone();
        let policy = self.store.read(move |c| policies::promotable(c, &id)).await?;
        refuse_ungated(&policy)?;
        self.promote_with(policy, None, actor, |_| Ok(()), || Ok(())).await
    }

    /// [`Champions::promote`] of a policy that may be loaded already. `also` happens in the same transaction, `before_publishing`
    /// between it and the swap.
    pub(super) async fn promote_with<F>(
        &self,
        policy: Policy,
        loaded: Option<SharedPolicy>,
        actor: &str,
        also: F,
        before_publishing: impl FnOnce() -> Result<(), JobError>,
    ) -> Result<Policy, JobError>
    where
        F: FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static,
    {
        let _one_at_a_time = self.changing.lock().await;
        let loaded = match loaded {
            Some(loaded) => loaded,
            None => self.load(&policy).await?,
        };
        let (id, actor) = (policy.id, actor.to_owned());
        let write = move |tx: &Connection| {
            also(tx)?;
            policies::promote(tx, &id, &actor)
        };
        let policy = self.store.write(write).await?;
        before_publishing()?;
        self.publish(loaded).await;
        Ok(policy)
    }

    /// Goes back to the champion before this one.
    ///
    /// # Errors
    /// When there is none, or it can't be loaded.
    pub async fn roll_back(&self, actor: &str) -> Result<Policy, JobError> {
        let _one_at_a_time = self.changing.lock().await;
        let back =
            self.store.read(|c| policies::previous_champion(c)?.map(|id| policies::get(c, &id)).transpose()).await?;
        let back = back.ok_or_else(|| JobError::Conflict("there is no earlier champion to go back to".into()))?;
        let loaded = self.load(&back).await?;
        let actor = actor.to_owned();
        let policy = self.store.write(move |tx| policies::roll_back(tx, &actor)).await?;
        if policy.id != back.id {
            // The command line was faster; `follow` serves what it chose.
            return Ok(policy);
        }
        self.publish(loaded).await;
        Ok(policy)
    }

    /// Serves the database's champion, where the command line has changed it. Answers whether anything changed.
    ///
    /// # Errors
    /// When it can't be loaded: what is served stays, and it isn't tried again.
    pub async fn follow(&self) -> Result<bool, JobError> {
        let Ok(_one_at_a_time) = self.changing.try_lock() else { return Ok(false) };
        let Some(champion) = self.store.read(policies::champion).await? else { return Ok(false) };
        let mut unloadable = self.unloadable.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if champion.id == *self.serving.live().id() || unloadable.as_ref() == Some(&champion.id) {
            return Ok(false);
        }
        let loaded = self.load(&champion).await;
        unloadable = loaded.is_err().then_some(champion.id);
        *self.unloadable.lock().unwrap_or_else(PoisonError::into_inner) = unloadable;
        self.publish(loaded?).await;
        Ok(true)
    }

    /// Gives a policy a share of the champion's traffic, or changes its share.
    ///
    /// # Errors
    /// As [`Champions::promote`]; or when it is the champion.
    pub async fn challenge(&self, challenge: Challenge, actor: &str) -> Result<Policy, JobError> {
        let _one_at_a_time = self.changing.lock().await;
        let id = challenge.policy_id.clone();
        let policy = self.store.read(move |c| policies::promotable(c, &id)).await?;
        refuse_challenge(&policy)?;
        let loaded = self.load(&policy).await?;
        let (traffic, actor) = (challenge.traffic, actor.to_owned());
        self.store.write(move |tx| challenger::set(tx, &challenge, &actor)).await?;
        self.serving.challenge(Some(Challenger { policy: loaded, traffic }));
        Ok(policy)
    }

    /// Ends the challenge: all traffic is the champion's. Answers whether there was one.
    ///
    /// # Errors
    /// When the database can't.
    pub async fn end_challenge(&self) -> Result<bool, StoreError> {
        let _one_at_a_time = self.changing.lock().await;
        let ended = self.store.write(challenger::end).await?;
        self.serving.challenge(None);
        Ok(ended)
    }

    /// Serves the database's challenge, after a start and where the command line has changed it. A challenger that can't be loaded
    /// loses its challenge, and the error says why.
    ///
    /// # Errors
    /// When it can't be loaded.
    pub async fn follow_challenge(&self) -> Result<(), JobError> {
        let Ok(_one_at_a_time) = self.changing.try_lock() else { return Ok(()) };
        let wanted = self.store.read(challenger::get).await?;
        let has = self.serving.challenger();
        let Some(Challenge { policy_id, traffic, trial: _ }) = wanted else {
            if has.is_some() {
                self.serving.challenge(None);
            }
            return Ok(());
        };
        if has.is_some_and(|has| *has.policy.id() == policy_id && has.traffic == traffic) {
            return Ok(());
        }
        let policy = self.store.read(move |c| policies::promotable(c, &policy_id)).await;
        let loaded = match policy {
            Ok(policy) => self.load(&policy).await,
            Err(e) => Err(e.into()),
        };
        match loaded {
            Ok(policy) => self.serving.challenge(Some(Challenger { policy, traffic })),
            Err(e) => {
                self.store.write(challenger::end).await?;
                return Err(e);
            }
        }
        Ok(())
    }

    /// Loads any policy of this base beside the live one, to look at what it answers. Nobody else is answered by it.
    ///
    /// # Errors
    /// When there is no such policy, or it belongs to another base.
    pub async fn beside(&self, id: &PolicyId) -> Result<SharedPolicy, JobError> {
        let id = id.clone();
        let read = move |c: &Connection| Ok((policies::get(c, &id)?, policies::champion(c)?));
        let (policy, champion) = self.store.read(read).await?;
        if champion.is_some_and(|champion| champion.base_name != policy.base_name) {
            return Err(JobError::Conflict(format!(
                "policy {} belongs to another base model, {}",
                policy.id, policy.base_name
            )));
        }
        self.load(&policy).await
    }

    /// Loads a policy beside the live one; writes the merged weights first where the engine needs them.
    pub(super) async fn load(&self, policy: &Policy) -> Result<SharedPolicy, JobError> {
        if let Some(loaded) = self.serving.by_id(&policy.id) {
            return Ok(loaded);
        }
        let (policy, data_dir) = (policy.clone(), self.store.data_dir().to_owned());
        let engine = Arc::clone(self.serving.engine());
        let files = tokio::task::spawn_blocking(move || files(&data_dir, &policy, engine.as_ref())).await;
        let files = files.map_err(|_| JobError::Process("the server is shutting down".into()))??;
        Ok(self.serving.load(&files).await?)
    }

    async fn publish(&self, policy: SharedPolicy) {
        self.serving.publish(policy);
        self.prune().await;
    }

    /// Removes the merged weights that nobody needs any more.
    pub(super) async fn prune(&self) {
        let store = self.store.clone();
        let pruned = tokio::task::spawn_blocking(move || prune_merged(&store)).await;
        if let Ok(Err(e)) = pruned {
            tracing::warn!(error = %e, "can't remove merged weights that nobody needs any more");
        }
    }
}

/// Who may challenge: who may be promoted, and isn't the champion.
///
/// # Errors
/// As [`refuse_ungated`], or when it is the champion.
pub fn refuse_challenge(policy: &Policy) -> Result<(), JobError> {
    if policy.state == PolicyState::Champion {
        return Err(JobError::Conflict(format!("policy {} is the champion itself", policy.id)));
    }
    refuse_ungated(policy)
}

/// An operator may bring back what was once served, but not serve what the gate refused or never saw.
///
/// # Errors
/// When the policy is rejected, or a candidate without the gate's report.
pub fn refuse_ungated(policy: &Policy) -> Result<(), JobError> {
    let Policy { id, state, gate_report, trial, .. } = policy;
    match (state, gate_report) {
        (PolicyState::Rejected, _) if trial.is_some() => {
            let said = trial.as_ref().and_then(|trial| trial["sentence"].as_str()).unwrap_or_default();
            Err(JobError::Conflict(format!("people rejected policy {id}: {said}")))
        }
        (PolicyState::Rejected, report) => {
            let rules = report.iter().filter_map(|report| report["rules"].as_array()).flatten();
            let failed = rules.filter(|rule| rule["passed"] == false).filter_map(|rule| rule["sentence"].as_str());
            let said = failed.collect::<Vec<_>>().join("; ");
            Err(JobError::Conflict(format!("the gate rejected policy {id}: {said}")))
        }
        (PolicyState::Candidate, None) if policy.run_id.is_none() => Err(JobError::Conflict(format!(
            "policy {id} was imported, and the gate judges what a run has made: train from it with --init {id}"
        ))),
        (PolicyState::Candidate, None) => Err(JobError::Conflict(format!(
            "the gate hasn't judged policy {id}: wait for its job, or start one of kind \"evaluate\""
        ))),
        _ => Ok(()),
    }
}

/// The policy that a server of this base starts with, and its files: [`Champions::start`] makes it champion once it is served.
///
/// # Errors
/// When the merged weights can't be written.
pub fn starting_files(store: &Store, base_name: &str, engine: &dyn Engine) -> Result<PolicyFiles, JobError> {
    let base_name = base_name.to_owned();
    let policy = store.write_blocking(move |tx| policies::of_base(tx, &base_name))?;
    files(store.data_dir(), &policy, engine)
}

/// Where a policy's files are. Writes the merged weights first where they are needed and missing.
fn files(data_dir: &Path, policy: &Policy, engine: &dyn Engine) -> Result<PolicyFiles, JobError> {
    let base_dir = data_dir.join("models").join(&policy.base_name);
    let adapter_dir = policy.adapter_dir.as_ref().map(|dir| data_dir.join(dir));
    let merged_dir = match &adapter_dir {
        Some(adapter) if engine.needs_merged(&base_dir) => {
            let merged = data_dir.join("policies").join(policy.id.as_str()).join("merged");
            if !merged.exists() {
                hone_learn::merge::write_merged(&base_dir, adapter, &merged)?;
            }
            Some(merged)
        }
        _ => None,
    };
    Ok(PolicyFiles { id: policy.id.clone(), base_dir, adapter_dir, merged_dir })
}

/// Removes the merged weights of policies that are neither champion, nor the way back, nor challenger, nor candidates: each is as large as the base
/// model, and can be written again from the adapter.
fn prune_merged(store: &Store) -> Result<(), JobError> {
    let read = |c: &Connection| Ok((policies::list(c)?, policies::previous_champion(c)?, challenger::get(c)?));
    let (all, back, challenge) = store.read_blocking(read)?;
    let used = [back, challenge.map(|challenge| challenge.policy_id)];
    for policy in all {
        let wanted = matches!(policy.state, PolicyState::Champion | PolicyState::Candidate)
            || used.iter().flatten().any(|id| *id == policy.id);
        let merged = store.data_dir().join("policies").join(policy.id.as_str()).join("merged");
        if !wanted && merged.exists() {
            std::fs::remove_dir_all(&merged).map_err(JobError::file(&merged))?;
        }
    }
    Ok(())
}
