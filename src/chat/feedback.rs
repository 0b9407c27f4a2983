//! Thumbs and demonstrations.

use super::{Chat, ChatError};
use crate::store::comparisons::Source;
use crate::store::demonstrations;
use crate::store::ratings::{self, Rating};
use hone_domain::Conversation;
use hone_domain::ids::{CompletionId, DemonstrationId, UserId};

impl Chat {
    /// Keeps a person's rating of their answer; a later one replaces it.
    ///
    /// # Errors
    /// When the answer isn't theirs or wasn't kept.
    pub async fn rate(&self, id: CompletionId, user: UserId, rating: Rating) -> Result<(), ChatError> {
        Ok(self.store.write(move |tx| ratings::put(tx, &id, &user, &rating)).await?)
    }

    /// Keeps an ideal answer.
    ///
    /// # Errors
    /// When it is empty.
    pub async fn demonstrate(
        &self,
        user: UserId,
        prompt: Conversation,
        ideal: String,
    ) -> Result<DemonstrationId, ChatError> {
        if ideal.trim().is_empty() {
            let message = "`ideal` is empty: write the answer that you would want".into();
            return Err(ChatError::Feedback { param: "ideal", message });
        }
        let write =
            move |tx: &rusqlite::Connection| demonstrations::insert(tx, &user, prompt.messages(), &ideal, Source::Live);
        Ok(self.store.write(write).await?)
    }
}
