//! How often two labelers who ordered the same two answers to the same prompt order them alike: a reward model can't be better than
//! its labelers agree (Ouyang et al. 2022, section 3.4: 72.6 % among those who trained it, 77.3 % among others). Pure.

use hone_domain::{Message, RankedPrompt};
use serde::Serialize;
use std::collections::BTreeMap;

/// A share of pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Share {
    /// How many of them.
    pub(crate) of: f64,
    /// Out of how many.
    pub(crate) pairs: f64,
}

impl Share {
    pub(crate) fn add(&mut self, of: f64, pairs: f64) {
        self.of += of;
        self.pairs += pairs;
    }

    /// `None` where there is no pair.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.pairs > 0.0).then(|| self.of / self.pairs)
    }
}

/// Agreement of all labelers, and of each with the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Agreement {
    pub(crate) overall: Share,
    pub(crate) by_labeler: BTreeMap<String, Share>,
}

/// Two answers to one prompt, in the order of their texts.
type Question<'a> = (&'a [Message], &'a str, &'a str);

/// Counts every two labelers' verdicts on every pair that both ordered. Ties are no order, as in training; who ranked the same two
/// answers twice counts with the first verdict; rankings of nobody in particular (imports without a labeler) are passed over.
pub(crate) fn agreement<'a>(rankings: impl Iterator<Item = &'a RankedPrompt>) -> Agreement {
    let mut verdicts: std::collections::HashMap<Question<'_>, BTreeMap<&str, bool>> = Default::default();
    for r in rankings.filter(|r| !r.labeler.is_empty()) {
        for (better, worse) in r.ranking.pairs() {
            let (better, worse) = (r.candidates[better].as_str(), r.candidates[worse].as_str());
            if better != worse {
                let key = (r.messages.as_slice(), better.min(worse), better.max(worse));
                verdicts.entry(key).or_default().entry(&r.labeler).or_insert(better < worse);
            }
        }
    }
    let mut found = Agreement::default();
    for of_pair in verdicts.values() {
        let all: Vec<(&&str, &bool)> = of_pair.iter().collect();
        for (i, (a, first)) in all.iter().enumerate() {
            for (b, second) in &all[i + 1..] {
                let alike = f64::from(first == second);
                found.overall.add(alike, 1.0);
                for labeler in [a, b] {
                    found.by_labeler.entry((**labeler).to_string()).or_default().add(alike, 1.0);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::Ranking;

    fn ranked(labeler: &str, prompt: &str, candidates: &[&str], ranks: &[u32]) -> RankedPrompt {
        RankedPrompt {
            messages: vec![Message::user(prompt)],
            candidates: candidates.iter().map(ToString::to_string).collect(),
            ranking: Ranking::from_ranks(ranks).expect("a ranking"),
            quality: Vec::new(),
            flags: Vec::new(),
            labeler: labeler.to_owned(),
        }
    }

    #[test]
    fn pairs_that_two_people_ordered_are_compared() {
        let all = [
            ranked("ann", "q", &["a", "b", "c"], &[0, 1, 2]),
            // The same answers in another order on the screen: b > a, a > c, b > c.
            ranked("bob", "q", &["c", "b", "a"], &[2, 0, 1]),
            ranked("cid", "q", &["a", "b"], &[0, 0]),
            ranked("cid", "another", &["a", "b"], &[1, 0]),
            ranked("ann", "q", &["a", "b"], &[1, 0]),
            ranked("", "q", &["a", "b"], &[1, 0]),
        ];
        let found = agreement(all.iter());
        assert_eq!(found.overall, Share { of: 2.0, pairs: 3.0 });
        assert_eq!(found.by_labeler["ann"], found.by_labeler["bob"]);
        assert!(!found.by_labeler.contains_key("cid"), "a tie is no order, and nobody else saw the other prompt");
        assert_eq!(agreement(all[..1].iter()).overall.value(), None);
    }
}
