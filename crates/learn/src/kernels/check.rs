//! Checking a backward function against central finite differences, in f64.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `n` values in ±1.
pub(crate) fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Asserts that `gradient` is the derivative of `loss` at `x`, within 1e-6 of the gradient's largest value.
pub(crate) fn assert_gradient(what: &str, x: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    assert_eq!(x.len(), gradient.len(), "{what}");
    let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
    assert!(largest > 1e-4, "{what}: a gradient of zero proves nothing");
    let mut moved = x.to_vec();
    for i in 0..x.len() {
        moved[i] = x[i] + STEP;
        let above = loss(&moved);
        moved[i] = x[i] - STEP;
        let below = loss(&moved);
        moved[i] = x[i];
        let expected = (above - below) / (2.0 * STEP);
        assert!(
            (expected - gradient[i]).abs() < 1e-6 * (1.0 + largest),
            "{what}[{i}]: {} is not {expected}",
            gradient[i]
        );
    }
}

/// A loss whose gradient with respect to `y` is `weights`: their dot product.
pub(crate) fn weighted(y: &[f64], weights: &[f64]) -> f64 {
    y.iter().zip(weights).map(|(a, b)| a * b).sum()
}
