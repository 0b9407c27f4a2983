//! Causal attention with grouped heads over packed sequences, in tiles of query rows; never `(tokens, tokens)` in full.
//!
//! For a query head with its key/value head: `S = q k^T / sqrt(d)` for keys at or before the query, `P = softmax(S)` by row,
//! `o = P v`. Kept for backward is only `l = log sum exp S` by row, from which P is computed again (Dao et al. 2022,
//! arXiv 2205.14135).

use super::Real;
use super::matmul::{Columns, Mat, MatMut, Out, matmul_serial};
use super::reduce::{dot, exp_sum, max};
use rayon::prelude::*;
use std::ops::Range;

/// Query rows per tile: its scores against 1000 keys fill a quarter of a megabyte, which a core's cache holds.
const TILE: usize = 64;

/// The heads of a row: `heads` queries, each key/value head shared by `heads / kv_heads` of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) dim: usize,
}

impl Heads {
    /// Width of q in a row.
    pub(crate) fn q_dim(self) -> usize {
        self.heads * self.dim
    }

    /// Width of k (or v) in a row.
    pub(crate) fn kv_dim(self) -> usize {
        self.kv_heads * self.dim
    }

    /// Width of a row of q, k and v.
    pub(crate) fn qkv_dim(self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }

    fn kv_of(self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    fn scale<T: Real>(self) -> T {
        T::ONE / T::from_usize(self.dim).sqrt()
    }
}

/// One sequence: its query rows, and its keys and values. The last query is at the last key.
pub(crate) struct Sequence<'a, T> {
    /// Its rows in q, o and l.
    pub(crate) queries: Range<usize>,
    /// Keys, `(keys, stride)`; a row starts with its key heads.
    pub(crate) k: &'a [T],
    /// Values, likewise.
    pub(crate) v: &'a [T],
    /// The distance of two rows in `k` and `v`.
    pub(crate) stride: usize,
    /// The number of keys, at least the number of queries.
    pub(crate) keys: usize,
}

/// The sequences of a packed batch whose `qkv` is `(tokens, qkv_dim)`: each attends to itself.
pub(crate) fn packed<'a, T>(qkv: &'a [T], starts: &[usize], heads: Heads) -> Vec<Sequence<'a, T>> {
    let stride = heads.qkv_dim();
    let sequence = |w: &[usize]| Sequence {
        queries: w[0]..w[1],
        k: &qkv[w[0] * stride + heads.q_dim()..],
        v: &qkv[w[0] * stride + heads.q_dim() + heads.kv_dim()..],
        stride,
        keys: w[1] - w[0],
    };
    starts.windows(2).filter(|w| w[0] < w[1]).map(sequence).collect()
}

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
    let tasks: Vec<(usize, usize, usize)> = sequences
        .iter()
        .enumerate()
        .flat_map(|(s, seq)| {
            let tiles = seq.queries.clone().step_by(TILE);
            tiles.flat_map(move |row| (0..heads.heads).map(move |head| (s, row, head)))
        })
        .collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores, (s, row, head)| {
        let seq = &sequences[s];
        let rows = TILE.min(seq.queries.end - row);
        let keys = visible(seq, row) + rows - 1;
        // SAFETY: each task has its own head (columns) and rows; no two tasks share both.
        #[allow(unsafe_code)]
        let (o, mut l) = unsafe { (o.block(row, rows, head * heads.dim, heads.dim), l.block(row, rows, head, 1)) };
        let p = scores_of(heads, q, q_stride, seq, (row, rows, head), scores);
        for (i, p) in p.chunks_exact_mut(keys).enumerate() {
            let (seen, unseen) = p.split_at_mut(visible(seq, row + i));
            let top = max(seen);
            let sum = exp_sum(seen, top);
            seen.iter_mut().for_each(|p| *p *= T::ONE / sum);
            unseen.fill(T::ZERO);
            l.set(i, 0, top + sum.ln());
        }
        let v = Mat::strided(&seq.v[heads.kv_of(head) * heads.dim..], keys, heads.dim, seq.stride);
        matmul_serial(o, Out::Set, T::ONE, Mat::new(p, rows, keys), v);
    });
}

/// How many keys the query in `row` sees.
fn visible<T>(seq: &Sequence<'_, T>, row: usize) -> usize {
    seq.keys - (seq.queries.end - row) + 1
}

/// `S` of a tile, `(rows, keys)`, keys up to the last that the tile's last row sees.
fn scores_of<'b, T: Real>(
    heads: Heads,
    q: &[T],
    q_stride: usize,
    seq: &Sequence<'_, T>,
    (row, rows, head): (usize, usize, usize),
    buffer: &'b mut Vec<T>,
) -> &'b mut [T] {
    let keys = visible(seq, row) + rows - 1;
    if buffer.len() < rows * keys {
        buffer.resize(rows * keys, T::ZERO);
    }
    let scores = &mut buffer[..rows * keys];
    let q = Mat::strided(&q[row * q_stride + head * heads.dim..], rows, heads.dim, q_stride);
    let k = Mat::strided(&seq.k[heads.kv_of(head) * heads.dim..], keys, heads.dim, seq.stride);
    matmul_serial(MatMut::new(scores, rows, keys), Out::Set, heads.scale(), q, k.t());
    scores
}

/// What backward needs from forward.
pub(crate) struct Kept<'a, T> {
    /// q, k, v, `(tokens, qkv_dim)`.
    pub(crate) qkv: &'a [T],
    /// The output, `(tokens, q_dim)`.
    pub(crate) o: &'a [T],
    /// Log-sum-exp of the scores, `(tokens, heads)`.
    pub(crate) l: &'a [T],
    /// Offsets of the sequences.
    pub(crate) starts: &'a [usize],
}

/// With `dP = do v^T` and `D = do . o` by row: `dS = P (dP - D)`, `dq = dS k / sqrt(d)`, `dk = dS^T q / sqrt(d)`,
/// `dv = P^T do`. Sets `dqkv`, `(tokens, qkv_dim)`. `per_head` is scratch of `(2, tokens, q_dim)`: dk and dv by query head,
/// before the heads of a group are added up.
pub(crate) fn backward<T: Real>(heads: Heads, kept: &Kept<'_, T>, d_o: &[T], dqkv: &mut [T], per_head: &mut [T]) {
    let sequences = packed(kept.qkv, kept.starts, heads);
    per_head.par_chunks_mut(1 << 16).for_each(|part| part.fill(T::ZERO)); // tiles add to dk and dv
    let (dk, dv) = per_head.split_at_mut(per_head.len() / 2);
    {
        let dq = Columns::new(dqkv, heads.qkv_dim());
        let (dk, dv) = (Columns::new(dk, heads.q_dim()), Columns::new(dv, heads.q_dim()));
        let tasks: Vec<(usize, usize)> =
            (0..sequences.len()).flat_map(|s| (0..heads.heads).map(move |h| (s, h))).collect();
        tasks.into_par_iter().for_each_init(Default::default, |scratch: &mut (Vec<T>, Vec<T>), (s, head)| {
            // SAFETY: each task has its own sequence (rows) or head (columns) in dq, dk and dv.
            #[allow(unsafe_code)]
            unsafe {
                backward_head(heads, kept, &sequences[s], head, d_o, [dq, dk, dv], scratch);
            }
        });
    }
    sum_groups(heads, dk, dv, dqkv);
}

/// One query head of one sequence.
///
/// # Safety
/// No other thread may touch the columns of `head` in the rows of `seq` in the three destinations.
#[allow(unsafe_code)]
unsafe fn backward_head<T: Real>(
    heads: Heads,
    kept: &Kept<'_, T>,
    seq: &Sequence<'_, T>,
    head: usize,
    d_o: &[T],
    [dq, dk, dv]: [Columns<'_, T>; 3],
    (p_buffer, ds_buffer): &mut (Vec<T>, Vec<T>),
) {
    let (d, first) = (heads.dim, seq.queries.start);
    let kv = heads.kv_of(head) * d;
    for row in seq.queries.clone().step_by(TILE) {
        let rows = TILE.min(seq.queries.end - row);
        let keys = visible(seq, row) + rows - 1;
        let p = scores_of(heads, kept.qkv, heads.qkv_dim(), seq, (row, rows, head), p_buffer);
        if ds_buffer.len() < rows * keys {
            ds_buffer.resize(rows * keys, T::ZERO);
        }
        let ds = &mut ds_buffer[..rows * keys];
        let at = row * heads.q_dim() + head * d;
        let d_out = Mat::strided(&d_o[at..], rows, d, heads.q_dim());
        let v = Mat::strided(&seq.v[kv..], keys, d, seq.stride);
        matmul_serial(MatMut::new(ds, rows, keys), Out::Set, T::ONE, d_out, v.t());
        for (i, (p, ds)) in p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys)).enumerate() {
            let (o, d_o) = (&kept.o[at + i * heads.q_dim()..][..d], &d_o[at + i * heads.q_dim()..][..d]);
            let (mean, l) = (dot(o, d_o), kept.l[(row + i) * heads.heads + head]);
            let seen = visible(seq, row + i);
            for j in 0..seen {
                p[j] = (p[j] - l).exp();
                ds[j] = p[j] * (ds[j] - mean);
            }
            p[seen..].fill(T::ZERO);
            ds[seen..].fill(T::ZERO);
        }
        let (p, ds) = (Mat::new(p, rows, keys), Mat::new(ds, rows, keys));
        let q = Mat::strided(&kept.qkv[row * heads.qkv_dim() + head * d..], rows, d, heads.qkv_dim());
        let k = Mat::strided(&seq.k[kv..], keys, d, seq.stride);
        // SAFETY: the caller's promise; the blocks of one column range are made one after the other.
        unsafe {
            matmul_serial(dq.block(row, rows, head * d, d), Out::Set, heads.scale(), ds, k);
            matmul_serial(dv.block(first, keys, head * d, d), Out::Add, T::ONE, p.t(), d_out);
            matmul_serial(dk.block(first, keys, head * d, d), Out::Add, heads.scale(), ds.t(), q);
        }
    }
}

/// Adds the query heads of each group into the key/value head that they share.
fn sum_groups<T: Real>(heads: Heads, dk: &[T], dv: &[T], dqkv: &mut [T]) {
    let (q, kv, d) = (heads.q_dim(), heads.kv_dim(), heads.dim);
    let group = heads.heads / heads.kv_heads * d;
    let rows = dqkv.par_chunks_exact_mut(heads.qkv_dim()).zip(dk.par_chunks_exact(q)).zip(dv.par_chunks_exact(q));
    rows.with_min_len(16).for_each(|((row, dk), dv)| {
        let (dk_row, dv_row) = row[q..].split_at_mut(kv);
        for (dst, src) in [(dk_row, dk), (dv_row, dv)] {
            dst.fill(T::ZERO);
            for (dst, group) in dst.chunks_exact_mut(d).zip(src.chunks_exact(group)) {
                for head in group.chunks_exact(d) {
                    dst.iter_mut().zip(head).for_each(|(a, b)| *a += *b);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{assert_gradient, random, weighted};

    const HEADS: Heads = Heads { heads: 4, kv_heads: 2, dim: 2 };

    fn run(qkv: &[f64], starts: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let tokens = qkv.len() / HEADS.qkv_dim();
        let (mut o, mut l) = (vec![0.0; tokens * HEADS.q_dim()], vec![0.0; tokens * HEADS.heads]);
        forward(HEADS, qkv, HEADS.qkv_dim(), &packed(qkv, starts, HEADS), &mut o, &mut l);
        (o, l)
    }

    /// The definition, written as loops.
    fn naive(qkv: &[f64], starts: &[usize]) -> Vec<f64> {
        let (w, d) = (HEADS.qkv_dim(), HEADS.dim);
        let mut o = vec![0.0; qkv.len() / w * HEADS.q_dim()];
        for s in starts.windows(2) {
            for (t, head) in (s[0]..s[1]).flat_map(|t| (0..HEADS.heads).map(move |h| (t, h))) {
                let at = |row: usize, col: usize| &qkv[row * w + col..][..d];
                let kv = head / 2 * d;
                let score = |j: usize| (dot(at(t, head * d), at(j, 8 + kv)) / (d as f64).sqrt()).exp();
                let sum: f64 = (s[0]..=t).map(score).sum();
                for j in s[0]..=t {
                    for i in 0..d {
                        o[t * 8 + head * d + i] += score(j) / sum * at(j, 12 + kv)[i];
                    }
                }
            }
        }
        o
    }

    #[test]
    fn agrees_with_the_definition_over_tiles_and_sequences() {
        let starts = [0, 3, 3, 3 + 2 * TILE + 5];
        let qkv = random(starts[3] * HEADS.qkv_dim(), 1);
        let (o, _) = run(&qkv, &starts);
        for (a, b) in o.iter().zip(naive(&qkv, &starts)) {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn gradient() {
        let starts = [0, 2, 2, TILE + 9]; // the last sequence spans two tiles
        let tokens = starts[3];
        let (qkv, d_o) = (random(tokens * HEADS.qkv_dim(), 1), random(tokens * HEADS.q_dim(), 2));
        let (o, l) = run(&qkv, &starts);
        let mut dqkv = vec![f64::NAN; qkv.len()];
        let mut scratch = vec![f64::NAN; 2 * tokens * HEADS.q_dim()];
        let kept = Kept { qkv: &qkv, o: &o, l: &l, starts: &starts };
        backward(HEADS, &kept, &d_o, &mut dqkv, &mut scratch);
        assert_gradient("dqkv", &qkv, &dqkv, |qkv| weighted(&run(qkv, &starts).0, &d_o));
    }
}
