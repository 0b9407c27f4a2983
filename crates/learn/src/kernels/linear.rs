//! A frozen linear with low-rank adapters: `y = x W^T + b`, and for each adapter, which covers a block of the columns of y,
//! `y_block += s (x A^T) B^T` with `s = alpha / r` (Hu et al. 2021, arXiv 2106.09685).
//!
//! Linears that share their input (q, k, v; gate, up) are one matrix W here, and their A lie one below the other, so that one
//! product serves them all.

use super::matmul::{Mat, MatMut, Out, matmul};
use super::stored::Weight;
use super::{FEW_ROWS_MAX, Real};
use rayon::prelude::*;
use std::borrow::Cow;

/// The adapters on one linear.
#[derive(Debug)]
pub(crate) struct Adapters<'a, T: Clone> {
    /// All A, one below the other, `(parts * r, in)`.
    pub(crate) a: Cow<'a, [T]>,
    /// Each adapter's place and B.
    pub(crate) parts: Vec<Part<'a, T>>,
    /// The rank of each.
    pub(crate) r: usize,
    /// `alpha / r`.
    pub(crate) scale: T,
}

/// One adapter.
#[derive(Debug)]
pub(crate) struct Part<'a, T: Clone> {
    /// The first column of y that it covers.
    pub(crate) col: usize,
    /// How many columns it covers.
    pub(crate) out: usize,
    /// `(out, r)`.
    pub(crate) b: Cow<'a, [T]>,
}

impl<T: Clone> Adapters<'_, T> {
    /// Columns of `x A^T`.
    pub(crate) fn low_dim(&self) -> usize {
        self.parts.len() * self.r
    }

    /// The same, borrowed.
    pub(crate) fn borrowed(&self) -> Adapters<'_, T> {
        let parts = self.parts.iter().map(|p| Part { col: p.col, out: p.out, b: Cow::Borrowed(&*p.b) }).collect();
        Adapters { a: Cow::Borrowed(&*self.a), parts, r: self.r, scale: self.scale.clone() }
    }

    /// A copy that borrows nothing.
    pub(crate) fn into_owned(self) -> Adapters<'static, T> {
        let part = |Part { col, out, b }: Part<'_, T>| Part { col, out, b: Cow::Owned(b.into_owned()) };
        let Self { a, parts, r, scale } = self;
        Adapters { a: Cow::Owned(a.into_owned()), parts: parts.into_iter().map(part).collect(), r, scale }
    }
}

/// The frozen matrix, `(outs, ins)`, and its bias, `(outs,)`.
pub(crate) struct Frozen<'a, T, W: ?Sized> {
    pub(crate) w: &'a W,
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) ins: usize,
    pub(crate) outs: usize,
}

/// `y (+)= x W^T + b`, without adapters; `x` is `(rows, ins)`, `y` is `(rows, outs)`.
pub(crate) fn forward_frozen<T: Real, W: Weight<T> + ?Sized>(f: &Frozen<'_, T, W>, x: &[T], out: Out, y: &mut [T]) {
    f.w.forward(x, f.ins, out, y);
    if let Some(bias) = f.bias {
        let add = |y: &mut [T]| y.iter_mut().zip(bias).for_each(|(y, b)| *y += *b);
        y.par_chunks_exact_mut(f.outs).with_min_len(16).for_each(add);
    }
}

/// What the adapters add to y; `low` is set to `x A^T`, `(rows, low_dim)`, which backward needs.
pub(crate) fn forward_adapters<T: Real, W: Weight<T> + ?Sized>(
    f: &Frozen<'_, T, W>,
    adapters: &Adapters<'_, T>,
    x: &[T],
    y: &mut [T],
    low: &mut [T],
) {
    let rows = x.len() / f.ins;
    // So many rows at once that none depends on the others, where that matters.
    let at_once = if f.w.row_by_row() { FEW_ROWS_MAX } else { rows.max(1) };
    let n = at_once * adapters.low_dim();
    let chunks = x.chunks(at_once * f.ins).zip(y.chunks_mut(at_once * f.outs)).zip(low.chunks_mut(n));
    chunks.for_each(|((x, y), low)| add_adapters(f, adapters, x, y, low));
}

/// `y_block += s (x A^T) B^T` of each adapter.
fn add_adapters<T: Real, W: ?Sized>(
    f: &Frozen<'_, T, W>,
    adapters: &Adapters<'_, T>,
    x: &[T],
    y: &mut [T],
    low: &mut [T],
) {
    let rows = x.len() / f.ins;
    forward_low(f.ins, adapters, Mat::new(x, rows, f.ins), low);
    for (i, part) in adapters.parts.iter().enumerate() {
        let low = Mat::strided(&low[i * adapters.r..], rows, adapters.r, adapters.low_dim());
        let y = MatMut::strided(&mut y[part.col..], rows, part.out, f.outs);
        matmul(y, Out::Add, adapters.scale, low, Mat::new(&part.b, part.out, adapters.r).t());
    }
}

/// Only `low = x A^T`, `(rows, low_dim)`, where y itself is not needed.
pub(crate) fn forward_low<T: Real>(ins: usize, adapters: &Adapters<'_, T>, x: Mat<'_, T>, low: &mut [T]) {
    let n = adapters.low_dim();
    let rows = low.len() / n;
    matmul(MatMut::new(low, rows, n), Out::Set, T::ONE, x, Mat::new(&adapters.a, n, ins).t());
}

/// Gradients of an adapter's matrices are added to these.
pub(crate) struct PartGrads<'a, T> {
    /// `(r, ins)`.
    pub(crate) da: &'a mut [T],
    /// `(out, r)`.
    pub(crate) db: &'a mut [T],
}

/// What flows back through the adapters, from `dy` and what forward kept:
/// `dB += s dy^T low`, `dlow = s dy B`, `dA += dlow^T x`. `d_low`, `(rows, low_dim)`, is set, for [`backward_input`].
pub(crate) fn backward_adapters<T: Real, W: ?Sized>(
    f: &Frozen<'_, T, W>,
    adapters: &Adapters<'_, T>,
    (x, low): (&[T], &[T]),
    dy: &[T],
    d_low: &mut [T],
    grads: &mut [PartGrads<'_, T>],
) {
    let (rows, r, n) = (x.len() / f.ins, adapters.r, adapters.low_dim());
    for (i, (part, grads)) in adapters.parts.iter().zip(grads).enumerate() {
        let dy = Mat::strided(&dy[part.col..], rows, part.out, f.outs);
        let low = Mat::strided(&low[i * r..], rows, r, n);
        matmul(MatMut::new(grads.db, part.out, r), Out::Add, adapters.scale, dy.t(), low);
        let d_low_part = MatMut::strided(&mut d_low[i * r..], rows, r, n);
        matmul(d_low_part, Out::Set, adapters.scale, dy, Mat::new(&part.b, part.out, r));
        let d_low_part = Mat::strided(&d_low[i * r..], rows, r, n);
        matmul(MatMut::new(grads.da, r, f.ins), Out::Add, T::ONE, d_low_part.t(), Mat::new(x, rows, f.ins));
    }
}

/// `dx = dy W + dlow A`; `d_low` is what [`backward_adapters`] set.
pub(crate) fn backward_input<T: Real, W: Weight<T> + ?Sized>(
    f: &Frozen<'_, T, W>,
    adapters: Option<&Adapters<'_, T>>,
    d_low: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    let rows = dx.len() / f.ins;
    f.w.backward(dy, f.ins, dx);
    if let Some(adapters) = adapters {
        let n = adapters.low_dim();
        let a = Mat::new(&adapters.a, n, f.ins);
        matmul(MatMut::new(dx, rows, f.ins), Out::Add, T::ONE, Mat::new(d_low, rows, n), a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{assert_gradient, random, weighted};

    const ROWS: usize = 3;
    const INS: usize = 4;
    const OUTS: usize = 7;
    const R: usize = 2;

    /// Two adapters, on columns 0..3 and 5..7.
    fn adapters<'a>(a: &'a [f64], b: &'a [f64]) -> Adapters<'a, f64> {
        let parts = vec![Part { col: 0, out: 3, b: b[..6].into() }, Part { col: 5, out: 2, b: b[6..].into() }];
        Adapters { a: Cow::Borrowed(a), parts, r: R, scale: 1.5 }
    }

    fn run(x: &[f64], a: &[f64], b: &[f64], w: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let f = Frozen { w, bias: Some(&w[..OUTS]), ins: INS, outs: OUTS };
        let (mut y, mut low) = (vec![0.0; ROWS * OUTS], vec![0.0; ROWS * 2 * R]);
        forward_frozen(&f, x, Out::Set, &mut y);
        forward_adapters(&f, &adapters(a, b), x, &mut y, &mut low);
        (y, low)
    }

    #[test]
    fn gradients_of_input_and_adapters() {
        let (x, w, dy) = (random(ROWS * INS, 1), random(OUTS * INS, 2), random(ROWS * OUTS, 3));
        let (a, b) = (random(2 * R * INS, 4), random(5 * R, 5));
        let (_, low) = run(&x, &a, &b, &w);
        let f = Frozen { w: w.as_slice(), bias: None, ins: INS, outs: OUTS };
        let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
        let (mut d_low, mut dx) = (vec![0.0; low.len()], vec![0.0; x.len()]);
        let ((da0, da1), (db0, db1)) = (da.split_at_mut(R * INS), db.split_at_mut(6));
        let mut grads = [PartGrads { da: da0, db: db0 }, PartGrads { da: da1, db: db1 }];
        backward_adapters(&f, &adapters(&a, &b), (&x, &low), &dy, &mut d_low, &mut grads);
        backward_input(&f, Some(&adapters(&a, &b)), &d_low, &dy, &mut dx);
        assert_gradient("dx", &x, &dx, |x| weighted(&run(x, &a, &b, &w).0, &dy));
        assert_gradient("da", &a, &da, |a| weighted(&run(&x, a, &b, &w).0, &dy));
        assert_gradient("db", &b, &db, |b| weighted(&run(&x, &a, b, &w).0, &dy));
    }
}
