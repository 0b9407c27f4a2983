//! The whole model, forward and backward, over packed sequences.

use super::adapted::{ModelAdapters, resolve};
use super::block::Block;
use super::workspace::{Saved, Trace};
use super::{Base, Batch, Dropout, Workspace};
use crate::kernels::attention;
use crate::kernels::norm;
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
    check(base, batch)?;
    let How { keep, dropout, from } = how;
    let adapters = resolve(&base.config, adapter)?;
    let positions = batch.positions();
    let first = if keep == Keep::Nothing { base.config.layers } else { first_adapted(&adapters) };
    if keep != Keep::Nothing {
        ws.forget();
    }
    let mut blocks = Vec::with_capacity(base.config.layers - first);
    let (begin, mut x) = match from {
        None => (0, embed(base, &batch.tokens, ws)),
        Some((block, into)) => {
            assert!(block <= first_adapted(&adapters), "an adapter lies below block {block}, where the pass begins");
            let mut x = ws.take(into.len());
            x.copy_from_slice(into);
            (block, x)
        }
    };
    for (index, adapters) in adapters.iter().enumerate().skip(begin) {
        let block = Block::new(base, index, adapters.as_ref()).dropping(dropout.as_ref(), index);
        let (y, acts) = block.forward(x, &positions, attend(base, index, batch), ws);
        x = y;
        match keep {
            Keep::Activations if index >= first => blocks.push(Saved::All(Box::new(acts))),
            Keep::Recompute if index >= first => blocks.push(Saved::Input(acts.keep_input(ws))),
            _ => acts.give_back(ws),
        }
    }
    let mut hidden = ws.take(x.len());
    norm::forward(&x, &base.final_norm, base.config.norm_eps, &mut hidden);
    if keep == Keep::Nothing {
        ws.give(x);
    } else {
        ws.trace = Some(Trace { batch: batch.clone(), first, blocks, last: x, dropout });
    }
    Ok(hidden)
}

/// What goes into block `block`, `(tokens, hidden)`, where no adapter lies below it: the same for every adapter that begins there.
///
/// # Errors
/// As [`forward`].
pub fn trunk(base: &Base, batch: &Batch, block: usize, ws: &mut Workspace) -> Result<Vec<f32>, LearnError> {
    check(base, batch)?;
    let positions = batch.positions();
    let mut x = embed(base, &batch.tokens, ws);
    for index in 0..block {
        let (y, acts) = Block::new(base, index, None).forward(x, &positions, attend(base, index, batch), ws);
        acts.give_back(ws);
        x = y;
    }
    Ok(x)
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
    let adapters = resolve(&base.config, Some(adapter))?;
    let trace = ws.trace.take().expect("backward needs a forward pass that kept something");
    assert_eq!(&trace.batch, batch, "backward over another batch than the kept forward pass");
    let positions = batch.positions();
    let mut slots = grads.iter_mut().map(|p| (p.name.as_str(), p.data.as_mut_slice())).collect();
    let mut dx = ws.take(d_hidden.len());
    dx.fill(0.0);
    norm::backward(&trace.last, &base.final_norm, base.config.norm_eps, d_hidden, &mut dx);
    ws.give(trace.last);
    for (offset, saved) in trace.blocks.into_iter().enumerate().rev() {
        let index = trace.first + offset;
        let block = Block::new(base, index, adapters[index].as_ref()).dropping(trace.dropout.as_ref(), index);
        let acts = match saved {
            Saved::All(acts) => *acts,
            Saved::Input(x) => block.recompute(x, &positions, attend(base, index, batch), ws),
        };
        block.backward(acts, (batch.packing(), &positions), &mut dx, offset > 0, &mut slots, ws);
    }
    ws.give(dx);
    Ok(())
}

/// Causal attention of each sequence to itself, and to what it continues.
fn attend<'a>(base: &'a Base, layer: usize, batch: &'a Batch) -> impl FnOnce(&[f32], &mut [f32], &mut [f32]) + 'a {
    let heads = base.config.attention_heads(layer);
    move |qkv, o, l| {
        attention::forward(heads, qkv, heads.qkv_dim(), &attention::packed(qkv, batch.packing(), heads), o, l);
    }
}

/// The embedding's rows of the tokens, `(tokens, hidden)`.
pub(crate) fn embed(base: &Base, tokens: &[u32], ws: &mut Workspace) -> Vec<f32> {
    let h = base.config.hidden;
    let mut x = ws.take(tokens.len() * h);
    for (row, &token) in x.chunks_exact_mut(h).zip(tokens) {
        row.copy_from_slice(&base.embedding.slice(token as usize * h, h));
    }
    x
}

/// Tokens are in the vocabulary and sequences within the context.
pub(crate) fn check(base: &Base, batch: &Batch) -> Result<(), LearnError> {
    let (vocab, context) = (base.config.vocab, base.config.context);
    if let Some(&token) = batch.tokens.iter().find(|&&t| t as usize >= vocab) {
        return Err(LearnError::TokenOutOfRange { token, vocab });
    }
    match (0..batch.sequences()).map(|s| batch.first_position(s) + batch.range(s).len()).find(|&n| n > context) {
        Some(found) => Err(LearnError::TooLong { found, context }),
        None => Ok(()),
    }
}

fn first_adapted(adapters: &ModelAdapters<'_>) -> usize {
    adapters.iter().position(Option::is_some).unwrap_or(adapters.len())
}
