//! The challenger: which policy gets a share of the traffic, and how it fares. SQL of the table `challenger`.

use super::{StoreError, now, rankings};
use hone_domain::ids::{ComparisonId, PolicyId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// What a challenger gets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// Canary: the share of conversations that it answers instead of the champion, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub canary_share: f64,
    /// Shadow: the share of the champion's answers to which it writes its own, which nobody is shown, 0 to 1. It waits for nobody: where
    /// people's answers take all there is, there are none.
    #[schema(minimum = 0, maximum = 1)]
    pub shadow_share: f64,
    /// Whether comparisons draw half of their candidates from it.
    pub in_comparisons: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { canary_share: 0.0, shadow_share: 0.0, in_comparisons: true }
    }
}

/// A share outside of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` must be between 0 and 1")]
pub struct ShareError(pub &'static str);

impl Traffic {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first share outside of 0 to 1.
    pub fn checked(self) -> Result<Self, ShareError> {
        for (name, share) in [("canary_share", self.canary_share), ("shadow_share", self.shadow_share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(ShareError(name));
            }
        }
        Ok(self)
    }
}

/// Who challenges, and for what.
#[derive(Debug, Clone, PartialEq)]
pub struct Challenge {
    /// The challenger.
    pub policy_id: PolicyId,
    /// What it gets.
    pub traffic: Traffic,
}

/// The challenge that is on.
///
/// # Errors
/// When the database can't.
pub fn get(c: &Connection) -> Result<Option<Challenge>, StoreError> {
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let found = c.query_row("select policy_id, traffic_json from challenger", [], columns).optional()?;
    let challenge = |(id, traffic): (String, String)| {
        Ok(Challenge { policy_id: PolicyId::from_raw(id), traffic: serde_json::from_str(&traffic)? })
    };
    found.map(challenge).transpose()
}

/// Begins a challenge, or changes the one that is on.
///
/// # Errors
/// When the database can't.
pub fn set(c: &Connection, challenge: &Challenge, actor: &str) -> Result<(), StoreError> {
    let Challenge { policy_id, traffic } = challenge;
    c.execute(
        "insert or replace into challenger(id, policy_id, traffic_json, actor, at) values (1, ?1, ?2, ?3, ?4)",
        params![policy_id.as_str(), serde_json::to_string(traffic)?, actor, now()],
    )?;
    Ok(())
}

/// Ends the challenge. Answers whether there was one.
///
/// # Errors
/// When the database can't.
pub fn end(c: &Connection) -> Result<bool, StoreError> {
    Ok(c.execute("delete from challenger", [])? > 0)
}

/// Ends the challenge of a policy that has become champion, if it has one.
pub(super) fn end_of(c: &Connection, id: &PolicyId) -> Result<(), StoreError> {
    c.execute("delete from challenger where policy_id = ?1", [id.as_str()])?;
    Ok(())
}

/// How two policies fare in comparisons that people ranked: of all pairs of one answer each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Duel {
    /// Pairs in which the first is better.
    pub wins: usize,
    /// Pairs in which the second is better.
    pub losses: usize,
    /// Pairs of the same rank.
    pub ties: usize,
}

/// How `first` fares against `second`.
///
/// # Errors
/// When the database can't.
pub fn duel(c: &Connection, first: &PolicyId, second: &PolicyId) -> Result<Duel, StoreError> {
    let sql = "select r.comparison_id, (select json_group_array(policy_id) from
                   (select policy_id from completions where comparison_id = r.comparison_id order by position))
               from rankings r where r.not_rankable = 0
                 and exists (select 1 from completions where comparison_id = r.comparison_id and policy_id = ?1)
                 and exists (select 1 from completions where comparison_id = r.comparison_id and policy_id = ?2)";
    let mut rows = c.prepare_cached(sql)?;
    let rows =
        rows.query_map([first.as_str(), second.as_str()], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)))?;
    let mut duel = Duel::default();
    for row in rows {
        let (comparison, policies) = row?;
        let policies: Vec<String> = serde_json::from_str(&policies)?;
        let ranking = rankings::of(c, &ComparisonId::from_raw(comparison))?.and_then(|stored| stored.ranking);
        let Some(ranking) = ranking else { continue };
        let ranks_of = |id: &PolicyId| -> Vec<usize> {
            let places = policies.iter().zip(ranking.ranks()).filter(|(policy, _)| *policy == id.as_str());
            places.map(|(_, rank)| *rank as usize).collect()
        };
        let theirs = ranks_of(second);
        for ours in ranks_of(first) {
            for theirs in &theirs {
                match ours.cmp(theirs) {
                    std::cmp::Ordering::Less => duel.wins += 1,
                    std::cmp::Ordering::Equal => duel.ties += 1,
                    std::cmp::Ordering::Greater => duel.losses += 1,
                }
            }
        }
    }
    Ok(duel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_checked() {
        let wrong = Traffic { shadow_share: f64::NAN, ..Traffic::default() };
        assert_eq!(wrong.checked(), Err(ShareError("shadow_share")));
        assert_eq!(Traffic { canary_share: 1.1, ..Traffic::default() }.checked(), Err(ShareError("canary_share")));
    }
}
