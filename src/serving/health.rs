//! Whether the engine computes. An answer that it broke makes it unwell; an answer that ends, be it one that is asked only to see, makes it well
//! again. Engines start what has died anew when they are asked, so seeing is mending. May use: any policy.

use super::SharedPolicy;
use hone_domain::{EngineError, GenerateRequest, Message, Sampling, StreamEvent};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long an engine may take to show that it computes.
const SHOW_MAX: Duration = Duration::from_secs(10);

/// What the last answer told of the engine.
#[derive(Debug, Default)]
pub struct Health {
    /// Why it is unwell.
    unwell: Mutex<Option<String>>,
    /// One attempt at a time.
    asking: tokio::sync::Mutex<()>,
}

impl Health {
    /// An answer's event, or `None` when its channel closed: without an end before that, the engine has died.
    pub fn saw(&self, event: Option<&StreamEvent>, ended: bool) {
        match event {
            Some(StreamEvent::Done { .. }) => self.set(None),
            Some(StreamEvent::Failed(EngineError::Failed(why))) => self.set(Some(why.clone())),
            None if !ended => self.set(Some("it stopped in the middle of an answer".into())),
            _ => {}
        }
    }

    fn set(&self, why: Option<String>) {
        *self.unwell.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn get(&self) -> Option<String> {
        self.unwell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether `policy` can answer. Where the last answer broke, it is asked for a token.
    ///
    /// # Errors
    /// When it can't.
    pub async fn check(&self, policy: &SharedPolicy) -> Result<(), EngineError> {
        let Some(why) = self.get() else { return Ok(()) };
        // Somebody else is asking already.
        let Ok(_alone) = self.asking.try_lock() else { return Err(EngineError::Failed(why)) };
        tracing::warn!(why, "the engine broke an answer: asking it for a token");
        let shown = tokio::time::timeout(SHOW_MAX, one_token(policy)).await;
        let shown = shown.unwrap_or_else(|_| Err(EngineError::Failed(format!("no answer within {SHOW_MAX:?}"))));
        self.set(shown.as_ref().err().map(ToString::to_string));
        shown
    }
}

async fn one_token(policy: &SharedPolicy) -> Result<(), EngineError> {
    let sampling = Sampling { max_tokens: 1, ..Sampling::default() };
    let mut events = policy.generate(GenerateRequest::new(vec![Message::user("hello")], sampling)).await?;
    loop {
        match events.recv().await {
            Some(StreamEvent::Token(_) | StreamEvent::ToolCall(_)) => {}
            Some(StreamEvent::Done { .. }) => return Ok(()),
            Some(StreamEvent::Failed(e)) => return Err(e),
            None => return Err(EngineError::Failed("it stopped in the middle of an answer".into())),
        }
    }
}
