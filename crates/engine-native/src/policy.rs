//! A policy in memory.

use crate::LoadedBase;
use crate::batcher::{Batcher, Job};
use async_trait::async_trait;
use hone_domain::ids::PolicyId;
use hone_domain::{EngineError, GenerateRequest, LoadedPolicy, StreamEvent};
use hone_learn::generate::Session;
use hone_learn::{Served, Workspace};
use hone_text::{Answer, logprob_of};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

/// What computes: the base, and the adapter of every policy but the base itself.
pub(crate) struct Weights {
    pub(crate) base: Arc<LoadedBase>,
    pub(crate) adapter: Option<Served>,
}

pub(crate) struct NativePolicy {
    id: PolicyId,
    /// An answer that is being computed holds it too: the policy is unloaded when the last one ends.
    weights: Arc<Weights>,
    batcher: Batcher,
    /// One serve check at a time.
    check: Semaphore,
}

impl NativePolicy {
    pub(crate) fn new(id: PolicyId, weights: Weights, batcher: Batcher) -> Self {
        Self { id, weights: Arc::new(weights), batcher, check: Semaphore::new(1) }
    }
}

/// Runs `work` on a thread where it may block.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| EngineError::Failed(e.to_string()))?
}

#[async_trait]
impl LoadedPolicy for NativePolicy {
    fn id(&self) -> &PolicyId {
        &self.id
    }

    fn context_tokens(&self) -> usize {
        self.weights.context_tokens()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<UnboundedReceiver<StreamEvent>, EngineError> {
        let weights = Arc::clone(&self.weights);
        let begin = move || Answer::begin(&weights.base.tokenizer, &request, weights.context_tokens());
        let (prompt, answer, events) = on_thread(begin).await?;
        self.batcher.submit(Job { weights: Arc::clone(&self.weights), prompt, answer })?;
        Ok(events)
    }

    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let _turn = self.check.acquire().await;
        let (weights, tokens) = (Arc::clone(&self.weights), tokens.to_vec());
        on_thread(move || weights.logprobs(&tokens)).await
    }
}

impl Weights {
    fn context_tokens(&self) -> usize {
        self.base.base.config().context
    }

    /// log p(tokens[t] | tokens[..t]), computed token by token as answers are, so that the serve check sees what people
    /// get and not the trainer's own pass over the whole text.
    fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let (base, adapter) = (&self.base.base, self.adapter.as_ref());
        let max = self.context_tokens();
        if tokens.len() > max {
            return Err(EngineError::PromptTooLong { tokens: tokens.len(), max });
        }
        let (mut session, mut ws) = (Session::new(base), Workspace::new());
        let scored = tokens.windows(2).map(|pair| {
            let logits = session
                .prefill(base, adapter, &pair[..1], &mut ws)
                .map_err(|e| EngineError::BadRequest(e.to_string()))?;
            let scored = logprob_of(&logits, pair[1]);
            ws.give(logits);
            scored.ok_or_else(|| EngineError::Failed("the model computed no finite logits".into()))
        });
        scored.collect()
    }
}
