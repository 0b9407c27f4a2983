//! One block, forward and backward:
//!
//! `m = x + O(attention(rope(QKV(norm(x)))))`, `y = m + Down(swiglu(GateUp(norm(m))))`.

use super::adapted::{LayerAdapters, Linear, Slots};
use super::weights::Layer;
use super::{Base, Dropout, Workspace};
use crate::kernels::attention::{self, Heads, Packing};
use crate::kernels::linear::{self, Frozen};
use crate::kernels::matmul::{Mat, Out};
use crate::kernels::stored::Stored;
use crate::kernels::{norm, swiglu};

/// What a block computed and backward needs; each `(tokens, ...)`.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    /// The block's input, `(tokens, hidden)`.
    pub(crate) x: Vec<f32>,
    /// q and k after rotation, and v.
    qkv: Vec<f32>,
    /// The heads' outputs.
    o: Vec<f32>,
    /// Log-sum-exp of the attention scores, by head.
    l: Vec<f32>,
    /// The residual stream after attention.
    mid: Vec<f32>,
    /// Gate and up before the activation.
    gate_up: Vec<f32>,
    /// `x A^T` of each linear's adapters, by [`Linear`].
    low: [Vec<f32>; 4],
}

impl Acts {
    /// Returns all buffers.
    pub(crate) fn give_back(self, ws: &mut Workspace) {
        let Self { x, qkv, o, l, mid, gate_up, low } = self;
        [x, qkv, o, l, mid, gate_up].into_iter().chain(low).for_each(|b| ws.give(b));
    }

    /// Returns all buffers but the input's.
    pub(crate) fn keep_input(mut self, ws: &mut Workspace) -> Vec<f32> {
        let x = std::mem::take(&mut self.x);
        self.give_back(ws);
        x
    }
}

/// One block of a model, with its adapters.
pub(crate) struct Block<'a> {
    base: &'a Base,
    layer: &'a Layer,
    adapters: Option<&'a LayerAdapters<'a>>,
    heads: Heads,
    /// What a training pass drops, and the block's number.
    dropout: Option<(&'a Dropout, usize)>,
}

impl<'a> Block<'a> {
    pub(crate) fn new(base: &'a Base, index: usize, adapters: Option<&'a LayerAdapters<'a>>) -> Self {
        let heads = base.config.attention_heads(index);
        Self { base, layer: &base.layers[index], adapters, heads, dropout: None }
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
        x: Vec<f32>,
        positions: &[usize],
        attend: impl FnOnce(&[f32], &mut [f32], &mut [f32]),
        ws: &mut Workspace,
    ) -> (Vec<f32>, Acts) {
        let (acts, h) = self.forward_to_down(x, positions, attend, ws);
        let mut y = ws.take(acts.mid.len());
        y.copy_from_slice(&acts.mid);
        let mut acts = acts;
        self.linear(Linear::Down, &h, Out::Add, &mut y, &mut acts, ws);
        ws.give(h);
        (y, acts)
    }

    /// What [`Block::forward`] computed on the way, without the output, from the block's input.
    pub(crate) fn recompute(
        &self,
        x: Vec<f32>,
        positions: &[usize],
        attend: impl FnOnce(&[f32], &mut [f32], &mut [f32]),
        ws: &mut Workspace,
    ) -> Acts {
        let (mut acts, h) = self.forward_to_down(x, positions, attend, ws);
        if let Some(adapters) = self.adapters.and_then(|a| a.of(Linear::Down)) {
            let rows = positions.len();
            let mut low = ws.take(rows * adapters.low_dim());
            let ffn = self.base.config.ffn;
            linear::forward_low(ffn, adapters, Mat::new(&h, rows, ffn), &mut low);
            acts.low[Linear::Down as usize] = low;
        }
        ws.give(h);
        acts
    }

    fn forward_to_down(
        &self,
        x: Vec<f32>,
        positions: &[usize],
        attend: impl FnOnce(&[f32], &mut [f32], &mut [f32]),
        ws: &mut Workspace,
    ) -> (Acts, Vec<f32>) {
        let (c, rows) = (&self.base.config, positions.len());
        let mut acts = Acts::default();
        let mut normed = ws.take(x.len());
        norm::forward(&x, &self.layer.attention_norm, c.norm_eps, &mut normed);
        let mut qkv = ws.take(rows * self.heads.qkv_dim());
        self.linear(Linear::Qkv, &normed, Out::Set, &mut qkv, &mut acts, ws);
        self.base.rope.forward(&mut qkv, self.heads.qkv_dim(), c.heads + c.kv_heads, positions);
        let (mut o, mut l) = (ws.take(rows * self.heads.q_dim()), ws.take(rows * c.heads));
        attend(&qkv, &mut o, &mut l);
        let mut mid = ws.take(x.len());
        mid.copy_from_slice(&x);
        self.linear(Linear::O, &o, Out::Add, &mut mid, &mut acts, ws);
        norm::forward(&mid, &self.layer.ffn_norm, c.norm_eps, &mut normed);
        let mut gate_up = ws.take(rows * 2 * c.ffn);
        self.linear(Linear::GateUp, &normed, Out::Set, &mut gate_up, &mut acts, ws);
        let mut h = ws.take(rows * c.ffn);
        swiglu::forward(&gate_up, c.ffn, &mut h);
        ws.give(normed);
        (Acts { x, qkv, o, l, mid, gate_up, low: acts.low }, h)
    }

    fn linear(&self, which: Linear, x: &[f32], out: Out, y: &mut [f32], acts: &mut Acts, ws: &mut Workspace) {
        if let (Out::Add, Some((dropout, index))) = (out, self.dropout_on(which)) {
            let mut branch = ws.take(y.len());
            self.linear(which, x, Out::Set, &mut branch, acts, ws);
            dropout.apply(index, which as usize, &mut branch);
            y.iter_mut().zip(&branch).for_each(|(y, b)| *y += b);
            return ws.give(branch);
        }
        let (frozen, adapters) = (self.frozen(which), self.adapters.and_then(|a| a.of(which)));
        let rows = x.len() / frozen.ins;
        let mut low = ws.take(adapters.map_or(0, |a| rows * a.low_dim()));
        linear::forward(&frozen, adapters, x, out, y, &mut low);
        acts.low[which as usize] = low;
    }

    /// The dropout of a linear that ends on the residual stream.
    fn dropout_on(&self, which: Linear) -> Option<(&'a Dropout, usize)> {
        self.dropout.filter(|_| matches!(which, Linear::O | Linear::Down))
    }

    fn frozen(&self, which: Linear) -> Frozen<'a, f32, Stored> {
        let (c, l) = (&self.base.config, self.layer);
        match which {
            Linear::Qkv => Frozen { w: &l.qkv, bias: l.qkv_bias.as_deref(), ins: c.hidden, outs: self.heads.qkv_dim() },
            Linear::O => Frozen { w: &l.o, bias: None, ins: self.heads.q_dim(), outs: c.hidden },
            Linear::GateUp => Frozen { w: &l.gate_up, bias: None, ins: c.hidden, outs: 2 * c.ffn },
            Linear::Down => Frozen { w: &l.down, bias: None, ins: c.ffn, outs: c.hidden },
        }
    }

    /// From `dx`, the gradient of the block's output, to that of its input, in place; adds the adapters' gradients. Without
    /// `need_input` (nothing below is trained) `dx` is left meaningless.
    pub(crate) fn backward(
        &self,
        mut acts: Acts,
        (packing, positions): (Packing<'_>, &[usize]),
        dx: &mut [f32],
        need_input: bool,
        slots: &mut Slots<'_>,
        ws: &mut Workspace,
    ) {
        self.backward_ffn(&mut acts, dx, slots, ws);
        self.backward_attention(&acts, (packing, positions), dx, need_input, slots, ws);
        acts.give_back(ws);
    }

    fn backward_ffn(&self, acts: &mut Acts, dx: &mut [f32], slots: &mut Slots<'_>, ws: &mut Workspace) {
        let c = &self.base.config;
        let (mut h, mut dh) = (ws.take(acts.gate_up.len() / 2), ws.take(acts.gate_up.len() / 2));
        swiglu::forward(&acts.gate_up, c.ffn, &mut h);
        self.backward_linear(Linear::Down, (&h, &acts.low), dx, Some(&mut dh), slots, ws);
        swiglu::backward(&mut acts.gate_up, c.ffn, &dh);
        ws.give(h);
        ws.give(dh);
        let (mut normed, mut d_normed) = (ws.take(dx.len()), ws.take(dx.len()));
        norm::forward(&acts.mid, &self.layer.ffn_norm, c.norm_eps, &mut normed);
        self.backward_linear(Linear::GateUp, (&normed, &acts.low), &acts.gate_up, Some(&mut d_normed), slots, ws);
        norm::backward(&acts.mid, &self.layer.ffn_norm, c.norm_eps, &d_normed, dx);
        ws.give(normed);
        ws.give(d_normed);
    }

    fn backward_attention(
        &self,
        acts: &Acts,
        (packing, positions): (Packing<'_>, &[usize]),
        dx: &mut [f32],
        need_input: bool,
        slots: &mut Slots<'_>,
        ws: &mut Workspace,
    ) {
        let c = &self.base.config;
        let mut d_o = ws.take(acts.o.len());
        self.backward_linear(Linear::O, (&acts.o, &acts.low), dx, Some(&mut d_o), slots, ws);
        let (mut dqkv, mut per_head) = (ws.take(acts.qkv.len()), ws.take(2 * acts.o.len()));
        let kept = attention::Kept { qkv: &acts.qkv, o: &acts.o, l: &acts.l, packing };
        attention::backward(self.heads, &kept, &d_o, &mut dqkv, &mut per_head);
        ws.give(per_head);
        ws.give(d_o);
        self.base.rope.backward(&mut dqkv, self.heads.qkv_dim(), c.heads + c.kv_heads, positions);
        let (mut normed, mut d_normed) = (ws.take(dx.len()), ws.take(dx.len()));
        norm::forward(&acts.x, &self.layer.attention_norm, c.norm_eps, &mut normed);
        let d_input = need_input.then_some(d_normed.as_mut_slice());
        self.backward_linear(Linear::Qkv, (&normed, &acts.low), &dqkv, d_input, slots, ws);
        if need_input {
            norm::backward(&acts.x, &self.layer.attention_norm, c.norm_eps, &d_normed, dx);
        }
        [normed, d_normed, dqkv].into_iter().for_each(|b| ws.give(b));
    }

    fn backward_linear(
        &self,
        which: Linear,
        (x, low): (&[f32], &[Vec<f32>; 4]),
        dy: &[f32],
        dx: Option<&mut [f32]>,
        slots: &mut Slots<'_>,
        ws: &mut Workspace,
    ) {
        let frozen = self.frozen(which);
        let low = &low[which as usize];
        let dropped = self.dropout_on(which).map(|(dropout, index)| {
            let mut dropped = ws.take(dy.len());
            dropped.copy_from_slice(dy);
            dropout.apply(index, which as usize, &mut dropped);
            dropped
        });
        let dy = dropped.as_deref().unwrap_or(dy);
        let mut d_low = ws.take(low.len());
        let adapters = self.adapters.and_then(|a| a.of(which).map(|on| (on, a.grads(which, slots))));
        let on = adapters.map(|(on, mut grads)| {
            linear::backward_adapters(&frozen, on, (x, low), dy, &mut d_low, &mut grads);
            on
        });
        if let Some(dx) = dx {
            linear::backward_input(&frozen, on, &d_low, dy, dx);
        }
        ws.give(dropped.unwrap_or_default());
        ws.give(d_low);
    }
}
