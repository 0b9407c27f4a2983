//! Attention against its definition, written as loops, and its gradient against differences.

use super::*;
use crate::kernels::check::{assert_gradient, random, weighted};
use crate::kernels::reduce::dot;

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

/// Heads whose width is no multiple of a panel's, and whose groups have 1, 3 and 7 heads.
const CACHED: [(usize, usize, usize); 3] = [(2, 2, 20), (6, 2, 16), (14, 2, 24)];

/// What tokens attend to, which come in parts of so many.
fn in_parts(heads: Heads, qkv: &[f32], parts: &[usize]) -> Vec<f32> {
    let (stride, mut from, mut o) = (heads.qkv_dim(), 0, Vec::new());
    let mut cache = KeysValues::new(heads.kv_heads, heads.dim, 0);
    for &part in parts {
        let rows = &qkv[from * stride..(from + part) * stride];
        for row in rows.chunks(stride) {
            let (k, v) = row[heads.q_dim()..].split_at(heads.kv_dim());
            cache.push(k, v);
        }
        let (mut of_part, mut l) = (vec![f32::NAN; part * heads.q_dim()], vec![f32::NAN; part * heads.heads]);
        let sequence = Cached { queries: 0..part, cache: &cache };
        cached(heads, (rows, stride), &[sequence], &mut of_part, &mut l);
        assert!(l.iter().all(|l| l.is_finite()));
        o.extend(of_part);
        from += part;
        cache = cache.prefix(from);
    }
    o
}

#[test]
fn what_is_cached_is_attended_to_as_if_it_were_not_in_whatever_parts_it_came() {
    for ((heads, kv_heads, dim), window) in CACHED.into_iter().flat_map(|c| [None, Some(7), Some(40)].map(|w| (c, w))) {
        let heads = Heads { heads, kv_heads, dim, window };
        let tokens = 70;
        let qkv: Vec<f32> = random(tokens * heads.qkv_dim(), 5).iter().map(|x| *x as f32).collect();
        let packing = Packing { starts: &[0, 70], prefixes: &[None] };
        let (mut o, mut l) = (vec![0.0; tokens * heads.q_dim()], vec![0.0; tokens * heads.heads]);
        forward(heads, &qkv, heads.qkv_dim(), &packed(&qkv, packing, heads), &mut o, &mut l);
        let whole = in_parts(heads, &qkv, &[70]);
        for (a, b) in o.iter().zip(&whole) {
            assert!((a - b).abs() < 1e-5, "{heads:?}: {a} {b}");
        }
        assert_eq!(whole, in_parts(heads, &qkv, &[1; 70]), "{heads:?}: token by token");
        assert_eq!(whole, in_parts(heads, &qkv, &[17, 2, 30, 21]), "{heads:?}");
    }
}
