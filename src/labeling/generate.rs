//! Makes items to rank: draws a prompt and has it answered k times, blind, by the champion and, where there is one for comparisons, the
//! challenger.

use super::{Labeling, LabelingError};
use crate::chat::ChatError;
use crate::store::labeling::prompts::{self, Prompt};
use crate::store::labeling::{Kind, pick};
use hone_domain::ids::UserId;
use hone_domain::{Conversation, EngineError, Sampling};
use std::sync::atomic::Ordering;

/// Prompts that are tried before giving up, where some can't be answered.
const TRIES: usize = 3;

impl Labeling {
    /// Puts one item into the queue; false when there is no prompt for it. Its answers are computed as if `labeler` had asked.
    ///
    /// # Errors
    /// When the engine can't answer, or the database fails.
    pub(super) async fn make_item(&self, labeler: &UserId) -> Result<bool, LabelingError> {
        for _ in 0..TRIES {
            let user = labeler.clone();
            let drawn = self.store.read(move |c| prompts::draw(c, Kind::Rank, &user)).await?;
            let Some(prompt) = drawn else { return Ok(false) };
            match self.answer(labeler, &prompt).await {
                Ok(()) => return Ok(true),
                Err(ChatError::Engine(e @ (EngineError::PromptTooLong { .. } | EngineError::BadRequest(_)))) => {
                    tracing::warn!(error = %e, "a prompt of the labeling queue can't be answered");
                    if let Some(own) = prompt.own {
                        self.store.write(move |tx| prompts::refuse(tx, &own, &e.to_string())).await?;
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }

    async fn answer(&self, labeler: &UserId, prompt: &Prompt) -> Result<(), ChatError> {
        let conversation = Conversation::parse(prompt.messages.clone())?;
        let sampling = Sampling { max_tokens: self.config.max_tokens, ..Sampling::default() };
        let mut turn = self.chat.compare(labeler.clone(), conversation, self.config.k, sampling).await?;
        turn.finish().await?;
        self.chat.keep_for_queue(turn, &prompt.from).await
    }

    /// Makes items ahead in the background, one refill at a time and only while nobody's answer waits.
    pub(super) fn refill(&self, labeler: &UserId) {
        if self.config.ready == 0 || self.refilling.swap(true, Ordering::SeqCst) {
            return;
        }
        let (labeling, labeler) = (self.clone(), labeler.clone());
        tokio::spawn(async move {
            if let Err(e) = labeling.fill_up(&labeler).await {
                tracing::warn!(error = %e, "no items were made ahead for the labeling queue");
            }
            labeling.refilling.store(false, Ordering::SeqCst);
        });
    }

    async fn fill_up(&self, labeler: &UserId) -> Result<(), LabelingError> {
        let waiting = self.store.read(pick::waiting).await?;
        for _ in waiting..self.config.ready as u64 {
            if !self.chat.is_idle() || !self.make_item(labeler).await? {
                break;
            }
        }
        Ok(())
    }
}
