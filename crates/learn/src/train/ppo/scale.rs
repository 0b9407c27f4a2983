//! Where a reward of 0 lies (Ziegler et al. 2019, arXiv 1909.08593, section 2.1; Huang et al. 2024, arXiv 2403.17031): the reference
//! policy answers some training prompts once, and the mean of their rewards becomes 0.

use super::roles::Roles;
use super::rollout;
use crate::LearnError;
use crate::gae::mean_variance;
use crate::model::Workspace;
use crate::train::data::Sequence;
use crate::train::{PpoConfig, RewardNormalisation};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// Rewards closer together than this (in deviations of the ranked answers) don't tell a scale: dividing by it would only blow noise up.
const DEVIATION_MIN: f64 = 0.1;

/// reward <- (reward - mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    pub(super) mean: f64,
    pub(super) std: f64,
}

impl Default for Scale {
    /// Rewards as they are.
    fn default() -> Self {
        Self { mean: 0.0, std: 1.0 }
    }
}

impl Scale {
    pub(super) fn apply(self, reward: f64) -> f64 {
        (reward - self.mean) / self.std
    }

    /// That of some rewards of the reference.
    fn of(rewards: &[f64], normalisation: RewardNormalisation) -> Self {
        let (mean, variance) = mean_variance(rewards);
        match normalisation {
            RewardNormalisation::Training => Self::default(),
            RewardNormalisation::ReferenceMean => Self { mean, std: 1.0 },
            RewardNormalisation::ReferenceMeanStd => Self { mean, std: variance.sqrt().max(DEVIATION_MIN) },
        }
    }

    /// Lets the reference answer some training prompts, and measures. The answers have a stream of random numbers of their own.
    pub(super) fn measure(
        roles: &Roles<'_>,
        config: &PpoConfig,
        asked: &[Vec<u32>],
        seed: u64,
        ws: &mut Workspace,
    ) -> Result<Self, LearnError> {
        if config.reward_normalisation == RewardNormalisation::Training {
            return Ok(Self::default());
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX - 1);
        let mut rewards = Vec::new();
        for chunk in asked.chunks(config.batch_episodes) {
            let drawn = rollout::answers(roles, roles.reference.as_ref(), config, chunk, &mut rng)?;
            let sequences: Vec<Sequence> = drawn.into_iter().map(|(sequence, _)| sequence).collect();
            rewards.extend(roles.reward.rewards(
                roles.base,
                &sequences,
                roles.eos_ids,
                config.micro_batch_tokens,
                ws,
            )?);
        }
        Ok(Self::of(&rewards, config.reward_normalisation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_answers_get_mean_zero() {
        let rewards = [1.0, 3.0, 2.0, 6.0];
        let scaled = |n| {
            let scale = Scale::of(&rewards, n);
            mean_variance(&rewards.map(|r| scale.apply(r)))
        };
        assert_eq!(scaled(RewardNormalisation::Training), (3.0, 3.5));
        assert_eq!(scaled(RewardNormalisation::ReferenceMean), (0.0, 3.5));
        let (mean, variance) = scaled(RewardNormalisation::ReferenceMeanStd);
        assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-12);
        assert_eq!(
            Scale::of(&[2.0; 5], RewardNormalisation::ReferenceMeanStd),
            Scale { mean: 2.0, std: DEVIATION_MIN }
        );
    }
}
