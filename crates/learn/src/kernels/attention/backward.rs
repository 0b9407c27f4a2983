//! Attention backward: P again from the scores and their log-sum-exp, then the three gradients, tile by tile.

use super::{Heads, Packing, Sequence, Tile, packed, scores_of, visible_columns};
use crate::kernels::Real;
use crate::kernels::matmul::{Columns, Mat, MatMut, Out, matmul_serial};
use crate::kernels::reduce::dot;
use rayon::prelude::*;

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
