//! The chunks of a streamed chat answer: a role, the tokens, the calls of functions, the ends, the token counts.

use super::tools::ToolCallChunk;
use super::{Answer, LogProbs, Turn, Usage};
use hone_domain::{TokenEvent, ToolCallDelta};
use serde::Serialize;

/// What all chunks of one answer share.
pub(super) struct Chunks {
    id: String,
    created: i64,
    policy: String,
    completion_ids: Vec<String>,
    logprobs: bool,
    include_usage: bool,
}

/// OpenAI's `chat.completion.chunk`.
#[derive(Debug, Serialize)]
pub(super) struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<ChunkChoice<'a>>,
    /// With `include_usage`: null in all chunks but the last. Without: not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    finish_reason: Option<&'static str>,
    logprobs: Option<LogProbs>,
    completion_id: &'a str,
}

#[derive(Debug, Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCallChunk<'a>; 1]>,
}

impl Chunks {
    pub(super) fn of(turn: &Turn, logprobs: bool, include_usage: bool) -> Self {
        let completion_ids: Vec<String> = turn.answers().iter().map(|a| a.id.to_string()).collect();
        Self {
            id: completion_ids.first().cloned().unwrap_or_default(),
            created: jiff::Timestamp::now().as_second(),
            policy: turn.policy().to_string(),
            completion_ids,
            logprobs,
            include_usage,
        }
    }

    /// The role of each answer.
    pub(super) fn first(&self) -> impl Iterator<Item = Chunk<'_>> {
        let delta = || Delta { role: Some("assistant"), content: Some(""), tool_calls: None };
        (0..self.completion_ids.len()).map(move |index| self.chunk(index, delta(), None, None))
    }

    /// A token; none for one that shows nothing.
    pub(super) fn token<'a>(&'a self, index: usize, token: &'a TokenEvent) -> Option<Chunk<'a>> {
        if token.text.is_empty() && !self.logprobs {
            return None;
        }
        let logprobs = self.logprobs.then(|| LogProbs::of(std::slice::from_ref(token)));
        Some(self.chunk(index, Delta { content: Some(&token.text), ..Delta::default() }, None, logprobs))
    }

    /// A piece of a call of a function.
    pub(super) fn tool_call<'a>(&'a self, index: usize, delta: &'a ToolCallDelta) -> Chunk<'a> {
        self.chunk(index, Delta { tool_calls: Some([delta.into()]), ..Delta::default() }, None, None)
    }

    /// The ends of all answers, and the counts where they were asked for.
    pub(super) fn last(&self, turn: &Turn) -> Vec<Chunk<'_>> {
        let end = |(index, answer): (usize, &Answer)| {
            self.chunk(index, Delta::default(), answer.end.map(|e| e.finish.as_str()), None)
        };
        let mut chunks: Vec<Chunk<'_>> = turn.answers().iter().enumerate().map(end).collect();
        if self.include_usage {
            chunks.push(Chunk { usage: Some(Some(Usage::of(turn))), ..self.with(Vec::new()) });
        }
        chunks
    }

    fn chunk<'a>(
        &'a self,
        index: usize,
        delta: Delta<'a>,
        finish_reason: Option<&'static str>,
        logprobs: Option<LogProbs>,
    ) -> Chunk<'a> {
        let completion_id = &self.completion_ids[index];
        self.with(vec![ChunkChoice { index, delta, finish_reason, logprobs, completion_id }])
    }

    fn with<'a>(&'a self, choices: Vec<ChunkChoice<'a>>) -> Chunk<'a> {
        Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.policy,
            system_fingerprint: &self.policy,
            choices,
            usage: self.include_usage.then_some(None),
        }
    }
}
