//! From logits to a token and its log-prob, for rollouts.

use crate::kernels::reduce::{exp_sum, max};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Draws a token from `softmax(logits / temperature)`, cut to the nucleus `top_p` (Holtzman et al. 2019, arXiv 1904.09751), and
/// its log-prob, in nats, in the whole distribution. At temperature 0 it is the likeliest token, and the log-prob is that of
/// temperature 1. `None` when a logit is not finite. Overwrites `logits`.
pub(crate) fn sample(logits: &mut [f32], temperature: f32, top_p: f32, rng: &mut ChaCha8Rng) -> Option<(u32, f32)> {
    let greedy = temperature <= 0.0;
    if !greedy {
        logits.iter_mut().for_each(|z| *z /= temperature);
    }
    let sum = {
        let top = max(logits);
        exp_sum(logits, top)
    };
    if !sum.is_finite() {
        return None;
    }
    let weights = logits; // e^(z - top) by now
    let token = if greedy {
        // The first of the largest: on a tie the lower id.
        (0..weights.len()).fold(0, |best, i| if weights[i] > weights[best] { i } else { best })
    } else {
        draw(weights, sum, top_p, rng)
    };
    Some((token as u32, (weights[token] / sum).ln()))
}

fn draw(weights: &[f32], sum: f32, top_p: f32, rng: &mut ChaCha8Rng) -> usize {
    let uniform: f64 = rng.random();
    if top_p >= 1.0 {
        let all = weights.iter().map(|&w| f64::from(w)).enumerate();
        return walk(all, uniform * weights.iter().map(|&w| f64::from(w)).sum::<f64>());
    }
    // Tokens that weigh less than (1 - p) / n each weigh less than 1 - p together: none of them is in the nucleus.
    let least = sum * (1.0 - top_p) / weights.len() as f32;
    let mut likely: Vec<(usize, f64)> =
        weights.iter().enumerate().filter(|(_, w)| **w >= least).map(|(i, &w)| (i, f64::from(w))).collect();
    likely.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let (mut mass, mut kept) = (0.0, 0);
    while kept < likely.len() && (kept == 0 || mass < f64::from(top_p) * f64::from(sum)) {
        mass += likely[kept].1;
        kept += 1;
    }
    likely.truncate(kept);
    walk(likely.into_iter(), uniform * mass)
}

/// The token at which the running sum passes `point`.
fn walk(weights: impl Iterator<Item = (usize, f64)>, point: f64) -> usize {
    let (mut passed, mut last) = (0.0, 0);
    for (token, weight) in weights {
        passed += weight;
        last = token;
        if passed > point {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Probabilities 1/2, 1/4, 1/8, 1/8.
    fn logits() -> Vec<f32> {
        [0.5f32, 0.25, 0.125, 0.125].map(f32::ln).to_vec()
    }

    fn counts(temperature: f32, top_p: f32) -> [usize; 4] {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut counts = [0; 4];
        for _ in 0..8000 {
            let (token, _) = sample(&mut logits(), temperature, top_p, &mut rng).expect("finite");
            counts[token as usize] += 1;
        }
        counts
    }

    #[test]
    fn frequencies_follow_the_distribution_and_the_nucleus() {
        for (count, expected) in counts(1.0, 1.0).into_iter().zip([4000.0, 2000.0, 1000.0, 1000.0]) {
            // Six standard deviations of a binomial are below 6 * sqrt(2000).
            assert!((count as f64 - expected).abs() < 270.0, "{count} {expected}");
        }
        let [a, b, c, d] = counts(1.0, 0.7);
        assert!(c == 0 && d == 0 && (a as f64 / b as f64 - 2.0).abs() < 0.2, "the nucleus is the first two: {a} {b}");
        let [a, b, ..] = counts(0.5, 1.0);
        assert!((a as f64 / b as f64 - 4.0).abs() < 0.5, "half the temperature squares the ratio: {a} {b}");
        assert_eq!(counts(0.0, 1.0), [8000, 0, 0, 0]);
    }

    #[test]
    fn logprobs_are_of_the_whole_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (_, logprob) = sample(&mut logits(), 1.0, 0.1, &mut rng).expect("finite");
        assert!((logprob - 0.5f32.ln()).abs() < 1e-6);
        let (_, logprob) = sample(&mut logits(), 0.0, 1.0, &mut rng).expect("finite");
        assert!((logprob - 0.5f32.ln()).abs() < 1e-6);
        assert_eq!(sample(&mut [0.0, f32::NAN], 1.0, 1.0, &mut rng), None);
    }
}
