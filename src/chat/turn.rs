//! One turn: a prompt, and n answers of ONE policy, which is taken once when the turn gets its place and kept to the last token.

use super::ChatError;
use crate::serving::{Permit, Serving, SharedPolicy};
use crate::store::completions::NewCompletion;
use futures_util::stream::{SelectAll, Stream, StreamExt, once, select_all};
use hone_domain::ids::{ComparisonId, CompletionId, PolicyId, UserId};
use hone_domain::{Conversation, EngineError, FinishReason, GenerateRequest, Sampling, StreamEvent, TokenEvent};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// What a turn is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The prompt.
    pub conversation: Conversation,
    /// How to draw each answer; its seed is replaced by `seeds`.
    pub sampling: Sampling,
    /// The seed of each answer: as many answers as seeds.
    pub seeds: Vec<u64>,
    /// A served policy by its id; `None` is the live one.
    pub policy: Option<PolicyId>,
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
    policy: SharedPolicy,
    conversation: Conversation,
    sampling: Sampling,
    seeds: Vec<u64>,
    answers: Vec<Answer>,
    events: Merged,
    first: Option<Event>,
}

/// Passes events on, and keeps `permit` until the engine has made the last of them (or nobody wants them any more): a client that
/// reads slowly takes nobody's turn.
fn hold_while_computing(
    mut events: UnboundedReceiver<StreamEvent>,
    permit: Arc<Permit>,
) -> UnboundedReceiver<StreamEvent> {
    let (send, passed_on) = unbounded_channel();
    tokio::spawn(async move {
        let _permit = permit;
        loop {
            tokio::select! {
                event = events.recv() => {
                    if event.is_none_or(|event| send.send(event).is_err()) {
                        break;
                    }
                }
                () = send.closed() => break,
            }
        }
    });
    passed_on
}

impl Turn {
    pub(super) async fn start(serving: &Serving, ask: Ask) -> Result<Self, ChatError> {
        let Ask { conversation, mut sampling, seeds, policy } = ask;
        let permit = Arc::new(serving.admit_many(seeds.len()).await?);
        let policy = match policy {
            None => serving.live(),
            Some(id) => serving.by_id(&id).ok_or_else(|| ChatError::UnknownModel(id.to_string()))?,
        };
        sampling.max_tokens = sampling.max_tokens.min(policy.context_tokens());
        let mut streams = Vec::with_capacity(seeds.len());
        for (index, seed) in seeds.iter().enumerate() {
            let sampling = Sampling { seed: Some(*seed), ..sampling.clone() };
            let request = GenerateRequest { messages: conversation.messages().to_vec(), sampling };
            let events = policy.generate(request).await?;
            let events = UnboundedReceiverStream::new(hold_while_computing(events, Arc::clone(&permit)));
            let to_the_end = events.map(Some).chain(once(std::future::ready(None)));
            streams.push(to_the_end.map(move |event| (index, event)).boxed());
        }
        let answer = |_| Answer { id: CompletionId::new(), text: String::new(), tokens: Vec::new(), end: None };
        let answers = seeds.iter().map(answer).collect();
        let events = select_all(streams);
        let mut turn = Self { policy, conversation, sampling, seeds, answers, events, first: None };
        turn.first = turn.pull().await?;
        Ok(turn)
    }

    /// Which policy answers.
    #[must_use]
    pub fn policy(&self) -> &PolicyId {
        self.policy.id()
    }

    /// The prompt.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
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
                policy: self.policy.id().clone(),
                candidate: comparison.map(|id| (id.clone(), place)),
                messages: self.conversation.messages().to_vec(),
                content: answer.text.clone(),
                finish_reason: end.finish.as_str(),
                sampling: Sampling { seed: Some(*seed), ..self.sampling.clone() },
                prompt_tokens: end.prompt_tokens,
                completion_tokens: end.completion_tokens,
            })
        };
        rows.filter_map(row).collect()
    }
}
