//! Learning rate as a function of the step. Pure; no state beyond the step number, so a resumed run has the same rates.

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In a straight line to the floor (PPO in Huang et al. 2024, to 0).
    Linear,
    /// Along half a cosine to the floor (SFT and reward model in Ouyang et al. 2022, to 10 %).
    Cosine,
}

/// A whole run's learning rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// The last step's rate as a share of the peak.
    pub floor: f64,
    /// Steps over which the rate rises in a straight line to the peak.
    pub warmup_steps: usize,
    /// Steps of the run.
    pub steps_total: usize,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of step `step` (0 is the first). With w = warm-up, n = total and p = (step - w) / (n - 1 - w):
    /// linear: peak (1 - (1 - floor) p); cosine: peak (floor + (1 - floor) (1 + cos(pi p)) / 2).
    #[must_use]
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let span = self.steps_total.saturating_sub(1 + self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        let left = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        let floor = if self.decay == Decay::Constant { 0.0 } else { self.floor };
        self.peak * (floor + (1.0 - floor) * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warmup_steps: usize) -> Vec<f64> {
        let s = Schedule { peak: 1.0, floor: 0.1, warmup_steps, steps_total: 11, decay };
        (0..11).map(|i| s.rate(i)).collect()
    }

    #[test]
    fn cosine_ends_at_the_floor() {
        let r = rates(Decay::Cosine, 0);
        assert!((r[0] - 1.0).abs() < 1e-12 && (r[5] - 0.55).abs() < 1e-12 && (r[10] - 0.1).abs() < 1e-12);
        assert!(r.windows(2).all(|w| w[1] < w[0]));
    }

    #[test]
    fn warm_up_rises_and_the_rest_falls() {
        let r = rates(Decay::Linear, 3);
        assert!((r[0] - 0.25).abs() < 1e-12 && (r[2] - 0.75).abs() < 1e-12 && (r[3] - 1.0).abs() < 1e-12);
        assert!((r[10] - 0.1).abs() < 1e-12);
        assert_eq!(rates(Decay::Constant, 0), vec![1.0; 11]);
    }

    #[test]
    fn one_step_runs_at_the_peak() {
        let s = Schedule { peak: 2.0, floor: 0.1, warmup_steps: 0, steps_total: 1, decay: Decay::Cosine };
        assert_eq!(s.rate(0), 2.0);
    }
}
