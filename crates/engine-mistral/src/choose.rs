//! hone's sampler inside mistralrs's sampling step.

use hone_text::Answer;
use mistralrs::{CustomLogitsProcessor, Tensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An answer that mistralrs's engine thread and the task that waits for it share.
#[derive(Clone)]
pub(crate) struct SharedAnswer(Arc<Mutex<Answer>>);

impl SharedAnswer {
    pub(crate) fn new(answer: Answer) -> Self {
        Self(Arc::new(Mutex::new(answer)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws the token itself and leaves mistralrs no choice: all logits but the drawn token's become minus infinity. Once the
/// answer is over (end, stop text, length, or its reader left) the only token left is the one that ends it.
///
/// It never answers with an error: mistralrs would leave out the other requests of the same step.
pub(crate) struct Choose {
    pub(crate) answer: SharedAnswer,
    pub(crate) end_token: u32,
}

impl CustomLogitsProcessor for Choose {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> mistralrs::Result<Tensor> {
        let mut logits_of = logits.to_vec1::<f32>()?;
        let drawn = self.answer.lock().next(&logits_of);
        logits_of.fill(f32::NEG_INFINITY);
        if let Some(logit) = logits_of.get_mut(drawn.unwrap_or(self.end_token) as usize) {
            *logit = 0.0;
        }
        Tensor::from_vec(logits_of, logits.shape(), logits.device())
    }
}
