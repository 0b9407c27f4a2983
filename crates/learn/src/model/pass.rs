//! The whole model, forward and backward, over packed sequences.

use super::adapted::{ModelAdapters, resolve};
use super::block::Block;
use super::weights::{Model, Weights};
use super::workspace::{Pool, Saved, Trace};
use super::{Base, Batch, Dropout, ModelConfig, Workspace};
use crate::backend::{Backend, Lay, Values};
use crate::{Adapter, LearnError, Params};

/// What a forward pass keeps for [`backward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: for scores and log-probs without a gradient.
    Nothing,
    /// Everything: about 1.1 MB per token of a model of 135M parameters.
    Activations,
    /// Each block's input; backward computes the rest again, a quarter slower at a tenth of the memory.
    Recompute,
}

/// How a forward pass is run.
#[derive(Debug)]
pub struct How<'a> {
    /// What it keeps.
    pub keep: Keep,
    /// Dropout on the residual branches: for training passes.
    pub dropout: Option<Dropout>,
    /// A block, and what goes into it, `(tokens, hidden)`: the blocks below are not run again.
    pub from: Option<(usize, &'a [f32])>,
}

/// Hidden states after the final norm, `(tokens, hidden)`. Give the buffer back with [`Workspace::give`] when done with it.
///
/// # Errors
/// When a token is outside of the vocabulary, a sequence is longer than the context, or the adapter is of another shape.
pub fn forward(
    base: &Base,
    adapter: Option<&Adapter>,
    batch: &Batch,
    keep: Keep,
    ws: &mut Workspace,
) -> Result<Vec<f32>, LearnError> {
    forward_with(base, adapter, batch, How { keep, dropout: None, from: None }, ws)
}

/// [`forward`], with dropout, or from a block on.
///
/// # Errors
/// As [`forward`].
///
/// # Panics
/// If the adapter has matrices below the block at which the pass begins.
pub fn forward_with(
    base: &Base,
    adapter: Option<&Adapter>,
    batch: &Batch,
    how: How<'_>,
    ws: &mut Workspace,
) -> Result<Vec<f32>, LearnError> {
    check(base.config(), batch)?;
    match &base.weights {
        Weights::Host(model) => run(model, adapter, batch, how, &mut ws.host),
        #[cfg(feature = "cuda")]
        Weights::Cuda(model, _) => {
            let hidden = run(model, adapter, batch, how, ws.on(&model.on))?;
            ws.fetch(&model.on, hidden)
        }
    }
}

fn run<B: Backend>(
    model: &Model<B>,
    adapter: Option<&Adapter>,
    batch: &Batch,
    how: How<'_>,
    pool: &mut Pool<B>,
) -> Result<B::Buffer, LearnError> {
    let How { keep, dropout, from } = how;
    let adapters = resolve(model, adapter)?;
    let positions = batch.positions();
    let layout = model.on.layout(Lay { packing: batch.packing(), positions: &positions });
    let first = if keep == Keep::Nothing { model.config.layers } else { first_adapted(&adapters) };
    if keep != Keep::Nothing {
        pool.forget();
    }
    let mut blocks = Vec::with_capacity(model.config.layers - first);
    let (begin, mut x) = match from {
        None => (0, embed(model, &batch.tokens, pool)),
        Some((block, into)) => {
            assert!(block <= first_adapted(&adapters), "an adapter lies below block {block}, where the pass begins");
            let mut x = pool.take(into.len());
            model.on.upload(into, &mut x);
            (block, x)
        }
    };
    for (index, adapters) in adapters.iter().enumerate().skip(begin) {
        let block = Block::new(model, index, adapters.as_ref()).dropping(dropout.as_ref(), index);
        let (y, acts) = block.forward(x, &layout, attend(model, index, &layout), pool);
        x = y;
        match keep {
            Keep::Activations if index >= first => blocks.push(Saved::All(Box::new(acts))),
            Keep::Recompute if index >= first => blocks.push(Saved::Input(acts.keep_input(pool))),
            _ => acts.give_back(pool),
        }
    }
    let mut hidden = pool.take(x.len());
    model.on.norm(&x, &model.final_norm, model.config.norm_eps, &mut hidden);
    if keep == Keep::Nothing {
        pool.give(x);
    } else {
        pool.trace = Some(Trace { batch: batch.clone(), first, blocks, last: x, dropout });
    }
    Ok(hidden)
}

/// What goes into block `block`, `(tokens, hidden)`, where no adapter lies below it: the same for every adapter that begins there.
///
/// # Errors
/// As [`forward`].
pub fn trunk(base: &Base, batch: &Batch, block: usize, ws: &mut Workspace) -> Result<Vec<f32>, LearnError> {
    check(base.config(), batch)?;
    match &base.weights {
        Weights::Host(model) => Ok(run_trunk(model, batch, block, &mut ws.host)),
        #[cfg(feature = "cuda")]
        Weights::Cuda(model, _) => {
            let x = run_trunk(model, batch, block, ws.on(&model.on));
            ws.fetch(&model.on, x)
        }
    }
}

fn run_trunk<B: Backend>(model: &Model<B>, batch: &Batch, block: usize, pool: &mut Pool<B>) -> B::Buffer {
    let positions = batch.positions();
    let layout = model.on.layout(Lay { packing: batch.packing(), positions: &positions });
    let mut x = embed(model, &batch.tokens, pool);
    for index in 0..block {
        let (y, acts) = Block::new(model, index, None).forward(x, &layout, attend(model, index, &layout), pool);
        acts.give_back(pool);
        x = y;
    }
    x
}

/// Adds the gradients of the adapter's matrices to `grads`, from `d_hidden`, `(tokens, hidden)`, the gradient of what
/// [`forward`] returned. Uses up what that pass kept.
///
/// # Errors
/// When the adapter is of another shape than the model.
///
/// # Panics
/// If the last kept pass in `ws` was not over this batch, or `grads` lacks a parameter of the adapter.
pub fn backward(
    base: &Base,
    adapter: &Adapter,
    batch: &Batch,
    ws: &mut Workspace,
    d_hidden: &[f32],
    grads: &mut Params,
) -> Result<(), LearnError> {
    match &base.weights {
        Weights::Host(model) => run_backward(model, adapter, batch, &mut ws.host, d_hidden, grads),
        #[cfg(feature = "cuda")]
        Weights::Cuda(model, _) => run_backward(model, adapter, batch, ws.on(&model.on), d_hidden, grads),
    }
}

fn run_backward<B: Backend>(
    model: &Model<B>,
    adapter: &Adapter,
    batch: &Batch,
    pool: &mut Pool<B>,
    d_hidden: &[f32],
    grads: &mut Params,
) -> Result<(), LearnError> {
    let adapters = resolve(model, Some(adapter))?;
    let trace = pool.trace.take().expect("backward needs a forward pass that kept something");
    assert_eq!(&trace.batch, batch, "backward over another batch than the kept forward pass");
    let positions = batch.positions();
    let layout = model.on.layout(Lay { packing: batch.packing(), positions: &positions });
    let mut slots = grads.iter_mut().map(|p| (p.name.as_str(), p.data.as_mut_slice())).collect();
    let (mut d_last, mut dx) = (pool.take(d_hidden.len()), pool.take(d_hidden.len()));
    model.on.upload(d_hidden, &mut d_last);
    model.on.zero(&mut dx);
    model.on.norm_backward(&trace.last, &model.final_norm, model.config.norm_eps, &d_last, &mut dx);
    pool.give(trace.last);
    pool.give(d_last);
    for (offset, saved) in trace.blocks.into_iter().enumerate().rev() {
        let index = trace.first + offset;
        let block = Block::new(model, index, adapters[index].as_ref()).dropping(trace.dropout.as_ref(), index);
        let acts = match saved {
            Saved::All(acts) => *acts,
            Saved::Input(x) => block.recompute(x, &layout, attend(model, index, &layout), pool),
        };
        block.backward(acts, &layout, &mut dx, offset > 0, &mut slots, pool);
    }
    pool.give(dx);
    model.on.check()
}

/// Causal attention of each sequence to itself, and to what it continues.
fn attend<'a, B: Backend>(
    model: &'a Model<B>,
    layer: usize,
    layout: &'a B::Layout<'_>,
) -> impl FnOnce(&B::Buffer, &mut B::Buffer, &mut B::Buffer) + 'a {
    move |qkv, o, l| model.on.attention(model.config.attention_heads(layer), qkv, layout, o, l)
}

/// The embedding's rows of the tokens, `(tokens, hidden)`.
pub(crate) fn embed<B: Backend>(model: &Model<B>, tokens: &[u32], pool: &mut Pool<B>) -> B::Buffer {
    let mut x = pool.take(tokens.len() * model.config.hidden);
    model.on.embed(&model.embedding, model.config.hidden, tokens, &mut x);
    x
}

/// Tokens are in the vocabulary and sequences within the context.
pub(crate) fn check(config: &ModelConfig, batch: &Batch) -> Result<(), LearnError> {
    let (vocab, context) = (config.vocab, config.context);
    if let Some(&token) = batch.tokens.iter().find(|&&t| t as usize >= vocab) {
        return Err(LearnError::TokenOutOfRange { token, vocab });
    }
    match (0..batch.sequences()).map(|s| batch.first_position(s) + batch.range(s).len()).find(|&n| n > context) {
        Some(found) => Err(LearnError::TooLong { found, context }),
        None => Ok(()),
    }
}

fn first_adapted<B: Backend>(adapters: &ModelAdapters<'_, B>) -> usize {
    adapters.iter().position(Option::is_some).unwrap_or(adapters.len())
}
