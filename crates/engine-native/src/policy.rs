//! A policy in memory, and how one answer is computed.

use crate::LoadedBase;
use async_trait::async_trait;
use hone_domain::ids::PolicyId;
use hone_domain::{EngineError, GenerateRequest, LoadedPolicy, StreamEvent};
use hone_learn::generate::Session;
use hone_learn::{Adapter, LearnError};
use hone_text::{Answer, logprob_of};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Prompt tokens per pass: bounds the buffers, and how long an answer that nobody reads goes on.
const PREFILL_TOKENS: usize = 256;

/// What computes: the base, and the adapter of every policy but the base itself.
pub(crate) struct Weights {
    pub(crate) base: Arc<LoadedBase>,
    pub(crate) adapter: Option<Adapter>,
}

pub(crate) struct NativePolicy {
    id: PolicyId,
    /// A running answer holds it too: the policy is unloaded when the last one ends.
    weights: Arc<Weights>,
    turns: Arc<Semaphore>,
}

impl NativePolicy {
    pub(crate) fn new(id: PolicyId, weights: Weights, turns: Arc<Semaphore>) -> Self {
        Self { id, weights: Arc::new(weights), turns }
    }

    async fn turn(turns: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, EngineError> {
        turns.acquire_owned().await.map_err(|_| EngineError::Failed("the engine is shutting down".into()))
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
        let GenerateRequest { messages, sampling } = request;
        let weights = Arc::clone(&self.weights);
        let (prompt, answer, events) = on_thread(move || {
            let tokenizer = &weights.base.tokenizer;
            let prompt = tokenizer.encode_prompt(&messages).map_err(|e| EngineError::BadRequest(e.to_string()))?;
            let (answer, events) = Answer::new(tokenizer, &sampling, prompt.len(), weights.context_tokens())?;
            Ok((prompt, answer, events))
        })
        .await?;
        let (weights, turns) = (Arc::clone(&self.weights), Arc::clone(&self.turns));
        tokio::spawn(async move {
            // Dropping `answer` closes the channel without an end, which the reader takes as a failure.
            let Ok(turn) = Self::turn(turns).await else { return };
            let computed = tokio::task::spawn_blocking(move || {
                weights.answer(&prompt, answer);
                drop(turn);
            });
            if let Err(error) = computed.await {
                tracing::error!(%error, "an answer was cut off: its thread failed");
            }
        });
        Ok(events)
    }

    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let turn = Self::turn(Arc::clone(&self.turns)).await?;
        let (weights, tokens) = (Arc::clone(&self.weights), tokens.to_vec());
        on_thread(move || {
            let _turn = turn;
            weights.logprobs(&tokens)
        })
        .await
    }
}

impl Weights {
    fn context_tokens(&self) -> usize {
        self.base.base.config().context
    }

    /// Computes one answer until it is over: at most one step after its reader is gone.
    fn answer(&self, prompt: &[u32], mut answer: Answer) {
        if let Err(error) = self.compute(prompt, &mut answer) {
            answer.fail(EngineError::Failed(error.to_string()));
        }
    }

    fn compute(&self, prompt: &[u32], answer: &mut Answer) -> Result<(), LearnError> {
        let (base, adapter) = (&self.base.base, self.adapter.as_ref());
        let mut session = Session::new(base);
        let mut logits = Vec::new();
        for part in prompt.chunks(PREFILL_TOKENS) {
            if answer.is_over() {
                return Ok(());
            }
            session.give(logits);
            logits = session.prefill(base, adapter, part)?;
        }
        while let Some(token) = answer.next(&logits) {
            session.give(logits);
            logits = session.step(base, adapter, token)?;
        }
        Ok(())
    }

    /// log p(tokens[t] | tokens[..t]), computed token by token as answers are, so that the serve check sees what people
    /// get and not the trainer's own pass over the whole text.
    fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let (base, adapter) = (&self.base.base, self.adapter.as_ref());
        let max = self.context_tokens();
        if tokens.len() > max {
            return Err(EngineError::PromptTooLong { tokens: tokens.len(), max });
        }
        let mut session = Session::new(base);
        let scored = tokens.windows(2).map(|pair| {
            let logits = session.step(base, adapter, pair[0]).map_err(|e| EngineError::BadRequest(e.to_string()))?;
            let scored = logprob_of(&logits, pair[1]);
            session.give(logits);
            scored.ok_or_else(|| EngineError::Failed("the model computed no finite logits".into()))
        });
        scored.collect()
    }
}
