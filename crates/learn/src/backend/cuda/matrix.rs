//! Frozen matrices on the device, and linears: products by cuBLAS. Beside bf16 and Q8_0 weights the activations are rounded to bf16
//! and summed in f32, as tensor cores do it; beside f32 weights nothing is rounded.

use super::Cuda;
use super::device::{Buffer, Device, Memory};
use super::driver::{Operand, Product};
use crate::backend::{Linear, Values};
use crate::kernels::linear::{Adapters, PartGrads};
use crate::kernels::matmul::Out;
use crate::kernels::stored::Stored;
use std::sync::Arc;

/// Values of Q8_0 that are unpacked at once: 128 MB of bf16.
const UNPACKED: usize = 1 << 26;
/// Values that a block of the kernels for long lists takes.
pub(crate) const LISTED: usize = 1024;

/// A frozen matrix, rows of `cols` values.
#[derive(Debug)]
pub(crate) struct Matrix {
    kept: Kept,
    cols: usize,
}

#[derive(Debug)]
enum Kept {
    F32(Memory),
    Bf16(Memory),
    /// Values, and the scale of each 32 of them in f32.
    Q8(Memory, Memory),
}

/// Some rows of a matrix, ready for a product.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    at: u64,
}

impl Matrix {
    pub(crate) fn new(device: &Arc<Device>, stored: &Stored, cols: usize) -> Self {
        let kept = match stored {
            Stored::F32(w) => Kept::F32(device.memory_of(w)),
            Stored::Bf16(w) => Kept::Bf16(device.memory_of(&w.iter().map(|x| x.to_bits()).collect::<Vec<u16>>())),
            Stored::Q8(w, scales) => {
                let scales: Vec<f32> = scales.iter().map(|x| x.to_f32()).collect();
                Kept::Q8(device.memory_of(w), device.memory_of(&scales))
            }
            Stored::Panels(_) => Kept::F32(device.memory_of(&stored.slice(0, stored.len()))),
        };
        Self { kept, cols }
    }

    /// The rows `of`, one below the other in `to`, in f32.
    pub(crate) fn gather(&self, device: &Arc<Device>, of: &[i32], to: &mut Buffer) {
        let rows = device.memory_of(of);
        let (grid, width) = ((of.len(), 1), self.cols.into());
        match &self.kept {
            Kept::F32(w) => device.launch("rows_f32", grid, 0, &[w.into(), (&rows).into(), width, to.into()]),
            Kept::Bf16(w) => device.launch("rows_bf16", grid, 0, &[w.into(), (&rows).into(), width, to.into()]),
            Kept::Q8(w, s) => {
                device.launch("rows_q8", grid, 0, &[w.into(), s.into(), (&rows).into(), width, to.into()]);
            }
        }
    }

    fn is_f32(&self) -> bool {
        matches!(self.kept, Kept::F32(_))
    }

    /// Calls `work` with the rows `first..end` from top to bottom, in pieces where they must be unpacked.
    pub(crate) fn pieces(&self, device: &Arc<Device>, first: usize, end: usize, mut work: impl FnMut(Rows)) {
        let value = |size: usize| (first * self.cols * size) as u64;
        match &self.kept {
            Kept::F32(w) => work(Rows { first, rows: end - first, at: w.at() + value(4) }),
            Kept::Bf16(w) => work(Rows { first, rows: end - first, at: w.at() + value(2) }),
            Kept::Q8(w, scales) => {
                let step = (UNPACKED / self.cols).max(1);
                for first in (first..end).step_by(step) {
                    let rows = step.min(end - first);
                    let (from, n) = (first * self.cols, rows * self.cols);
                    let unpacked = device.memory(2 * n);
                    let (w, scales) = (w.at() + from as u64, scales.at() + (from / 32 * 4) as u64);
                    let args = [w.into(), scales.into(), (&unpacked).into(), (n as u64).into()];
                    device.launch("q8_to_bf16", (n.div_ceil(LISTED), 1), 0, &args);
                    work(Rows { first, rows, at: unpacked.at() });
                }
            }
        }
    }

    /// `values` of `x` from `at` on in the format in which they meet this matrix in a product; `None`: as they are.
    pub(crate) fn meeting(&self, device: &Arc<Device>, at: u64, values: usize) -> Option<Memory> {
        (!self.is_f32()).then(|| {
            let narrow = device.memory(2 * values);
            let args = [at.into(), (&narrow).into(), (values as u64).into()];
            device.launch("to_bf16", (values.div_ceil(LISTED), 1), 0, &args);
            narrow
        })
    }

    /// `y (+)= scale x W^T` for the rows of W in `piece`: `x` is `(rows, cols)` as [`Matrix::meeting`] made it, `y` rows are `y.1`
    /// apart.
    pub(crate) fn times(&self, device: &Device, x: (u64, usize), piece: &Rows, scale: f32, out: Out, y: (u64, usize)) {
        device.product(&Product {
            shape: [x.1, piece.rows, self.cols],
            a: plain(x.0, self.cols),
            b: Operand { at: piece.at, stride: self.cols, transposed: true },
            to: y,
            scale,
            add: out == Out::Add,
            bf16: !self.is_f32(),
        });
    }

    /// `dx (+)= dy W` for the rows of W in `piece`, from the columns of `dy`, rows `dy.1` apart, that belong to them.
    pub(crate) fn back(&self, device: &Device, dy: (u64, usize), rows: usize, piece: &Rows, out: Out, dx: u64) {
        device.product(&Product {
            shape: [rows, self.cols, piece.rows],
            a: plain(dy.0, dy.1),
            b: plain(piece.at, self.cols),
            to: (dx, self.cols),
            scale: 1.0,
            add: out == Out::Add,
            bf16: !self.is_f32(),
        });
    }

    /// The address of column `first` in rows that [`Matrix::meeting`] left in `narrow`, or that are at `at`.
    pub(crate) fn column(&self, narrow: Option<&Memory>, at: u64, first: usize) -> u64 {
        narrow.map_or(at + 4 * first as u64, |m| m.at() + 2 * first as u64)
    }
}

fn plain(at: u64, stride: usize) -> Operand {
    Operand { at, stride, transposed: false }
}

fn transposed(at: u64, stride: usize) -> Operand {
    Operand { at, stride, transposed: true }
}

/// The adapters of one linear, on the device; fields as in the CPU's.
#[derive(Debug)]
pub(crate) struct DeviceAdapters {
    a: Buffer,
    parts: Vec<Part>,
    r: usize,
    scale: f32,
}

#[derive(Debug)]
struct Part {
    col: usize,
    out: usize,
    b: Buffer,
}

impl DeviceAdapters {
    pub(crate) fn new(device: &Arc<Device>, host: &Adapters<'_, f32>) -> Self {
        let part =
            |p: &crate::kernels::linear::Part<'_, f32>| Part { col: p.col, out: p.out, b: device.buffer_of(&p.b) };
        Self {
            a: device.buffer_of(&host.a),
            parts: host.parts.iter().map(part).collect(),
            r: host.r,
            scale: host.scale,
        }
    }

    pub(crate) fn low_dim(&self) -> usize {
        self.parts.len() * self.r
    }

    /// `low = x A^T`.
    pub(crate) fn low(&self, device: &Device, x: &Buffer, ins: usize, low: &Buffer) {
        let (rows, n) = (x.len() / ins, self.low_dim());
        let (a, b) = (plain(x.at(), ins), transposed(self.a.at(), ins));
        device.product(&Product {
            shape: [rows, n, ins],
            a,
            b,
            to: (low.at(), n),
            scale: 1.0,
            add: false,
            bf16: false,
        });
    }
}

/// As `kernels::linear::forward`.
pub(crate) fn forward(
    device: &Arc<Device>,
    f: &Linear<'_, Cuda>,
    adapters: Option<&DeviceAdapters>,
    x: &Buffer,
    (out, y): (Out, &Buffer),
    low: &Buffer,
) {
    let rows = x.len() / f.ins;
    let narrow = f.w.meeting(device, x.at(), x.len());
    let from = f.w.column(narrow.as_ref(), x.at(), 0);
    f.w.pieces(device, 0, f.outs, |piece| {
        f.w.times(device, (from, rows), &piece, 1.0, out, (y.from(piece.first), f.outs));
    });
    if let Some(bias) = f.bias {
        device.launch("add_bias", (rows, 1), 0, &[y.into(), bias.into(), f.outs.into()]);
    }
    let Some(adapters) = adapters else { return };
    adapters.low(device, x, f.ins, low);
    let (r, n) = (adapters.r, adapters.low_dim());
    for (i, part) in adapters.parts.iter().enumerate() {
        device.product(&Product {
            shape: [rows, part.out, r],
            a: plain(low.from(i * r), n),
            b: transposed(part.b.at(), r),
            to: (y.from(part.col), f.outs),
            scale: adapters.scale,
            add: true,
            bf16: false,
        });
    }
}

/// As `kernels::linear::backward_adapters`; the gradients come back to the host.
pub(crate) fn backward_adapters(
    device: &Arc<Device>,
    f: &Linear<'_, Cuda>,
    adapters: &DeviceAdapters,
    (x, low): (&Buffer, &Buffer),
    dy: &Buffer,
    d_low: &Buffer,
    grads: &mut [PartGrads<'_, f32>],
) {
    let (rows, r, n, scale) = (x.len() / f.ins, adapters.r, adapters.low_dim(), adapters.scale);
    let product = |shape, a, b, to, scale| {
        device.product(&Product { shape, a, b, to, scale, add: false, bf16: false });
    };
    for (i, (part, grads)) in adapters.parts.iter().zip(grads).enumerate() {
        let dy = dy.from(part.col);
        let (da, db) = (device.buffer(grads.da.len()), device.buffer(grads.db.len()));
        product([part.out, r, rows], transposed(dy, f.outs), plain(low.from(i * r), n), (db.at(), r), scale);
        product([rows, r, part.out], plain(dy, f.outs), plain(part.b.at(), r), (d_low.from(i * r), n), scale);
        product([r, f.ins, rows], transposed(d_low.from(i * r), n), plain(x.at(), f.ins), (da.at(), f.ins), 1.0);
        for (found, grad) in [(da, &mut *grads.da), (db, &mut *grads.db)] {
            grad.iter_mut().zip(found.values()).for_each(|(grad, found)| *grad += found);
        }
    }
}

/// As `kernels::linear::backward_input`.
pub(crate) fn backward_input(
    device: &Arc<Device>,
    f: &Linear<'_, Cuda>,
    adapters: Option<&DeviceAdapters>,
    d_low: &Buffer,
    dy: &Buffer,
    dx: &Buffer,
) {
    let rows = dx.len() / f.ins;
    let narrow = f.w.meeting(device, dy.at(), dy.len());
    f.w.pieces(device, 0, f.outs, |piece| {
        let from = f.w.column(narrow.as_ref(), dy.at(), piece.first);
        let out = if piece.first == 0 { Out::Set } else { Out::Add };
        f.w.back(device, (from, f.outs), rows, &piece, out, dx.at());
    });
    if let Some(adapters) = adapters {
        let n = adapters.low_dim();
        let (a, b) = (plain(d_low.at(), n), plain(adapters.a.at(), f.ins));
        let to = (dx.at(), f.ins);
        device.product(&Product { shape: [rows, f.ins, n], a, b, to, scale: 1.0, add: true, bf16: false });
    }
}
