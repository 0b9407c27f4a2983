//! Thumbs and demonstrations.

use super::{Chat, ChatError};
use crate::store::comparisons::Source;
use crate::store::demonstrations::{self, NewDemonstration};
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
        let write = move |tx: &rusqlite::Connection| {
            let (user, messages, ideal) = (&user, prompt.messages(), ideal.as_str());
            let (source, prompt_from, comparison) = (Source::Live, None, None);
            demonstrations::insert(tx, &NewDemonstration { user, messages, ideal, source, prompt_from, comparison })
        };
        Ok(self.store.write(write).await?)
    }
}
