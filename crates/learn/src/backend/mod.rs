//! The ops of a block behind one trait, so that the model is written once for every device: [`Cpu`] runs the kernels on this machine's
//! threads; with the feature `cuda` a GPU does. Uses `kernels`; knows nothing of models.
//!
//! An op doesn't fail: a device keeps its first error, does nothing from then on, and says it at the next [`Backend::check`].

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

pub(crate) use cpu::{Cpu, Placed};

use crate::LearnError;
use crate::kernels::attention::{Heads, Packing};
use crate::kernels::linear::{Adapters, PartGrads};
use crate::kernels::matmul::Out;
use crate::model::Dropout;
use std::fmt::Debug;

/// How a packed batch lies, for a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lay<'a> {
    /// Where the sequences lie, and what they continue.
    pub(crate) packing: Packing<'a>,
    /// The position of each row in its text, `(tokens,)`.
    pub(crate) positions: &'a [usize],
}

/// A frozen linear, `(outs, ins)`, on a device.
#[derive(Debug)]
pub(crate) struct Linear<'a, B: Backend> {
    pub(crate) w: &'a B::Matrix,
    /// `(outs,)`.
    pub(crate) bias: Option<&'a B::Buffer>,
    pub(crate) ins: usize,
    pub(crate) outs: usize,
}

/// What the backward pass of attention needs from forward.
#[derive(Debug)]
pub(crate) struct Attended<'a, B: Backend> {
    /// q, k, v after rotation, `(tokens, qkv_dim)`.
    pub(crate) qkv: &'a B::Buffer,
    /// The heads' outputs, `(tokens, q_dim)`.
    pub(crate) o: &'a B::Buffer,
    /// Log-sum-exp of the scores, `(tokens, heads)`.
    pub(crate) l: &'a B::Buffer,
}

/// Values in a device's memory.
pub(crate) trait Values: Debug {
    fn len(&self) -> usize;
    /// How long it can become without new memory.
    fn capacity(&self) -> usize;
    /// Another length within the capacity; the values are then whatever they are.
    fn set_len(&mut self, len: usize);
}

/// A device's memory and ops. Shapes and equations are those of the kernels of the same names.
pub(crate) trait Backend: Clone + Debug + Sized {
    /// Float values.
    type Buffer: Values;
    /// A frozen matrix in the format in which it is kept.
    type Matrix: Debug;
    /// Cosines and sines by position.
    type Rope: Debug;
    /// How a batch lies.
    type Layout<'a>;
    /// The adapters of one linear.
    type Adapters<'a>: Debug;
    /// The keys and values of one sequence, by block.
    type Cache: Debug;

    /// The first error since the last call, if there was one.
    fn check(&self) -> Result<(), LearnError>;

    fn buffer(&self, len: usize) -> Self::Buffer;
    fn layout<'a>(&self, lay: Lay<'a>) -> Self::Layout<'a>;
    fn adapters<'a>(&self, host: Adapters<'a, f32>) -> Self::Adapters<'a>;
    /// Columns of `x A^T`.
    fn low_dim(adapters: &Self::Adapters<'_>) -> usize;

    fn upload(&self, from: &[f32], to: &mut Self::Buffer);
    /// The values where the CPU reads them: the buffer itself, or a copy in `scratch`.
    fn on_host<'a>(&self, buffer: &'a mut Self::Buffer, scratch: &'a mut Vec<f32>) -> &'a mut [f32];
    fn copy(&self, from: &Self::Buffer, to: &mut Self::Buffer);
    fn zero(&self, x: &mut Self::Buffer);
    /// `y += x`.
    fn add(&self, x: &Self::Buffer, y: &mut Self::Buffer);
    /// `y[i] = x[rows[i]]`, rows of `width` values.
    fn gather(&self, x: &Self::Buffer, width: usize, rows: &[usize], y: &mut Self::Buffer);
    /// `x[i] = matrix[tokens[i]]`, rows of `width` values.
    fn embed(&self, matrix: &Self::Matrix, width: usize, tokens: &[u32], x: &mut Self::Buffer);

    fn norm(&self, x: &Self::Buffer, w: &Self::Buffer, eps: f32, y: &mut Self::Buffer);
    fn norm_backward(&self, x: &Self::Buffer, w: &Self::Buffer, eps: f32, dy: &Self::Buffer, dx: &mut Self::Buffer);
    fn rope(&self, table: &Self::Rope, qkv: &mut Self::Buffer, heads: Heads, layout: &Self::Layout<'_>);
    fn rope_backward(&self, table: &Self::Rope, dqkv: &mut Self::Buffer, heads: Heads, layout: &Self::Layout<'_>);
    fn swiglu(&self, gate_up: &Self::Buffer, ffn: usize, h: &mut Self::Buffer);
    fn swiglu_backward(&self, gate_up: &mut Self::Buffer, ffn: usize, dh: &Self::Buffer);
    fn dropout(&self, dropout: &Dropout, layer: usize, place: usize, x: &mut Self::Buffer);

    fn linear(
        &self,
        f: &Linear<'_, Self>,
        adapters: Option<&Self::Adapters<'_>>,
        x: &Self::Buffer,
        out: Out,
        y: &mut Self::Buffer,
        low: &mut Self::Buffer,
    );
    /// Only `low = x A^T`.
    fn linear_low(&self, ins: usize, adapters: &Self::Adapters<'_>, x: &Self::Buffer, low: &mut Self::Buffer);
    /// Adds the adapters' gradients to `grads`, and sets `d_low` for [`Backend::linear_backward`].
    fn adapters_backward(
        &self,
        f: &Linear<'_, Self>,
        adapters: &Self::Adapters<'_>,
        kept: (&Self::Buffer, &Self::Buffer),
        dy: &Self::Buffer,
        d_low: &mut Self::Buffer,
        grads: &mut [PartGrads<'_, f32>],
    );
    fn linear_backward(
        &self,
        f: &Linear<'_, Self>,
        adapters: Option<&Self::Adapters<'_>>,
        d_low: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    );

    /// Causal attention of each sequence to itself, and to what it continues.
    fn attention(
        &self,
        heads: Heads,
        qkv: &Self::Buffer,
        layout: &Self::Layout<'_>,
        o: &mut Self::Buffer,
        l: &mut Self::Buffer,
    );
    fn attention_backward(
        &self,
        heads: Heads,
        kept: &Attended<'_, Self>,
        layout: &Self::Layout<'_>,
        d_o: &Self::Buffer,
        dqkv: &mut Self::Buffer,
        pool: &mut super::model::Pool<Self>,
    );

    /// An empty cache for `layers` blocks with room for `tokens` tokens.
    fn cache(&self, layers: usize, heads: Heads, tokens: usize) -> Self::Cache;
    /// Appends the keys and values of the batch's sequences to their caches, and attends to all in them.
    fn attention_cached(
        &self,
        heads: Heads,
        layer: usize,
        qkv: &Self::Buffer,
        layout: &Self::Layout<'_>,
        caches: &mut [&mut Self::Cache],
        attended: (&mut Self::Buffer, &mut Self::Buffer),
    );
}
