//! What happens when somebody asks: a turn (one prompt, n answers of one policy), a comparison, and what people think of answers.
//! May use: serving, store. Knows nothing of HTTP: handlers turn requests into these calls, and the results into bodies.

pub mod comparison;
pub mod conversations;
pub mod diff;
pub mod feedback;
pub mod lineage;
pub mod personal;
mod shadow;
pub mod turn;

pub use turn::{Ask, By, Event, Turn};

use crate::serving::{AdmissionError, Serving};
use crate::store::{Store, StoreError, completions};
use crate::telemetry::TRACE;
use hone_domain::ids::UserId;
use hone_domain::{EngineError, MessageError, RankingError};
use std::sync::Arc;
use tracing::Instrument;

/// Why it can't be done. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The engine can't or won't answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There is no place for it.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The messages can't be answered.
    #[error(transparent)]
    Messages(#[from] MessageError),
    /// The ranking isn't one.
    #[error(transparent)]
    Ranking(#[from] RankingError),
    /// Feedback that makes no sense: the field and what to do.
    #[error("{message}")]
    Feedback {
        /// The field.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Nothing is served under this name.
    #[error("the model `{0}` isn't served here: use \"champion\", or one of the ids that GET /v1/models lists")]
    UnknownModel(String),
}

/// Answers people and keeps what they say. Cheap to clone.
#[derive(Clone)]
pub struct Chat {
    store: Store,
    serving: Arc<Serving>,
}

impl Chat {
    /// Over the store and the live policy.
    #[must_use]
    pub fn new(store: Store, serving: Arc<Serving>) -> Self {
        Self { store, serving }
    }

    /// Whether nobody waits for an answer.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.serving.admission().waiting() == 0
    }

    /// Starts a turn. It answers once the first token is there, so that what can't be answered fails here.
    ///
    /// # Errors
    /// When the queue is full, the model isn't served or the prompt doesn't fit.
    pub async fn ask(&self, ask: Ask) -> Result<Turn, ChatError> {
        Turn::start(&self.serving, ask).await
    }

    /// Logs the answers of a finished turn. They are on disk when it returns. A challenger may write its own in the shadow then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep(&self, turn: &Turn, user: &UserId) -> Result<(), ChatError> {
        let rows = turn.completions(user, None);
        let write = move |tx: &rusqlite::Connection| rows.iter().try_for_each(|row| completions::insert(tx, row));
        self.store.write(write).instrument(tracing::info_span!(target: TRACE, "keep")).await?;
        self.shadow(turn, user);
        Ok(())
    }
}
