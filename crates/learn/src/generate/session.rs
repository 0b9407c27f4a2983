//! Sequences with their own KV caches, for an engine that serves them token by token, many in one batch.

use super::cache::{KvCache, extend, logits, rows};
use crate::backend::Cpu;
use crate::model::{Base, Batch, Workspace, resolve};
use crate::{Adapter, LearnError};

/// One sequence being generated. A clone continues from the same tokens by itself: several answers can share a prompt.
#[derive(Debug, Clone)]
pub struct Session {
    cache: KvCache<Cpu>,
}

impl Session {
    /// An empty sequence.
    pub fn new(base: &Base) -> Self {
        Self { cache: KvCache::new(base.host(), 0) }
    }

    /// The number of tokens so far.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there is no token yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory of its keys and values.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// A sequence of its first tokens, at most all of them.
    #[must_use]
    pub fn prefix(&self, tokens: usize) -> Self {
        Self { cache: self.cache.prefix(tokens) }
    }

    /// Appends tokens.
    ///
    /// # Errors
    /// When there are none, one is outside of the vocabulary, the context is full, or the adapter is of another shape.
    pub fn feed(
        &mut self,
        base: &Base,
        adapter: Option<&Adapter>,
        tokens: &[u32],
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        let hidden = self.extend(base, adapter, tokens, ws)?;
        ws.give(hidden);
        Ok(())
    }

    /// Appends tokens; the logits, `(vocab,)`, of what follows the last one.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn prefill(
        &mut self,
        base: &Base,
        adapter: Option<&Adapter>,
        tokens: &[u32],
        ws: &mut Workspace,
    ) -> Result<Vec<f32>, LearnError> {
        let hidden = self.extend(base, adapter, tokens, ws)?;
        let last = rows(base.host(), &hidden, &[tokens.len() - 1], &mut ws.host);
        let found = logits(base.host(), &last, &mut ws.host);
        [hidden, last].into_iter().for_each(|b| ws.give(b));
        Ok(found)
    }

    fn extend(
        &mut self,
        base: &Base,
        adapter: Option<&Adapter>,
        tokens: &[u32],
        ws: &mut Workspace,
    ) -> Result<Vec<f32>, LearnError> {
        if tokens.is_empty() {
            return Err(LearnError::BadData { reason: "a prompt needs at least one token".into() });
        }
        let adapters = resolve(base.host(), adapter)?;
        extend(base.host(), &adapters, &mut [&mut self.cache], &Batch::pack(&[tokens]), &mut ws.host)
    }
}

/// Appends one token to each of several sequences; the logits, `(sequences, vocab)`, of what follows. Each sequence's are the
/// same bits whatever else is in the batch, as long as it has at most [`STEP_SEQUENCES_MAX`].
///
/// # Errors
/// As [`Session::feed`]; then no sequence has grown.
pub fn step(
    base: &Base,
    adapter: Option<&Adapter>,
    sessions: &mut [&mut Session],
    tokens: &[u32],
    ws: &mut Workspace,
) -> Result<Vec<f32>, LearnError> {
    let adapters = resolve(base.host(), adapter)?;
    let tokens: Vec<[u32; 1]> = tokens.iter().map(|&token| [token]).collect();
    let mut caches: Vec<&mut KvCache<Cpu>> = sessions.iter_mut().map(|s| &mut s.cache).collect();
    let hidden = extend(base.host(), &adapters, &mut caches, &Batch::pack(&tokens), &mut ws.host)?;
    let found = logits(base.host(), &hidden, &mut ws.host);
    ws.give(hidden);
    Ok(found)
}

/// Most sequences of a [`step`]: beyond it, products are done another way, in another order of summation.
pub const STEP_SEQUENCES_MAX: usize = crate::kernels::FEW_ROWS_MAX;
