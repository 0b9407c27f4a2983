//! `POST /v1/chat/completions`: OpenAI's chat API, whole or streamed. Every answer names the policy that gave it.

use super::App;
use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::messages::{MessageIn, ResponseFormat, SamplingIn, StopIn, conversation_with_tools};
use super::presence;
use super::sse::{self, Events, Gone};
use crate::chat::turn::Answer;
use crate::chat::{Ask, By, Event, Turn};
use actix_web::{HttpRequest, HttpResponse, web};
use chunks::Chunks;
use hone_domain::ids::UserId;
use hone_domain::{Sampling, TokenEvent};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tools::{ToolCallOut, ToolChoiceIn, ToolIn};
use utoipa::ToSchema;

mod chunks;
mod tools;

/// The header that names the policy of an answer.
pub const POLICY_HEADER: &str = "x-hone-policy";

/// A chat request. Fields that hone doesn't know are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatRequest {
    /// `champion` (the default; where a canary is on, a share of the conversations gets the challenger), `challenger`, or the id of a
    /// served policy.
    model: Option<String>,
    /// The prompt; the last message is the person's.
    #[schema(min_items = 1)]
    messages: Vec<MessageIn>,
    /// 0 (always the likeliest token) to 2. Default 1.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Only the likeliest tokens with this mass together. Default 1.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Most tokens of the answer. Default 512; never more than the context leaves.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// The same; wins over `max_tokens`.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<usize>,
    /// A text, or up to four: the answer ends before any of them.
    #[schema(value_type = Option<StopIn>)]
    stop: Option<Value>,
    /// Same seed, policy and prompt: same answer, where the engine can.
    seed: Option<i64>,
    /// -2 to 2. Default 0.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// -2 to 2. Default 0.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Send the answer as server-sent events while it is made.
    stream: Option<bool>,
    /// What else a stream tells.
    stream_options: Option<StreamOptions>,
    /// How many answers, 1 to 9. Default 1.
    #[schema(minimum = 1, maximum = 9)]
    n: Option<usize>,
    /// Report the log-probability of each token.
    logprobs: Option<bool>,
    /// And of this many likeliest alternatives, 0 to 20.
    #[schema(maximum = 20)]
    top_logprobs: Option<usize>,
    /// What the answer's text must be. Default: any text. An answer that is cut off by its length is the beginning of it.
    response_format: Option<ResponseFormat>,
    /// Functions that the model may call. Refused where it can't: its chat template must know functions, or the remote server that answers.
    /// Such an answer is logged, and never compared or learned from.
    #[schema(value_type = Option<Vec<ToolIn>>, max_items = 128)]
    tools: Option<Vec<Value>>,
    /// Whether a function is to be called. Default: as the model likes.
    #[schema(value_type = Option<ToolChoiceIn>)]
    tool_choice: Option<Value>,
    /// Whether an answer may call several. Default: as the server likes.
    parallel_tool_calls: Option<bool>,
    /// `false`: serve, but never log and never learn from it.
    store: Option<bool>,
    /// Anything; hone doesn't look at it.
    #[schema(value_type = Option<Object>)]
    #[allow(dead_code, reason = "part of the API; checked to be an object or null")]
    metadata: Option<serde_json::Map<String, Value>>,
}

/// What else a stream tells.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// One more chunk with the token counts, before the end.
    include_usage: Option<bool>,
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// The id of the first answer.
    id: String,
    /// Always `chat.completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    /// The policy.
    model: String,
    /// The policy.
    system_fingerprint: String,
    /// The answers.
    choices: Vec<Choice>,
    /// What it took.
    usage: Usage,
}

/// One answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Choice {
    index: usize,
    message: AssistantMessage,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: Option<&'static str>,
    logprobs: Option<LogProbs>,
    /// The id to rate this answer by.
    completion_id: String,
}

/// What the model said.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssistantMessage {
    /// Always `assistant`.
    role: &'static str,
    /// The text; null where functions are called without one.
    content: Option<String>,
    /// Always null.
    refusal: Option<String>,
    /// The functions to call; not there where none is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    tool_calls: Vec<ToolCallOut>,
}

impl AssistantMessage {
    fn of(answer: &Answer) -> Self {
        let without_text = answer.text.is_empty() && !answer.calls.is_empty();
        Self {
            role: "assistant",
            content: (!without_text).then(|| answer.text.clone()),
            refusal: None,
            tool_calls: answer.calls.iter().map(ToolCallOut::from).collect(),
        }
    }
}

/// Log-probabilities of an answer's tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogProbs {
    content: Vec<TokenLogProb>,
    /// Always null.
    refusal: Option<String>,
}

/// A token and how likely it was.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenLogProb {
    token: String,
    /// Natural log.
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogProb>,
}

/// A token that could have stood there.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopLogProb {
    token: String,
    /// Natural log.
    logprob: f32,
    bytes: Vec<u8>,
}

impl LogProbs {
    fn of(tokens: &[TokenEvent]) -> Self {
        let top = |(token, logprob): &(String, f32)| TopLogProb {
            token: token.clone(),
            logprob: *logprob,
            bytes: token.clone().into_bytes(),
        };
        let token = |t: &TokenEvent| TokenLogProb {
            token: t.text.clone(),
            // OpenAI's value for "not likely enough to be computed".
            logprob: t.logprob.unwrap_or(-9999.0),
            bytes: t.text.clone().into_bytes(),
            top_logprobs: t.top.iter().map(top).collect(),
        };
        Self { content: tokens.iter().map(token).collect(), refusal: None }
    }
}

/// Token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    fn of(turn: &Turn) -> Self {
        let ends = || turn.answers().iter().filter_map(|a| a.end);
        let prompt_tokens = ends().map(|e| e.prompt_tokens).next().unwrap_or(0);
        let completion_tokens = ends().map(|e| e.completion_tokens).sum();
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// A checked request.
struct Wanted {
    ask: Ask,
    stream: bool,
    include_usage: bool,
    keep: bool,
    logprobs: bool,
}

impl Wanted {
    fn of(request: ChatRequest, person: UserId) -> Result<Self, ApiError> {
        let n = request.n.unwrap_or(1);
        if !(1..=9).contains(&n) {
            return Err(ApiError::value("n", format!("`n` must be 1 to 9, not {n}")));
        }
        let logprobs = request.logprobs.unwrap_or(false);
        if !logprobs && request.top_logprobs.is_some_and(|top| top > 0) {
            return Err(ApiError::value("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
        }
        if request.max_completion_tokens == Some(0) {
            return Err(ApiError::value("max_completion_tokens", "`max_completion_tokens` must be at least 1"));
        }
        let top = logprobs.then(|| request.top_logprobs.unwrap_or(0));
        let sampling = SamplingIn {
            temperature: request.temperature,
            top_p: request.top_p,
            max_tokens: request.max_completion_tokens.or(request.max_tokens),
            stop: request.stop,
            seed: request.seed,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
        };
        let format = request.response_format.and_then(ResponseFormat::format);
        let sampling = Sampling { format, ..sampling.sampling(top)? };
        let seed = sampling.seed.unwrap_or_else(rand::random);
        let ask = Ask {
            person,
            conversation: conversation_with_tools(request.messages)?,
            tools: tools::tools(request.tools, request.tool_choice, request.parallel_tool_calls)?,
            sampling,
            seeds: (0..n as u64).map(|i| seed.wrapping_add(i)).collect(),
            by: request.model.filter(|name| name != "champion").map_or(By::Served, By::Named),
        };
        Ok(Self {
            ask,
            stream: request.stream.unwrap_or(false),
            include_usage: request.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
            keep: request.store.unwrap_or(true),
            logprobs,
        })
    }
}

/// Answers a chat. A logged answer is on disk before the response (or the last chunk) is sent.
///
/// # Errors
/// 400 for wrong parameters or a prompt that doesn't fit, 404 for a model that isn't served, 429 when the person has too many answers
/// on their way, 503 when the queue is full.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "chat", request_body = ChatRequest, responses(
    (status = 200, body = ChatCompletion, description = "With `stream: true`: server-sent events, each a chat.completion.chunk, \
        then `[DONE]`. The header x-hone-policy names the policy."),
    (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn complete(
    app: web::Data<App>,
    http: HttpRequest,
    Caller(user): Caller,
    Body(request): Body<ChatRequest>,
) -> Result<HttpResponse, ApiError> {
    let Wanted { ask, stream, include_usage, keep, logprobs } = Wanted::of(request, user.id.clone())?;
    let mut turn = presence::while_here(&http, app.chat.ask(ask)).await?;
    let policy = turn.policy().to_string();
    if stream {
        let chunks = Chunks::of(&turn, logprobs, include_usage);
        return Ok(sse::respond(&[(POLICY_HEADER, &policy)], |events| async move {
            let keep_for = keep.then_some(user.id);
            match stream_turn(&events, &chunks, &mut turn).await? {
                Ok(()) => {}
                Err(e) => return events.send(&e.body()).await,
            }
            if let Some(user) = keep_for
                && let Err(e) = app.chat.keep(&turn, &user).await
            {
                return events.send(&ApiError::from(e).body()).await;
            }
            for chunk in chunks.last(&turn) {
                events.send(&chunk).await?;
            }
            events.done().await
        }));
    }
    presence::while_here(&http, turn.finish()).await?;
    if keep {
        app.chat.keep(&turn, &user.id).await?;
    }
    Ok(HttpResponse::Ok().insert_header((POLICY_HEADER, policy)).json(whole(&turn, logprobs)))
}

/// Sends everything but the ends of the answers.
async fn stream_turn(events: &Events, chunks: &Chunks, turn: &mut Turn) -> Result<Result<(), ApiError>, Gone> {
    for chunk in chunks.first() {
        events.send(&chunk).await?;
    }
    loop {
        match turn.next().await {
            Ok(Some(Event::Token { index, token })) => {
                if let Some(chunk) = chunks.token(index, &token) {
                    events.send(&chunk).await?;
                }
            }
            Ok(Some(Event::ToolCall { index, delta })) => events.send(&chunks.tool_call(index, &delta)).await?,
            Ok(Some(Event::Finished { .. })) => {}
            Ok(None) => return Ok(Ok(())),
            Err(e) => return Ok(Err(e.into())),
        }
    }
}

fn whole(turn: &Turn, logprobs: bool) -> ChatCompletion {
    let choice = |(index, answer): (usize, &Answer)| Choice {
        index,
        message: AssistantMessage::of(answer),
        finish_reason: answer.end.map(|end| end.finish.as_str()),
        logprobs: logprobs.then(|| LogProbs::of(&answer.tokens)),
        completion_id: answer.id.to_string(),
    };
    let choices: Vec<Choice> = turn.answers().iter().enumerate().map(choice).collect();
    ChatCompletion {
        id: choices.first().map(|c| c.completion_id.clone()).unwrap_or_default(),
        object: "chat.completion",
        created: jiff::Timestamp::now().as_second(),
        model: turn.policy().to_string(),
        system_fingerprint: turn.policy().to_string(),
        choices,
        usage: Usage::of(turn),
    }
}
