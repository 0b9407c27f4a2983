//! Attention of a sequence's newest tokens to all that is cached of it, for generation.
//!
//! Keys lie in panels of sixteen, and values by sixteens of a head's width, so that both products, `S = q k^T / sqrt(d)` and `o = P v`, are
//! those of [`panels`](crate::kernels::panels): a query's bits depend on its keys and values alone, not on the queries beside it.

use super::Heads;
use super::forward::softmax;
use crate::kernels::matmul::Columns;
use crate::kernels::panels::{ROWS, WIDTH, ZERO, by_eight};
use rayon::prelude::*;
use std::ops::Range;
use wide::f32x8;

/// The keys (after rotation) and values of one sequence in one block.
#[derive(Debug, Clone)]
pub(crate) struct KeysValues {
    dim: usize,
    len: usize,
    heads: Vec<Head>,
}

/// Of one head, so that what a product reads lies in one piece.
#[derive(Debug, Clone)]
struct Head {
    /// `(panels of WIDTH tokens, dim)`.
    keys: Vec<[f32; WIDTH]>,
    /// The head's width by sixteens, the last one filled up with zeros; each `(tokens,)`.
    values: Vec<Vec<[f32; WIDTH]>>,
}

impl KeysValues {
    /// Nothing yet, for so many key/value heads of width `dim`; room for `tokens` tokens is reserved.
    pub(crate) fn new(heads: usize, dim: usize, tokens: usize) -> Self {
        let head = |_| Head {
            keys: Vec::with_capacity(tokens.div_ceil(WIDTH) * dim),
            values: (0..dim.div_ceil(WIDTH)).map(|_| Vec::with_capacity(tokens)).collect(),
        };
        Self { dim, len: 0, heads: (0..heads).map(head).collect() }
    }

    /// The memory in use.
    pub(crate) fn bytes(&self) -> usize {
        let lines = |head: &Head| head.keys.len() + head.values.iter().map(Vec::len).sum::<usize>();
        self.heads.iter().map(lines).sum::<usize>() * size_of::<[f32; WIDTH]>()
    }

    /// A copy of the first `tokens` tokens.
    pub(crate) fn prefix(&self, tokens: usize) -> Self {
        let head = |head: &Head| Head {
            keys: head.keys[..tokens.div_ceil(WIDTH) * self.dim].to_vec(),
            values: head.values.iter().map(|part| part[..tokens].to_vec()).collect(),
        };
        Self { dim: self.dim, len: tokens, heads: self.heads.iter().map(head).collect() }
    }

    /// Appends a token; `k` and `v` are `(heads, dim)`.
    pub(crate) fn push(&mut self, k: &[f32], v: &[f32]) {
        let (panel, lane) = (self.len / WIDTH, self.len % WIDTH);
        let new = k.chunks_exact(self.dim).zip(v.chunks_exact(self.dim));
        for (Head { keys, values }, (k, v)) in self.heads.iter_mut().zip(new) {
            if lane == 0 {
                keys.resize((panel + 1) * self.dim, [0.0; WIDTH]);
            }
            keys[panel * self.dim..].iter_mut().zip(k).for_each(|(panel, k)| panel[lane] = *k);
            for (part, v) in values.iter_mut().zip(v.chunks(WIDTH)) {
                let mut filled = [0.0; WIDTH];
                filled[..v.len()].copy_from_slice(v);
                part.push(filled);
            }
        }
        self.len += 1;
    }
}

/// A sequence: its newest tokens' rows in q and o, and its keys and values up to them.
pub(crate) struct Cached<'a> {
    pub(crate) queries: Range<usize>,
    pub(crate) cache: &'a KeysValues,
}

/// Some queries of a sequence that share a key/value head.
struct Task<'a> {
    seq: &'a Cached<'a>,
    kv: usize,
    /// Numbers of (row, head) pairs.
    pairs: Range<usize>,
}

/// `q` is `(rows, q_stride)`, a row starting with its query heads; `o` is `(rows, q_dim)`; `l` is `(rows, heads)`.
pub(crate) fn cached(
    heads: Heads,
    (q, q_stride): (&[f32], usize),
    sequences: &[Cached<'_>],
    o: &mut [f32],
    l: &mut [f32],
) {
    let all = All { heads, q, q_stride, o: Columns::new(o, heads.q_dim()), l: Columns::new(l, heads.heads) };
    let tasks: Vec<Task<'_>> = sequences.iter().flat_map(|seq| tasks(heads, seq)).collect();
    tasks.into_par_iter().for_each_init(Vec::new, |scores, task| match task.pairs.len() {
        1 => all.attend::<1>(&task, scores),
        2 => all.attend::<2>(&task, scores),
        3 => all.attend::<3>(&task, scores),
        4 => all.attend::<4>(&task, scores),
        5 => all.attend::<5>(&task, scores),
        _ => all.attend::<ROWS>(&task, scores),
    });
}

fn tasks<'a>(heads: Heads, seq: &'a Cached<'a>) -> impl Iterator<Item = Task<'a>> {
    let pairs = seq.queries.len() * (heads.heads / heads.kv_heads);
    let of = move |kv| (0..pairs).step_by(ROWS).map(move |from| Task { seq, kv, pairs: from..pairs.min(from + ROWS) });
    (0..heads.kv_heads).flat_map(of)
}

/// What all tasks share.
struct All<'a> {
    heads: Heads,
    q: &'a [f32],
    q_stride: usize,
    o: Columns<'a, f32>,
    l: Columns<'a, f32>,
}

impl All<'_> {
    /// The row and the head of a pair.
    fn place(&self, task: &Task<'_>, pair: usize) -> (usize, usize) {
        let group = self.heads.heads / self.heads.kv_heads;
        (task.seq.queries.start + pair / group, task.kv * group + pair % group)
    }

    /// The keys that a row sees.
    fn seen(&self, seq: &Cached<'_>, row: usize) -> Range<usize> {
        let end = seq.cache.len - (seq.queries.end - row) + 1;
        self.heads.window.map_or(0, |w| end.saturating_sub(w))..end
    }

    fn attend<const R: usize>(&self, task: &Task<'_>, scores: &mut Vec<f32>) {
        let (Head { keys, values }, dim) = (&task.seq.cache.heads[task.kv], self.heads.dim);
        let places: [(usize, usize); R] = std::array::from_fn(|i| self.place(task, task.pairs.start + i));
        let seen = places.map(|(row, _)| self.seen(task.seq, row));
        let (first, last) = (seen[0].start / WIDTH, (seen[R - 1].end - 1) / WIDTH);
        let width = (last + 1 - first) * WIDTH;
        let q = places.map(|(row, head)| &self.q[row * self.q_stride + head * dim..][..dim]);
        let x: Vec<[f32; R]> = (0..dim).map(|d| q.map(|q| q[d])).collect();
        scores.resize(R * width, 0.0);
        for panel in first..=last {
            let mut sums = [[ZERO; R]];
            by_eight(&x, [&keys[panel * dim..][..dim]], None, &mut sums);
            for (r, sums) in sums[0].iter().enumerate() {
                let to = &mut scores[r * width + (panel - first) * WIDTH..][..WIDTH];
                to.copy_from_slice(sums.map(f32x8::to_array).as_flattened());
            }
        }
        let scale = self.heads.scale::<f32>();
        for (((row, head), seen), scores) in places.iter().zip(&seen).zip(scores.chunks_exact_mut(width)) {
            let seen = seen.start - first * WIDTH..seen.end - first * WIDTH;
            scores[seen.clone()].iter_mut().for_each(|s| *s *= scale);
            // SAFETY: each pair of a row and a head is one task's, and the block dies at the end of this turn.
            #[allow(unsafe_code)]
            let mut l = unsafe { self.l.block(*row, 1, *head, 1) };
            l.row(0)[0] = softmax(&mut scores[seen.clone()]);
            scores[..seen.start].fill(0.0);
            scores[seen.end..].fill(0.0);
        }
        let tokens = seen[R - 1].end - first * WIDTH;
        let p: Vec<[f32; R]> = (0..tokens).map(|j| std::array::from_fn(|r| scores[r * width + j])).collect();
        for (part, values) in values.iter().enumerate() {
            let mut sums = [[ZERO; R]];
            by_eight(&p, [&values[first * WIDTH..][..tokens]], None, &mut sums);
            let cols = WIDTH.min(dim - part * WIDTH);
            for ((row, head), sums) in places.iter().zip(&sums[0]) {
                // SAFETY: as of `l`.
                #[allow(unsafe_code)]
                let mut o = unsafe { self.o.block(*row, 1, head * dim + part * WIDTH, cols) };
                o.row(0).copy_from_slice(&sums.map(f32x8::to_array).as_flattened()[..cols]);
            }
        }
    }
}
