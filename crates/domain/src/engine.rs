//! `trait Engine`: what hone asks of whatever computes answers. An engine and the trainer exchange files, never tensors.

use crate::ids::PolicyId;
use crate::{Message, Sampling, ToolCallDelta, Tools};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The files that make a policy: a base model folder, and for all but the base policy an adapter on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFiles {
    /// Which policy this is.
    pub id: PolicyId,
    /// Hugging Face folder of the base: config.json, tokenizer.json, tokenizer_config.json, *.safetensors.
    pub base_dir: PathBuf,
    /// PEFT adapter folder, if the policy has one.
    pub adapter_dir: Option<PathBuf>,
    /// The same policy with the adapter merged into the base's weights, for engines without run-time adapters.
    /// A Hugging Face folder like `base_dir`; `None` where it hasn't been written.
    pub merged_dir: Option<PathBuf>,
}

/// Why an engine can't do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The files can't be loaded.
    #[error("can't load the policy: {0}")]
    Load(String),
    /// The prompt and the least answer don't fit into the context.
    #[error(
        "the messages are {tokens} tokens long, but the model's context holds {max}: shorten or drop older messages"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Context length in tokens.
        max: usize,
    },
    /// The request can't be served as it is.
    #[error("{0}")]
    BadRequest(String),
    /// Answers can't be held to the format that is asked for.
    #[error("{0}")]
    BadFormat(String),
    /// No function can be called.
    #[error("{0}")]
    BadTools(String),
    /// As many requests as may wait are waiting already.
    #[error("the engine's queue is full: try again in a moment")]
    Busy,
    /// The engine broke or was shut down.
    #[error("the engine failed: {0}")]
    Failed(String),
}

/// One answer to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// The prompt as messages; the engine applies the model's own chat template.
    pub messages: Vec<Message>,
    /// The functions that it may call.
    pub tools: Tools,
    /// Checked sampling parameters.
    pub sampling: Sampling,
}

impl GenerateRequest {
    /// A text for texts.
    #[must_use]
    pub fn new(messages: Vec<Message>, sampling: Sampling) -> Self {
        Self { messages, tools: Tools::default(), sampling }
    }

    /// Whether no function is offered, was called or has returned something.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.tools.is_empty() && self.messages.iter().all(Message::is_text)
    }
}

impl EngineError {
    /// For a request that isn't text alone, from a model that calls no functions.
    #[must_use]
    pub fn no_tools() -> Self {
        let why = "the model that answers here calls no functions: leave out `tools` and messages that have to do with them; for an answer of a \
                   certain form use `response_format`";
        Self::BadTools(why.into())
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEvent {
    /// New text; may be empty while a character is incomplete.
    pub text: String,
    /// Log-probability of the token (natural log), where asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens at this place with their log-probabilities, where asked for.
    pub top: Vec<(String, f32)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop text came.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The model wants functions called, and their results.
    ToolCalls,
}

impl FinishReason {
    /// OpenAI's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// What a generation sends. The last event is `Done` or `Failed`; a channel that closes without one has failed.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A token.
    Token(TokenEvent),
    /// A piece of a call of a function.
    ToolCall(ToolCallDelta),
    /// The end.
    Done {
        /// Why.
        finish: FinishReason,
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens of the answer.
        completion_tokens: usize,
    },
    /// The answer can't be finished.
    Failed(EngineError),
}

/// Loads policies. One per process.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Its name in logs and in `--engine`.
    fn name(&self) -> &'static str;

    /// Whether it can serve policies on this base.
    fn serves(&self, _base_dir: &Path) -> bool {
        true
    }

    /// Whether it needs [`PolicyFiles::merged_dir`] for a policy with an adapter on this base.
    fn needs_merged(&self, base_dir: &Path) -> bool;

    /// Loads a policy beside those already loaded. Dropping the last `Arc` unloads it, so a policy lives exactly as
    /// long as somebody is answered by it.
    async fn load(&self, files: &PolicyFiles) -> Result<Arc<dyn LoadedPolicy>, EngineError>;
}

/// A policy in memory.
#[async_trait]
pub trait LoadedPolicy: Send + Sync + 'static {
    /// Which policy.
    fn id(&self) -> &PolicyId;

    /// Most tokens of prompt and answer together.
    fn context_tokens(&self) -> usize;

    /// Starts an answer. The channel holds the whole answer if need be: a reader that stalls never stalls the engine.
    /// Dropping the receiver cancels the generation.
    async fn generate(&self, request: GenerateRequest) -> Result<mpsc::UnboundedReceiver<StreamEvent>, EngineError>;

    /// For the serve check: log p(token[t] | token[..t]) at temperature 1 for t = 1..T, natural log.
    ///
    /// # Shapes
    /// `tokens` (T), answer (T - 1).
    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError>;
}
