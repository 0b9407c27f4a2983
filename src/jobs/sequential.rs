//! A test of "which of two policies do people prefer" that may be looked at after every answer and stopped at any time. Pure.
//!
//! Each comparison of both is a win or a loss of the challenger; ties say nothing. If people had no preference for the challenger (a win has
//! the chance p <= 1/2), then
//!
//! E(w, l) = 2 ∫ from 1/2 to 1 of (2θ)^w (2(1 - θ))^l dθ
//!
//! is at every time at most 1 in expectation, given the past: a bet against "no better" that can't be won in the long run. So the chance
//! that it EVER reaches 1/α is at most α (Ville 1939), however often somebody looks (Robbins 1970; Ramdas et al. 2023, "Game-theoretic
//! statistics and safe anytime-valid inference"). The integral is an incomplete beta function, and for whole numbers a binomial sum:
//! E = 2^(n+1) B(w + 1, l + 1) P(Bin(n + 1, 1/2) <= w), n = w + l.

use crate::store::challenger::Duel;
use serde::{Deserialize, Serialize};

/// What the comparisons so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The challenger is better.
    Better,
    /// The champion is better.
    Worse,
    /// It may be either.
    Open,
}

/// The evidence that the first is better, and that the second is: 1 is none, 20 allows an error in 20.
#[must_use]
pub fn evidence(score: Duel) -> (f64, f64) {
    (bet(score.wins, score.losses), bet(score.losses, score.wins))
}

/// The verdict, wrong with a chance of at most `alpha` in each direction, whenever and however often it is asked for.
#[must_use]
pub fn verdict(score: Duel, alpha: f64) -> Verdict {
    match evidence(score) {
        (better, _) if better * alpha >= 1.0 => Verdict::Better,
        (_, worse) if worse * alpha >= 1.0 => Verdict::Worse,
        _ => Verdict::Open,
    }
}

/// E(w, l) above.
#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
fn bet(wins: usize, losses: usize) -> f64 {
    let n = wins + losses;
    // ln k! up to n + 1.
    let mut ln_factorial = vec![0.0; n + 2];
    (1..n + 2).for_each(|k| ln_factorial[k] = ln_factorial[k - 1] + (k as f64).ln());
    let ln_beta = ln_factorial[wins] + ln_factorial[losses] - ln_factorial[n + 1];
    // The terms of the binomial sum, the largest taken out.
    let ln_choose = |k: usize| ln_factorial[n + 1] - ln_factorial[k] - ln_factorial[n + 1 - k];
    let largest = (0..=wins).map(ln_choose).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..=wins).map(|k| (ln_choose(k) - largest).exp()).sum();
    // 2^(n+1) and the 2^-(n+1) of the binomial cancel.
    (ln_beta + largest + sum.ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn the_evidence_is_the_integral() {
        for (wins, losses) in [(0, 0), (3, 0), (0, 3), (7, 5), (30, 12)] {
            let steps = 200_000;
            let at = |i: usize| 0.5 + 0.5 * (i as f64 + 0.5) / steps as f64;
            let f = |t: f64| (2.0 * t).powi(wins) * (2.0 * (1.0 - t)).powi(losses);
            let integral = 2.0 * (0..steps).map(|i| f(at(i))).sum::<f64>() * 0.5 / steps as f64;
            let found = bet(wins as usize, losses as usize);
            assert!((found / integral - 1.0).abs() < 1e-6, "{wins} {losses}: {found} {integral}");
        }
        assert!(bet(4000, 1000) > 1e100 && bet(1000, 4000) < 1.0, "large counts don't end in nonsense");
    }

    /// Looks after every comparison, up to so many, and says how often the verdict was `Better`, and after how many on average.
    fn looking(p: f64, alpha: f64, comparisons: usize, seed: u64) -> (f64, f64) {
        let (mut rng, mut found, mut after) = (StdRng::seed_from_u64(seed), 0.0, 0.0);
        let runs = 1000;
        for _ in 0..runs {
            let mut score = Duel::default();
            for n in 1..=comparisons {
                if rng.random::<f64>() < p {
                    score.wins += 1
                } else {
                    score.losses += 1
                }
                if verdict(score, alpha) == Verdict::Better {
                    found += 1.0;
                    after += n as f64;
                    break;
                }
            }
        }
        (found / f64::from(runs), after / f64::max(found, 1.0))
    }

    #[test]
    fn looking_after_every_comparison_is_wrong_as_seldom_as_it_says() {
        let (false_alarms, _) = looking(0.5, 0.05, 200, 1);
        // Six standard errors above 5 %.
        assert!(false_alarms < 0.05 + 6.0 * (0.05f64 * 0.95 / 1000.0).sqrt(), "{false_alarms}");
        assert!(looking(0.4, 0.05, 200, 2).0 < 0.01);
        let (found, after) = looking(0.7, 0.05, 200, 3);
        assert!(found > 0.98 && after < 80.0, "a clear preference is found soon: {found} after {after}");
    }

    #[test]
    fn both_directions_are_alike() {
        let score = Duel { wins: 40, losses: 12, ties: 9 };
        let turned = Duel { wins: 12, losses: 40, ties: 0 };
        assert_eq!(evidence(score).0, evidence(turned).1);
        assert_eq!((verdict(score, 0.05), verdict(turned, 0.05)), (Verdict::Better, Verdict::Worse));
        assert_eq!(verdict(Duel { wins: 5, losses: 5, ties: 100 }, 0.05), Verdict::Open);
    }
}
