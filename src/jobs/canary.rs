//! A canary that decides itself: a policy that the gate has passed gets a share of the traffic and half of the answers in comparisons, and
//! people's rankings promote it, reject it, or leave it a candidate, within the operator's bounds. The decision is pure; `Scheduler::tick`
//! asks for it and carries it out.

use super::sequential::{self, Verdict};
use crate::store::challenger::{Bounds, Duel, ShareError, Traffic, Undecided};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What happens to a policy that has passed the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryConfig {
    /// Whether people decide; without it the gate's word promotes.
    pub enabled: bool,
    /// The share of conversations that the new policy answers meanwhile, 0 to 1.
    pub share: f64,
    /// See [`Bounds`].
    pub alpha: f64,
    /// See [`Bounds`].
    pub comparisons_min: usize,
    /// See [`Bounds`].
    pub comparisons_max: usize,
    /// See [`Bounds`].
    pub hours_max: f64,
    /// See [`Bounds`].
    pub undecided: Undecided,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        let Bounds { alpha, comparisons_min, comparisons_max, hours_max, undecided } = Bounds::default();
        Self { enabled: false, share: 0.1, alpha, comparisons_min, comparisons_max, hours_max, undecided }
    }
}

impl CanaryConfig {
    /// What the new policy gets, and within which bounds it is decided about.
    ///
    /// # Errors
    /// A share or chance out of its range.
    pub fn trial(&self) -> Result<(Traffic, Bounds), ShareError> {
        let Self { enabled: _, share, alpha, comparisons_min, comparisons_max, hours_max, undecided } = *self;
        let traffic = Traffic { canary_share: share, ..Traffic::default() }.checked()?;
        Ok((traffic, Bounds { alpha, comparisons_min, comparisons_max, hours_max, undecided }.checked()?))
    }
}

/// How a trial ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The challenger becomes champion.
    Promoted,
    /// It stays a candidate.
    Kept,
    /// It is rejected.
    RolledBack,
}

/// How a trial stands, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Trial {
    /// When it began.
    pub since: String,
    /// Comparisons of both since then.
    #[schema(value_type = Duel)]
    pub score: Duel,
    /// Evidence that the challenger is better; 1 / alpha decides. It may be looked at as often as one likes.
    pub evidence_better: f64,
    /// Evidence that it is worse.
    pub evidence_worse: f64,
    /// What the evidence says.
    pub verdict: Verdict,
    /// The bounds.
    pub bounds: Bounds,
    /// How it ended; null while it goes on.
    pub ending: Option<Ending>,
    /// The same in words.
    pub sentence: String,
}

/// Judges a trial that began at `since`.
#[must_use]
pub fn judge(score: Duel, since: &str, bounds: Bounds, now: Timestamp) -> Trial {
    let (evidence_better, evidence_worse) = sequential::evidence(score);
    let decided = score.wins + score.losses;
    let verdict = match sequential::verdict(score, bounds.alpha) {
        _ if decided < bounds.comparisons_min => Verdict::Open,
        verdict => verdict,
    };
    let late = since.parse::<Timestamp>().is_ok_and(|began| is_late(began, now, bounds.hours_max));
    let over = late || decided + score.ties >= bounds.comparisons_max;
    let ending = match (verdict, over, bounds.undecided) {
        (Verdict::Better, ..) | (Verdict::Open, true, Undecided::Promote) => Some(Ending::Promoted),
        (Verdict::Worse, ..) | (Verdict::Open, true, Undecided::RollBack) => Some(Ending::RolledBack),
        (Verdict::Open, true, Undecided::Keep) => Some(Ending::Kept),
        (Verdict::Open, false, _) => None,
    };
    let sentence = sentence(score, verdict, ending);
    Trial { since: since.to_owned(), score, evidence_better, evidence_worse, verdict, bounds, ending, sentence }
}

fn is_late(began: Timestamp, now: Timestamp, hours_max: f64) -> bool {
    now.duration_since(began) >= SignedDuration::try_from_secs_f64(hours_max * 3600.0).unwrap_or(SignedDuration::MAX)
}

fn sentence(score: Duel, verdict: Verdict, ending: Option<Ending>) -> String {
    let Duel { wins, losses, ties } = score;
    let many = if wins == 1 { "" } else { "s" };
    let said =
        format!("people prefer the challenger in {wins} comparison{many}, the champion in {losses}, neither in {ties}");
    let found = match verdict {
        Verdict::Better => "it is better",
        Verdict::Worse => "it is worse",
        Verdict::Open => "that may be chance",
    };
    let then = match ending {
        None => "the trial goes on",
        Some(Ending::Promoted) => "it becomes champion",
        Some(Ending::Kept) => "the trial is over, and it stays a candidate",
        Some(Ending::RolledBack) => "it is rejected",
    };
    format!("{said}: {found}, {then}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: &str = "2026-01-01T00:00:00.000000Z";

    fn ending(wins: usize, losses: usize, hours: i64, change: impl Fn(&mut Bounds)) -> Option<Ending> {
        let mut bounds = Bounds { comparisons_max: 100, ..Bounds::default() };
        change(&mut bounds);
        let now = SINCE.parse::<Timestamp>().expect("a time") + SignedDuration::from_hours(hours);
        judge(Duel { wins, losses, ties: 3 }, SINCE, bounds, now).ending
    }

    #[test]
    fn people_decide_within_the_bounds() {
        assert_eq!(ending(30, 8, 1, |_| {}), Some(Ending::Promoted));
        assert_eq!(ending(8, 30, 1, |_| {}), Some(Ending::RolledBack));
        assert_eq!(ending(20, 18, 1, |_| {}), None);
        assert_eq!(ending(9, 0, 1, |_| {}), None, "clear, but too few");
        assert_eq!(ending(9, 0, 1, |b| b.comparisons_min = 5), Some(Ending::Promoted));
    }

    #[test]
    fn a_trial_without_a_verdict_ends_as_the_operator_wants() {
        assert_eq!(ending(50, 47, 1, |_| {}), Some(Ending::Kept), "100 comparisons");
        assert_eq!(ending(2, 1, 400, |_| {}), Some(Ending::Kept), "two weeks");
        assert_eq!(ending(2, 1, 400, |b| b.undecided = Undecided::Promote), Some(Ending::Promoted));
        assert_eq!(ending(2, 1, 400, |b| b.undecided = Undecided::RollBack), Some(Ending::RolledBack));
        assert_eq!(ending(2, 1, 400, |b| b.hours_max = f64::INFINITY), None);
    }

    #[test]
    fn the_sentence_counts_as_people_do() {
        let now = SINCE.parse::<Timestamp>().expect("a time");
        let said = |wins| judge(Duel { wins, losses: 0, ties: 0 }, SINCE, Bounds::default(), now).sentence;
        assert!(said(1).starts_with("people prefer the challenger in 1 comparison, the champion in 0, neither in 0: "));
        assert!(said(2).starts_with("people prefer the challenger in 2 comparisons, "));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let trial = |change: fn(&mut CanaryConfig)| {
            let mut config = CanaryConfig::default();
            change(&mut config);
            config.trial().map_err(|e| e.0)
        };
        assert!(trial(|_| {}).is_ok());
        assert_eq!(trial(|c| c.share = 1.5), Err("canary_share"));
        assert_eq!(trial(|c| c.alpha = 0.0), Err("alpha"));
    }
}
