//! Keys and values of the tokens so far, and the forward pass of new tokens on top of them.

use crate::LearnError;
use crate::kernels::attention::{self, Heads, Keys, Sequence};
use crate::kernels::matmul::Out;
use crate::kernels::norm;
use crate::kernels::stored::Weight;
use crate::model::{Base, Batch, Block, ModelAdapters, Workspace, check, embed};

/// The keys (after rotation) and values of one sequence, by block.
#[derive(Debug, Clone)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// Both `(tokens, kv_dim)`.
#[derive(Debug, Clone)]
struct LayerCache {
    k: Vec<f32>,
    v: Vec<f32>,
}

impl KvCache {
    /// Nothing yet; room for `tokens` tokens is reserved.
    pub(crate) fn new(base: &Base, tokens: usize) -> Self {
        let c = base.config();
        let layer = || {
            let room = || Vec::with_capacity(tokens.min(c.context) * c.kv_dim());
            LayerCache { k: room(), v: room() }
        };
        Self { layers: (0..c.layers).map(|_| layer()).collect(), len: 0 }
    }

    /// The number of tokens so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(|l| (l.k.len() + l.v.len()) * size_of::<f32>()).sum()
    }

    /// A copy of the first `tokens` tokens.
    pub(crate) fn prefix(&self, tokens: usize) -> Self {
        let len = tokens.min(self.len);
        let first = |all: &[f32]| all[..all.len() / self.len.max(1) * len].to_vec();
        let layers = self.layers.iter().map(|l| LayerCache { k: first(&l.k), v: first(&l.v) }).collect();
        Self { layers, len }
    }
}

/// Hidden states, `(tokens, hidden)`, of new tokens: sequence i of `batch` continues `caches[i]`, which grows by it.
///
/// # Errors
/// When a token is outside of the vocabulary, or a sequence becomes longer than the context; the caches are then as before.
pub(crate) fn extend(
    base: &Base,
    adapters: &ModelAdapters<'_>,
    caches: &mut [&mut KvCache],
    batch: &Batch,
    ws: &mut Workspace,
) -> Result<Vec<f32>, LearnError> {
    check(base, batch)?;
    let (c, context) = (base.config(), base.config().context);
    let added = |s: usize| batch.range(s).len();
    if let Some(found) = (0..caches.len()).map(|s| caches[s].len + added(s)).find(|&n| n > context) {
        return Err(LearnError::TooLong { found, context });
    }
    let positions: Vec<usize> = (0..caches.len()).flat_map(|s| caches[s].len..caches[s].len + added(s)).collect();
    let mut x = embed(base, &batch.tokens, ws);
    for (index, adapters) in adapters.iter().enumerate() {
        let block = Block::new(base, index, adapters.as_ref());
        let heads = c.attention_heads(index);
        let attend = |qkv: &[f32], o: &mut [f32], l: &mut [f32]| {
            append(caches, index, qkv, batch, heads);
            let sequences: Vec<_> =
                (0..caches.len()).map(|s| cached(&caches[s].layers[index], batch, s, heads)).collect();
            attention::forward(heads, qkv, heads.qkv_dim(), &sequences, o, l);
        };
        let (y, acts) = block.forward(x, &positions, attend, ws);
        acts.give_back(ws);
        x = y;
    }
    (0..caches.len()).for_each(|s| caches[s].len += added(s));
    let mut hidden = ws.take(x.len());
    norm::forward(&x, &base.final_norm, c.norm_eps, &mut hidden);
    ws.give(x);
    Ok(hidden)
}

fn append(caches: &mut [&mut KvCache], layer: usize, qkv: &[f32], batch: &Batch, heads: Heads) {
    for (s, cache) in caches.iter_mut().enumerate() {
        let LayerCache { k, v } = &mut cache.layers[layer];
        for row in batch.range(s) {
            let kv = &qkv[row * heads.qkv_dim()..][heads.q_dim()..heads.qkv_dim()];
            k.extend_from_slice(&kv[..heads.kv_dim()]);
            v.extend_from_slice(&kv[heads.kv_dim()..]);
        }
    }
}

fn cached<'a>(cache: &'a LayerCache, batch: &Batch, s: usize, heads: Heads) -> Sequence<'a, f32> {
    let stride = heads.kv_dim();
    let own = Keys { k: &cache.k, v: &cache.v, stride, len: cache.k.len() / stride, row: 0 };
    Sequence { queries: batch.range(s), prefix: None, own }
}

/// Logits, `(rows, vocab)`, of hidden states, `(rows, hidden)`.
pub(crate) fn logits(base: &Base, hidden: &[f32], ws: &mut Workspace) -> Vec<f32> {
    let (h, vocab) = (base.config().hidden, base.config().vocab);
    let rows = hidden.len() / h;
    let mut logits = ws.take(rows * vocab);
    base.head_weight().forward(hidden, h, Out::Set, &mut logits);
    logits
}
