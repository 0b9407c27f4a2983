//! Comparisons: k answers to one prompt, shown blind and in random order, and their ranking.

use super::{Ask, By, Chat, ChatError, Turn};
use crate::store::comparisons::{self, Comparison, Source};
use crate::store::demonstrations::{self, NewDemonstration};
use crate::store::rankings::{self, Labels, NewRanking};
use crate::store::{StoreError, audit, pairs, timestamp};
use hone_domain::ids::{ComparisonId, CompletionId, DemonstrationId, UserId};
use hone_domain::ranking::CANDIDATES;
use hone_domain::{Conversation, Ranking, RankingError, Sampling, Tools};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

/// A person's verdict on a comparison.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Tiers of candidate ids, best first; empty when not rankable.
    pub tiers: Vec<Vec<String>>,
    /// None of them can be ranked.
    pub not_rankable: bool,
    /// Labels by candidate id.
    pub labels: Labels,
    /// A remark.
    pub comment: Option<String>,
    /// What the answer should have been.
    pub ideal: Option<String>,
}

impl Chat {
    /// Starts a comparison of k answers. The seed of the request decides each answer's seed and their order.
    ///
    /// # Errors
    /// When k is outside 2..=9, or as [`Chat::ask`].
    pub async fn compare(
        &self,
        person: UserId,
        prompt: Conversation,
        k: usize,
        sampling: Sampling,
    ) -> Result<Turn, ChatError> {
        if !CANDIDATES.contains(&k) {
            return Err(ChatError::Feedback { param: "k", message: format!("`k` must be 2 to 9, not {k}") });
        }
        let seed = sampling.seed.unwrap_or_else(rand::random);
        let seeds = shuffled_seeds(seed, k);
        self.ask(Ask { person, conversation: prompt, tools: Tools::default(), sampling, seeds, by: By::Both }).await
    }

    /// Keeps a finished comparison. It is on disk when it returns.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_comparison(&self, id: &ComparisonId, turn: &Turn, user: &UserId) -> Result<(), ChatError> {
        let (id, user) = (id.clone(), user.clone());
        let candidates = turn.completions(&user, Some(&id));
        let messages = turn.conversation().messages().to_vec();
        let write =
            move |tx: &rusqlite::Connection| comparisons::insert(tx, &id, &user, &messages, Source::Live, &candidates);
        Ok(self.store.write(write).await?)
    }

    /// Keeps a finished comparison for the labeling queue, made from the prompt of `from`.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn keep_for_queue(&self, turn: Turn, from: &UserId) -> Result<(), ChatError> {
        let (id, from) = (ComparisonId::new(), from.clone());
        let candidates = turn.completions(&from, Some(&id));
        let messages = turn.conversation().messages().to_vec();
        let write =
            move |tx: &rusqlite::Connection| comparisons::insert_for_queue(tx, &id, &from, &messages, &candidates);
        Ok(self.store.write(write).await?)
    }

    /// A person's comparison.
    ///
    /// # Errors
    /// When it isn't theirs or doesn't exist.
    pub async fn comparison(&self, id: ComparisonId, user: UserId) -> Result<Comparison, ChatError> {
        Ok(self.store.read(move |c| comparisons::owned(c, &id, &user)).await?)
    }

    /// A person's latest comparisons.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn comparisons(&self, user: UserId, unranked: bool, limit: usize) -> Result<Vec<Comparison>, ChatError> {
        Ok(self.store.read(move |c| comparisons::list(c, &user, unranked, limit)).await?)
    }

    /// Keeps a person's verdict on their comparison; the ideal answer becomes a demonstration. Both are on disk when it returns.
    ///
    /// # Errors
    /// When it isn't theirs, is ranked already, or the verdict doesn't fit.
    pub async fn rank(
        &self,
        id: ComparisonId,
        user: UserId,
        verdict: Verdict,
    ) -> Result<(Comparison, Option<DemonstrationId>), ChatError> {
        let comparison = self.comparison(id, user.clone()).await?;
        let ideal = verdict.ideal.clone().filter(|text| !text.trim().is_empty());
        let ids: Vec<&str> = comparison.candidates.iter().map(|c| c.id.as_str()).collect();
        let ranking = checked(&ids, verdict)?;
        let write = move |tx: &rusqlite::Connection| {
            rankings::insert(tx, &comparison.id, &user, &ranking)?;
            let keep = |ideal: String| {
                let (user, messages, ideal) = (&user, comparison.messages.as_slice(), ideal.as_str());
                let (source, prompt_from, comparison) = (Source::Ranking, None, Some(&comparison.id));
                demonstrations::insert(tx, &NewDemonstration { user, messages, ideal, source, prompt_from, comparison })
            };
            let demonstration = ideal.map(keep).transpose()?;
            Ok((comparisons::owned(tx, &comparison.id, &user)?, demonstration))
        };
        Ok(self.store.write(write).await?)
    }
}

impl Chat {
    /// Makes a comparison of two answers that a person had to the same prompt in a chat, blind and in random order.
    ///
    /// # Errors
    /// When one isn't theirs or wasn't kept, or they can't be compared.
    pub async fn pair(&self, user: UserId, a: CompletionId, b: CompletionId) -> Result<Comparison, ChatError> {
        let write = move |tx: &rusqlite::Connection| {
            let mut answers = [&a, &b];
            answers.shuffle(&mut rand::rng());
            let id = pairs::make(tx, &user, answers)?;
            comparisons::owned(tx, &id, &user)
        };
        Ok(self.store.write(write).await?)
    }

    /// Takes back a person's ranking of their comparison, and the ideal answer that came with it, within `minutes`. It is blind again.
    ///
    /// # Errors
    /// When it isn't theirs, isn't ranked by them, or it is too late.
    pub async fn unrank(&self, id: ComparisonId, user: UserId, minutes: u64) -> Result<Comparison, ChatError> {
        let write = move |tx: &rusqlite::Connection| {
            let comparison = comparisons::owned(tx, &id, &user)?;
            let since = SignedDuration::from_mins(i64::try_from(minutes).unwrap_or(i64::MAX / 60));
            let since = timestamp(Timestamp::now() - since);
            if comparison.ranking.is_some_and(|ranking| ranking.created_at < since) {
                return Err(StoreError::Conflict(format!(
                    "a ranking can be taken back within {minutes} minutes, not later"
                )));
            }
            rankings::delete(tx, &id, &user)?;
            demonstrations::delete_beside(tx, &id, &user)?;
            audit::note(tx, user.as_str(), "ranking.undo", id.as_str(), &json!({}))?;
            comparisons::owned(tx, &id, &user)
        };
        Ok(self.store.write(write).await?)
    }
}

/// k different seeds in an order that says nothing of how they were drawn; all of it follows from `seed`.
fn shuffled_seeds(seed: u64, k: usize) -> Vec<u64> {
    let mut seeds: Vec<u64> = (0..k as u64).map(|i| seed.wrapping_add(i)).collect();
    seeds.shuffle(&mut StdRng::seed_from_u64(seed));
    seeds
}

/// Which answers of a comparison are the challenger's: half of them, in an order that says nothing; `None` where the comparison isn't of its
/// share. All of it follows from the first seed alone, which is as random as the comparison's own: the sum or XOR of neighbouring seeds is
/// nearly always the same few numbers, and so would be the order.
pub(super) fn challengers(seeds: &[u64], share: f64) -> Option<Vec<bool>> {
    let (count, mut rng) = (seeds.len(), StdRng::seed_from_u64(seeds.first().copied().unwrap_or_default()));
    if rng.random::<f64>() >= share {
        return None;
    }
    let of_challenger = count / 2 + usize::from(count % 2 == 1 && rng.random());
    let mut places: Vec<bool> = (0..count).map(|i| i < of_challenger).collect();
    places.shuffle(&mut rng);
    Some(places)
}

/// Checks a verdict on candidates of these names.
///
/// # Errors
/// When it doesn't fit.
pub(crate) fn checked(ids: &[&str], verdict: Verdict) -> Result<NewRanking, ChatError> {
    let Verdict { tiers, not_rankable, labels, comment, ideal: _ } = verdict;
    let refuse = |param, message: String| Err(ChatError::Feedback { param, message });
    for (id, label) in &labels {
        if !ids.contains(&id.as_str()) {
            return Err(RankingError::Unknown(id.clone()).into());
        }
        if label.overall.is_some_and(|overall| !(1..=7).contains(&overall)) {
            return refuse("labels", format!("labels.{id}.overall must be 1 (worst) to 7 (best)"));
        }
    }
    if not_rankable && !tiers.is_empty() {
        return refuse("ranking", "leave `ranking` empty when `not_rankable` is true".into());
    }
    let ranking = if not_rankable { None } else { Some(Ranking::from_tiers(ids, &tiers)?) };
    Ok(NewRanking { ranking, labels, comment })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_have_different_seeds_in_an_order_that_the_seed_decides() {
        let seeds = shuffled_seeds(7, 9);
        assert_eq!(seeds, shuffled_seeds(7, 9));
        let mut sorted = seeds.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (7..16).collect::<Vec<u64>>());
        let orders = (0..50u64).map(|s| shuffled_seeds(s, 4).iter().map(|x| x - s).collect::<Vec<_>>());
        assert!(orders.collect::<std::collections::HashSet<_>>().len() > 10, "the order varies");
    }

    #[test]
    fn the_place_of_a_challenger_says_nothing() {
        // Whatever the seeds, neighbouring ones too: of two answers the challenger's is the first one half of the time ...
        let first = |seed: u64| challengers(&shuffled_seeds(seed, 2), 1.0).expect("of its share")[0];
        for step in [1, 2, 4, 1 << 40] {
            let count = (0..1000).filter(|i| first(i * step)).count();
            // Standard error 16: five of them.
            assert!((420..=580).contains(&count), "{count} of 1000 in steps of {step}");
        }
        // ... and of four, two are, in any of the six orders.
        let places = |seed| challengers(&shuffled_seeds(seed, 4), 1.0).expect("of its share");
        let all: std::collections::HashSet<Vec<bool>> = (0..200).map(places).collect();
        assert!(all.len() == 6 && all.iter().all(|p| p.iter().filter(|c| **c).count() == 2), "{all:?}");
        let taken = (0..1000).filter(|seed| challengers(&shuffled_seeds(*seed, 3), 0.2).is_some()).count();
        assert!((137..=263).contains(&taken), "{taken} of 1000");
    }
}
