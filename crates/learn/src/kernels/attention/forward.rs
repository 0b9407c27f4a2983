//! Attention forward: tiles of rows through general products, a single row by dot products.

use super::{Heads, Sequence, Tile, scores_of, visible_columns};
use crate::kernels::Real;
use crate::kernels::matmul::{Columns, Mat, MatMut, Out, matmul_serial};
use crate::kernels::reduce::{dot, exp_sum, max};
use rayon::prelude::*;
use std::ops::Range;

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
    let tasks: Vec<(usize, Task)> = (0..sequences.len())
        .flat_map(|s| tasks(heads, &sequences[s], sequences.len()).into_iter().map(move |task| (s, task)))
        .collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores, (s, task)| {
        let (rows, of) = match &task {
            Task::Tile(tile) => (tile.row..tile.row + tile.rows, tile.head..tile.head + 1),
            Task::Row(kv) => (sequences[s].queries.clone(), heads.group(kv.start).start..heads.group(kv.end - 1).end),
        };
        // SAFETY: each task has its own heads (columns) and rows; no two tasks share both, and the blocks die with the task.
        #[allow(unsafe_code)]
        let (o, l) = unsafe {
            let (n, cols) = (rows.len(), of.len() * heads.dim);
            (o.block(rows.start, n, of.start * heads.dim, cols), l.block(rows.start, n, of.start, of.len()))
        };
        let of = Of { heads, q, q_stride, seq: &sequences[s] };
        match task {
            Task::Tile(tile) => of.tile(&tile, scores, o, l),
            Task::Row(kv) => of.row(kv, scores, o, l),
        }
    });
}

/// What a thread does at once.
enum Task {
    /// Some rows under one head.
    Tile(Tile),
    /// The only row, under the query heads that share these key/value heads.
    Row(Range<usize>),
}

fn tasks<T>(heads: Heads, seq: &Sequence<'_, T>, sequences: usize) -> Vec<Task> {
    if seq.queries.len() > 1 {
        return (0..heads.heads).flat_map(|head| seq.tiles(heads, head)).map(Task::Tile).collect();
    }
    // All heads together read each key's row once and in order, so that memory streams; few sequences are shared among threads.
    let at_once = if sequences < 2 * rayon::current_num_threads() { 1 } else { heads.kv_heads };
    let rows = if seq.queries.is_empty() { 0 } else { heads.kv_heads };
    (0..rows).step_by(at_once).map(|kv| Task::Row(kv..(kv + at_once).min(rows))).collect()
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

    /// By dot products, as in decoding: a general product would pack the keys and values first, which costs more than the product.
    /// `o` is `(1, heads * dim)` and `l` is `(1, heads)` for the query heads of `kv`.
    fn row(&self, kv: Range<usize>, buffer: &mut Vec<T>, mut o: MatMut<'_, T>, mut l: MatMut<'_, T>) {
        let Self { heads, q, q_stride, seq } = *self;
        let (row, d, first) = (seq.queries.start, heads.dim, heads.group(kv.start).start);
        let seen = seq.visible(row, heads.window);
        let (n, count) = (seen.len(), heads.group(kv.end - 1).end - first);
        buffer.clear();
        buffer.resize(count * (n + d), T::ZERO);
        let (scores, sums) = buffer.split_at_mut(count * n);
        for (col, keys, part) in seq.stretches(&seen) {
            for (col, j) in (col..).zip(part) {
                for kv in kv.clone() {
                    let k = &keys.k[j * keys.stride + kv * d..][..d];
                    for head in heads.group(kv) {
                        scores[(head - first) * n + col] =
                            heads.scale::<T>() * dot(&q[row * q_stride + head * d..][..d], k);
                    }
                }
            }
        }
        scores.chunks_exact_mut(n).zip(l.row(0)).for_each(|(scores, l)| *l = softmax(scores));
        for (col, keys, part) in seq.stretches(&seen) {
            for (col, j) in (col..).zip(part) {
                for kv in kv.clone() {
                    let v = &keys.v[j * keys.stride + kv * d..][..d];
                    for head in heads.group(kv) {
                        let (p, sum) = (scores[(head - first) * n + col], &mut sums[(head - first) * d..][..d]);
                        sum.iter_mut().zip(v).for_each(|(sum, v)| *sum = p.mul_add(*v, *sum));
                    }
                }
            }
        }
        o.row(0).copy_from_slice(sums);
    }
}

/// Scores become probabilities; their log-sum-exp.
fn softmax<T: Real>(scores: &mut [T]) -> T {
    let top = max(scores);
    let sum = exp_sum(scores, top);
    scores.iter_mut().for_each(|p| *p *= T::ONE / sum);
    top + sum.ln()
}
