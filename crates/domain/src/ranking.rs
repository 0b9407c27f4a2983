//! A ranking of k candidates in tiers, best first; a tier of two or more is a tie.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// How many answers a comparison may have (K of Ouyang et al. 2022 is 4..9; 2 and 3 are pairs and triples).
pub const CANDIDATES: RangeInclusive<usize> = 2..=9;

/// Why a ranking isn't one. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RankingError {
    /// k outside 2..=9.
    #[error("a ranking needs 2 to 9 candidates, this one has {0}")]
    Count(usize),
    /// A candidate isn't in any tier.
    #[error("candidate {0} is missing: put every candidate in exactly one tier (a tier of several is a tie)")]
    Missing(String),
    /// A candidate is in two places.
    #[error("candidate {0} appears twice: put every candidate in exactly one tier")]
    Repeated(String),
    /// Not a candidate of this comparison.
    #[error("{0} isn't a candidate of this comparison")]
    Unknown(String),
    /// A tier without candidates.
    #[error("tier {0} is empty: leave it out")]
    EmptyTier(usize),
}

/// Ranks of k candidates: `ranks[i]` is candidate i's tier, 0 the best, no tier number left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranking {
    ranks: Vec<u8>,
}

impl Ranking {
    /// From tiers of candidate names, best first.
    ///
    /// # Errors
    /// When a candidate is missing, repeated or unknown, or k is outside 2..=9.
    pub fn from_tiers<S: AsRef<str>>(candidates: &[S], tiers: &[Vec<String>]) -> Result<Self, RankingError> {
        if !CANDIDATES.contains(&candidates.len()) {
            return Err(RankingError::Count(candidates.len()));
        }
        let mut ranks: Vec<Option<u8>> = vec![None; candidates.len()];
        for (tier, names) in (0u8..).zip(tiers) {
            if names.is_empty() {
                return Err(RankingError::EmptyTier(tier.into()));
            }
            for name in names {
                let i = candidates.iter().position(|c| c.as_ref() == name);
                let i = i.ok_or_else(|| RankingError::Unknown(name.clone()))?;
                if ranks[i].replace(tier).is_some() {
                    return Err(RankingError::Repeated(name.clone()));
                }
            }
        }
        let missing = ranks.iter().position(Option::is_none);
        match missing {
            Some(i) => Err(RankingError::Missing(candidates[i].as_ref().to_owned())),
            None => Ok(Self { ranks: ranks.into_iter().flatten().collect() }),
        }
    }

    /// From rank numbers, 0 = best, equal = tie. Gaps are closed ([0, 5, 5] becomes [0, 1, 1]).
    ///
    /// # Errors
    /// When k is outside 2..=9.
    pub fn from_ranks(ranks: &[u32]) -> Result<Self, RankingError> {
        if !CANDIDATES.contains(&ranks.len()) {
            return Err(RankingError::Count(ranks.len()));
        }
        let distinct: BTreeSet<u32> = ranks.iter().copied().collect();
        let tier = |r: &u32| u8::try_from(distinct.range(..r).count()).unwrap_or(u8::MAX);
        Ok(Self { ranks: ranks.iter().map(tier).collect() })
    }

    /// Tier of each candidate, 0 = best, in candidate order.
    #[must_use]
    pub fn ranks(&self) -> &[u8] {
        &self.ranks
    }

    /// All (better, worse) index pairs; ties give none (Ouyang et al. 2022, section 3.5 drops them).
    #[must_use]
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let k = self.ranks.len();
        let ordered = (0..k).flat_map(|w| (0..k).map(move |l| (w, l)));
        ordered.filter(|&(w, l)| self.ranks[w] < self.ranks[l]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(t: &[&[&str]]) -> Vec<Vec<String>> {
        t.iter().map(|x| x.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn tiers_become_ranks_and_pairs() {
        let r = Ranking::from_tiers(&["a", "b", "c"], &tiers(&[&["c"], &["a", "b"]])).expect("valid");
        assert_eq!(r.ranks(), [1, 1, 0]);
        assert_eq!(r.pairs(), [(2, 0), (2, 1)]);
    }

    #[test]
    fn every_candidate_exactly_once() {
        let c = ["a", "b"];
        assert_eq!(Ranking::from_tiers(&c, &tiers(&[&["a"]])), Err(RankingError::Missing("b".into())));
        assert_eq!(Ranking::from_tiers(&c, &tiers(&[&["a", "a"], &["b"]])), Err(RankingError::Repeated("a".into())));
        assert_eq!(Ranking::from_tiers(&c, &tiers(&[&["a"], &["x"]])), Err(RankingError::Unknown("x".into())));
        assert_eq!(Ranking::from_tiers(&c, &tiers(&[&["a", "b"], &[]])), Err(RankingError::EmptyTier(1)));
        assert_eq!(Ranking::from_tiers(&["a"], &tiers(&[&["a"]])), Err(RankingError::Count(1)));
    }

    #[test]
    fn gaps_in_rank_numbers_are_closed() {
        assert_eq!(Ranking::from_ranks(&[7, 2, 7]).expect("valid").ranks(), [1, 0, 1]);
        assert_eq!(Ranking::from_ranks(&[0]), Err(RankingError::Count(1)));
    }
}
