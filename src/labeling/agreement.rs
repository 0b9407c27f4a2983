//! How far people agree. Pure: rankings in, figures out. docs/ARCHITECTURE.md says what they mean.
//!
//! A ranking of k answers says of each of its k(k-1)/2 pairs that the first is better, worse or as good. Everything here is counted in
//! such pairs.

use hone_domain::Ranking;
use serde::Serialize;
use std::cmp::Ordering;

/// Pairs of answers of which two rankings say something, and of how many of them they say the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Agreement {
    /// Pairs.
    pub pairs: u64,
    /// Pairs of which both say the same.
    pub agreed: u64,
}

impl Agreement {
    /// Of two rankings of the same candidates.
    #[must_use]
    pub fn of(one: &Ranking, other: &Ranking) -> Self {
        let (one, other) = (relations(one), relations(other));
        let agreed = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        Self { pairs: one.len().min(other.len()) as u64, agreed: agreed as u64 }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { pairs: self.pairs + other.pairs, agreed: self.agreed + other.agreed }
    }

    /// The share of pairs on which they agree; none without pairs.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        (self.pairs > 0).then(|| self.agreed as f64 / self.pairs as f64)
    }
}

/// What a ranking says of each pair (i, j), i < j: `Less` when i is the better one.
#[must_use]
pub fn relations(ranking: &Ranking) -> Vec<Ordering> {
    let ranks = ranking.ranks();
    let pairs = (0..ranks.len()).flat_map(|i| (i + 1..ranks.len()).map(move |j| (i, j)));
    pairs.map(|(i, j)| ranks[i].cmp(&ranks[j])).collect()
}

/// How far apart two values are, for [`alpha`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Equal or not.
    Nominal,
    /// By how many values lie between them.
    Ordinal,
}

/// Krippendorff's alpha: 1 is full agreement, 0 what chance gives, below 0 is disagreement on purpose. None where nothing can be said:
/// fewer than two values that can be paired, or all of them the same.
///
/// alpha = 1 - D_o / D_e, from the coincidences o[c][k] = sum over units of (pairs of values c, k in the unit) / (m_u - 1), with
/// n_c = sum_k o[c][k], n = sum_c n_c, D_o = sum o[c][k] d(c, k) / n, D_e = sum n_c n_k d(c, k) / (n (n - 1)).
/// d is 0 or 1 (nominal), or (sum_{g=c..k} n_g - (n_c + n_k) / 2)^2 (ordinal).
/// Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011, sections C and D.
///
/// # Shapes
/// `units`: each the values (below `values`) that people gave it; one with fewer than two counts for nothing.
#[must_use]
pub fn alpha(units: &[Vec<usize>], values: usize, metric: Metric) -> Option<f64> {
    let mut coincidences = vec![vec![0.0; values]; values];
    for unit in units.iter().filter(|unit| unit.len() > 1) {
        let weight = 1.0 / (unit.len() - 1) as f64;
        for (i, c) in unit.iter().enumerate() {
            for (_, k) in unit.iter().enumerate().filter(|(j, _)| *j != i) {
                coincidences[*c][*k] += weight;
            }
        }
    }
    let totals: Vec<f64> = coincidences.iter().map(|row| row.iter().sum()).collect();
    let n: f64 = totals.iter().sum();
    let (mut observed, mut expected) = (0.0, 0.0);
    for c in 0..values {
        for k in 0..values {
            let distance = distance(c, k, &totals, metric);
            observed += coincidences[c][k] * distance;
            expected += totals[c] * totals[k] * distance;
        }
    }
    (expected > 0.0).then(|| 1.0 - (n - 1.0) * observed / expected)
}

fn distance(c: usize, k: usize, totals: &[f64], metric: Metric) -> f64 {
    match metric {
        _ if c == k => 0.0,
        Metric::Nominal => 1.0,
        Metric::Ordinal => {
            let (low, high) = (c.min(k), c.max(k));
            let between: f64 = totals[low..=high].iter().sum();
            (between - (totals[c] + totals[k]) / 2.0).powi(2)
        }
    }
}

/// Alpha of rankings, each group of the same candidates: a unit is a pair of candidates, its values worse < as good < better, and the
/// metric ordinal. Each pair counts in both directions, so that the order of the candidates makes no difference.
#[must_use]
pub fn alpha_of(groups: &[Vec<&Ranking>]) -> Option<f64> {
    let mut units = Vec::new();
    for group in groups {
        let relations: Vec<Vec<Ordering>> = group.iter().map(|ranking| relations(ranking)).collect();
        for pair in 0..relations.iter().map(Vec::len).min().unwrap_or(0) {
            let value = |ordering: Ordering| match ordering {
                Ordering::Greater => 0,
                Ordering::Equal => 1,
                Ordering::Less => 2,
            };
            let unit: Vec<usize> = relations.iter().map(|all| value(all[pair])).collect();
            units.push(unit.iter().map(|value| 2 - value).collect());
            units.push(unit);
        }
    }
    alpha(&units, 3, Metric::Ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(ranks: &[u32]) -> Ranking {
        Ranking::from_ranks(ranks).expect("ranks")
    }

    #[test]
    fn pairs_are_compared_one_by_one() {
        // (0,1) and (0,2) the same, (1,2) a tie against an order.
        let agreement = Agreement::of(&ranking(&[0, 1, 1]), &ranking(&[0, 1, 2]));
        assert_eq!(agreement, Agreement { pairs: 3, agreed: 2 });
        assert_eq!(Agreement::of(&ranking(&[0, 1]), &ranking(&[1, 0])), Agreement { pairs: 1, agreed: 0 });
        assert_eq!(Agreement::default().share(), None);
    }

    /// Krippendorff 2011, section C: four observers, twelve units, missing values. By unit:
    ///
    ///     1: 1 1 1    5: 2 2 2 2    9: 2 2 2 2        The units of one value (12) say nothing. 40 values can be paired:
    ///     2: 2 2 3 2  6: 1 2 3 4   10: 5 5 5          n_1 = 9, n_2 = 13, n_3 = 10, n_4 = 5, n_5 = 3.
    ///     3: 3 3 3 3  7: 4 4 4 4   11: 1 1
    ///     4: 3 3 3 3  8: 1 1 2 1   12: 3
    ///
    /// Nominal, by hand: o_cc = 7, 10, 8, 4, 3 (unit 2 gives 2-2 three pairs of two over 3 = 2, and 2-3 1 each way; unit 8 the same with 1
    /// and 2; unit 6 a third for each of its twelve ordered pairs), so o agrees in 32 of 40:
    /// alpha = 1 - 39 * (40 - 32) / (40^2 - (81 + 169 + 100 + 25 + 9)) = 1 - 312 / 1216 = 0.743, as printed there; ordinal 0.815.
    #[test]
    fn alpha_is_that_of_krippendorffs_own_example() {
        let units: [&[usize]; 12] = [
            &[1, 1, 1],
            &[2, 2, 3, 2],
            &[3, 3, 3, 3],
            &[3, 3, 3, 3],
            &[2, 2, 2, 2],
            &[1, 2, 3, 4],
            &[4, 4, 4, 4],
            &[1, 1, 2, 1],
            &[2, 2, 2, 2],
            &[5, 5, 5],
            &[1, 1],
            &[3],
        ];
        let units: Vec<Vec<usize>> = units.iter().map(|unit| unit.iter().map(|value| value - 1).collect()).collect();
        let nominal = alpha(&units, 5, Metric::Nominal).expect("values differ");
        assert!((nominal - (1.0 - 312.0 / 1216.0)).abs() < 1e-12, "{nominal}");
        let ordinal = alpha(&units, 5, Metric::Ordinal).expect("values differ");
        assert!((ordinal - 0.815).abs() < 5e-4, "{ordinal}");
    }

    #[test]
    fn alpha_of_rankings_is_one_zero_or_below() {
        let (up, down) = (ranking(&[0, 1, 2]), ranking(&[2, 1, 0]));
        assert_eq!(alpha_of(&[vec![&up, &up], vec![&down, &down]]), Some(1.0));
        assert!(alpha_of(&[vec![&up, &down], vec![&down, &up]]).expect("values differ") < 0.0);
        assert_eq!(alpha_of(&[vec![&up]]), None, "one opinion is no agreement");
        let tied = ranking(&[0, 0, 0]);
        assert_eq!(alpha_of(&[vec![&tied, &tied]]), None, "all the same: chance would agree as well");
        // The candidates in another order: the same figure.
        let (a, b) = (ranking(&[0, 1, 1]), ranking(&[0, 2, 1]));
        let (a_turned, b_turned) = (ranking(&[1, 1, 0]), ranking(&[1, 2, 0]));
        let (one, turned) = (alpha_of(&[vec![&a, &b]]), alpha_of(&[vec![&a_turned, &b_turned]]));
        assert!((one.expect("some") - turned.expect("some")).abs() < 1e-12);
    }
}
