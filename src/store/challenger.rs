//! The challenger: which policy gets a share of the traffic, and how it fares. SQL of the table `challenger`.

use super::columns::{json, json_or_null};
use super::{StoreError, now, rankings};
use hone_domain::ids::{ComparisonId, PolicyId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::ops::Add;

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
    /// The share of comparisons that do, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub comparison_share: f64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { canary_share: 0.0, shadow_share: 0.0, in_comparisons: true, comparison_share: 1.0 }
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
        let Self { canary_share, shadow_share, in_comparisons: _, comparison_share } = self;
        let shares =
            [("canary_share", canary_share), ("shadow_share", shadow_share), ("comparison_share", comparison_share)];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(ShareError(name));
            }
        }
        Ok(self)
    }
}

/// What becomes of a challenger that is neither clearly better nor clearly worse when its trial is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Undecided {
    /// It stays a candidate; the champion stays.
    #[default]
    Keep,
    /// It becomes champion.
    Promote,
    /// It is rejected.
    RollBack,
}

/// The bounds within which a challenge decides itself, by comparisons of both that people ranked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// The chance of a wrong verdict in each direction, above 0 and below 1.
    #[schema(exclusive_minimum = 0, exclusive_maximum = 1)]
    pub alpha: f64,
    /// Comparisons with a winner before there is a verdict, however clear.
    pub comparisons_min: usize,
    /// With so many it is over.
    pub comparisons_max: usize,
    /// After so long it is over.
    pub hours_max: f64,
    /// What happens where it is over without a verdict.
    pub undecided: Undecided,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { alpha: 0.05, comparisons_min: 10, comparisons_max: 400, hours_max: 336.0, undecided: Undecided::Keep }
    }
}

impl Bounds {
    /// Checks the ranges.
    ///
    /// # Errors
    /// When `alpha` isn't between 0 and 1.
    pub fn checked(self) -> Result<Self, ShareError> {
        if self.alpha > 0.0 && self.alpha < 1.0 { Ok(self) } else { Err(ShareError("alpha")) }
    }
}

/// Who challenges, and for what.
#[derive(Debug, Clone, PartialEq)]
pub struct Challenge {
    /// The challenger.
    pub policy_id: PolicyId,
    /// What it gets.
    pub traffic: Traffic,
    /// The bounds within which it decides itself; without them it goes on until somebody ends it.
    pub trial: Option<Bounds>,
}

/// The challenge that is on.
///
/// # Errors
/// When the database can't.
pub fn get(c: &Connection) -> Result<Option<Challenge>, StoreError> {
    let challenge = |row: &rusqlite::Row<'_>| {
        let policy_id = PolicyId::from_raw(row.get::<_, String>(0)?);
        Ok(Challenge { policy_id, traffic: json(row, 1)?, trial: json_or_null(row, 2)? })
    };
    let sql = "select policy_id, traffic_json, trial_json from challenger";
    Ok(c.query_row(sql, [], challenge).optional()?)
}

/// When the challenge began that is on; changing its shares doesn't begin it anew.
///
/// # Errors
/// When the database can't.
pub fn since(c: &Connection) -> Result<Option<String>, StoreError> {
    Ok(c.query_row("select at from challenger", [], |row| row.get(0)).optional()?)
}

/// Who began the challenge that is on.
///
/// # Errors
/// When the database can't.
pub fn actor(c: &Connection) -> Result<Option<String>, StoreError> {
    Ok(c.query_row("select actor from challenger", [], |row| row.get(0)).optional()?)
}

/// Begins a challenge, or changes the one that is on.
///
/// # Errors
/// When the database can't.
pub fn set(c: &Connection, challenge: &Challenge, actor: &str) -> Result<(), StoreError> {
    let Challenge { policy_id, traffic, trial } = challenge;
    let trial = trial.as_ref().map(serde_json::to_string).transpose()?;
    c.execute(
        "insert or replace into challenger(id, policy_id, traffic_json, actor, trial_json, at)
         values (1, ?1, ?2, ?3, ?4, coalesce((select at from challenger where policy_id = ?1), ?5))",
        params![policy_id.as_str(), serde_json::to_string(traffic)?, actor, trial, now()],
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Duel {
    /// Pairs in which the first is better.
    pub wins: usize,
    /// Pairs in which the second is better.
    pub losses: usize,
    /// Pairs of the same rank.
    pub ties: usize,
}

impl Add for Duel {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { wins: self.wins + other.wins, losses: self.losses + other.losses, ties: self.ties + other.ties }
    }
}

/// How `first` fares against `second`, over all pairs of their answers.
///
/// # Errors
/// When the database can't.
pub fn duel(c: &Connection, first: &PolicyId, second: &PolicyId) -> Result<Duel, StoreError> {
    Ok(compared(c, first, second, "")?.into_iter().fold(Duel::default(), Add::add))
}

/// How `first` fares against `second` in comparisons ranked after `since`, each of which counts once: the pairs of one comparison aren't
/// independent of each other. In the order in which they were ranked.
///
/// # Errors
/// When the database can't.
pub fn scores(c: &Connection, first: &PolicyId, second: &PolicyId, since: &str) -> Result<Vec<Duel>, StoreError> {
    let once = |one: Duel| match one.wins.cmp(&one.losses) {
        Ordering::Greater => Duel { wins: 1, ..Duel::default() },
        Ordering::Equal => Duel { ties: 1, ..Duel::default() },
        Ordering::Less => Duel { losses: 1, ..Duel::default() },
    };
    Ok(compared(c, first, second, since)?.into_iter().map(once).collect())
}

/// The pairs of each comparison of both that was ranked after `since`, the oldest first.
fn compared(c: &Connection, first: &PolicyId, second: &PolicyId, since: &str) -> Result<Vec<Duel>, StoreError> {
    let sql = "select r.comparison_id, (select json_group_array(policy_id) from
                   (select policy_id from completions where comparison_id = r.comparison_id order by position))
               from rankings r where r.not_rankable = 0 and r.created_at > ?3
                 and exists (select 1 from completions where comparison_id = r.comparison_id and policy_id = ?1)
                 and exists (select 1 from completions where comparison_id = r.comparison_id and policy_id = ?2)
               order by r.created_at, r.comparison_id";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([first.as_str(), second.as_str(), since], |r| {
        Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))
    })?;
    let mut all = Vec::new();
    for row in rows {
        let mut duel = Duel::default();
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
                    Ordering::Less => duel.wins += 1,
                    Ordering::Equal => duel.ties += 1,
                    Ordering::Greater => duel.losses += 1,
                }
            }
        }
        all.push(duel);
    }
    Ok(all)
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
