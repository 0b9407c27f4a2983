//! One sequence with its own KV cache, for an engine that serves it token by token.

use super::cache::{KvCache, extend, logits};
use crate::model::{Base, Batch, Workspace, resolve};
use crate::{Adapter, LearnError};

/// One sequence being generated. A clone continues from the same tokens by itself: several answers can share a prompt.
#[derive(Debug)]
pub struct Session {
    cache: KvCache,
    ws: Workspace,
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), ws: Workspace::new() } // buffers are no part of the sequence
    }
}

impl Session {
    /// An empty sequence.
    pub fn new(base: &Base) -> Self {
        Self { cache: KvCache::new(base, 0), ws: Workspace::new() }
    }

    /// The number of tokens so far.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there is no token yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends tokens; the logits, `(vocab,)`, of what follows the last one.
    ///
    /// # Errors
    /// When there are none, one is outside of the vocabulary, the context is full, or the adapter is of another shape.
    pub fn prefill(&mut self, base: &Base, adapter: Option<&Adapter>, tokens: &[u32]) -> Result<Vec<f32>, LearnError> {
        if tokens.is_empty() {
            return Err(LearnError::BadData { reason: "a prompt needs at least one token".into() });
        }
        let adapters = resolve(base.config(), adapter)?;
        let hidden = extend(base, &adapters, &mut [&mut self.cache], &Batch::pack(&[tokens]), &mut self.ws)?;
        let found = logits(base, &hidden[hidden.len() - base.config().hidden..], &mut self.ws);
        self.ws.give(hidden);
        Ok(found)
    }

    /// Appends one token; the logits, `(vocab,)`, of what follows it.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn step(&mut self, base: &Base, adapter: Option<&Adapter>, token: u32) -> Result<Vec<f32>, LearnError> {
        self.prefill(base, adapter, &[token])
    }

    /// Gives a logits buffer back, for the next step.
    pub fn give(&mut self, logits: Vec<f32>) {
        self.ws.give(logits);
    }
}
