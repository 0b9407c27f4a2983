//! Types with meaning and no IO: ids, messages, tools, rankings, sampling, policies, training data, and `trait Engine`.
//! May use: serde and the async vocabulary. Knows nothing of HTTP, SQL, tensors or files' contents.

pub mod data;
pub mod engine;
pub mod ids;
pub mod message;
pub mod ranking;
pub mod sampling;
pub mod tools;

pub use data::{DataSet, Demonstration, PromptItem, RankedPrompt};
pub use engine::{
    Engine, EngineError, FinishReason, GenerateRequest, LoadedPolicy, PolicyFiles, StreamEvent, TokenEvent,
};
pub use message::{Conversation, Message, MessageError, Role};
pub use ranking::{Ranking, RankingError};
pub use sampling::{AnswerFormat, Sampling, SamplingError};
pub use tools::{ToolCall, ToolCallDelta, ToolChoice, ToolUse, Tools};
