//! Values of items to means with intervals, and two policies' values on the same items to paired differences. Pure functions over numbers.

use crate::LearnError;
use crate::evaluate::{Estimate, Z95, wilson_interval};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The higher the better.
    Higher,
    /// The lower the better.
    Lower,
    /// The nearer to 1/2 the better.
    Half,
    /// It is there to be looked at.
    Neutral,
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Of items or of probability, 0 to 1.
    Share,
    /// Of entropy, 0 to 1.
    Bits,
    /// Of log-probability, per token or per item.
    Nats,
    /// The exponential of nats per token.
    Perplexity,
}

/// What the values of a figure are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// 1 where something holds, 0 where not: Wilson's interval.
    Events,
    /// Numbers: the mean, weighted by [`Item::weight`], with its normal interval.
    Amounts,
    /// The exponential of that mean and of the interval's ends.
    Exponent,
}

/// A figure that a suite has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FigureKind {
    /// Its name, which begins with the suite's.
    pub name: &'static str,
    /// Which way it is better.
    pub better: Better,
    /// What it is counted in.
    pub unit: Unit,
    /// What its values are.
    pub of: Of,
}

/// What one item gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its place in the data, from 0.
    pub item: usize,
    /// How much it counts: 1, or its number of tokens.
    pub weight: f64,
    /// A value for each of the suite's figures; `None` where the item says nothing of it.
    pub values: Vec<Option<f64>>,
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// As `truthfulqa_mc1`.
    pub name: String,
    /// The mean and its interval.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Items that it is made of.
    pub n: usize,
    /// Which way it is better.
    pub better: Better,
    /// What it is counted in.
    pub unit: Unit,
}

/// A classifier, by which other results are told apart that can't be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoredBy {
    /// Its name and number.
    pub version: String,
    /// Its identity.
    pub sha256: String,
}

/// What a suite found of one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteResult {
    /// The suite's name.
    pub suite: String,
    /// Its version.
    pub version: u32,
    /// Hash of its data.
    pub data_sha256: String,
    /// What items were drawn with, and answers where there are any.
    pub seed: u64,
    /// Most items; all where there is none.
    pub limit: Option<usize>,
    /// The classifier that values come from, where they come from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scored_by: Option<ScoredBy>,
    /// The figures.
    pub figures: Vec<Figure>,
    /// What they are made of.
    pub items: Vec<Item>,
}

/// The new policy's figure against the old one's, on the same items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The figure's name.
    pub name: String,
    /// The old policy's figure.
    pub old: f64,
    /// The new policy's.
    pub new: f64,
    /// Mean of new - old over the items, and its interval.
    pub difference: Estimate,
    /// By how much the new policy is worse, below 0 where it is better, and its interval; nothing for a neutral figure.
    pub worse_by: Option<Estimate>,
    /// Which way the figure is better.
    pub better: Better,
    /// What it is counted in.
    pub unit: Unit,
    /// Items that have a value under both.
    pub n: usize,
}

/// The weighted mean and its 95 % interval: +- 1.96 s, s^2 = n / (n - 1) sum w^2 (x - mean)^2 / (sum w)^2, the ratio estimator's (Cochran,
/// Sampling Techniques, 1977, 6.4). With equal weights it is `mean_interval`. One value alone has no interval: its ends are the largest numbers.
#[must_use]
pub fn weighted_interval(values: &[(f64, f64)]) -> Estimate {
    let n = values.len() as f64;
    let total: f64 = values.iter().map(|(_, w)| w).sum();
    let mean = values.iter().map(|(x, w)| x * w).sum::<f64>() / total;
    let squares: f64 = values.iter().map(|(x, w)| (w * (x - mean)).powi(2)).sum();
    let half = if n > 1.0 { Z95 * (n / (n - 1.0) * squares).sqrt() / total } else { f64::MAX / 2.0 };
    Estimate { mean, low: mean - half, high: mean + half }
}

/// The figures of these items. A figure that no item has a value for is left out.
#[must_use]
pub fn figures(kinds: &[FigureKind], items: &[Item]) -> Vec<Figure> {
    let figure = |(i, kind): (usize, &FigureKind)| {
        let values: Vec<(f64, f64)> =
            items.iter().filter_map(|item| Some((item.values.get(i).copied()??, item.weight))).collect();
        let n = values.len();
        let estimate = match kind.of {
            Of::Events => wilson_interval(values.iter().map(|(x, _)| x).sum(), n),
            Of::Amounts => weighted_interval(&values),
            Of::Exponent => {
                let Estimate { mean, low, high } = weighted_interval(&values);
                let exp = |x: f64| x.exp().min(f64::MAX);
                Estimate { mean: exp(mean), low: exp(low), high: exp(high) }
            }
        };
        (n > 0).then(|| Figure { name: kind.name.to_owned(), estimate, n, better: kind.better, unit: kind.unit })
    };
    kinds.iter().enumerate().filter_map(figure).collect()
}

/// Compares two policies item by item. Perplexities are left out: their logarithms are there.
///
/// # Errors
/// When the two results aren't of the same suite, version, data and draw.
pub fn compare(kinds: &[FigureKind], old: &SuiteResult, new: &SuiteResult) -> Result<Vec<Change>, LearnError> {
    let what =
        |r: &SuiteResult| (r.suite.clone(), r.version, r.data_sha256.clone(), r.seed, r.limit, r.scored_by.clone());
    if what(old) != what(new) {
        let reason = "the two results are of different versions, data, classifiers or draws: run both anew".to_owned();
        return Err(LearnError::BadSuite { suite: new.suite.clone(), reason });
    }
    let by_item: BTreeMap<usize, &Item> = old.items.iter().map(|item| (item.item, item)).collect();
    let change = |(i, kind): (usize, &FigureKind)| {
        let pair = |item: &Item| {
            let before = by_item.get(&item.item)?.values.get(i).copied()??;
            Some((before, item.values.get(i).copied()??, item.weight))
        };
        let pairs: Vec<(f64, f64, f64)> = new.items.iter().filter_map(pair).collect();
        (!pairs.is_empty() && kind.of != Of::Exponent).then(|| changed(kind, &pairs))
    };
    Ok(kinds.iter().enumerate().filter_map(change).collect())
}

/// Of (old, new, weight).
fn changed(kind: &FigureKind, pairs: &[(f64, f64, f64)]) -> Change {
    let of = |value: &dyn Fn(f64, f64) -> f64| {
        weighted_interval(&pairs.iter().map(|&(old, new, weight)| (value(old, new), weight)).collect::<Vec<_>>())
    };
    let (old, new) = (of(&|old, _| old).mean, of(&|_, new| new).mean);
    // |new - 1/2| - |old - 1/2|, each item on the side on which the mean is: the delta method.
    let (side_old, side_new) = ((old - 0.5).signum(), (new - 0.5).signum());
    let worse_by = match kind.better {
        Better::Higher => Some(of(&|old, new| old - new)),
        Better::Lower => Some(of(&|old, new| new - old)),
        Better::Half => Some(of(&|old, new| side_new * (new - 0.5) - side_old * (old - 0.5))),
        Better::Neutral => None,
    };
    let FigureKind { name, better, unit, .. } = *kind;
    let difference = of(&|old, new| new - old);
    Change { name: name.to_owned(), old, new, difference, worse_by, better, unit, n: pairs.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::mean_interval;

    const KINDS: [FigureKind; 3] = [
        FigureKind { name: "right", better: Better::Higher, unit: Unit::Share, of: Of::Events },
        FigureKind { name: "stereotype", better: Better::Half, unit: Unit::Share, of: Of::Events },
        FigureKind { name: "perplexity", better: Better::Lower, unit: Unit::Perplexity, of: Of::Exponent },
    ];

    fn result(values: &[[f64; 3]]) -> SuiteResult {
        let item = |(item, v): (usize, &[f64; 3])| Item { item, weight: 1.0, values: v.map(Some).to_vec() };
        let items: Vec<Item> = values.iter().enumerate().map(item).collect();
        let figures = figures(&KINDS, &items);
        SuiteResult {
            suite: "s".into(),
            version: 1,
            data_sha256: "d".into(),
            seed: 0,
            limit: None,
            scored_by: None,
            figures,
            items,
        }
    }

    #[test]
    fn weights_count_and_equal_ones_change_nothing() {
        let plain = weighted_interval(&[(1.0, 2.0), (2.0, 2.0), (4.0, 2.0)]);
        let expected = mean_interval(&[1.0, 2.0, 4.0]);
        assert!((plain.mean - expected.mean).abs() < 1e-12 && (plain.low - expected.low).abs() < 1e-12);
        assert_eq!(weighted_interval(&[(1.0, 3.0), (5.0, 1.0)]).mean, 2.0);
        assert!(weighted_interval(&[(1.0, 1.0)]).high > 1e300, "one value tells nothing of the spread");
    }

    #[test]
    fn figures_have_their_own_intervals_and_leave_out_what_is_not_there() {
        let mut found = result(&[[1.0, 1.0, 0.0], [0.0, 1.0, 2.0]]);
        assert_eq!((found.figures[0].estimate, found.figures[0].n), (wilson_interval(1.0, 2), 2));
        assert!((found.figures[2].estimate.mean - 1f64.exp()).abs() < 1e-12);
        found.items[0].values[0] = None;
        found.items.iter_mut().for_each(|item| item.values[1] = None);
        let left = figures(&KINDS, &found.items);
        assert_eq!(left.iter().map(|f| (f.name.as_str(), f.n)).collect::<Vec<_>>(), [("right", 1), ("perplexity", 2)]);
    }

    #[test]
    fn worse_is_told_from_different() {
        let old = result(&[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
        let new = result(&[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]);
        let changes = compare(&KINDS, &old, &new).expect("compares");
        assert_eq!(changes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["right", "stereotype"]);
        let worse = |i: usize| changes[i].worse_by.expect("not neutral");
        assert_eq!((changes[0].difference.mean, worse(0).mean), (-0.25, 0.25));
        // From 0.75 to 0: 0.25 away from 1/2 before, 0.5 after.
        assert_eq!((changes[1].difference.mean, worse(1).mean), (-0.75, 0.25));
        assert_eq!(worse(0), mean_interval(&[0.0, 1.0, 0.0, 0.0]));
        compare(&KINDS, &old, &SuiteResult { version: 2, ..new.clone() }).expect_err("another version");
        let by = Some(ScoredBy { version: "mine-1".into(), sha256: "ab".into() });
        compare(&KINDS, &old, &SuiteResult { scored_by: by, ..new }).expect_err("another classifier");
    }
}
