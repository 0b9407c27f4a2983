//! How much of a win is length: the win rate with answers of equal length, and the correlation of reward with length. Pure functions
//! over numbers: `std` and `Estimate`, nothing else.

use super::{Estimate, Z95};

/// Most Newton steps; it needs about 10.
const STEPS_MAX: usize = 100;

/// A step shorter than this is the end, logits.
const STEP_MIN: f64 = 1e-10;

/// Longest Newton step, logits: the first ones overshoot where nearly all or none won.
const STEP_MAX: f64 = 5.0;

/// The win rate if both answers were equally long, 0..1: wins are regressed on `tanh(d / s)`, d the length difference (new - old) and s its
/// standard deviation, and the answer is the model's prediction at d = 0 (AlpacaEval 2; Dubois et al. 2024, arXiv 2404.04475, without
/// its term for an instruction's difficulty, which needs many models on the same instructions).
///
/// The fit is Firth's (Biometrika 80, 1993), which stays finite where all or none won; with equally long answers it is
/// `(wins + 1/2) / (n + 1)`. The interval is Wald's on the logit, 95 %.
///
/// # Shapes
/// `wins` (n), each 1, 0, or 0.5 for a tie; `differences` (n), tokens. `None` where n is 0, the two differ in number, the fit
/// doesn't end, or all differences are the same and not 0.
#[must_use]
pub fn controlled_win_rate(wins: &[f64], differences: &[f64]) -> Option<Estimate> {
    if wins.is_empty() || wins.len() != differences.len() {
        return None;
    }
    let n = wins.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let deviation = (differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Without a spread the information matrix would be singular: the column is left out where all are equally long, and where all
    // differ by the same length there is no telling what it does.
    let has_spread = deviation > 0.0;
    if !has_spread && mean != 0.0 {
        return None;
    }
    let xs: Vec<f64> = differences.iter().map(|d| if has_spread { (d / deviation).tanh() } else { 0.0 }).collect();
    let (intercept, variance) = firth(wins, &xs, has_spread)?;
    let half = Z95 * variance.sqrt();
    Some(Estimate { mean: sigmoid(intercept), low: sigmoid(intercept - half), high: sigmoid(intercept + half) })
}

/// The intercept of Firth's logistic regression of `ys` on 1 and `xs`, and its variance.
fn firth(ys: &[f64], xs: &[f64], has_slope: bool) -> Option<(f64, f64)> {
    let (mut a, mut b) = (0.0, 0.0);
    for _ in 0..STEPS_MAX {
        let ps: Vec<f64> = xs.iter().map(|x| sigmoid(a + b * x)).collect();
        let inverse = inverse_information(&ps, xs, has_slope)?;
        let [i00, i01, i11] = inverse;
        let (mut u0, mut u1) = (0.0, 0.0);
        for ((y, p), x) in ys.iter().zip(&ps).zip(xs) {
            // The leverage of the observation; its share of the score is what Firth's penalty adds.
            let leverage = p * (1.0 - p) * (i00 + 2.0 * i01 * x + i11 * x * x);
            let residual = y - p + leverage * (0.5 - p);
            u0 += residual;
            u1 += residual * x;
        }
        let (da, db) = (i00 * u0 + i01 * u1, i01 * u0 + i11 * u1);
        let longest = da.abs().max(db.abs());
        if !longest.is_finite() {
            return None;
        }
        if longest < STEP_MIN {
            return Some((a, i00));
        }
        let scale = (STEP_MAX / longest).min(1.0);
        a += scale * da;
        b += scale * db;
    }
    None
}

/// The inverse of X' W X as (00, 01, 11); without a slope only its first place isn't 0.
fn inverse_information(ps: &[f64], xs: &[f64], has_slope: bool) -> Option<[f64; 3]> {
    let (mut s0, mut s1, mut s2) = (0.0, 0.0, 0.0);
    for (p, x) in ps.iter().zip(xs) {
        let w = p * (1.0 - p);
        s0 += w;
        s1 += w * x;
        s2 += w * x * x;
    }
    if !has_slope {
        return (s0 > 0.0).then(|| [1.0 / s0, 0.0, 0.0]);
    }
    let determinant = s0 * s2 - s1 * s1;
    (determinant > 0.0).then(|| [s2 / determinant, -s1 / determinant, s0 / determinant])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Pearson's correlation of rewards with lengths, -1..1, and Fisher's interval (95 %, on artanh r with deviation 1 / sqrt(n - 3)).
///
/// # Shapes
/// Both (n). `None` where n is below 4, the two differ in number, or one of them is constant.
#[must_use]
pub fn correlation(rewards: &[f64], lengths: &[f64]) -> Option<Estimate> {
    if rewards.len() < 4 || rewards.len() != lengths.len() {
        return None;
    }
    let n = rewards.len() as f64;
    let (mr, ml) = (rewards.iter().sum::<f64>() / n, lengths.iter().sum::<f64>() / n);
    let (mut rr, mut ll, mut rl) = (0.0, 0.0, 0.0);
    for (r, l) in rewards.iter().zip(lengths) {
        rr += (r - mr).powi(2);
        ll += (l - ml).powi(2);
        rl += (r - mr) * (l - ml);
    }
    if rr <= 0.0 || ll <= 0.0 {
        return None;
    }
    let r = (rl / (rr.sqrt() * ll.sqrt())).clamp(-1.0, 1.0);
    let (z, half) = (r.atanh(), Z95 / (n - 3.0).sqrt());
    Some(Estimate { mean: r, low: (z - half).tanh(), high: (z + half).tanh() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn without_length_differences_it_is_the_smoothed_share() {
        let r = controlled_win_rate(&[1.0, 1.0, 1.0, 0.0, 0.5], &[0.0; 5]).unwrap();
        assert!(controlled_win_rate(&[1.0, 0.0], &[3.0; 2]).is_none());
        assert!((r.mean - 4.0 / 6.0).abs() < 1e-9 && r.low < r.mean && r.mean < r.high, "{r:?}");
        let all = controlled_win_rate(&[1.0; 9], &[0.0; 9]).unwrap();
        assert!((all.mean - 0.95).abs() < 1e-9 && all.high < 1.0, "{all:?}");
    }

    #[test]
    fn wins_that_length_explains_are_taken_out() {
        // Longer wins 3 of 4 times, whoever is longer; the new answers are longer in 80 of 100 prompts.
        let (mut wins, mut differences) = (Vec::new(), Vec::new());
        for i in 0..100 {
            let is_longer = i % 5 != 0;
            differences.push(if is_longer { 10.0 } else { -10.0 });
            wins.push(f64::from(is_longer == ((i / 5) % 4 != 0)));
        }
        let raw = wins.iter().sum::<f64>() / 100.0;
        let r = controlled_win_rate(&wins, &differences).unwrap();
        assert!((raw - 0.65).abs() < 1e-9 && (r.mean - 0.5).abs() < 0.01 && r.low < 0.5 && r.high > 0.5, "{raw} {r:?}");
    }

    #[test]
    fn separated_wins_stay_finite_and_swapping_sides_mirrors() {
        let (wins, differences) = ([1.0, 1.0, 1.0, 0.0, 0.0], [4.0, 9.0, 2.0, -3.0, -8.0]);
        let r = controlled_win_rate(&wins, &differences).unwrap();
        let other = controlled_win_rate(&wins.map(|w| 1.0 - w), &differences.map(|d| -d)).unwrap();
        assert!(r.low > 0.0 && r.high < 1.0 && (r.mean + other.mean - 1.0).abs() < 1e-8, "{r:?} {other:?}");
        assert!(controlled_win_rate(&[], &[]).is_none() && controlled_win_rate(&[1.0], &[]).is_none());
    }

    #[test]
    fn correlation_matches_a_hand_computed_value() {
        // Sums of squares 10 and 10, of products 8: r = 0.8; artanh 0.8 = 1.098612 (ln 3); half 1.959964 / sqrt(2) = 1.385904.
        let r = correlation(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]).unwrap();
        assert!((r.mean - 0.8).abs() < 1e-12, "{r:?}");
        assert!((r.low.atanh() - (3f64.ln() - 1.385_904)).abs() < 1e-5, "{r:?}");
        assert!(correlation(&[1.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0]).is_none());
    }
}
