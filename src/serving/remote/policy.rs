//! A policy that is served elsewhere: each answer by the replica that has the fewest to compute; one that can't be reached is passed over.

use super::answer::pass_on;
use super::client::{Replica, Trouble};
use async_trait::async_trait;
use hone_domain::ids::PolicyId;
use hone_domain::{EngineError, GenerateRequest, LoadedPolicy, StreamEvent};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub(super) struct RemotePolicy {
    id: PolicyId,
    shared: Arc<Loaded>,
    context_tokens: usize,
}

/// What answers hold on to: dropped with the last of them.
struct Loaded {
    /// What the replicas call it.
    name: String,
    /// Whether it was loaded for us, and is to be unloaded.
    ours: bool,
    replicas: Vec<Arc<Replica>>,
}

impl RemotePolicy {
    pub(super) fn new(
        id: PolicyId,
        name: String,
        ours: bool,
        replicas: Vec<Arc<Replica>>,
        context_tokens: usize,
    ) -> Self {
        Self { id, shared: Arc::new(Loaded { name, ours, replicas }), context_tokens }
    }
}

impl Loaded {
    /// Begins an answer where the fewest are computed, else where the next fewest are.
    async fn ask(&self, request: &GenerateRequest) -> Result<(Arc<Replica>, reqwest::Response), EngineError> {
        let mut replicas = self.replicas.clone();
        replicas.sort_by_key(|replica| replica.running());
        let mut failed = Vec::new();
        for replica in replicas {
            let counted = replica.count();
            match replica.ask(&self.name, request).await {
                Ok(response) => {
                    drop(counted);
                    return Ok((replica, response));
                }
                Err(Trouble::Refused(said)) => return Err(EngineError::BadRequest(said)),
                Err(Trouble::Failed(what)) => {
                    tracing::warn!(policy = self.name, error = what, "a replica can't answer");
                    failed.push(what);
                }
            }
        }
        Err(EngineError::Failed(failed.join("; ")))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let (name, replicas) = (std::mem::take(&mut self.name), std::mem::take(&mut self.replicas));
        if let (true, Ok(runtime)) = (self.ours, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { unload(&replicas, &name).await });
        }
    }
}

/// Has replicas forget an adapter; one that can't be reached keeps it, under a name that nobody asks for again.
pub(super) async fn unload(replicas: &[Arc<Replica>], name: &str) {
    for replica in replicas {
        if let Err(e) = replica.unload_adapter(name).await {
            tracing::warn!(adapter = name, error = %e, "a replica didn't unload an adapter");
        }
    }
}

#[async_trait]
impl LoadedPolicy for RemotePolicy {
    fn id(&self) -> &PolicyId {
        &self.id
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    async fn generate(&self, request: GenerateRequest) -> Result<UnboundedReceiver<StreamEvent>, EngineError> {
        let shared = Arc::clone(&self.shared);
        let (replica, response) = shared.ask(&request).await?;
        let may_call = !request.tools.is_empty();
        let (send, events) = unbounded_channel();
        tokio::spawn(async move {
            let _counted = replica.count();
            pass_on(response, may_call, &send).await;
            // The policy stays loaded until here.
            drop(shared);
        });
        Ok(events)
    }

    /// Of every replica: what one of them computes otherwise must show.
    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let Loaded { name, replicas, .. } = &*self.shared;
        let mut all: Vec<Vec<f32>> = Vec::with_capacity(replicas.len());
        for replica in replicas {
            all.push(replica.logprobs(name, tokens).await.map_err(|e| EngineError::Failed(e.to_string()))?);
        }
        let first = all.first().cloned().unwrap_or_default();
        let apart = |other: &Vec<f32>| first.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        match all.iter().map(apart).fold(0.0, f32::max) {
            apart if apart > REPLICAS_APART_MAX_NATS => Err(EngineError::Failed(format!(
                "the replicas' log-probabilities of one text are {apart:.3} nats apart"
            ))),
            _ => Ok(first),
        }
    }
}

/// More than numerics of different GPUs and batches explain.
const REPLICAS_APART_MAX_NATS: f32 = 0.5;
