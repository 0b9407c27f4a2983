//! The output heads: from hidden states straight to the log-probs of selected tokens, and to scalar scores.
//!
//! With `z = h E^T / temperature`, `L = log sum_v exp z_v` and `p_v = exp(z_v - L)`: `logprob_t = z_t - L`,
//! `entropy = L - sum_v p_v z_v`, `d logprob_t / d h = (E_t - sum_v p_v E_v) / temperature`. The vocabulary is walked in chunks
//! with a running maximum (Milakov & Gimelshein 2018, arXiv 1805.02867), so that `(tokens, vocab)` never exists in full.

use crate::backend::Cpu;
use crate::kernels::Real;
use crate::kernels::matmul::{Mat, MatMut, Out, matmul};
use crate::kernels::reduce::{dot, exp_sum, max};
use crate::model::{Base, Model, Weights};
use rayon::prelude::*;
use std::borrow::Cow;

/// Values in a chunk of logits: 8 MB, about what the last cache level holds.
const CHUNK_VALUES: usize = 1 << 21;

/// What [`selected_logprobs`] finds, one value per selected row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SelectedLogprobs {
    /// Log-probability of the target, in nats.
    pub logprob: Vec<f32>,
    /// Entropy of the whole distribution, in nats.
    pub entropy: Vec<f32>,
}

/// Log-prob of `targets[i]` given the hidden state in row `rows[i]` of `hidden`, `(tokens, hidden)`, with logits divided by
/// `temperature`. For next-token log-probs, row t predicts the token at t + 1.
///
/// # Panics
/// If a row or target is out of range, or `rows` and `targets` differ in length.
pub fn selected_logprobs(
    base: &Base,
    hidden: &[f32],
    rows: &[usize],
    targets: &[u32],
    temperature: f32,
) -> SelectedLogprobs {
    let x = gather(hidden, rows, base.config().hidden);
    select(base, &x, targets, temperature, None)
}

/// The same, and the slope `d logprob / d hidden`, `(rows, hidden)`, at the price of one more product: with it backward needs
/// none ([`add_slope`]).
///
/// # Panics
/// As [`selected_logprobs`].
pub fn selected_logprobs_with_slope(
    base: &Base,
    hidden: &[f32],
    rows: &[usize],
    targets: &[u32],
    temperature: f32,
) -> (SelectedLogprobs, Vec<f32>) {
    let x = gather(hidden, rows, base.config().hidden);
    let mut slope = vec![0.0; x.len()];
    let found = select(base, &x, targets, temperature, Some(&mut slope));
    (found, slope)
}

/// `x` is `(rows, hidden)`, `slope` likewise and zero.
fn select(base: &Base, x: &[f32], targets: &[u32], temperature: f32, slope: Option<&mut [f32]>) -> SelectedLogprobs {
    match &base.weights {
        Weights::Host(model) => finish(&pass(&vocabulary(model), model.config.hidden, x, targets, temperature, slope)),
        #[cfg(feature = "cuda")]
        Weights::Cuda(model, _) => {
            assert_eq!(x.len(), targets.len() * model.config.hidden, "as many targets as rows");
            let state = crate::backend::cuda::selected(model, x, targets, temperature, slope);
            let running =
                |[top, sum, weighted, target, rescale]: [f32; 5]| Running { top, sum, weighted, target, rescale };
            finish(&state.into_iter().map(running).collect::<Vec<_>>())
        }
    }
}

/// `d_hidden[rows[i]] += d_logprob[i] * slope[i]`; `d_hidden` is `(tokens, hidden)`.
pub fn add_slope(slope: &[f32], rows: &[usize], d_logprob: &[f32], d_hidden: &mut [f32]) {
    let h = if rows.is_empty() { return } else { slope.len() / rows.len() };
    for ((&row, slope), &d) in rows.iter().zip(slope.chunks_exact(h)).zip(d_logprob) {
        d_hidden[row * h..][..h].iter_mut().zip(slope).for_each(|(x, s)| *x += d * s);
    }
}

/// Backward of [`selected_logprobs`]: adds to `d_hidden`, `(tokens, hidden)`. Computes the distribution again; where forward is
/// also needed, [`selected_logprobs_with_slope`] is cheaper.
///
/// # Panics
/// As [`selected_logprobs`].
pub fn selected_logprobs_backward(
    base: &Base,
    hidden: &[f32],
    rows: &[usize],
    targets: &[u32],
    temperature: f32,
    d_logprob: &[f32],
    d_hidden: &mut [f32],
) {
    let (_, slope) = selected_logprobs_with_slope(base, hidden, rows, targets, temperature);
    add_slope(&slope, rows, d_logprob, d_hidden);
}

/// `scores[i] = hidden[rows[i]] . weight`; `weight` is `(hidden,)`.
pub fn scores(hidden: &[f32], rows: &[usize], weight: &[f32]) -> Vec<f32> {
    let h = weight.len();
    rows.iter().map(|&row| dot(&hidden[row * h..][..h], weight)).collect()
}

/// Backward of [`scores`]: `d_hidden[rows[i]] += d_scores[i] weight`, `d_weight += d_scores[i] hidden[rows[i]]`.
pub fn scores_backward(
    hidden: &[f32],
    rows: &[usize],
    weight: &[f32],
    d_scores: &[f32],
    d_hidden: &mut [f32],
    d_weight: &mut [f32],
) {
    let h = weight.len();
    for (&row, &d) in rows.iter().zip(d_scores) {
        d_hidden[row * h..][..h].iter_mut().zip(weight).for_each(|(x, w)| *x += d * w);
        d_weight.iter_mut().zip(&hidden[row * h..][..h]).for_each(|(x, v)| *x += d * v);
    }
}

fn gather(hidden: &[f32], rows: &[usize], h: usize) -> Vec<f32> {
    let mut x = Vec::with_capacity(rows.len() * h);
    rows.iter().for_each(|&row| x.extend_from_slice(&hidden[row * h..][..h]));
    x
}

/// A row's sums so far, relative to its largest logit so far.
#[derive(Clone, Copy)]
struct Running<T> {
    top: T,
    /// `sum_v exp(z_v - top)`.
    sum: T,
    /// `sum_v exp(z_v - top) z_v`.
    weighted: T,
    target: T,
    /// What the row's slope so far must be multiplied by since `top` last rose.
    rescale: T,
}

/// The rows of the vocabulary's matrix, `(tokens, hidden)`, by number.
struct Vocabulary<'a, T: Clone> {
    tokens: usize,
    rows: Box<dyn Fn(usize, usize) -> Cow<'a, [T]> + Sync + 'a>,
}

fn vocabulary(model: &Model<Cpu>) -> Vocabulary<'_, f32> {
    let (w, h) = (model.head_weight(), model.config.hidden);
    Vocabulary { tokens: model.config.vocab, rows: Box::new(move |from, n| w.slice(from * h, n * h)) }
}

/// `x` is `(rows, h)`, `slope` likewise and zero.
fn pass<T: Real + Into<f64>>(
    vocabulary: &Vocabulary<'_, T>,
    h: usize,
    x: &[T],
    targets: &[u32],
    temperature: T,
    mut slope: Option<&mut [T]>,
) -> Vec<Running<T>> {
    let (rows, vocab) = (targets.len(), vocabulary.tokens);
    assert_eq!(x.len(), rows * h, "as many targets as rows");
    assert!(targets.iter().all(|&t| (t as usize) < vocab), "targets are within the vocabulary");
    let start = Running { top: T::NEG_INFINITY, sum: T::ZERO, weighted: T::ZERO, target: T::ZERO, rescale: T::ZERO };
    let mut running = vec![start; rows];
    let chunk = (CHUNK_VALUES / rows.max(1)).clamp(256, 8192).min(vocab);
    let mut logits = vec![T::ZERO; rows * chunk];
    for from in (0..vocab).step_by(chunk) {
        let n = chunk.min(vocab - from);
        let logits = &mut logits[..rows * n];
        let e = (vocabulary.rows)(from, n);
        let e = Mat::new(&e, n, h);
        matmul(MatMut::new(logits, rows, n), Out::Set, T::ONE / temperature, Mat::new(x, rows, h), e.t());
        let each = logits.par_chunks_exact_mut(n).zip(running.par_iter_mut()).zip(targets.par_iter());
        each.for_each(|((z, running), &target)| add_chunk(running, z, target as usize, from));
        if let Some(slope) = slope.as_deref_mut() {
            rescale(slope, h, &running);
            matmul(MatMut::new(slope, rows, h), Out::Add, T::ONE, Mat::new(logits, rows, n), e);
        }
    }
    if let Some(slope) = slope {
        let each = slope.par_chunks_exact_mut(h).zip(running.par_iter()).zip(targets.par_iter());
        each.for_each(|((slope, running), &target)| {
            let e = (vocabulary.rows)(target as usize, 1);
            slope.iter_mut().zip(e.iter()).for_each(|(s, e)| *s = (*e - *s / running.sum) / temperature);
        });
    }
    running
}

/// Adds a chunk of a row's logits, which become `exp(z - top)`.
fn add_chunk<T: Real>(running: &mut Running<T>, z: &mut [T], target: usize, from: usize) {
    if (from..from + z.len()).contains(&target) {
        running.target = z[target - from];
    }
    let top = max(z).max(running.top);
    // Before the first chunk there is nothing to rescale, and the old maximum is minus infinity.
    running.rescale = if from == 0 { T::ZERO } else { (running.top - top).exp() };
    running.top = top;
    running.sum *= running.rescale;
    running.weighted *= running.rescale;
    // sum e^(z-top) z in pieces, so that z is still in the nearest cache when its exponential is there.
    let mut copy = [T::ZERO; 256];
    for piece in z.chunks_mut(256) {
        let copy = &mut copy[..piece.len()];
        copy.copy_from_slice(piece);
        running.sum += exp_sum(piece, top);
        running.weighted += dot(piece, copy);
    }
}

fn rescale<T: Real>(slope: &mut [T], h: usize, running: &[Running<T>]) {
    slope.par_chunks_exact_mut(h).zip(running.par_iter()).for_each(|(slope, r)| {
        if r.rescale < T::ONE {
            slope.iter_mut().for_each(|s| *s *= r.rescale);
        }
    });
}

/// The last steps subtract numbers of like size, so they are done in f64.
fn finish<T: Real + Into<f64>>(running: &[Running<T>]) -> SelectedLogprobs {
    let mut found = SelectedLogprobs::default();
    for r in running {
        let (top, sum, weighted, target) = (r.top.into(), r.sum.into(), r.weighted.into(), r.target.into());
        let log_sum = top + sum.ln();
        found.logprob.push((target - log_sum) as f32);
        found.entropy.push((log_sum - weighted / sum) as f32);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{assert_gradient, random};

    const H: usize = 3;
    /// More than one chunk of 8192.
    const VOCAB: usize = 8192 + 301;

    fn vocabulary(e: &[f64]) -> Vocabulary<'_, f64> {
        Vocabulary { tokens: VOCAB, rows: Box::new(|from, n| Cow::Borrowed(&e[from * H..][..n * H])) }
    }

    /// By the definition, in f64.
    fn naive(e: &[f64], x: &[f64], target: usize, temperature: f64) -> (f64, f64) {
        let z: Vec<f64> = e.chunks(H).map(|e| dot(e, x) / temperature).collect();
        let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        (z[target] - log_sum, -z.iter().map(|z| (z - log_sum).exp() * (z - log_sum)).sum::<f64>())
    }

    #[test]
    fn chunks_agree_with_the_definition() {
        let e: Vec<f64> = random(VOCAB * H, 1).iter().map(|x| x * 4.0).collect();
        let x: Vec<f64> = random(2 * H, 2).iter().map(|x| x * 2.0).collect();
        let targets = [7, VOCAB as u32 - 1];
        let found = finish(&pass(&vocabulary(&e), H, &x, &targets, 0.7, None));
        for i in 0..2 {
            let (logprob, entropy) = naive(&e, &x[i * H..][..H], targets[i] as usize, 0.7);
            assert!((f64::from(found.logprob[i]) - logprob).abs() < 1e-5, "{} {logprob}", found.logprob[i]);
            assert!((f64::from(found.entropy[i]) - entropy).abs() < 1e-5, "{} {entropy}", found.entropy[i]);
        }
    }

    #[test]
    fn slope_is_the_gradient() {
        let e: Vec<f64> = random(VOCAB * H, 3).iter().map(|x| x * 4.0).collect();
        let x = random(2 * H, 4);
        let targets = [8400, 3];
        let mut slope = vec![0.0; 2 * H];
        pass(&vocabulary(&e), H, &x, &targets, 1.3, Some(&mut slope));
        assert_gradient("slope", &x, &slope, |x| {
            (0..2).map(|i| naive(&e, &x[i * H..][..H], targets[i] as usize, 1.3).0).sum()
        });
    }

    #[test]
    fn scores_and_their_gradient() {
        let hidden = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(scores(&hidden, &[1], &[10.0, 1.0]), [34.0]);
        let (mut d_hidden, mut d_weight) = ([0.0; 4], [1.0, 1.0]);
        scores_backward(&hidden, &[1], &[10.0, 1.0], &[2.0], &mut d_hidden, &mut d_weight);
        assert_eq!((d_hidden, d_weight), ([0.0, 0.0, 20.0, 2.0], [7.0, 9.0]));
    }
}
