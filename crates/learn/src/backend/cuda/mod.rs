//! The ops on an NVIDIA GPU: products by cuBLAS, everything else by the kernels in `kernels.cu`, compiled when a device is opened.
//!
//! Sums run in a fixed order, so that the same batch gives the same bits on the same GPU.

mod attention;
mod device;
mod driver;
mod head;
mod layout;
mod matrix;
#[cfg(test)]
mod tests;

pub(crate) use head::pass as selected;
pub(crate) use layout::DIM_MAX;

use super::{Attended, Backend, Lay, Linear, Values};
use crate::LearnError;
use crate::kernels::attention::Heads;
use crate::kernels::linear::{Adapters, PartGrads};
use crate::kernels::matmul::Out;
use crate::kernels::stored::Stored;
use crate::model::{Dropout, Layer, Model, Pool};
use attention::Cache;
use device::{Buffer, Device, Memory};
use driver::THREADS;
use layout::{Layout, small};
use matrix::{DeviceAdapters, Matrix};
use std::sync::Arc;

/// Every kernel in `kernels.cu`.
const KERNELS: [&str; 21] = [
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "swiglu",
    "swiglu_backward",
    "add_bias",
    "dropout",
    "rows_f32",
    "rows_bf16",
    "rows_q8",
    "scale_rows",
    "add",
    "to_bf16",
    "q8_to_bf16",
    "vocabulary_chunk",
    "slope_end",
    "cache_append",
    "attention",
    "attention_means",
    "attention_dq",
    "attention_dkdv",
];

/// A GPU.
#[derive(Debug, Clone)]
pub(crate) struct Cuda(pub(crate) Arc<Device>);

/// Cosines and sines, `(positions, half)` each.
#[derive(Debug)]
pub(crate) struct Rope {
    half: usize,
    cosines: Buffer,
    sines: Buffer,
}

impl Cuda {
    /// The first GPU of this machine.
    pub(crate) fn open() -> Result<Self, LearnError> {
        let failed = |reason| LearnError::Device { device: "cuda".into(), reason };
        Ok(Self(Device::new(Box::new(driver::Gpu::open().map_err(failed)?))))
    }

    /// Whether there is a GPU, and all that is needed to use it.
    pub(crate) fn is_here() -> bool {
        driver::Gpu::find().is_ok()
    }

    /// What the GPU calls itself.
    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    /// A copy of a model's weights on the GPU.
    pub(crate) fn model(&self, host: &Model<super::Cpu>) -> Result<Model<Self>, LearnError> {
        let Model { on: _, config, embedding, layers, final_norm, head, rope: _ } = host;
        let device = &self.0;
        let matrix = |stored: &'_ Stored, cols| Matrix::new(device, stored, cols);
        let layer = |l: &Layer<super::Cpu>| Layer {
            attention_norm: device.buffer_of(&l.attention_norm),
            qkv: matrix(&l.qkv, config.hidden),
            qkv_bias: l.qkv_bias.as_ref().map(|b| device.buffer_of(b)),
            o: matrix(&l.o, config.q_dim()),
            ffn_norm: device.buffer_of(&l.ffn_norm),
            gate_up: matrix(&l.gate_up, config.hidden),
            down: matrix(&l.down, config.ffn),
        };
        let model = Model {
            on: self.clone(),
            embedding: matrix(embedding, config.hidden),
            layers: layers.iter().map(layer).collect(),
            final_norm: device.buffer_of(final_norm),
            head: head.as_ref().map(|h| matrix(h, config.hidden)),
            rope: self.rope_table(&config.rope_frequencies(), config.context),
            config: config.clone(),
        };
        self.check()?;
        Ok(model)
    }

    fn rope_table(&self, frequencies: &[f64], positions: usize) -> Rope {
        let angles = || (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
        let table = |of: fn(f64) -> f64| self.0.buffer_of(&angles().map(|a| of(a) as f32).collect::<Vec<f32>>());
        Rope { half: frequencies.len(), cosines: table(f64::cos), sines: table(f64::sin) }
    }

    fn rotate(&self, table: &Rope, qkv: &mut Buffer, heads: Heads, layout: &Layout, sign: f32) {
        let rows = qkv.len() / heads.qkv_dim();
        let args = [
            qkv.into(),
            heads.qkv_dim().into(),
            (heads.heads + heads.kv_heads).into(),
            table.half.into(),
            (&table.cosines).into(),
            (&table.sines).into(),
            (&layout.positions).into(),
            sign.into(),
        ];
        self.0.launch("rope", (rows, 1), 0, &args);
    }

    fn indices(&self, rows: &[usize]) -> Memory {
        self.0.memory_of(&rows.iter().map(|&row| small(row)).collect::<Vec<i32>>())
    }
}

impl Backend for Cuda {
    type Buffer = Buffer;
    type Matrix = Matrix;
    type Rope = Rope;
    type Layout<'a> = Layout;
    type Adapters<'a> = DeviceAdapters;
    type Cache = Cache;

    fn check(&self) -> Result<(), LearnError> {
        self.0.check()
    }

    fn buffer(&self, len: usize) -> Buffer {
        self.0.buffer(len)
    }

    fn layout<'a>(&self, lay: Lay<'a>) -> Layout {
        Layout::new(&self.0, lay)
    }

    fn adapters<'a>(&self, host: Adapters<'a, f32>) -> DeviceAdapters {
        DeviceAdapters::new(&self.0, &host)
    }

    fn low_dim(adapters: &DeviceAdapters) -> usize {
        adapters.low_dim()
    }

    fn upload(&self, from: &[f32], to: &mut Buffer) {
        to.write(from);
    }

    fn on_host<'a>(&self, buffer: &'a mut Buffer, scratch: &'a mut Vec<f32>) -> &'a mut [f32] {
        scratch.clear();
        scratch.resize(buffer.len(), f32::NAN);
        buffer.read(scratch);
        scratch
    }

    fn copy(&self, from: &Buffer, to: &mut Buffer) {
        to.memory.copy_from(&from.memory, 0, 0, from.bytes());
    }

    fn zero(&self, x: &mut Buffer) {
        x.memory.zero(x.bytes());
    }

    fn add(&self, x: &Buffer, y: &mut Buffer) {
        self.0.launch(
            "add",
            (y.len().div_ceil(matrix::LISTED), 1),
            0,
            &[x.into(), (&*y).into(), (y.len() as u64).into()],
        );
    }

    fn gather(&self, x: &Buffer, width: usize, rows: &[usize], y: &mut Buffer) {
        let indices = self.indices(rows);
        let args = [x.into(), (&indices).into(), width.into(), y.into()];
        self.0.launch("rows_f32", (rows.len(), 1), 0, &args);
    }

    fn embed(&self, matrix: &Matrix, _width: usize, tokens: &[u32], x: &mut Buffer) {
        matrix.gather(&self.0, &tokens.iter().map(|&t| t.cast_signed()).collect::<Vec<i32>>(), x);
    }

    fn norm(&self, x: &Buffer, w: &Buffer, eps: f32, y: &mut Buffer) {
        let args = [x.into(), w.into(), eps.into(), y.into(), w.len().into()];
        self.0.launch("rms_norm", (x.len() / w.len(), 1), THREADS as usize, &args);
    }

    fn norm_backward(&self, x: &Buffer, w: &Buffer, eps: f32, dy: &Buffer, dx: &mut Buffer) {
        let args = [x.into(), w.into(), eps.into(), dy.into(), dx.into(), w.len().into()];
        self.0.launch("rms_norm_backward", (x.len() / w.len(), 1), THREADS as usize, &args);
    }

    fn rope(&self, table: &Rope, qkv: &mut Buffer, heads: Heads, layout: &Layout) {
        self.rotate(table, qkv, heads, layout, 1.0);
    }

    fn rope_backward(&self, table: &Rope, dqkv: &mut Buffer, heads: Heads, layout: &Layout) {
        self.rotate(table, dqkv, heads, layout, -1.0);
    }

    fn swiglu(&self, gate_up: &Buffer, ffn: usize, h: &mut Buffer) {
        self.0.launch("swiglu", (gate_up.len() / (2 * ffn), 1), 0, &[gate_up.into(), ffn.into(), h.into()]);
    }

    fn swiglu_backward(&self, gate_up: &mut Buffer, ffn: usize, dh: &Buffer) {
        let rows = gate_up.len() / (2 * ffn);
        self.0.launch("swiglu_backward", (rows, 1), 0, &[gate_up.into(), ffn.into(), dh.into()]);
    }

    fn dropout(&self, dropout: &Dropout, layer: usize, place: usize, x: &mut Buffer) {
        let mask = dropout.mask(layer, place);
        let (rows, width) = (mask.rows.len(), x.len() / mask.rows.len().max(1));
        let row_hashes = self.0.memory_of(mask.rows);
        let args =
            [x.into(), (&row_hashes).into(), width.into(), mask.place.into(), mask.kept.into(), mask.scale.into()];
        self.0.launch("dropout", (rows, 1), 0, &args);
    }

    fn linear(
        &self,
        f: &Linear<'_, Self>,
        adapters: Option<&DeviceAdapters>,
        x: &Buffer,
        out: Out,
        y: &mut Buffer,
        low: &mut Buffer,
    ) {
        matrix::forward(&self.0, f, adapters, x, (out, y), low);
    }

    fn linear_low(&self, ins: usize, adapters: &DeviceAdapters, x: &Buffer, low: &mut Buffer) {
        adapters.low(&self.0, x, ins, low);
    }

    fn adapters_backward(
        &self,
        f: &Linear<'_, Self>,
        adapters: &DeviceAdapters,
        kept: (&Buffer, &Buffer),
        dy: &Buffer,
        d_low: &mut Buffer,
        grads: &mut [PartGrads<'_, f32>],
    ) {
        matrix::backward_adapters(&self.0, f, adapters, kept, dy, d_low, grads);
    }

    fn linear_backward(
        &self,
        f: &Linear<'_, Self>,
        adapters: Option<&DeviceAdapters>,
        d_low: &Buffer,
        dy: &Buffer,
        dx: &mut Buffer,
    ) {
        matrix::backward_input(&self.0, f, adapters, d_low, dy, dx);
    }

    fn attention(&self, heads: Heads, qkv: &Buffer, layout: &Layout, o: &mut Buffer, l: &mut Buffer) {
        attention::forward(&self.0, heads, qkv, layout, o, l);
    }

    fn attention_backward(
        &self,
        heads: Heads,
        kept: &Attended<'_, Self>,
        layout: &Layout,
        d_o: &Buffer,
        dqkv: &mut Buffer,
        _pool: &mut Pool<Self>,
    ) {
        attention::backward(&self.0, heads, kept, layout, d_o, dqkv);
    }

    fn cache(&self, layers: usize, heads: Heads, tokens: usize) -> Cache {
        Cache::new(&self.0, layers, heads.kv_dim(), tokens)
    }

    fn attention_cached(
        &self,
        heads: Heads,
        layer: usize,
        qkv: &Buffer,
        layout: &Layout,
        caches: &mut [&mut Cache],
        (o, l): (&mut Buffer, &mut Buffer),
    ) {
        attention::cached(&self.0, heads, layer, qkv, layout, caches, (o, l));
    }
}
