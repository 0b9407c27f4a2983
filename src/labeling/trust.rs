//! What is known of each labeler, and how far they agree with each other. Computed from all opinions there are, when it is asked for.

use super::agreement::{Agreement, alpha_of};
use crate::store::judgements::{self, Opinion};
use crate::store::labeling::Purpose;
use crate::store::{StoreError, gold, stats};
use hone_domain::Ranking;
use rusqlite::Connection;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// How far a labeler can be relied on: the share of pairs, in gold questions and repeats, on which they say what is expected, or what they
/// said before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Trust {
    /// The share.
    pub value: f64,
    /// Where it lies with 95 % (Wilson's interval): wide while there are few pairs.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Trust {
    /// None while there is nothing to go by.
    #[must_use]
    pub fn of(agreement: Agreement) -> Option<Self> {
        const Z: f64 = 1.96;
        let (value, n) = (agreement.share()?, agreement.pairs as f64);
        let (centre, spread) =
            (value + Z * Z / (2.0 * n), Z * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt());
        let scale = 1.0 + Z * Z / n;
        Some(Self { value, low: ((centre - spread) / scale).max(0.0), high: ((centre + spread) / scale).min(1.0) })
    }
}

/// What is known of one labeler.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct LabelerReport {
    /// Their id.
    pub id: String,
    /// Their name.
    pub name: String,
    /// Rankings that are learned from.
    pub rankings: u64,
    /// Ideal answers.
    pub demonstrations: u64,
    /// With the expected rankings of gold questions.
    pub gold: Agreement,
    /// With themselves, on items that came back.
    pub repeats: Agreement,
    /// With others on the same items.
    pub others: Agreement,
    /// From gold and repeats; null while there are none.
    pub trust: Option<Trust>,
}

/// How far people agree.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AgreementReport {
    /// Comparisons that two or more people have ranked.
    pub comparisons: u64,
    /// Pairs of answers, for each two people who ranked them.
    pub pairs: u64,
    /// Of those, on which both say the same.
    pub agreed: u64,
    /// `agreed` of `pairs`; null without pairs.
    pub share: Option<f64>,
    /// Krippendorff's alpha, ordinal on worse < as good < better: 1 full agreement, 0 chance. Null where it says nothing.
    pub alpha: Option<f64>,
}

/// Both.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Of all.
    pub agreement: AgreementReport,
    /// Of each who has given feedback, in the order of their names.
    pub labelers: Vec<LabelerReport>,
}

/// What one person's opinions amount to.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    gold: Agreement,
    repeats: Agreement,
    others: Agreement,
}

/// Looks at everything.
///
/// # Errors
/// When the database can't.
pub fn report(c: &Connection) -> Result<Report, StoreError> {
    let (opinions, expected) = (judgements::opinions(c)?, gold::expected(c)?);
    let (agreement, tallies) = tally(&opinions, &expected);
    let labeler = |person: stats::Contribution| {
        let Tally { gold, repeats, others } = tallies.get(person.id.as_str()).copied().unwrap_or_default();
        let stats::Contribution { id, name, rankings, demonstrations } = person;
        LabelerReport { id, name, rankings, demonstrations, gold, repeats, others, trust: Trust::of(gold.and(repeats)) }
    };
    Ok(Report { agreement, labelers: stats::contributions(c)?.into_iter().map(labeler).collect() })
}

fn tally<'a>(
    opinions: &'a [Opinion],
    expected: &HashMap<String, Ranking>,
) -> (AgreementReport, HashMap<&'a str, Tally>) {
    let mut by_comparison: BTreeMap<&str, Vec<&Opinion>> = BTreeMap::new();
    for opinion in opinions {
        by_comparison.entry(&opinion.comparison).or_default().push(opinion);
    }
    let (mut tallies, mut groups, mut all) = (HashMap::<&str, Tally>::new(), Vec::new(), Agreement::default());
    for (comparison, opinions) in &by_comparison {
        // A person's first word on it; what they say when it comes back measures only themselves.
        let first: Vec<&&Opinion> = opinions.iter().filter(|o| o.purpose != Purpose::Repeat).collect();
        for (i, one) in first.iter().enumerate() {
            for other in first.iter().skip(i + 1).filter(|other| other.user != one.user) {
                let agreement = Agreement::of(&one.ranking, &other.ranking);
                all = all.and(agreement);
                for user in [&one.user, &other.user] {
                    let tally = tallies.entry(user.as_str()).or_default();
                    tally.others = tally.others.and(agreement);
                }
            }
        }
        for opinion in opinions {
            let tally = tallies.entry(opinion.user.as_str()).or_default();
            let against = match opinion.purpose {
                Purpose::Gold => expected.get(*comparison),
                Purpose::Repeat => first.iter().find(|o| o.user == opinion.user).map(|o| &o.ranking),
                Purpose::New | Purpose::Overlap => None,
            };
            let agreement = against.map(|known| Agreement::of(&opinion.ranking, known)).unwrap_or_default();
            match opinion.purpose {
                Purpose::Gold => tally.gold = tally.gold.and(agreement),
                _ => tally.repeats = tally.repeats.and(agreement),
            }
        }
        if first.len() > 1 {
            groups.push(first.iter().map(|o| &o.ranking).collect::<Vec<_>>());
        }
    }
    let Agreement { pairs, agreed } = all;
    let comparisons = groups.len() as u64;
    (AgreementReport { comparisons, pairs, agreed, share: all.share(), alpha: alpha_of(&groups) }, tallies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opinion(comparison: &str, user: &str, purpose: Purpose, ranks: &[u32]) -> Opinion {
        let ranking = Ranking::from_ranks(ranks).expect("ranks");
        Opinion { comparison: comparison.into(), user: user.into(), purpose, ranking }
    }

    #[test]
    fn gold_repeats_and_others_are_told_apart() {
        let opinions = [
            opinion("a", "ann", Purpose::New, &[0, 1, 2]),
            opinion("a", "ann", Purpose::Repeat, &[0, 2, 1]),
            opinion("a", "bob", Purpose::Overlap, &[0, 1, 1]),
            opinion("g", "olga", Purpose::New, &[0, 1]),
            opinion("g", "bob", Purpose::Gold, &[1, 0]),
        ];
        let expected = HashMap::from([("g".to_owned(), Ranking::from_ranks(&[0, 1]).expect("ranks"))]);
        let (agreement, tallies) = tally(&opinions, &expected);
        let (ann, bob, olga) = (tallies["ann"], tallies["bob"], tallies["olga"]);
        assert_eq!(ann.repeats, Agreement { pairs: 3, agreed: 2 });
        assert_eq!(ann.gold, Agreement::default());
        assert_eq!(bob.gold, Agreement { pairs: 1, agreed: 0 });
        assert_eq!(ann.others, Agreement { pairs: 3, agreed: 2 });
        assert_eq!((bob.others, olga.others), (Agreement { pairs: 4, agreed: 2 }, Agreement { pairs: 1, agreed: 0 }));
        assert_eq!((agreement.comparisons, agreement.pairs, agreement.agreed), (2, 4, 2));
        assert!(agreement.alpha.is_some_and(|alpha| (-1.0..1.0).contains(&alpha)));
    }

    /// Wilson 1927: 8 of 10 at z = 1.96 is 0.490 to 0.943 (by hand: centre 0.8 + 0.19208 = 0.99208, spread 1.96 sqrt(0.016 + 0.009604) =
    /// 0.31363, both over 1.38416).
    #[test]
    fn trust_is_uncertain_while_there_are_few_pairs() {
        let trust = Trust::of(Agreement { pairs: 10, agreed: 8 }).expect("pairs");
        assert!((trust.low - 0.4902).abs() < 1e-4 && (trust.high - 0.9433).abs() < 1e-4, "{trust:?}");
        assert_eq!(Trust::of(Agreement::default()), None);
        let sure = Trust::of(Agreement { pairs: 10_000, agreed: 10_000 }).expect("pairs");
        assert!(sure.low > 0.999 && sure.high <= 1.0, "{sure:?}");
    }
}
