//! One turn: a prompt, and n answers, each of ONE policy, which is taken once when the turn gets its place and kept to the last token.

use super::{ChatError, comparison};
use crate::serving::{Permit, Serving, SharedPolicy, relay};
use crate::store::completions::NewCompletion;
use crate::telemetry::TRACE;
use futures_util::stream::{SelectAll, Stream, StreamExt, once, select_all};
use hone_domain::ids::{ComparisonId, CompletionId, PolicyId, UserId};
use hone_domain::{
    Conversation, EngineError, FinishReason, GenerateRequest, Sampling, StreamEvent, TokenEvent, ToolCall,
    ToolCallDelta, ToolUse, Tools,
};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::Instrument;

/// What a turn is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Who asks.
    pub person: UserId,
    /// The prompt.
    pub conversation: Conversation,
    /// The functions that the answers may call.
    pub tools: Tools,
    /// How to draw each answer; its seed is replaced by `seeds`.
    pub sampling: Sampling,
    /// The seed of each answer: as many answers as seeds.
    pub seeds: Vec<u64>,
    /// Whose answers.
    pub by: By,
}

/// Whose answers are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Of whoever serves this conversation: the champion, or the challenger where the canary takes it.
    Served,
    /// Of a served policy, by its id, or of the `challenger`.
    Named(String),
    /// Half of them the champion's and half the challenger's, in random order, where there is a challenger for comparisons and this is one
    /// of its share; all the champion's otherwise.
    Both,
}

impl By {
    /// The policy of each answer. `seed` decides the order.
    fn policies(&self, serving: &Serving, ask: &Ask) -> Result<Vec<SharedPolicy>, ChatError> {
        let count = ask.seeds.len();
        match self {
            Self::Served => Ok(vec![serving.serves(&ask.person, &ask.conversation); count]),
            Self::Named(name) => {
                let policy = match (name.as_str(), serving.challenger()) {
                    ("challenger", challenger) => challenger.map(|c| SharedPolicy::clone(&c.policy)),
                    (id, _) => serving.by_id(&PolicyId::from_raw(id)),
                };
                Ok(vec![policy.ok_or_else(|| ChatError::UnknownModel(name.clone()))?; count])
            }
            Self::Both => {
                let (champion, challenger) =
                    (serving.live(), serving.challenger().filter(|c| c.traffic.in_comparisons));
                let drawn = challenger
                    .and_then(|c| Some((comparison::challengers(&ask.seeds, c.traffic.comparison_share)?, c)));
                let Some((places, challenger)) = drawn else { return Ok(vec![champion; count]) };
                let of = |challengers: bool| if challengers { &challenger.policy } else { &champion };
                Ok(places.into_iter().map(|challengers| SharedPolicy::clone(of(challengers))).collect())
            }
        }
    }
}

/// What comes out of a turn, in the order it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An answer grew.
    Token {
        /// Which answer.
        index: usize,
        /// By what.
        token: TokenEvent,
    },
    /// An answer's calls of functions grew.
    ToolCall {
        /// Which answer.
        index: usize,
        /// By what.
        delta: ToolCallDelta,
    },
    /// An answer is complete.
    Finished {
        /// Which answer.
        index: usize,
        /// Why it ended.
        finish: FinishReason,
    },
}

/// An answer as far as it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The id it is (or would be) kept under.
    pub id: CompletionId,
    /// The text.
    pub text: String,
    /// The functions that it calls.
    pub calls: Vec<ToolCall>,
    /// Its tokens, where their log-probabilities were asked for.
    pub tokens: Vec<TokenEvent>,
    /// How it ended, once it has.
    pub end: Option<End>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub finish: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
}

/// Events of all answers with their index; `None` when the engine closes an answer's channel.
type Merged = SelectAll<Pin<Box<dyn Stream<Item = (usize, Option<StreamEvent>)> + Send>>>;

/// Answers on their way. Dropping it cancels them.
pub struct Turn {
    /// Of each answer; at least one.
    policies: Vec<SharedPolicy>,
    conversation: Conversation,
    tools: Tools,
    sampling: Sampling,
    seeds: Vec<u64>,
    answers: Vec<Answer>,
    events: Merged,
    first: Option<Event>,
}

impl Turn {
    pub(super) async fn start(serving: &Serving, ask: Ask) -> Result<Self, ChatError> {
        let begun = Instant::now();
        let queue = tracing::info_span!(target: TRACE, "queue");
        let permit = serving.admit(&ask.person, ask.seeds.len()).instrument(queue).await?;
        Self::admitted(serving, ask, permit, begun).await
    }

    /// A turn that has its place.
    pub(super) async fn admitted(
        serving: &Serving,
        ask: Ask,
        permit: Permit,
        begun: Instant,
    ) -> Result<Self, ChatError> {
        let permit = Arc::new(permit);
        let policies = ask.by.policies(serving, &ask)?;
        let Ask { conversation, tools, mut sampling, seeds, .. } = ask;
        let context_tokens = policies.iter().map(|policy| policy.context_tokens()).min().unwrap_or_default();
        sampling.max_tokens = sampling.max_tokens.min(context_tokens);
        let mut streams = Vec::with_capacity(seeds.len());
        for (index, (seed, policy)) in seeds.iter().zip(&policies).enumerate() {
            let sampling = Sampling { seed: Some(*seed), ..sampling.clone() };
            let request =
                GenerateRequest { messages: conversation.messages().to_vec(), tools: tools.clone(), sampling };
            let events = policy.generate(request).await?;
            let mut watch = serving.meters().watch(policy.id(), begun);
            let (span, permit, health) = (watch.span(), Arc::clone(&permit), Arc::clone(serving.health()));
            let saw = move |event: Option<&StreamEvent>| {
                // Kept until the engine has made the last token, not until a slow client has read it.
                let _turn = &permit;
                health.saw(event, watch.has_ended());
                match event {
                    Some(event) => watch.saw(event, Instant::now()),
                    None => watch.closed(),
                }
            };
            let events = span.in_scope(|| relay(events, saw));
            let events = UnboundedReceiverStream::new(events);
            let to_the_end = events.map(Some).chain(once(std::future::ready(None)));
            streams.push(to_the_end.map(move |event| (index, event)).boxed());
        }
        let answer = |_| Answer {
            id: CompletionId::new(),
            text: String::new(),
            calls: Vec::new(),
            tokens: Vec::new(),
            end: None,
        };
        let answers = seeds.iter().map(answer).collect();
        let events = select_all(streams);
        let mut turn = Self { policies, conversation, tools, sampling, seeds, answers, events, first: None };
        turn.first = turn.pull().await?;
        Ok(turn)
    }

    /// Which policy answers (the first answer, where candidates of a comparison are of two).
    #[must_use]
    pub fn policy(&self) -> &PolicyId {
        self.policies[0].id()
    }

    /// How the answers are drawn.
    #[must_use]
    pub(super) fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The seed of each answer.
    #[must_use]
    pub(super) fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// The prompt.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Whether it is about texts alone: no function was offered, called or has returned something.
    #[must_use]
    pub(super) fn is_text(&self) -> bool {
        self.tools.is_empty() && self.conversation.is_text()
    }

    /// The answers as far as they are there.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// The next event; `None` when all answers are complete.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn next(&mut self) -> Result<Option<Event>, ChatError> {
        match self.first.take() {
            Some(event) => Ok(Some(event)),
            None => self.pull().await,
        }
    }

    /// Waits for all answers.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn finish(&mut self) -> Result<(), ChatError> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn pull(&mut self) -> Result<Option<Event>, ChatError> {
        while let Some((index, event)) = self.events.next().await {
            let answer = &mut self.answers[index];
            match event {
                Some(StreamEvent::Token(token)) => {
                    answer.text.push_str(&token.text);
                    if self.sampling.logprobs.is_some() {
                        answer.tokens.push(token.clone());
                    }
                    return Ok(Some(Event::Token { index, token }));
                }
                Some(StreamEvent::ToolCall(delta)) => {
                    delta.grow(&mut answer.calls);
                    return Ok(Some(Event::ToolCall { index, delta }));
                }
                Some(StreamEvent::Done { finish, prompt_tokens, completion_tokens }) => {
                    answer.end = Some(End { finish, prompt_tokens, completion_tokens });
                    return Ok(Some(Event::Finished { index, finish }));
                }
                Some(StreamEvent::Failed(e)) => return Err(e.into()),
                None if answer.end.is_none() => {
                    return Err(EngineError::Failed("it stopped in the middle of an answer".into()).into());
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// The finished answers as rows; with a comparison, each at the place of its index.
    #[must_use]
    pub(super) fn completions(&self, user: &UserId, comparison: Option<&ComparisonId>) -> Vec<NewCompletion> {
        let rows = self.answers.iter().zip(&self.seeds).enumerate();
        let row = |(place, (answer, seed)): (usize, (&Answer, &u64))| {
            let end = answer.end?;
            Some(NewCompletion {
                id: answer.id.clone(),
                user: user.clone(),
                policy: self.policies[place].id().clone(),
                candidate: comparison.map(|id| (id.clone(), place)),
                shadow_of: None,
                messages: self.conversation.messages().to_vec(),
                content: answer.text.clone(),
                tools: (!self.is_text()).then(|| ToolUse { tools: self.tools.clone(), calls: answer.calls.clone() }),
                finish_reason: end.finish.as_str(),
                sampling: Sampling { seed: Some(*seed), ..self.sampling.clone() },
                prompt_tokens: end.prompt_tokens,
                completion_tokens: end.completion_tokens,
            })
        };
        rows.filter_map(row).collect()
    }
}
