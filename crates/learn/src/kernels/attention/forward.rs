//! Attention forward, in tiles of rows, through general products.

use super::{Heads, Sequence, Tile, scores_of, visible_columns};
use crate::kernels::Real;
use crate::kernels::matmul::{Columns, Mat, MatMut, Out, matmul_serial};
use crate::kernels::reduce::{exp_sum, max};
use rayon::prelude::*;

/// `q` is `(rows, q_stride)`, a row starting with its query heads; `o` is `(rows, q_dim)`; `l` is `(rows, heads)`.
pub(crate) fn forward<T: Real>(
    heads: Heads,
    q: &[T],
    q_stride: usize,
    sequences: &[Sequence<'_, T>],
    o: &mut [T],
    l: &mut [T],
) {
    let (o, l) = (Columns::new(o, heads.q_dim()), Columns::new(l, heads.heads));
    let of = |s: usize| (0..heads.heads).flat_map(move |head| sequences[s].tiles(heads, head));
    let tasks: Vec<(usize, Tile)> = (0..sequences.len()).flat_map(|s| of(s).map(move |tile| (s, tile))).collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores, (s, tile)| {
        // SAFETY: each task has its own head (columns) and rows; no two tasks share both, and the blocks die with the task.
        #[allow(unsafe_code)]
        let (o, l) = unsafe {
            let (row, rows) = (tile.row, tile.rows);
            (o.block(row, rows, tile.head * heads.dim, heads.dim), l.block(row, rows, tile.head, 1))
        };
        Of { heads, q, q_stride, seq: &sequences[s] }.tile(&tile, scores, o, l);
    });
}

/// A sequence, and the queries.
struct Of<'a, T> {
    heads: Heads,
    q: &'a [T],
    q_stride: usize,
    seq: &'a Sequence<'a, T>,
}

impl<T: Real> Of<'_, T> {
    /// `o` is `(rows, dim)`, `l` is `(rows, 1)`.
    fn tile(&self, tile: &Tile, scores: &mut Vec<T>, mut o: MatMut<'_, T>, mut l: MatMut<'_, T>) {
        let Self { heads, q, q_stride, seq } = *self;
        let cols = tile.keys.len();
        let p = scores_of(heads, q, q_stride, seq, tile, scores);
        for (i, p) in p.chunks_exact_mut(cols).enumerate() {
            let seen = visible_columns(heads, seq, tile, i);
            p[..seen.start].fill(T::ZERO);
            p[seen.end..].fill(T::ZERO);
            l.row(i)[0] = softmax(&mut p[seen]);
        }
        for (at, (col, keys, part)) in seq.stretches(&tile.keys).enumerate() {
            let v = keys.head(keys.v, &part, heads.kv_of(tile.head) * heads.dim, heads.dim);
            let out = if at == 0 { Out::Set } else { Out::Add };
            matmul_serial(o.reborrow(), out, T::ONE, Mat::strided(&p[col..], tile.rows, part.len(), cols), v);
        }
    }
}

/// Scores become probabilities; their log-sum-exp.
pub(super) fn softmax<T: Real>(scores: &mut [T]) -> T {
    let top = max(scores);
    let sum = exp_sum(scores, top);
    scores.iter_mut().for_each(|p| *p *= T::ONE / sum);
    top + sum.ln()
}
