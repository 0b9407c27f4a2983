//! Drift: people stop preferring the champion. To notice it, the champion's predecessor goes on answering in a share of the comparisons,
//! unseen: the **control**. While the champion is what people want it wins against it; when it loses in what was ranked lately, what people
//! want has changed, and a cycle should start.

use super::JobError;
use super::sequential::{self, Verdict};
use crate::store::challenger::{self, Challenge, Duel, Traffic};
use crate::store::{StoreError, policies};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// Who puts the control up, in the table of challenges and the audit log.
pub const ACTOR: &str = "drift";

/// How drift is noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriftConfig {
    /// The share of comparisons in which the champion's predecessor answers too, 0 to 1; 0: drift isn't looked for.
    pub share: f64,
    /// How many of the latest comparisons of both count.
    pub comparisons: usize,
    /// The chance of a cycle that wasn't needed, per `comparisons`.
    pub alpha: f64,
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self { share: 0.0, comparisons: 50, alpha: 0.05 }
    }
}

impl DriftConfig {
    /// Whether it is looked for.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.share > 0.0
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn checked(self) -> Result<Self, JobError> {
        let wrong = |text: &str| Err(JobError::Invalid(format!("retrain.drift.{text}")));
        match self {
            Self { share, .. } if !(0.0..=1.0).contains(&share) => wrong("share must be between 0 and 1"),
            Self { alpha, .. } if !(alpha > 0.0 && alpha < 1.0) => wrong("alpha must be between 0 and 1"),
            Self { comparisons: 0, .. } => wrong("comparisons must be at least 1"),
            fine => Ok(fine),
        }
    }
}

/// The challenge that should be on so that drift can be noticed, where it isn't: nobody else challenges, and there is a predecessor.
///
/// # Errors
/// When the database can't.
pub fn control(c: &Connection, config: &DriftConfig) -> Result<Option<Challenge>, StoreError> {
    let (on, actor) = (challenger::get(c)?, challenger::actor(c)?);
    let of_somebody_else = on.is_some() && actor.as_deref() != Some(ACTOR);
    let Some(policy_id) = policies::previous_champion(c)?.filter(|_| config.is_on() && !of_somebody_else) else {
        return Ok(None);
    };
    let traffic = Traffic { comparison_share: config.share, ..Traffic::default() };
    let wanted = Challenge { policy_id, traffic, trial: None };
    Ok((on.as_ref() != Some(&wanted)).then_some(wanted))
}

/// Whether the champion loses against its control in the latest comparisons of both, none of them older than the control or than `since`.
///
/// # Errors
/// When the database can't.
pub fn found(c: &Connection, config: &DriftConfig, since: Option<&str>) -> Result<bool, StoreError> {
    let (Some(challenge), Some(began), Some(champion)) =
        (challenger::get(c)?, challenger::since(c)?, policies::champion(c)?)
    else {
        return Ok(false);
    };
    if !config.is_on() || challenger::actor(c)?.as_deref() != Some(ACTOR) {
        return Ok(false);
    }
    let since = since.map_or(began.as_str(), |since| since.max(&began));
    let scores = challenger::scores(c, &champion.id, &challenge.policy_id, since)?;
    Ok(has_fallen(&scores, config))
}

fn has_fallen(scores: &[Duel], config: &DriftConfig) -> bool {
    let latest = &scores[scores.len().saturating_sub(config.comparisons)..];
    let score = latest.iter().fold(Duel::default(), |a, b| a + *b);
    sequential::verdict(score, config.alpha) == Verdict::Worse
}

#[cfg(test)]
mod tests {
    use super::*;

    const WON: Duel = Duel { wins: 1, losses: 0, ties: 0 };
    const LOST: Duel = Duel { wins: 0, losses: 1, ties: 0 };

    #[test]
    fn only_the_latest_comparisons_count() {
        let config = DriftConfig { share: 0.2, ..DriftConfig::default() };
        let mut scores = vec![WON; 200];
        assert!(!has_fallen(&scores, &config));
        scores.extend([WON, LOST].repeat(25));
        assert!(!has_fallen(&scores, &config), "as good as its predecessor may be chance");
        scores.extend(vec![LOST; 30]);
        assert!(has_fallen(&scores, &config), "200 wins of long ago don't count");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let config = DriftConfig::default();
        assert!(config.clone().checked().is_ok());
        assert!(DriftConfig { share: 2.0, ..config.clone() }.checked().is_err());
        assert!(DriftConfig { alpha: f64::NAN, ..config.clone() }.checked().is_err());
        assert!(DriftConfig { comparisons: 0, ..config }.checked().is_err());
    }
}
