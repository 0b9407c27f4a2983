//! One block, forward and backward:
//!
//! `m = x + O(attention(rope(QKV(norm(x)))))`, `y = m + Down(swiglu(GateUp(norm(m))))`.

use super::adapted::{LayerAdapters, Place, Slots};
use super::weights::{Layer, Model};
use super::{Dropout, Pool};
use crate::backend::{Attended, Backend, Linear, Values};
use crate::kernels::attention::Heads;
use crate::kernels::matmul::Out;

/// What a block computed and backward needs; each `(tokens, ...)`.
#[derive(Debug)]
pub(crate) struct Acts<B: Backend> {
    /// The block's input, `(tokens, hidden)`.
    x: B::Buffer,
    /// q and k after rotation, and v.
    qkv: B::Buffer,
    /// The heads' outputs.
    o: B::Buffer,
    /// Log-sum-exp of the attention scores, by head.
    l: B::Buffer,
    /// The residual stream after attention.
    mid: B::Buffer,
    /// Gate and up before the activation.
    gate_up: B::Buffer,
    /// `x A^T` of each linear's adapters.
    low: Lows<B>,
}

/// `x A^T` of the adapters of each linear that has some, by [`Place`].
type Lows<B> = [Option<<B as Backend>::Buffer>; 4];

impl<B: Backend> Acts<B> {
    /// Returns all buffers.
    pub(crate) fn give_back(self, pool: &mut Pool<B>) {
        let x = self.keep_input(pool);
        pool.give(x);
    }

    /// Returns all buffers but the input's.
    pub(crate) fn keep_input(self, pool: &mut Pool<B>) -> B::Buffer {
        let Self { x, qkv, o, l, mid, gate_up, low } = self;
        [qkv, o, l, mid, gate_up].into_iter().chain(low.into_iter().flatten()).for_each(|b| pool.give(b));
        x
    }
}

/// One block of a model, with its adapters.
pub(crate) struct Block<'a, 'h, B: Backend> {
    model: &'a Model<B>,
    layer: &'a Layer<B>,
    adapters: Option<&'a LayerAdapters<'h, B>>,
    heads: Heads,
    /// What a training pass drops, and the block's number.
    dropout: Option<(&'a Dropout, usize)>,
}

impl<'a, 'h, B: Backend> Block<'a, 'h, B> {
    pub(crate) fn new(model: &'a Model<B>, index: usize, adapters: Option<&'a LayerAdapters<'h, B>>) -> Self {
        let heads = model.config.attention_heads(index);
        Self { model, layer: &model.layers[index], adapters, heads, dropout: None }
    }

    /// The same block, with dropout on what it adds to the residual stream.
    pub(crate) fn dropping(mut self, dropout: Option<&'a Dropout>, index: usize) -> Self {
        self.dropout = dropout.map(|d| (d, index));
        self
    }

    /// The block's output, `(tokens, hidden)`, and what it computed on the way. `attend` gets q, k, v of the new rows and
    /// sets the heads' outputs and the log-sum-exp of their scores.
    pub(crate) fn forward(
        &self,
        x: B::Buffer,
        layout: &B::Layout<'_>,
        attend: impl FnOnce(&B::Buffer, &mut B::Buffer, &mut B::Buffer),
        pool: &mut Pool<B>,
    ) -> (B::Buffer, Acts<B>) {
        let (mut acts, h) = self.forward_to_down(x, layout, attend, pool);
        let mut y = pool.take(acts.mid.len());
        self.model.on.copy(&acts.mid, &mut y);
        acts.low[Place::Down as usize] = self.linear(Place::Down, &h, Out::Add, &mut y, pool);
        pool.give(h);
        (y, acts)
    }

    /// What [`Block::forward`] computed on the way, without the output, from the block's input.
    pub(crate) fn recompute(
        &self,
        x: B::Buffer,
        layout: &B::Layout<'_>,
        attend: impl FnOnce(&B::Buffer, &mut B::Buffer, &mut B::Buffer),
        pool: &mut Pool<B>,
    ) -> Acts<B> {
        let (mut acts, h) = self.forward_to_down(x, layout, attend, pool);
        let ffn = self.model.config.ffn;
        acts.low[Place::Down as usize] = self.adapters.and_then(|a| a.of(Place::Down)).map(|adapters| {
            let mut low = pool.take(h.len() / ffn * B::low_dim(adapters));
            self.model.on.linear_low(ffn, adapters, &h, &mut low);
            low
        });
        pool.give(h);
        acts
    }

    fn forward_to_down(
        &self,
        x: B::Buffer,
        layout: &B::Layout<'_>,
        attend: impl FnOnce(&B::Buffer, &mut B::Buffer, &mut B::Buffer),
        pool: &mut Pool<B>,
    ) -> (Acts<B>, B::Buffer) {
        let (on, c, rows) = (&self.model.on, &self.model.config, x.len() / self.model.config.hidden);
        let mut normed = pool.take(x.len());
        on.norm(&x, &self.layer.attention_norm, c.norm_eps, &mut normed);
        let mut qkv = pool.take(rows * self.heads.qkv_dim());
        let qkv_low = self.linear(Place::Qkv, &normed, Out::Set, &mut qkv, pool);
        on.rope(&self.model.rope, &mut qkv, self.heads, layout);
        let (mut o, mut l) = (pool.take(rows * self.heads.q_dim()), pool.take(rows * c.heads));
        attend(&qkv, &mut o, &mut l);
        let mut mid = pool.take(x.len());
        on.copy(&x, &mut mid);
        let o_low = self.linear(Place::O, &o, Out::Add, &mut mid, pool);
        on.norm(&mid, &self.layer.ffn_norm, c.norm_eps, &mut normed);
        let mut gate_up = pool.take(rows * 2 * c.ffn);
        let gate_up_low = self.linear(Place::GateUp, &normed, Out::Set, &mut gate_up, pool);
        let mut h = pool.take(rows * c.ffn);
        on.swiglu(&gate_up, c.ffn, &mut h);
        pool.give(normed);
        (Acts { x, qkv, o, l, mid, gate_up, low: [qkv_low, o_low, gate_up_low, None] }, h)
    }

    /// Answers with `x A^T`, where the linear has adapters.
    fn linear(
        &self,
        which: Place,
        x: &B::Buffer,
        out: Out,
        y: &mut B::Buffer,
        pool: &mut Pool<B>,
    ) -> Option<B::Buffer> {
        let on = &self.model.on;
        if let (Out::Add, Some((dropout, index))) = (out, self.dropout_on(which)) {
            let mut branch = pool.take(y.len());
            let low = self.linear(which, x, Out::Set, &mut branch, pool);
            on.dropout(dropout, index, which as usize, &mut branch);
            on.add(&branch, y);
            pool.give(branch);
            return low;
        }
        let (frozen, adapters) = (self.frozen(which), self.adapters.and_then(|a| a.of(which)));
        let mut low = pool.take(adapters.map_or(0, |a| x.len() / frozen.ins * B::low_dim(a)));
        on.linear(&frozen, adapters, x, out, y, &mut low);
        adapters.map(|_| low)
    }

    /// The dropout of a linear that ends on the residual stream.
    fn dropout_on(&self, which: Place) -> Option<(&'a Dropout, usize)> {
        self.dropout.filter(|_| matches!(which, Place::O | Place::Down))
    }

    fn frozen(&self, which: Place) -> Linear<'a, B> {
        let (c, l) = (&self.model.config, self.layer);
        match which {
            Place::Qkv => Linear { w: &l.qkv, bias: l.qkv_bias.as_ref(), ins: c.hidden, outs: self.heads.qkv_dim() },
            Place::O => Linear { w: &l.o, bias: None, ins: self.heads.q_dim(), outs: c.hidden },
            Place::GateUp => Linear { w: &l.gate_up, bias: None, ins: c.hidden, outs: 2 * c.ffn },
            Place::Down => Linear { w: &l.down, bias: None, ins: c.ffn, outs: c.hidden },
        }
    }

    /// From `dx`, the gradient of the block's output, to that of its input, in place; adds the adapters' gradients. Without
    /// `need_input` (nothing below is trained) `dx` is left meaningless.
    pub(crate) fn backward(
        &self,
        mut acts: Acts<B>,
        layout: &B::Layout<'_>,
        dx: &mut B::Buffer,
        need_input: bool,
        slots: &mut Slots<'_>,
        pool: &mut Pool<B>,
    ) {
        self.backward_ffn(&mut acts, dx, slots, pool);
        self.backward_attention(&acts, layout, dx, need_input, slots, pool);
        acts.give_back(pool);
    }

    fn backward_ffn(&self, acts: &mut Acts<B>, dx: &mut B::Buffer, slots: &mut Slots<'_>, pool: &mut Pool<B>) {
        let (on, c) = (&self.model.on, &self.model.config);
        let (mut h, mut dh) = (pool.take(acts.gate_up.len() / 2), pool.take(acts.gate_up.len() / 2));
        on.swiglu(&acts.gate_up, c.ffn, &mut h);
        self.backward_linear(Place::Down, (&h, &acts.low), dx, Some(&mut dh), slots, pool);
        on.swiglu_backward(&mut acts.gate_up, c.ffn, &dh);
        pool.give(h);
        pool.give(dh);
        let (mut normed, mut d_normed) = (pool.take(dx.len()), pool.take(dx.len()));
        on.norm(&acts.mid, &self.layer.ffn_norm, c.norm_eps, &mut normed);
        self.backward_linear(Place::GateUp, (&normed, &acts.low), &acts.gate_up, Some(&mut d_normed), slots, pool);
        on.norm_backward(&acts.mid, &self.layer.ffn_norm, c.norm_eps, &d_normed, dx);
        pool.give(normed);
        pool.give(d_normed);
    }

    fn backward_attention(
        &self,
        acts: &Acts<B>,
        layout: &B::Layout<'_>,
        dx: &mut B::Buffer,
        need_input: bool,
        slots: &mut Slots<'_>,
        pool: &mut Pool<B>,
    ) {
        let (on, c) = (&self.model.on, &self.model.config);
        let mut d_o = pool.take(acts.o.len());
        self.backward_linear(Place::O, (&acts.o, &acts.low), dx, Some(&mut d_o), slots, pool);
        let mut dqkv = pool.take(acts.qkv.len());
        let kept = Attended { qkv: &acts.qkv, o: &acts.o, l: &acts.l };
        on.attention_backward(self.heads, &kept, layout, &d_o, &mut dqkv, pool);
        pool.give(d_o);
        on.rope_backward(&self.model.rope, &mut dqkv, self.heads, layout);
        let (mut normed, mut d_normed) = (pool.take(dx.len()), pool.take(dx.len()));
        on.norm(&acts.x, &self.layer.attention_norm, c.norm_eps, &mut normed);
        let d_input = need_input.then_some(&mut d_normed);
        self.backward_linear(Place::Qkv, (&normed, &acts.low), &dqkv, d_input, slots, pool);
        if need_input {
            on.norm_backward(&acts.x, &self.layer.attention_norm, c.norm_eps, &d_normed, dx);
        }
        [normed, d_normed, dqkv].into_iter().for_each(|b| pool.give(b));
    }

    fn backward_linear(
        &self,
        which: Place,
        (x, low): (&B::Buffer, &Lows<B>),
        dy: &B::Buffer,
        dx: Option<&mut B::Buffer>,
        slots: &mut Slots<'_>,
        pool: &mut Pool<B>,
    ) {
        let (on, frozen) = (&self.model.on, self.frozen(which));
        let dropped = self.dropout_on(which).map(|(dropout, index)| {
            let mut dropped = pool.take(dy.len());
            on.copy(dy, &mut dropped);
            on.dropout(dropout, index, which as usize, &mut dropped);
            dropped
        });
        let dy = dropped.as_ref().unwrap_or(dy);
        let low = low[which as usize].as_ref();
        let mut d_low = pool.take(low.map_or(0, Values::len));
        let adapters = self.adapters.and_then(|a| a.of(which).map(|of| (of, a.grads(which, slots))));
        let adapters = adapters.zip(low).map(|((adapters, mut grads), low)| {
            on.adapters_backward(&frozen, adapters, (x, low), dy, &mut d_low, &mut grads);
            adapters
        });
        if let Some(dx) = dx {
            on.linear_backward(&frozen, adapters, &d_low, dy, dx);
        }
        dropped.into_iter().chain([d_low]).for_each(|b| pool.give(b));
    }
}
