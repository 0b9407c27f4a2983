//! A policy in mistralrs's hands: hands requests over, waits for their end, unloads when nobody needs it.

use crate::choose::{Choose, SharedAnswer};
use crate::load::LoadedModel;
use crate::logprobs;
use async_trait::async_trait;
use hone_domain::ids::PolicyId;
use hone_domain::{EngineError, GenerateRequest, LoadedPolicy, StreamEvent};
use hone_text::{Answer, ChatTokenizer};
use mistralrs::{Model, NormalRequest, Request, RequestMessage, Response, SamplingParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, channel};
use tokio::sync::{RwLock, Semaphore};

/// A request's only message is its end (or an error): each token goes through `Choose`.
const RESPONSES_MAX: usize = 8;
/// How long a broken engine thread may take to end before it is started anew.
const RESTART_TRIES: u32 = 40;
const RESTART_WAIT: Duration = Duration::from_millis(50);

pub(crate) struct MistralPolicy {
    id: PolicyId,
    tokenizer: ChatTokenizer,
    context_tokens: usize,
    served: Arc<Served>,
}

/// The model, shared with every request that runs: the last of them lets it go.
struct Served {
    /// `None` only while it is dropped.
    model: Option<Model>,
    end_token: u32,
    /// What runs in mistralrs at once.
    turns: Semaphore,
    /// Answers share it, a request for whole logits has it alone: mistralrs panics when both meet in one step.
    whole_logits: RwLock<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        // Freeing gigabytes takes a while, and the last holder may be an async worker.
        if let Some(model) = self.model.take() {
            std::thread::spawn(move || drop(model));
        }
    }
}

impl MistralPolicy {
    pub(crate) fn new(id: PolicyId, loaded: LoadedModel, running_max: usize) -> Self {
        let LoadedModel { model, tokenizer, context_tokens, end_token } = loaded;
        let turns = Semaphore::new(running_max);
        let served = Served { model: Some(model), end_token, turns, whole_logits: RwLock::new(()) };
        Self { id, tokenizer, context_tokens, served: Arc::new(served) }
    }
}

#[async_trait]
impl LoadedPolicy for MistralPolicy {
    fn id(&self) -> &PolicyId {
        &self.id
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    async fn generate(&self, request: GenerateRequest) -> Result<UnboundedReceiver<StreamEvent>, EngineError> {
        let (tokenizer, context_tokens) = (self.tokenizer.clone(), self.context_tokens);
        let started = tokio::task::spawn_blocking(move || Answer::begin(&tokenizer, &request, context_tokens));
        let (prompt, answer, events) = started.await.map_err(|e| EngineError::Failed(e.to_string()))??;
        let served = Arc::clone(&self.served);
        tokio::spawn(async move { served.answer(prompt, SharedAnswer::new(answer)).await });
        Ok(events)
    }

    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        if tokens.len() > self.context_tokens {
            return Err(EngineError::PromptTooLong { tokens: tokens.len(), max: self.context_tokens });
        }
        if tokens.len() < 2 {
            return Ok(Vec::new());
        }
        let (served, tokens) = (Arc::clone(&self.served), tokens.to_vec());
        // On a task of its own, so that it is finished even if the caller gives up: see `logprobs::receive`.
        let scored = tokio::spawn(async move { served.logprobs(tokens).await });
        scored.await.map_err(|e| EngineError::Failed(e.to_string()))?
    }
}

impl Served {
    /// Computes one answer, until mistralrs has let go of it.
    async fn answer(&self, prompt: Vec<u32>, answer: SharedAnswer) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        let _with_other_answers = self.whole_logits.read().await;
        if answer.lock().is_over() {
            return;
        }
        let (response, mut responses) = channel(RESPONSES_MAX);
        let choose = Choose { answer: answer.clone(), end_token: self.end_token };
        let sampling = SamplingParams {
            // The likeliest of the one token that `Choose` leaves.
            temperature: Some(0.0),
            max_len: Some(answer.lock().tokens_max()),
            ..SamplingParams::neutral()
        };
        let mut request = request(prompt, sampling, response);
        request.logits_processors = Some(vec![Arc::new(choose)]);
        if let Err(error) = self.send(request).await {
            answer.lock().fail(error);
            return;
        }
        while let Some(response) = responses.recv().await {
            let why = match response {
                Response::CompletionDone(_) => {
                    answer.lock().stop();
                    continue;
                }
                Response::InternalError(e) | Response::ValidationError(e) => e.to_string(),
                Response::CompletionModelError(why, _) => why,
                _ => "mistralrs answered with something else than text".into(),
            };
            answer.lock().fail(EngineError::Failed(why));
        }
        // Does nothing to an answer that has ended.
        answer.lock().fail(EngineError::Failed("mistralrs stopped in the middle of the answer: ask again".into()));
    }

    async fn logprobs(&self, tokens: Vec<u32>) -> Result<Vec<f32>, EngineError> {
        let _alone = self.whole_logits.write().await;
        let (response, responses) = channel(RESPONSES_MAX);
        let sampling = SamplingParams { max_len: Some(1), ..SamplingParams::neutral() };
        let mut request = request(tokens.clone(), sampling, response);
        request.return_raw_logits = true;
        self.send(request).await?;
        let logits = logprobs::receive(responses).await?;
        let scored = tokio::task::spawn_blocking(move || logprobs::score(&logits, &tokens));
        scored.await.map_err(|e| EngineError::Failed(e.to_string()))?
    }

    /// Hands a request to the engine thread. One that broke is started anew, which needs it to have ended first.
    async fn send(&self, request: NormalRequest) -> Result<(), EngineError> {
        let Some(model) = &self.model else { return Err(EngineError::Failed("the policy is unloaded".into())) };
        let mut request = Request::Normal(Box::new(request));
        let mut why = String::new();
        for _ in 0..RESTART_TRIES {
            match model.inner().get_sender(None) {
                Ok(sender) => match sender.send(request).await {
                    Ok(()) => return Ok(()),
                    Err(SendError(back)) => request = back,
                },
                Err(e) => why = e.to_string(),
            }
            tokio::time::sleep(RESTART_WAIT).await;
        }
        Err(EngineError::Failed(format!("mistralrs can't be started again {why}: restart hone")))
    }
}

/// A request for text, not streamed: mistralrs speaks up once, at the end.
fn request(tokens: Vec<u32>, sampling: SamplingParams, response: Sender<Response>) -> NormalRequest {
    NormalRequest::new_simple(RequestMessage::CompletionTokens(tokens), sampling, response, 0, None, None)
}

#[cfg(test)]
mod tests;
