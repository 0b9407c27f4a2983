//! Causal attention with grouped heads over packed sequences, in tiles of query rows; never `(tokens, tokens)` in full.
//!
//! For a query head with its key/value head: `S = q k^T / sqrt(d)` for the keys that the query sees, `P = softmax(S)` by row,
//! `o = P v`. Kept for backward is only `l = log sum exp S` by row, from which P is computed again (Dao et al. 2022,
//! arXiv 2205.14135).
//!
//! A query sees the keys at or before it, and where there is a window only the last of them. The keys lie in one or two
//! stretches: a prefix that several sequences share (the prompt of several answers), and a sequence's own.

mod backward;
mod cached;
mod forward;
#[cfg(test)]
mod tests;

pub(crate) use backward::{Kept, backward};
pub(crate) use cached::{Cached, KeysValues, cached};
pub(crate) use forward::forward;

use super::Real;
use super::matmul::{Mat, MatMut, Out, matmul_serial};
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
