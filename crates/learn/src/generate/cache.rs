//! Keys and values of the tokens so far, and the forward pass of new tokens on top of them.

use crate::LearnError;
use crate::backend::{Backend, Cpu, Lay, Linear, Values};
use crate::kernels::matmul::Out;
use crate::model::{Batch, Block, Model, ModelAdapters, ModelConfig, Pool, check, embed};

/// The keys (after rotation) and values of one sequence, by block.
#[derive(Debug, Clone)]
pub(crate) struct KvCache<B: Backend> {
    blocks: B::Cache,
    len: usize,
}

impl<B: Backend> KvCache<B> {
    /// Nothing yet; room for `tokens` tokens is reserved.
    pub(crate) fn new(on: &B, c: &ModelConfig, tokens: usize) -> Self {
        Self { blocks: on.cache(c.layers, c.attention_heads(0), tokens.min(c.context)), len: 0 }
    }

    /// The number of tokens so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl KvCache<Cpu> {
    /// The memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// A copy of the first `tokens` tokens.
    pub(crate) fn prefix(&self, tokens: usize) -> Self {
        let len = tokens.min(self.len);
        Self { blocks: self.blocks.prefix(len), len }
    }
}

/// Hidden states, `(tokens, hidden)`, of new tokens: sequence i of `batch` continues `caches[i]`, which grows by it.
///
/// # Errors
/// When a token is outside of the vocabulary, or a sequence becomes longer than the context; the caches are then as before.
pub(crate) fn extend<B: Backend>(
    model: &Model<B>,
    adapters: &ModelAdapters<'_, B>,
    caches: &mut [&mut KvCache<B>],
    batch: &Batch,
    pool: &mut Pool<B>,
) -> Result<B::Buffer, LearnError> {
    let (c, context) = (&model.config, model.config.context);
    check(c, batch)?;
    let added = |s: usize| batch.range(s).len();
    if let Some(found) = (0..caches.len()).map(|s| caches[s].len + added(s)).find(|&n| n > context) {
        return Err(LearnError::TooLong { found, context });
    }
    let positions: Vec<usize> = (0..caches.len()).flat_map(|s| caches[s].len..caches[s].len + added(s)).collect();
    let layout = model.on.layout(Lay { packing: batch.packing(), positions: &positions });
    let mut blocks: Vec<&mut B::Cache> = caches.iter_mut().map(|cache| &mut cache.blocks).collect();
    let mut x = embed(model, &batch.tokens, pool);
    for (index, adapters) in adapters.iter().enumerate() {
        let attend = |qkv: &B::Buffer, o: &mut B::Buffer, l: &mut B::Buffer| {
            model.on.attention_cached(c.attention_heads(index), index, qkv, &layout, &mut blocks, (o, l));
        };
        let (y, acts) = Block::new(model, index, adapters.as_ref()).forward(x, &layout, attend, pool);
        acts.give_back(pool);
        x = y;
    }
    (0..caches.len()).for_each(|s| caches[s].len += added(s));
    let mut hidden = pool.take(x.len());
    model.on.norm(&x, &model.final_norm, c.norm_eps, &mut hidden);
    pool.give(x);
    Ok(hidden)
}

/// Logits, `(rows, vocab)`, of hidden states, `(rows, hidden)`.
pub(crate) fn logits<B: Backend>(model: &Model<B>, hidden: &B::Buffer, pool: &mut Pool<B>) -> B::Buffer {
    let (h, vocab) = (model.config.hidden, model.config.vocab);
    let (mut logits, mut low) = (pool.take(hidden.len() / h * vocab), pool.take(0));
    let head = Linear { w: model.head_weight(), bias: None, ins: h, outs: vocab };
    model.on.linear(&head, None, hidden, Out::Set, &mut logits, &mut low);
    logits
}

/// Some rows of `hidden`, `(rows, hidden)`.
pub(crate) fn rows<B: Backend>(model: &Model<B>, hidden: &B::Buffer, rows: &[usize], pool: &mut Pool<B>) -> B::Buffer {
    let mut found = pool.take(rows.len() * model.config.hidden);
    model.on.gather(hidden, model.config.hidden, rows, &mut found);
    found
}
