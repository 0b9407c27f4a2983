//! The ops on this machine's threads: each hands its slices to the kernel of that name.

use super::{Attended, Backend, Lay, Linear, Values};
use crate::LearnError;
use crate::kernels::attention::{self, Cached, Heads, Kept, KeysValues};
use crate::kernels::linear::{self, Adapters, Frozen, PartGrads};
use crate::kernels::matmul::{Mat, Out};
use crate::kernels::rope::RopeTable;
use crate::kernels::stored::Stored;
use crate::kernels::{norm, swiglu};
use crate::model::{Dropout, Pool};
use std::ops::Range;

/// This machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu;

impl Values for Vec<f32> {
    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn set_len(&mut self, len: usize) {
        self.resize(len, 0.0);
    }
}

/// The keys and values of one sequence, by block.
#[derive(Debug, Clone)]
pub(crate) struct CpuCache {
    layers: Vec<KeysValues>,
}

impl CpuCache {
    /// The memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(KeysValues::bytes).sum()
    }

    /// A copy of the first `tokens` tokens.
    pub(crate) fn prefix(&self, tokens: usize) -> Self {
        Self { layers: self.layers.iter().map(|layer| layer.prefix(tokens)).collect() }
    }
}

/// One policy's adapters of a linear, and the rows of a pass that are this policy's.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) adapters: Adapters<'a, f32>,
}

/// The adapters of a training pass, which has one policy.
fn of_all_rows<'a, 'b>(adapters: &'b [Placed<'a>]) -> &'b Adapters<'a, f32> {
    assert_eq!(adapters.len(), 1, "a pass with gradients has one adapter");
    &adapters[0].adapters
}

fn frozen<'a>(f: &Linear<'a, Cpu>) -> Frozen<'a, f32, Stored> {
    Frozen { w: f.w, bias: f.bias.map(Vec::as_slice), ins: f.ins, outs: f.outs }
}

impl Backend for Cpu {
    type Buffer = Vec<f32>;
    type Matrix = Stored;
    type Rope = RopeTable<f32>;
    type Layout<'a> = Lay<'a>;
    type Adapters<'a> = Vec<Placed<'a>>;
    type Cache = CpuCache;

    fn check(&self) -> Result<(), LearnError> {
        Ok(())
    }

    fn buffer(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    fn layout<'a>(&self, lay: Lay<'a>) -> Lay<'a> {
        lay
    }

    fn adapters<'a>(&self, host: Adapters<'a, f32>) -> Vec<Placed<'a>> {
        vec![Placed { rows: 0..usize::MAX, adapters: host }]
    }

    fn low_dim(adapters: &Vec<Placed<'_>>) -> usize {
        adapters.iter().map(|placed| placed.adapters.low_dim()).max().unwrap_or(0)
    }

    fn upload(&self, from: &[f32], to: &mut Vec<f32>) {
        to.copy_from_slice(from);
    }

    fn on_host<'a>(&self, buffer: &'a mut Vec<f32>, _scratch: &'a mut Vec<f32>) -> &'a mut [f32] {
        buffer
    }

    fn copy(&self, from: &Vec<f32>, to: &mut Vec<f32>) {
        to.copy_from_slice(from);
    }

    fn zero(&self, x: &mut Vec<f32>) {
        x.fill(0.0);
    }

    fn add(&self, x: &Vec<f32>, y: &mut Vec<f32>) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }

    fn gather(&self, x: &Vec<f32>, width: usize, rows: &[usize], y: &mut Vec<f32>) {
        y.chunks_exact_mut(width).zip(rows).for_each(|(y, &row)| y.copy_from_slice(&x[row * width..][..width]));
    }

    fn embed(&self, matrix: &Stored, width: usize, tokens: &[u32], x: &mut Vec<f32>) {
        for (row, &token) in x.chunks_exact_mut(width).zip(tokens) {
            row.copy_from_slice(&matrix.slice(token as usize * width, width));
        }
    }

    fn norm(&self, x: &Vec<f32>, w: &Vec<f32>, eps: f32, y: &mut Vec<f32>) {
        norm::forward(x, w, eps, y);
    }

    fn norm_backward(&self, x: &Vec<f32>, w: &Vec<f32>, eps: f32, dy: &Vec<f32>, dx: &mut Vec<f32>) {
        norm::backward(x, w, eps, dy, dx);
    }

    fn rope(&self, table: &RopeTable<f32>, qkv: &mut Vec<f32>, heads: Heads, layout: &Lay<'_>) {
        table.forward(qkv, heads.qkv_dim(), heads.heads + heads.kv_heads, layout.positions);
    }

    fn rope_backward(&self, table: &RopeTable<f32>, dqkv: &mut Vec<f32>, heads: Heads, layout: &Lay<'_>) {
        table.backward(dqkv, heads.qkv_dim(), heads.heads + heads.kv_heads, layout.positions);
    }

    fn swiglu(&self, gate_up: &Vec<f32>, ffn: usize, h: &mut Vec<f32>) {
        swiglu::forward(gate_up, ffn, h);
    }

    fn swiglu_backward(&self, gate_up: &mut Vec<f32>, ffn: usize, dh: &Vec<f32>) {
        swiglu::backward(gate_up, ffn, dh);
    }

    fn dropout(&self, dropout: &Dropout, layer: usize, place: usize, x: &mut Vec<f32>) {
        dropout.apply(layer, place, x);
    }

    fn linear(
        &self,
        f: &Linear<'_, Self>,
        adapters: Option<&Vec<Placed<'_>>>,
        x: &Vec<f32>,
        out: Out,
        y: &mut Vec<f32>,
        low: &mut Vec<f32>,
    ) {
        let (f, all) = (frozen(f), x.len() / f.ins);
        linear::forward_frozen(&f, x, out, y);
        for Placed { rows, adapters } in adapters.into_iter().flatten() {
            let (from, to) = (rows.start.min(all), rows.end.min(all));
            let low = &mut low[from * adapters.low_dim()..to * adapters.low_dim()];
            let (x, y) = (&x[from * f.ins..to * f.ins], &mut y[from * f.outs..to * f.outs]);
            linear::forward_adapters(&f, adapters, x, y, low);
        }
    }

    fn linear_low(&self, ins: usize, adapters: &Vec<Placed<'_>>, x: &Vec<f32>, low: &mut Vec<f32>) {
        linear::forward_low(ins, of_all_rows(adapters), Mat::new(x, x.len() / ins, ins), low);
    }

    fn adapters_backward(
        &self,
        f: &Linear<'_, Self>,
        adapters: &Vec<Placed<'_>>,
        (x, low): (&Vec<f32>, &Vec<f32>),
        dy: &Vec<f32>,
        d_low: &mut Vec<f32>,
        grads: &mut [PartGrads<'_, f32>],
    ) {
        linear::backward_adapters(&frozen(f), of_all_rows(adapters), (x, low), dy, d_low, grads);
    }

    fn linear_backward(
        &self,
        f: &Linear<'_, Self>,
        adapters: Option<&Vec<Placed<'_>>>,
        d_low: &Vec<f32>,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
    ) {
        linear::backward_input(&frozen(f), adapters.map(|a| of_all_rows(a)), d_low, dy, dx);
    }

    fn attention(&self, heads: Heads, qkv: &Vec<f32>, layout: &Lay<'_>, o: &mut Vec<f32>, l: &mut Vec<f32>) {
        attention::forward(heads, qkv, heads.qkv_dim(), &attention::packed(qkv, layout.packing, heads), o, l);
    }

    fn attention_backward(
        &self,
        heads: Heads,
        kept: &Attended<'_, Self>,
        layout: &Lay<'_>,
        d_o: &Vec<f32>,
        dqkv: &mut Vec<f32>,
        pool: &mut Pool<Self>,
    ) {
        let mut per_head = pool.take(2 * kept.o.len());
        let kept = Kept { qkv: kept.qkv, o: kept.o, l: kept.l, packing: layout.packing };
        attention::backward(heads, &kept, d_o, dqkv, &mut per_head);
        pool.give(per_head);
    }

    fn cache(&self, layers: usize, heads: Heads, tokens: usize) -> CpuCache {
        CpuCache { layers: vec![KeysValues::new(heads.kv_heads, heads.dim, tokens); layers] }
    }

    fn attention_cached(
        &self,
        heads: Heads,
        layer: usize,
        qkv: &Vec<f32>,
        layout: &Lay<'_>,
        caches: &mut [&mut CpuCache],
        (o, l): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let stride = heads.qkv_dim();
        let rows = |s: usize| layout.packing.starts[s]..layout.packing.starts[s + 1];
        for (s, cache) in caches.iter_mut().enumerate() {
            for row in rows(s) {
                let (k, v) = qkv[row * stride..][heads.q_dim()..stride].split_at(heads.kv_dim());
                cache.layers[layer].push(k, v);
            }
        }
        let sequences: Vec<_> =
            caches.iter().enumerate().map(|(s, c)| Cached { queries: rows(s), cache: &c.layers[layer] }).collect();
        attention::cached(heads, (qkv, stride), &sequences, o, l);
    }
}
