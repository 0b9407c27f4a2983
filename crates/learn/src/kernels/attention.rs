//! Causal attention with grouped heads over packed sequences, in tiles of query rows; never `(tokens, tokens)` in full.
//!
//! For a query head with its key/value head: `S = q k^T / sqrt(d)` for the keys that the query sees, `P = softmax(S)` by row,
//! `o = P v`. Kept for backward is only `l = log sum exp S` by row, from which P is computed again (Dao et al. 2022,
//! arXiv 2205.14135).
//!
//! A query sees the keys at or before it, and where there is a window only the last of them. The keys lie in one or two
//! stretches: a prefix that several sequences share (the prompt of several answers), and a sequence's own.

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
    /// A query sees this many keys, itself included; `None`: all before it.
    pub(crate) window: Option<usize>,
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

/// Keys and values that lie together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a, T> {
    /// Keys, `(len, stride)`; a row starts with its key heads.
    pub(crate) k: &'a [T],
    /// Values, likewise.
    pub(crate) v: &'a [T],
    /// The distance of two rows in `k` and `v`.
    pub(crate) stride: usize,
    /// The number of keys.
    pub(crate) len: usize,
    /// The first one's row in a packed batch, where backward adds its gradient.
    pub(crate) row: usize,
}

/// One sequence: its query rows and the keys before and at them.
#[derive(Debug, Clone)]
pub(crate) struct Sequence<'a, T> {
    /// Its rows in q, o and l.
    pub(crate) queries: Range<usize>,
    /// What lies before its own keys, if anything.
    pub(crate) prefix: Option<Keys<'a, T>>,
    /// Its own keys, at least as many as queries; the last query is at the last key.
    pub(crate) own: Keys<'a, T>,
}

/// Some query rows of a sequence, under one head, and the positions of the keys that they see.
#[derive(Debug, Clone)]
struct Tile {
    row: usize,
    rows: usize,
    head: usize,
    keys: Range<usize>,
}

impl<T> Sequence<'_, T> {
    fn prefix_len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |p| p.len)
    }

    /// The positions of the keys that the query in `row` sees.
    fn visible(&self, row: usize, window: Option<usize>) -> Range<usize> {
        let end = self.prefix_len() + self.own.len - (self.queries.end - row) + 1;
        window.map_or(0, |w| end.saturating_sub(w))..end
    }

    /// Its rows, cut into tiles.
    fn tiles(&self, heads: Heads, head: usize) -> impl Iterator<Item = Tile> {
        self.queries.clone().step_by(TILE).map(move |row| {
            let rows = TILE.min(self.queries.end - row);
            let keys = self.visible(row, heads.window).start..self.visible(row + rows - 1, heads.window).end;
            Tile { row, rows, head, keys }
        })
    }

    /// The stretches of keys at `positions`: the column of a tile at which each begins, the keys, and which of them.
    fn stretches(&self, positions: &Range<usize>) -> impl Iterator<Item = (usize, &Keys<'_, T>, Range<usize>)> {
        let before = self.prefix_len();
        let first = self.prefix.as_ref().map(|p| (0, p, positions.start.min(before)..positions.end.min(before)));
        let own = positions.start.max(before) - before..positions.end.max(before) - before;
        let second = (positions.end.min(before).saturating_sub(positions.start), &self.own, own);
        first.into_iter().chain([second]).filter(|(_, _, rows)| !rows.is_empty())
    }
}

impl<'a, T> Keys<'a, T> {
    /// The keys (or values) of one head, `(rows, dim)`.
    fn head(&self, data: &'a [T], rows: &Range<usize>, at: usize, dim: usize) -> Mat<'a, T> {
        Mat::strided(&data[rows.start * self.stride + at..], rows.len(), dim, self.stride)
    }
}

/// The sequences of a packed batch whose `qkv` is `(tokens, qkv_dim)`. Sequence s lies in rows `starts[s]..starts[s + 1]` and
/// continues the sequence `prefixes[s]`, or none.
pub(crate) fn packed<'a, T>(qkv: &'a [T], packing: Packing<'_>, heads: Heads) -> Vec<Sequence<'a, T>> {
    let stride = heads.qkv_dim();
    let keys = |s: usize| {
        let (row, end) = (packing.starts[s], packing.starts[s + 1]);
        let k = &qkv[row * stride..end * stride];
        Keys {
            k: k.get(heads.q_dim()..).unwrap_or(k),
            v: k.get(heads.q_dim() + heads.kv_dim()..).unwrap_or(k),
            stride,
            len: end - row,
            row,
        }
    };
    let sequence = |s: usize| Sequence {
        queries: packing.starts[s]..packing.starts[s + 1],
        prefix: packing.prefixes[s].map(keys).filter(|p| p.len > 0),
        own: keys(s),
    };
    (0..packing.prefixes.len()).map(sequence).collect()
}

/// How sequences lie in a packed batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing<'a> {
    /// Offsets of the sequences, and at the end the number of rows.
    pub(crate) starts: &'a [usize],
    /// For each sequence the one that it continues.
    pub(crate) prefixes: &'a [Option<usize>],
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
    let of = |s: usize, head: usize| sequences[s].tiles(heads, head).map(move |tile| (s, tile));
    let tasks: Vec<(usize, Tile)> =
        (0..sequences.len()).flat_map(|s| (0..heads.heads).flat_map(move |head| of(s, head))).collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores, (s, tile)| {
        let (seq, row, rows, head) = (&sequences[s], tile.row, tile.rows, tile.head);
        // SAFETY: each task has its own head (columns) and rows; no two tasks share both.
        #[allow(unsafe_code)]
        let mut l = unsafe { l.block(row, rows, head, 1) };
        let cols = tile.keys.len();
        let p = scores_of(heads, q, q_stride, seq, &tile, scores);
        for (i, p) in p.chunks_exact_mut(cols).enumerate() {
            let seen = visible_columns(heads, seq, &tile, i);
            p[..seen.start].fill(T::ZERO);
            p[seen.end..].fill(T::ZERO);
            let seen = &mut p[seen];
            let top = max(seen);
            let sum = exp_sum(seen, top);
            seen.iter_mut().for_each(|p| *p *= T::ONE / sum);
            l.set(i, 0, top + sum.ln());
        }
        for (at, (col, keys, part)) in seq.stretches(&tile.keys).enumerate() {
            // SAFETY: as above; the blocks of one tile are made one after the other.
            #[allow(unsafe_code)]
            let o = unsafe { o.block(row, rows, head * heads.dim, heads.dim) };
            let v = keys.head(keys.v, &part, heads.kv_of(head) * heads.dim, heads.dim);
            let out = if at == 0 { Out::Set } else { Out::Add };
            matmul_serial(o, out, T::ONE, Mat::strided(&p[col..], rows, part.len(), cols), v);
        }
    });
}

/// The columns of a tile that its row `i` sees.
fn visible_columns<T>(heads: Heads, seq: &Sequence<'_, T>, tile: &Tile, i: usize) -> Range<usize> {
    let seen = seq.visible(tile.row + i, heads.window);
    seen.start - tile.keys.start..seen.end - tile.keys.start
}

/// `S` of a tile, `(rows, keys)`, for all keys that any of its rows sees.
fn scores_of<'b, T: Real>(
    heads: Heads,
    q: &[T],
    q_stride: usize,
    seq: &Sequence<'_, T>,
    tile: &Tile,
    buffer: &'b mut Vec<T>,
) -> &'b mut [T] {
    let (rows, cols, d) = (tile.rows, tile.keys.len(), heads.dim);
    if buffer.len() < rows * cols {
        buffer.resize(rows * cols, T::ZERO);
    }
    let scores = &mut buffer[..rows * cols];
    let q = Mat::strided(&q[tile.row * q_stride + tile.head * d..], rows, d, q_stride);
    for (col, keys, part) in seq.stretches(&tile.keys) {
        let k = keys.head(keys.k, &part, heads.kv_of(tile.head) * d, d);
        matmul_serial(MatMut::strided(&mut scores[col..], rows, part.len(), cols), Out::Set, heads.scale(), q, k.t());
    }
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
    /// Where the sequences lie.
    pub(crate) packing: Packing<'a>,
}

/// With `dP = do v^T` and `D = do . o` by row: `dS = P (dP - D)`, `dq = dS k / sqrt(d)`, `dk = dS^T q / sqrt(d)`,
/// `dv = P^T do`. Sets `dqkv`, `(tokens, qkv_dim)`. `per_head` is scratch of `(2, tokens, q_dim)`: dk and dv by query head,
/// before the heads of a group are added up.
pub(crate) fn backward<T: Real>(heads: Heads, kept: &Kept<'_, T>, d_o: &[T], dqkv: &mut [T], per_head: &mut [T]) {
    let sequences = packed(kept.qkv, kept.packing, heads);
    per_head.par_chunks_mut(1 << 16).for_each(|part| part.fill(T::ZERO)); // tiles add to dk and dv
    let (dk, dv) = per_head.split_at_mut(per_head.len() / 2);
    {
        let dq = Columns::new(dqkv, heads.qkv_dim());
        let (dk, dv) = (Columns::new(dk, heads.q_dim()), Columns::new(dv, heads.q_dim()));
        let families = families(kept.packing.prefixes);
        let tasks: Vec<(&[usize], usize)> =
            families.iter().flat_map(|f| (0..heads.heads).map(move |h| (f.as_slice(), h))).collect();
        tasks.into_par_iter().for_each_init(Default::default, |scratch: &mut (Vec<T>, Vec<T>), (family, head)| {
            for &s in family {
                // SAFETY: each task has its own family (rows) or head (columns) in dq, dk and dv.
                #[allow(unsafe_code)]
                unsafe {
                    backward_head(heads, kept, &sequences[s], head, d_o, [dq, dk, dv], scratch);
                }
            }
        });
    }
    sum_groups(heads, dk, dv, dqkv);
}

/// Each sequence without a prefix, with those that continue it: they add to the gradients of the same keys.
fn families(prefixes: &[Option<usize>]) -> Vec<Vec<usize>> {
    let mut families: Vec<Vec<usize>> = vec![Vec::new(); prefixes.len()];
    prefixes.iter().enumerate().for_each(|(s, prefix)| families[prefix.unwrap_or(s)].push(s));
    families.retain(|family| !family.is_empty());
    families
}

/// One query head of one sequence.
///
/// # Safety
/// No other thread may touch the columns of `head` in the rows of `seq` and its prefix in the three destinations.
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
    let d = heads.dim;
    let kv = heads.kv_of(head) * d;
    for tile in seq.tiles(heads, head) {
        let (row, rows, cols) = (tile.row, tile.rows, tile.keys.len());
        let p = scores_of(heads, kept.qkv, heads.qkv_dim(), seq, &tile, p_buffer);
        if ds_buffer.len() < rows * cols {
            ds_buffer.resize(rows * cols, T::ZERO);
        }
        let ds = &mut ds_buffer[..rows * cols];
        let d_out = Mat::strided(&d_o[row * heads.q_dim() + head * d..], rows, d, heads.q_dim());
        for (col, keys, part) in seq.stretches(&tile.keys) {
            let v = keys.head(keys.v, &part, kv, d);
            matmul_serial(MatMut::strided(&mut ds[col..], rows, part.len(), cols), Out::Set, T::ONE, d_out, v.t());
        }
        softmax_backward(heads, kept, seq, &tile, d_o, p, ds);
        let q = Mat::strided(&kept.qkv[row * heads.qkv_dim() + head * d..], rows, d, heads.qkv_dim());
        for (at, (col, keys, part)) in seq.stretches(&tile.keys).enumerate() {
            let (first, n) = (keys.row + part.start, part.len());
            let (p, ds) = (Mat::strided(&p[col..], rows, n, cols), Mat::strided(&ds[col..], rows, n, cols));
            let out = if at == 0 { Out::Set } else { Out::Add };
            // SAFETY: the caller's promise; the blocks of one column range are made one after the other.
            unsafe {
                matmul_serial(
                    dq.block(row, rows, head * d, d),
                    out,
                    heads.scale(),
                    ds,
                    keys.head(keys.k, &part, kv, d),
                );
                matmul_serial(dv.block(first, n, head * d, d), Out::Add, T::ONE, p.t(), d_out);
                matmul_serial(dk.block(first, n, head * d, d), Out::Add, heads.scale(), ds.t(), q);
            }
        }
    }
}

/// From scores S to P and from dP to dS, both `(rows, keys)`, in place; zero where a row doesn't see.
fn softmax_backward<T: Real>(
    heads: Heads,
    kept: &Kept<'_, T>,
    seq: &Sequence<'_, T>,
    tile: &Tile,
    d_o: &[T],
    p: &mut [T],
    ds: &mut [T],
) {
    let (d, cols) = (heads.dim, tile.keys.len());
    for (i, (p, ds)) in p.chunks_exact_mut(cols).zip(ds.chunks_exact_mut(cols)).enumerate() {
        let at = (tile.row + i) * heads.q_dim() + tile.head * d;
        let mean = dot(&kept.o[at..][..d], &d_o[at..][..d]);
        let l = kept.l[(tile.row + i) * heads.heads + tile.head];
        let seen = visible_columns(heads, seq, tile, i);
        for unseen in [0..seen.start, seen.end..cols] {
            p[unseen.clone()].fill(T::ZERO);
            ds[unseen].fill(T::ZERO);
        }
        for (p, ds) in p[seen.clone()].iter_mut().zip(&mut ds[seen]) {
            *p = (*p - l).exp();
            *ds = *p * (*ds - mean);
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

    const HEADS: Heads = Heads { heads: 4, kv_heads: 2, dim: 2, window: None };

    fn run(heads: Heads, qkv: &[f64], packing: Packing<'_>) -> (Vec<f64>, Vec<f64>) {
        let tokens = qkv.len() / HEADS.qkv_dim();
        let (mut o, mut l) = (vec![0.0; tokens * HEADS.q_dim()], vec![0.0; tokens * HEADS.heads]);
        forward(heads, qkv, HEADS.qkv_dim(), &packed(qkv, packing, heads), &mut o, &mut l);
        (o, l)
    }

    /// The definition, written as loops.
    fn naive(heads: Heads, qkv: &[f64], packing: Packing<'_>) -> Vec<f64> {
        let (w, d) = (HEADS.qkv_dim(), HEADS.dim);
        let mut o = vec![0.0; qkv.len() / w * HEADS.q_dim()];
        let rows = |s: usize| packing.starts[s]..packing.starts[s + 1];
        for s in 0..packing.prefixes.len() {
            let before: Vec<usize> = packing.prefixes[s].into_iter().flat_map(rows).collect();
            for (t, head) in rows(s).flat_map(|t| (0..HEADS.heads).map(move |h| (t, h))) {
                let at = |row: usize, col: usize| &qkv[row * w + col..][..d];
                let kv = head / 2 * d;
                let score = |j: usize| (dot(at(t, head * d), at(j, 8 + kv)) / (d as f64).sqrt()).exp();
                let mut seen = before.clone();
                seen.extend(packing.starts[s]..=t);
                let first = heads.window.map_or(0, |w| seen.len().saturating_sub(w));
                let sum: f64 = seen[first..].iter().map(|&j| score(j)).sum();
                for &j in &seen[first..] {
                    for i in 0..d {
                        o[t * 8 + head * d + i] += score(j) / sum * at(j, 12 + kv)[i];
                    }
                }
            }
        }
        o
    }

    /// A sequence alone, an empty one, and one of more than a tile that two others continue.
    const STARTS: [usize; 6] = [0, 3, 3, 3 + TILE + 5, 3 + TILE + 9, 3 + 2 * TILE + 20];
    const PREFIXES: [Option<usize>; 5] = [None, None, None, Some(2), Some(2)];
    const PACKING: Packing<'static> = Packing { starts: &STARTS, prefixes: &PREFIXES };
    const WINDOWS: [Option<usize>; 4] = [None, Some(1), Some(10), Some(TILE + 7)];

    #[test]
    fn agrees_with_the_definition_over_tiles_prefixes_and_windows() {
        let qkv = random(STARTS[5] * HEADS.qkv_dim(), 1);
        for window in WINDOWS {
            let heads = Heads { window, ..HEADS };
            let (o, _) = run(heads, &qkv, PACKING);
            for (a, b) in o.iter().zip(naive(heads, &qkv, PACKING)) {
                assert!((a - b).abs() < 1e-12, "window {window:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn gradient() {
        let tokens = STARTS[5];
        let (qkv, d_o) = (random(tokens * HEADS.qkv_dim(), 1), random(tokens * HEADS.q_dim(), 2));
        for window in [None, Some(10)] {
            let heads = Heads { window, ..HEADS };
            let (o, l) = run(heads, &qkv, PACKING);
            let mut dqkv = vec![f64::NAN; qkv.len()];
            let mut scratch = vec![f64::NAN; 2 * tokens * HEADS.q_dim()];
            let kept = Kept { qkv: &qkv, o: &o, l: &l, packing: PACKING };
            backward(heads, &kept, &d_o, &mut dqkv, &mut scratch);
            assert_gradient("dqkv", &qkv, &dqkv, |qkv| weighted(&run(heads, qkv, PACKING).0, &d_o));
        }
    }
}
