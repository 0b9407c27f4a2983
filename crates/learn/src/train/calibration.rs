//! Whether a reward model means what it says: sigmoid(r_w - r_l) is its probability that w is better, and of the pairs that it
//! gives 0.8, 80 % should be ordered so (Guo et al. 2017, arXiv 1706.04599). Pure functions over differences of scores.

use crate::losses::sigmoid;
use serde::Serialize;

/// Bins of confidence between 0.5 and 1.
const BINS: usize = 10;

/// Pairs of like confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Bin {
    /// Lower end of the confidence, which belongs to the bin.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
    /// Pairs in it.
    pub(crate) pairs: f64,
    /// Mean confidence, 0 without pairs.
    pub(crate) confidence: f64,
    /// Share that is ordered as the labeler did, equal scores half; 0 without pairs.
    pub(crate) accuracy: f64,
}

/// The reliability table and what is made of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Calibration {
    /// Expected calibration error: the mean over pairs of |accuracy - confidence| of their bin.
    pub(crate) error: f64,
    /// T that fits these pairs best in sigmoid(d / T): above 1 the model is too sure of itself.
    pub(crate) temperature: f64,
    /// The calibration error at that temperature, on the pairs that it was fitted to.
    pub(crate) error_at_temperature: f64,
    /// By confidence max(p, 1 - p), from 0.5 up.
    pub(crate) bins: Vec<Bin>,
}

/// From d = r_w - r_l of pairs; `None` without pairs.
pub(crate) fn calibration(differences: &[f64]) -> Option<Calibration> {
    if differences.is_empty() {
        return None;
    }
    let temperature = temperature(differences);
    let bins = table(differences);
    let at_temperature: Vec<f64> = differences.iter().map(|d| d / temperature).collect();
    Some(Calibration { error: error(&bins), temperature, error_at_temperature: error(&table(&at_temperature)), bins })
}

fn table(differences: &[f64]) -> Vec<Bin> {
    let width = 0.5 / BINS as f64;
    let ends = |i: usize| 0.5 + width * i as f64;
    let mut bins: Vec<Bin> = (0..BINS).map(|i| Bin { low: ends(i), high: ends(i + 1), ..Bin::default() }).collect();
    for &d in differences {
        let confidence = sigmoid(d.abs());
        let bin = &mut bins[(((confidence - 0.5) / width) as usize).min(BINS - 1)];
        bin.pairs += 1.0;
        bin.confidence += confidence;
        bin.accuracy += if d == 0.0 { 0.5 } else { f64::from(d > 0.0) };
    }
    for bin in bins.iter_mut().filter(|b| b.pairs > 0.0) {
        bin.confidence /= bin.pairs;
        bin.accuracy /= bin.pairs;
    }
    bins
}

fn error(bins: &[Bin]) -> f64 {
    let pairs: f64 = bins.iter().map(|b| b.pairs).sum();
    bins.iter().map(|b| b.pairs / pairs * (b.accuracy - b.confidence).abs()).sum()
}

/// Where the mean of softplus(-d / T) is least. In a = 1 / T it is convex with slope -mean d sigma(-a d), so halving the interval of
/// log a finds the zero; T stays within 1/1000..1000, where pairs that are all right (or no better than chance) would drive it out.
fn temperature(differences: &[f64]) -> f64 {
    let slope = |a: f64| -differences.iter().map(|d| d * sigmoid(-a * d)).sum::<f64>();
    let (mut low, mut high) = (-(1000f64.ln()), 1000f64.ln());
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle.exp()) <= 0.0 { low = middle } else { high = middle }
    }
    (-0.5 * (low + high)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` pairs whose true probability is sigmoid(d), said as `said` times d.
    fn pairs(said: f64, n: usize) -> Vec<f64> {
        let logits = [0.2, 0.7, 1.3, 2.1];
        let share = |d: f64| (sigmoid(d) * n as f64).round() as usize;
        logits.iter().flat_map(|&d| (0..n).map(move |i| if i < share(d) { said * d } else { -said * d })).collect()
    }

    #[test]
    fn honest_scores_are_calibrated_and_loud_ones_are_not() {
        let honest = calibration(&pairs(1.0, 2000)).expect("pairs");
        assert!(honest.error < 0.001 && (honest.temperature - 1.0).abs() < 0.01, "{honest:?}");
        assert_eq!(honest.bins.iter().map(|b| b.pairs).sum::<f64>(), 8000.0);
        let loud = calibration(&pairs(3.0, 2000)).expect("pairs");
        assert!(loud.error > 0.1 && (loud.temperature - 3.0).abs() < 0.03, "{loud:?}");
        assert!(loud.error_at_temperature < 0.001);
        assert!((calibration(&pairs(0.5, 2000)).expect("pairs").temperature - 0.5).abs() < 0.01);
    }

    #[test]
    fn extremes_stay_finite() {
        assert_eq!(calibration(&[]), None);
        let sure = calibration(&[900.0, 1000.0]).expect("pairs");
        assert!(sure.error < 1e-12 && sure.temperature <= 1.0, "{sure:?}");
        let wrong = calibration(&[-1.0, -2.0]).expect("pairs");
        assert!(wrong.error > 0.7 && wrong.temperature > 900.0, "{wrong:?}");
        let nothing = calibration(&[0.0; 3]).expect("pairs");
        assert!(nothing.error < 1e-12 && nothing.temperature.is_finite(), "{nothing:?}");
    }
}
