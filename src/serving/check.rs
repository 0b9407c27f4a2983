//! The serve check: is what the engine computes what the trainer trained? Pure: numbers in, a verdict out.

use hone_domain::EngineError;
use serde::{Deserialize, Serialize};

/// A fixed text and what the trainer says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckText {
    /// Tokens (T).
    pub tokens: Vec<u32>,
    /// The trainer's log p(token[t] | token[..t]) for t = 1..T, in nats (T - 1).
    pub logprobs: Vec<f32>,
}

/// The texts that are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServeCheck {
    /// At least one text of at least two tokens.
    pub texts: Vec<CheckText>,
}

/// How far the engine may be from the trainer. An engine in f32 is at about 1e-4 nats; one that quantises moves single
/// tokens by tenths of a nat and the mean by hundredths; a wrong merge or prompt format moves the mean by whole nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeCheckLimits {
    /// Bound on the mean absolute difference over all tokens.
    pub mean_abs_diff_nats: f64,
    /// Bound on the largest absolute difference.
    pub max_abs_diff_nats: f64,
    /// Bound on the estimated KL divergence per token.
    pub kl_nats: f64,
}

impl Default for ServeCheckLimits {
    fn default() -> Self {
        Self { mean_abs_diff_nats: 0.02, max_abs_diff_nats: 0.25, kl_nats: 0.002 }
    }
}

/// What the serve check found; kept in the gate's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServeCheckReport {
    /// Tokens compared.
    pub tokens: usize,
    /// Mean of |engine - trainer|.
    pub mean_abs_diff_nats: f64,
    /// Largest |engine - trainer|.
    pub max_abs_diff_nats: f64,
    /// Mean of exp(d) - 1 - d with d = engine - trainer: Schulman's k3 estimate of KL(trainer || engine) per token. The
    /// texts aren't samples of the policy, so read it as a distance that weighs large differences, not as the KL itself.
    pub kl_nats: f64,
    /// Whether all three are within their bounds.
    pub passed: bool,
}

/// Compares the engine's log-probabilities with the trainer's and decides.
///
/// # Shapes
/// `served[i]` has the length of `check.texts[i].logprobs`.
///
/// # Errors
/// When there is nothing to compare, or the lengths differ: that is a mistake in the caller, not a failed check.
pub fn decide(
    check: &ServeCheck,
    served: &[Vec<f32>],
    limits: &ServeCheckLimits,
) -> Result<ServeCheckReport, EngineError> {
    let bad = |why: &str| Err(EngineError::BadRequest(format!("serve check: {why}")));
    if check.texts.len() != served.len() {
        return bad("the engine answered another number of texts than it was given");
    }
    let mut diffs: Vec<f64> = Vec::new();
    for (text, served) in check.texts.iter().zip(served) {
        if text.logprobs.len() != served.len() {
            return bad("the engine and the trainer scored another number of tokens of the same text");
        }
        diffs.extend(text.logprobs.iter().zip(served).map(|(&t, &s)| f64::from(s) - f64::from(t)));
    }
    if diffs.is_empty() {
        return bad("no text to compare; give at least one of two tokens or more");
    }
    Ok(report(&diffs, limits))
}

/// The figures of `diffs` (engine - trainer, nats, not empty) and the verdict. NaN is within no bound.
#[allow(clippy::cast_precision_loss)] // token counts are far below 2^52
fn report(diffs: &[f64], limits: &ServeCheckLimits) -> ServeCheckReport {
    let ServeCheckLimits { mean_abs_diff_nats: mean_max, max_abs_diff_nats: max_max, kl_nats: kl_max } = limits;
    let n = diffs.len() as f64;
    let mean = diffs.iter().map(|d| d.abs()).sum::<f64>() / n;
    // Not `f64::max`, which drops a NaN.
    let max = diffs.iter().map(|d| d.abs()).fold(0.0, |a: f64, b| if b.is_nan() || b > a { b } else { a });
    let kl = diffs.iter().map(|d| d.exp_m1() - d).sum::<f64>() / n;
    ServeCheckReport {
        tokens: diffs.len(),
        mean_abs_diff_nats: mean,
        max_abs_diff_nats: max,
        kl_nats: kl,
        passed: mean <= *mean_max && max <= *max_max && kl <= *kl_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(trainer: &[f32], served: &[f32]) -> Result<ServeCheckReport, EngineError> {
        let tokens = vec![0; trainer.len() + 1];
        let check = ServeCheck { texts: vec![CheckText { tokens, logprobs: trainer.to_vec() }] };
        decide(&check, &[served.to_vec()], &ServeCheckLimits::default())
    }

    #[test]
    fn figures_are_right() {
        let r = run(&[-1.0, -2.0], &[-1.0, -1.9]).expect("compares");
        assert!((r.mean_abs_diff_nats - 0.05).abs() < 1e-6, "{r:?}");
        assert!((r.max_abs_diff_nats - 0.1).abs() < 1e-6, "{r:?}");
        assert!((r.kl_nats - (0.1f64.exp() - 1.1) / 2.0).abs() < 1e-6, "{r:?}");
        assert!(!r.passed, "the mean is over 0.02");
    }

    #[test]
    fn passes_rounding_and_fails_skew_outliers_and_nan() {
        let trainer = vec![-2.0f32; 100];
        let with = |f: &dyn Fn(usize) -> f32| {
            let served: Vec<f32> = (0..100).map(f).collect();
            run(&trainer, &served).expect("compares").passed
        };
        assert!(with(&|_| -2.0001));
        assert!(!with(&|_| -2.05), "a shift of all tokens");
        assert!(!with(&|i| if i == 7 { -2.5 } else { -2.0 }), "one token far off, though the mean is small");
        assert!(!with(&|i| if i == 0 { f32::NAN } else { -2.0 }));
        assert!(!with(&|i| if i == 0 { f32::NEG_INFINITY } else { -2.0 }));
    }

    #[test]
    fn nothing_to_compare_is_an_error() {
        assert!(run(&[], &[]).is_err());
        assert!(run(&[-1.0], &[-1.0, -2.0]).is_err());
        assert!(decide(&ServeCheck::default(), &[vec![]], &ServeCheckLimits::default()).is_err());
    }
}
