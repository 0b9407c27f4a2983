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
