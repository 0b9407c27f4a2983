//! The live policy: which one answers, how a better one takes its place under live traffic, and how many requests may
//! be answered at once. May use: domain, the store's types and any `Engine`. Knows nothing of HTTP, SQL or tensors.
//!
//! A request calls [`Serving::live`] once and keeps that `Arc` until its last token: no answer mixes two policies.
//! `publish` swaps the pointer; the policy before it stays loaded, so that going back takes a pointer swap too. Older ones
//! are unloaded when the last request that they answer drops its `Arc`.

pub mod admission;
pub mod auto;
pub mod challenger;
pub mod check;
pub mod drain;
pub mod echo;
pub mod health;
pub mod meters;
mod relay;
pub mod remote;
#[cfg(test)]
mod tests;

pub use admission::{Admission, AdmissionError, Permit};
pub use check::{CheckText, ServeCheck, ServeCheckLimits, ServeCheckReport};
pub use health::Health;
pub use meters::Meters;
pub use relay::relay;

use crate::store::challenger::Traffic;
use arc_swap::{ArcSwap, ArcSwapOption};
use drain::DrainEngine;
use hone_domain::ids::{PolicyId, UserId};
use hone_domain::{Conversation, Engine, EngineError, LoadedPolicy, PolicyFiles};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// A policy in memory, shared by the requests that it answers.
pub type SharedPolicy = Arc<dyn LoadedPolicy>;

/// The `[serving]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServingConfig {
    /// Answers that are computed at once. At least 1.
    pub running_max: usize,
    /// Answers that may wait for their turn; one more is told to come back later.
    pub waiting_max: usize,
    /// Answers, running and waiting, that one person may have at a time; one more is told 429.
    pub person_max: usize,
    /// How a policy takes another's place.
    pub swap: SwapMode,
    /// How far the engine's log-probabilities may be from the trainer's.
    pub check: ServeCheckLimits,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            running_max: 16,
            waiting_max: 64,
            person_max: 32,
            swap: SwapMode::Beside,
            check: ServeCheckLimits::default(),
        }
    }
}

/// How a policy takes another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapMode {
    /// It is loaded beside the other, which answers meanwhile: takes the memory of both.
    Beside,
    /// The other's answers end, it is unloaded, then this one is loaded; new requests wait that long. For engines that keep a whole model per
    /// policy, where memory holds one.
    Drain,
}

/// A policy beside the live one, and what it gets.
#[derive(Clone)]
pub struct Challenger {
    /// The policy.
    pub policy: SharedPolicy,
    /// Its share.
    pub traffic: Traffic,
}

/// The engine, the live policy and the one before it. Shared by all requests.
pub struct Serving {
    engine: Arc<dyn Engine>,
    // `ArcSwap` needs a sized target, so the shared policy sits in one more `Arc`.
    live: ArcSwap<SharedPolicy>,
    /// What `roll_back` returns to. Its lock also orders publishers; requests never take it.
    previous: Mutex<Option<SharedPolicy>>,
    challenger: ArcSwapOption<Challenger>,
    /// One load at a time: two would need the memory of both.
    loading: tokio::sync::Mutex<()>,
    admission: Admission,
    limits: ServeCheckLimits,
    meters: Meters,
    health: Arc<Health>,
}

impl Serving {
    /// Loads the first policy and serves it.
    ///
    /// # Errors
    /// When it can't be loaded.
    pub async fn start(
        engine: Arc<dyn Engine>,
        files: &PolicyFiles,
        config: &ServingConfig,
    ) -> Result<Arc<Self>, EngineError> {
        let ServingConfig { running_max, waiting_max, person_max, swap, check } = config;
        let engine = match swap {
            SwapMode::Beside => engine,
            SwapMode::Drain => Arc::new(DrainEngine::new(engine)),
        };
        let first = engine.load(files).await?;
        tracing::info!(engine = engine.name(), policy = %first.id(), "serving the first policy");
        Ok(Arc::new(Self {
            engine,
            live: ArcSwap::from_pointee(first),
            previous: Mutex::new(None),
            challenger: ArcSwapOption::empty(),
            loading: tokio::sync::Mutex::new(()),
            admission: Admission::new(*running_max, *waiting_max, *person_max),
            limits: check.clone(),
            meters: Meters::default(),
            health: Arc::default(),
        }))
    }

    /// The engine that loads and answers.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The policy that answers now. Call it ONCE per request and keep the result until the last token.
    #[must_use]
    pub fn live(&self) -> SharedPolicy {
        SharedPolicy::clone(&self.live.load())
    }

    /// The policy that answered before the last `publish`, still loaded.
    #[must_use]
    pub fn previous(&self) -> Option<SharedPolicy> {
        self.previous.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The policy beside the live one, where there is one.
    #[must_use]
    pub fn challenger(&self) -> Option<Arc<Challenger>> {
        self.challenger.load_full()
    }

    /// Gives a policy a share of the traffic, from the next request on, or ends that. The live policy itself can't challenge.
    pub fn challenge(&self, challenger: Option<Challenger>) {
        let challenger = challenger.filter(|challenger| challenger.policy.id() != self.live.load().id());
        self.challenger.store(challenger.map(Arc::new));
    }

    /// The policy that answers a conversation: the live one, or the challenger where the canary takes it. Call it ONCE per request
    /// and keep the result until the last token.
    #[must_use]
    pub fn serves(&self, person: &UserId, conversation: &Conversation) -> SharedPolicy {
        let takes = |c: &Arc<Challenger>| challenger::canary_takes(&c.traffic, c.policy.id(), person, conversation);
        self.challenger().filter(takes).map_or_else(|| self.live(), |c| SharedPolicy::clone(&c.policy))
    }

    /// A loaded policy by its id: the live one, the previous one or the challenger.
    #[must_use]
    pub fn by_id(&self, id: &PolicyId) -> Option<SharedPolicy> {
        let challenger = self.challenger().map(|c| SharedPolicy::clone(&c.policy));
        [Some(self.live()), self.previous(), challenger].into_iter().flatten().find(|policy| policy.id() == id)
    }

    /// Loads a policy beside the live one, which goes on answering; nobody is answered by the new one before `publish`.
    /// One that is loaded already is answered as it is.
    ///
    /// # Errors
    /// When it can't be loaded; the live policy stays as it is.
    pub async fn load(&self, files: &PolicyFiles) -> Result<SharedPolicy, EngineError> {
        let _one_at_a_time = self.loading.lock().await;
        if let Some(policy) = self.by_id(&files.id) {
            return Ok(policy);
        }
        self.engine.load(files).await
    }

    /// Makes `policy` the live one from the next request on. Requests that are running keep theirs. The policy that was
    /// live stays loaded for [`Serving::roll_back`]; the one before it goes when its last request ends.
    pub fn publish(&self, policy: SharedPolicy) {
        let mut previous = self.previous.lock().unwrap_or_else(PoisonError::into_inner);
        if self.live.load().id() == policy.id() {
            return;
        }
        tracing::info!(policy = %policy.id(), "publishing a policy");
        if self.challenger().is_some_and(|challenger| challenger.policy.id() == policy.id()) {
            self.challenger.store(None);
        }
        let replaced = self.live.swap(Arc::new(policy));
        let older = previous.replace(SharedPolicy::clone(&replaced));
        // Unloading may take a while: not under the lock.
        drop(previous);
        drop(older);
    }

    /// Swaps the live and the previous policy.
    ///
    /// # Errors
    /// When nothing was published since the start, so there is no previous policy in memory.
    pub fn roll_back(&self) -> Result<SharedPolicy, EngineError> {
        match self.previous() {
            Some(policy) => {
                self.publish(SharedPolicy::clone(&policy));
                Ok(policy)
            }
            None => Err(EngineError::BadRequest(
                "no earlier policy is in memory: name the policy to go back to, it is loaded and then published".into(),
            )),
        }
    }

    /// Waits for a turn to compute `answers` answers of a person together (the candidates of a comparison, `n` of a request). Call it
    /// before tokenising, and keep the permit until the last token.
    ///
    /// # Errors
    /// When they don't fit into the queue, or into the person's share of it.
    pub async fn admit(&self, person: &UserId, answers: usize) -> Result<Permit, AdmissionError> {
        self.admission.admit(person, answers).await
    }

    /// What is measured of answers.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// What answers told of the engine.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Whether the live policy can answer.
    ///
    /// # Errors
    /// When its engine broke the last answer, and still doesn't answer.
    pub async fn ready(&self) -> Result<(), EngineError> {
        self.health.check(&self.live()).await
    }

    /// How full the queue is, for `/metrics`.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Whether `policy`, as this engine computes it, is the policy that was trained: compares the log-probabilities of
    /// fixed texts with the trainer's.
    ///
    /// # Errors
    /// When the engine can't compute them; a difference is no error but a report that says `passed: false`.
    pub async fn serve_check(
        &self,
        policy: &SharedPolicy,
        check: &ServeCheck,
    ) -> Result<ServeCheckReport, EngineError> {
        let mut served = Vec::with_capacity(check.texts.len());
        for text in &check.texts {
            served.push(policy.logprobs(&text.tokens).await?);
        }
        check::decide(check, &served, &self.limits)
    }
}
