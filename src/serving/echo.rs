//! An engine without a model, for `--engine echo`: it answers with the prompt's last message, one word per token. It shows
//! what hone itself costs (HTTP, store, queue) in load tests. Its answers mean nothing.

use async_trait::async_trait;
use hone_domain::ids::PolicyId;
use hone_domain::{
    Engine, EngineError, FinishReason, GenerateRequest, LoadedPolicy, Message, PolicyFiles, Sampling, StreamEvent,
    TokenEvent,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Answers with the prompt's last message.
#[derive(Debug, Clone, Default)]
pub struct EchoEngine {
    /// How long a token takes: zero answers at once, more plays a slow model.
    pub token_delay: Duration,
}

/// Words of prompt and answer together, like a small model's context.
const CONTEXT_TOKENS: usize = 8192;

struct EchoPolicy {
    id: PolicyId,
    token_delay: Duration,
}

#[async_trait]
impl Engine for EchoEngine {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn needs_merged(&self, _: &Path) -> bool {
        false
    }

    async fn load(&self, files: &PolicyFiles) -> Result<Arc<dyn LoadedPolicy>, EngineError> {
        Ok(Arc::new(EchoPolicy { id: files.id.clone(), token_delay: self.token_delay }))
    }
}

#[async_trait]
impl LoadedPolicy for EchoPolicy {
    fn id(&self) -> &PolicyId {
        &self.id
    }

    fn context_tokens(&self) -> usize {
        CONTEXT_TOKENS
    }

    async fn generate(&self, request: GenerateRequest) -> Result<mpsc::UnboundedReceiver<StreamEvent>, EngineError> {
        if !request.is_text() {
            return Err(EngineError::no_tools());
        }
        let GenerateRequest { messages, sampling, .. } = request;
        let prompt_tokens = messages.iter().map(|m| m.content.split_whitespace().count()).sum();
        if prompt_tokens >= CONTEXT_TOKENS {
            return Err(EngineError::PromptTooLong { tokens: prompt_tokens, max: CONTEXT_TOKENS });
        }
        if sampling.format.is_some() {
            return Err(EngineError::BadFormat("the echo engine can't hold its answers to a format".into()));
        }
        let (words, finish) = answer(&messages, &sampling, CONTEXT_TOKENS - prompt_tokens);
        let with_logprobs = sampling.logprobs.is_some();
        let (send, events) = mpsc::unbounded_channel();
        let delay = self.token_delay;
        tokio::spawn(async move {
            let completion_tokens = words.len();
            for text in words {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                // An echo is certain of every word: log 1.
                let logprob = with_logprobs.then_some(0.0);
                if send.send(StreamEvent::Token(TokenEvent { text, logprob, top: Vec::new() })).is_err() {
                    return;
                }
            }
            let _reader_gone = send.send(StreamEvent::Done { finish, prompt_tokens, completion_tokens });
        });
        Ok(events)
    }

    async fn logprobs(&self, _tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        Err(EngineError::BadRequest(
            "the echo engine has no model, so it has no log-probabilities: run with `--engine native` to train and promote"
                .into(),
        ))
    }
}

/// The words of the answer and why it ends.
fn answer(messages: &[Message], sampling: &Sampling, room: usize) -> (Vec<String>, FinishReason) {
    let text = messages.last().map_or("", |m| m.content.as_str());
    let stops = sampling.stop.iter();
    let end = stops.filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
    let words: Vec<String> = text[..end].split_inclusive(char::is_whitespace).map(str::to_owned).collect();
    let most = sampling.max_tokens.min(room);
    let finish = if words.len() > most { FinishReason::Length } else { FinishReason::Stop };
    (words.into_iter().take(most).collect(), finish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str, max_tokens: usize, stop: &[&str]) -> GenerateRequest {
        let stop = stop.iter().map(ToString::to_string).collect();
        let sampling = Sampling { max_tokens, stop, ..Sampling::default() };
        GenerateRequest::new(vec![Message::user(text)], sampling)
    }

    #[tokio::test]
    async fn echoes_and_honours_limits() {
        let files =
            PolicyFiles { id: PolicyId::base("none"), base_dir: "unused".into(), adapter_dir: None, merged_dir: None };
        let policy = EchoEngine::default().load(&files).await.expect("loads");
        let mut events = policy.generate(request("one two three", 2, &[])).await.expect("starts");
        let mut text = String::new();
        loop {
            match events.recv().await.expect("ends with Done") {
                StreamEvent::Token(token) => text.push_str(&token.text),
                StreamEvent::Done { finish, prompt_tokens, completion_tokens } => {
                    assert_eq!((finish, prompt_tokens, completion_tokens), (FinishReason::Length, 3, 2));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(text, "one two ");
        let GenerateRequest { messages, sampling, .. } = request("one STOP two", 9, &["STOP"]);
        let (words, finish) = answer(&messages, &sampling, 9);
        assert_eq!((words.concat().as_str(), finish), ("one ", FinishReason::Stop));
    }
}
