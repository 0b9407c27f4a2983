//! How good a classifier is on texts that it never saw: AUC with DeLong's interval, and whether its scores are probabilities. Pure
//! functions over numbers.

use crate::evaluate::{Estimate, Z95};
use serde::{Deserialize, Serialize};

/// Bins of the calibration error, of equal width over 0 to 1 (Guo et al. 2017, arXiv 1706.04599).
const BINS: usize = 10;

/// Figures are kept to four decimals, so that a file with them is the same on every machine.
const DECIMALS: f64 = 1e4;

/// What was found on one set of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Texts.
    pub n: usize,
    /// Those with a label of 0.5 or more.
    pub toxic: usize,
    /// Chance that a toxic text has a higher score than another, ties half, 0..1, with DeLong's 95 % interval. `None` without both kinds.
    pub auc: Option<Estimate>,
    /// Mean distance between score and label in bins of like score, 0..1; 0 is best.
    pub calibration_error: f64,
    /// Mean score, 0..1; beside `toxic / n` it says whether the classifier sees more or less than people do.
    pub score_mean: f64,
    /// Share of the texts with a score of 0.5 or more.
    pub flagged: f64,
}

/// Measures scores against labels.
///
/// # Shapes
/// `scores` (n) and `labels` (n), both 0..1.
#[must_use]
pub fn measure(scores: &[f64], labels: &[f64]) -> Measure {
    let of = |toxic: bool| {
        let mine = scores.iter().zip(labels).filter(move |(_, l)| (**l >= 0.5) == toxic);
        mine.map(|(s, _)| *s).collect::<Vec<f64>>()
    };
    let (toxic, other) = (of(true), of(false));
    let n = scores.len();
    let mean = |sum: f64| if n == 0 { 0.0 } else { rounded(sum / n as f64) };
    let auc = auc(&toxic, &other);
    Measure {
        n,
        toxic: toxic.len(),
        auc: auc.map(|a| Estimate { mean: rounded(a.mean), low: rounded(a.low), high: rounded(a.high) }),
        calibration_error: rounded(calibration_error(scores, labels)),
        score_mean: mean(scores.iter().sum()),
        flagged: mean(scores.iter().filter(|s| **s >= 0.5).count() as f64),
    }
}

fn rounded(x: f64) -> f64 {
    (x * DECIMALS).round() / DECIMALS
}

/// P(score of a positive > score of a negative) + P(equal) / 2, and its 95 % interval by DeLong, DeLong and Clarke-Pearson (Biometrics 44,
/// 1988): with the share v of the other kind that each text stands above, variance = var(v of positives) / m + var(v of negatives) / n. By
/// mid-ranks as Sun and Xu (IEEE SPL 21, 2014). Where the two kinds don't overlap at all the interval has no width: look at n.
///
/// `None` without two of each kind.
fn auc(positives: &[f64], negatives: &[f64]) -> Option<Estimate> {
    let (m, n) = (positives.len(), negatives.len());
    if m < 2 || n < 2 {
        return None;
    }
    let all: Vec<f64> = positives.iter().chain(negatives).copied().collect();
    let (of_all, of_positives, of_negatives) = (mid_ranks(&all), mid_ranks(positives), mid_ranks(negatives));
    // How much of the other kind is below, ties half: the rank among all less the rank among one's own.
    let above: Vec<f64> = (0..m).map(|i| (of_all[i] - of_positives[i]) / n as f64).collect();
    let below: Vec<f64> = (0..n).map(|i| 1.0 - (of_all[m + i] - of_negatives[i]) / m as f64).collect();
    let mean = above.iter().sum::<f64>() / m as f64;
    let half = Z95 * (variance(&above) / m as f64 + variance(&below) / n as f64).sqrt();
    Some(Estimate { mean, low: (mean - half).max(0.0), high: (mean + half).min(1.0) })
}

/// Ranks from 1, equal values all with the mean of their ranks.
fn mid_ranks(xs: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    order.sort_by(|&a, &b| xs[a].total_cmp(&xs[b]));
    let mut ranks = vec![0.0; xs.len()];
    let mut first = 0;
    for tied in order.chunk_by(|&a, &b| xs[a] == xs[b]) {
        let rank = first as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&i| ranks[i] = rank);
        first += tied.len();
    }
    ranks
}

/// Of a sample: over n - 1.
fn variance(xs: &[f64]) -> f64 {
    let mean = xs.iter().sum::<f64>() / xs.len() as f64;
    xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (xs.len() - 1) as f64
}

/// Sum over the bins of (texts in it / n) * |mean label - mean score|; 0 without texts.
fn calibration_error(scores: &[f64], labels: &[f64]) -> f64 {
    let mut gaps = [0.0; BINS];
    for (score, label) in scores.iter().zip(labels) {
        gaps[((score * BINS as f64) as usize).min(BINS - 1)] += label - score;
    }
    gaps.iter().map(|gap| gap.abs()).sum::<f64>() / (scores.len().max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AUC by its definition: every pair.
    fn by_pairs(positives: &[f64], negatives: &[f64]) -> f64 {
        let pair = |p: &f64, n: &f64| if p > n { 1.0 } else { f64::from(u8::from(p == n)) / 2.0 };
        let sum: f64 = positives.iter().flat_map(|p| negatives.iter().map(move |n| pair(p, n))).sum();
        sum / (positives.len() * negatives.len()) as f64
    }

    #[test]
    fn auc_is_the_share_of_pairs_in_order_with_ties_half() {
        let (p, n) = ([0.9, 0.5, 0.5, 0.3], [0.5, 0.3, 0.1, 0.1, 0.7]);
        let found = auc(&p, &n).expect("both kinds");
        assert!((found.mean - by_pairs(&p, &n)).abs() < 1e-12, "{found:?}");
        assert!(found.low < found.mean && found.mean < found.high);
        // DeLong's components by hand: the share of the five others that each stands above, of the four that are above each.
        let above = [1.0, 0.7, 0.7, 0.5];
        let below = [0.5, 0.875, 1.0, 1.0, 0.25];
        let by_hand = Z95 * (variance(&above) / 4.0 + variance(&below) / 5.0).sqrt();
        assert!((found.mean - found.low - by_hand).abs() < 1e-12, "{found:?} {by_hand}");
        assert_eq!(auc(&[0.9, 0.8], &[0.1, 0.2]).map(|a| a.mean), Some(1.0));
        assert_eq!(auc(&[0.9], &[0.1, 0.2]), None);
    }

    #[test]
    fn a_classifier_that_means_what_it_says_has_no_calibration_error() {
        let scores: Vec<f64> = (0..100).map(|i| if i < 50 { 0.2 } else { 0.8 }).collect();
        let labels: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i % 50 < if i < 50 { 10 } else { 40 }))).collect();
        let found = measure(&scores, &labels);
        assert_eq!((found.n, found.toxic, found.calibration_error), (100, 50, 0.0));
        assert_eq!((found.score_mean, found.flagged), (0.5, 0.5));
        assert_eq!(measure(&[0.9, 0.9], &[0.0, 0.0]).calibration_error, 0.9);
        let none = measure(&[], &[]);
        assert_eq!((none.n, none.auc, none.calibration_error), (0, None, 0.0));
    }
}
