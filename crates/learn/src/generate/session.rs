//! Sequences with their own KV caches, for an engine that serves them token by token, many in one batch.

use super::cache::{KvCache, extend, logits, rows};
use crate::backend::Cpu;
use crate::model::{Base, Batch, Model, Workspace, resolve};
use crate::{Adapter, LearnError};

/// One sequence being generated. A clone continues from the same tokens by itself: several answers can share a prompt.
#[derive(Debug, Clone)]
pub struct Session {
    cache: KvCache<Cpu>,
}

impl Session {
    /// An empty sequence.
    pub fn new(base: &Base) -> Self {
        Self { cache: KvCache::new(&Cpu, base.config(), 0) }
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
    /// When there are none, one is outside of the vocabulary, the context is full, the adapter is of another shape, or the base is
    /// not in this machine's memory.
    pub fn feed(
        &mut self,
        base: &Base,
        adapter: Option<&Adapter>,
        tokens: &[u32],
        ws: &mut Workspace,
    ) -> Result<(), LearnError> {
        let hidden = append(base.host()?, adapter, &mut [self], &[tokens], ws)?;
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
        let model = base.host()?;
        let hidden = append(model, adapter, &mut [self], &[tokens], ws)?;
        let last = rows(model, &hidden, &[tokens.len() - 1], &mut ws.host);
        ws.give(hidden);
        Ok(logits_of(model, last, ws))
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
    let model = base.host()?;
    let hidden = append(model, adapter, sessions, &tokens.chunks(1).collect::<Vec<_>>(), ws)?;
    Ok(logits_of(model, hidden, ws))
}

/// Most sequences of a [`step`]: beyond it, products are done another way, in another order of summation.
pub const STEP_SEQUENCES_MAX: usize = crate::kernels::FEW_ROWS_MAX;

/// Appends tokens to each session; the hidden states of all, `(tokens, hidden)`.
fn append(
    model: &Model<Cpu>,
    adapter: Option<&Adapter>,
    sessions: &mut [&mut Session],
    tokens: &[&[u32]],
    ws: &mut Workspace,
) -> Result<Vec<f32>, LearnError> {
    if tokens.iter().any(|t| t.is_empty()) {
        return Err(LearnError::BadData { reason: "a prompt needs at least one token".into() });
    }
    let adapters = resolve(model, adapter)?;
    let mut caches: Vec<&mut KvCache<Cpu>> = sessions.iter_mut().map(|s| &mut s.cache).collect();
    extend(model, &adapters, &mut caches, &Batch::pack(tokens), &mut ws.host)
}

fn logits_of(model: &Model<Cpu>, hidden: Vec<f32>, ws: &mut Workspace) -> Vec<f32> {
    let found = logits(model, &hidden, &mut ws.host);
    ws.give(hidden);
    found
}
