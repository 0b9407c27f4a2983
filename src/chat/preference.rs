//! Which of two answers to one message is better: asked where a person has an answer given again.

use super::{Chat, ChatError};
use crate::store::preferences;
use hone_domain::Ranking;
use hone_domain::ids::{ComparisonId, CompletionId, UserId};

impl Chat {
    /// Keeps which of two of a person's chat answers they prefer; `None` is a tie. It is on disk when it returns.
    ///
    /// # Errors
    /// When an answer isn't theirs, the two answer different messages, or the preferred one is neither.
    pub async fn prefer(
        &self,
        user: UserId,
        answers: [CompletionId; 2],
        preferred: Option<CompletionId>,
    ) -> Result<ComparisonId, ChatError> {
        let refuse = |param, message: String| Err(ChatError::Feedback { param, message });
        let [first, second] = &answers;
        if first == second {
            return refuse("completions", format!("{first} is given twice: name two answers to the same messages"));
        }
        let names = [first.to_string(), second.to_string()];
        let tiers = match &preferred {
            None => vec![names.to_vec()],
            Some(best) if best == first => vec![vec![names[0].clone()], vec![names[1].clone()]],
            Some(best) if best == second => vec![vec![names[1].clone()], vec![names[0].clone()]],
            Some(other) => return refuse("preferred", format!("{other} is neither {first} nor {second}")),
        };
        let ranking = Ranking::from_tiers(&names, &tiers)?;
        Ok(self.store.write(move |tx| preferences::insert(tx, &user, &answers, ranking)).await?)
    }
}
