//! Sequences with their own KV caches, for an engine that serves them token by token, many in one batch.

use super::cache::{KvCache, extend, logits, rows};
use crate::LearnError;
use crate::backend::Cpu;
use crate::model::{Base, Batch, Model, ModelAdapters, Served, Workspace, each_for_its_rows};

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

    /// Appends tokens; the logits, `(vocab,)`, of what follows the last one.
    ///
    /// # Errors
    /// As [`pass`].
    pub fn prefill(
        &mut self,
        base: &Base,
        adapter: Option<&Served>,
        tokens: &[u32],
        ws: &mut Workspace,
    ) -> Result<Vec<f32>, LearnError> {
        pass(base, &mut [Part { session: self, adapter, tokens, logits: true }], ws)
    }
}

/// What a pass appends to one sequence.
#[derive(Debug)]
pub struct Part<'a> {
    /// The sequence.
    pub session: &'a mut Session,
    /// Its policy's adapter. Parts of one policy that follow each other are computed together.
    pub adapter: Option<&'a Served>,
    /// Its next tokens, at least one.
    pub tokens: &'a [u32],
    /// Whether the logits of what follows them are wanted.
    pub logits: bool,
}

/// Appends tokens to several sequences, of one policy or several, in one pass: parts of prompts and tokens of answers alike. Answers the logits, `(parts that want
/// them, vocab)`. On a base opened by [`Base::open_to_serve`] each sequence's are the same bits whatever else is in the pass, and in
/// whatever parts its tokens come.
///
/// # Errors
/// When a part has no token or one outside of the vocabulary, a context is full, or the base is not in this
/// machine's memory; then no sequence has grown.
pub fn pass(base: &Base, parts: &mut [Part<'_>], ws: &mut Workspace) -> Result<Vec<f32>, LearnError> {
    let model = base.host()?;
    if parts.iter().any(|part| part.tokens.is_empty()) {
        return Err(LearnError::BadData { reason: "a prompt needs at least one token".into() });
    }
    let batch = Batch::pack(&parts.iter().map(|part| part.tokens).collect::<Vec<_>>());
    let ends: Vec<usize> = (0..parts.len()).filter(|&i| parts[i].logits).map(|i| batch.range(i).end - 1).collect();
    let adapters = adapters_of(model, parts, &batch);
    let mut caches: Vec<&mut KvCache<Cpu>> = parts.iter_mut().map(|part| &mut part.session.cache).collect();
    let hidden = extend(model, &adapters, &mut caches, &batch, &mut ws.host)?;
    let last = rows(model, &hidden, &ends, &mut ws.host);
    ws.give(hidden);
    let found = logits(model, &last, &mut ws.host);
    ws.give(last);
    Ok(found)
}

/// The adapters of the parts, each for its rows.
fn adapters_of<'a>(model: &Model<Cpu>, parts: &[Part<'a>], batch: &Batch) -> ModelAdapters<'a, Cpu> {
    let same = |a: &Part<'_>, b: &Part<'_>| match (a.adapter, b.adapter) {
        (Some(a), Some(b)) => std::ptr::eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    let (mut policies, mut at) = (Vec::new(), 0);
    for of_policy in parts.chunk_by(same) {
        let rows = batch.range(at).start..batch.range(at + of_policy.len() - 1).end;
        at += of_policy.len();
        policies.extend(of_policy[0].adapter.map(|served| (rows, served)));
    }
    each_for_its_rows(model.config.layers, &policies)
}
