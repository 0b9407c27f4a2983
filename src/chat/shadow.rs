//! The challenger's answers in the shadow: to prompts that the champion has answered, for operators to compare, and never at the expense of
//! anybody's answer.

use super::{Ask, By, Chat, ChatError, Turn};
use crate::serving::Permit;
use crate::store::completions;
use hone_domain::Tools;
use hone_domain::ids::{CompletionId, UserId};
use std::time::Instant;

impl Chat {
    /// Has the challenger answer too, in the background, where its share and the queue allow.
    pub(super) fn shadow(&self, turn: &Turn, user: &UserId) {
        let Some(challenger) = self.serving.challenger() else { return };
        let of_champion = turn.policy() == self.serving.live().id();
        if !of_champion || !turn.is_text() || rand::random::<f64>() >= challenger.traffic.shadow_share {
            return;
        }
        let (Some(shown), Some(seed)) = (turn.answers().first(), turn.seeds().first()) else { return };
        let Some(permit) = self.serving.admission().admit_idle() else { return };
        let ask = Ask {
            person: user.clone(),
            conversation: turn.conversation().clone(),
            tools: Tools::default(),
            sampling: turn.sampling().clone(),
            seeds: vec![*seed],
            by: By::Named(challenger.policy.id().to_string()),
        };
        let (chat, shown) = (self.clone(), shown.id.clone());
        tokio::spawn(async move {
            if let Err(e) = chat.write_shadow(ask, permit, shown).await {
                tracing::warn!(error = %e, "the challenger wrote no answer in the shadow");
            }
        });
    }

    async fn write_shadow(&self, ask: Ask, permit: Permit, shown: CompletionId) -> Result<(), ChatError> {
        let user = ask.person.clone();
        let mut turn = Turn::admitted(&self.serving, ask, permit, Instant::now()).await?;
        turn.finish().await?;
        let mut rows = turn.completions(&user, None);
        rows.iter_mut().for_each(|row| row.shadow_of = Some(shown.clone()));
        let write = move |tx: &rusqlite::Connection| rows.iter().try_for_each(|row| completions::insert(tx, row));
        Ok(self.store.write(write).await?)
    }
}
