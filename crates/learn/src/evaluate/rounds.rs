//! Policies of earlier rounds on the prompts of this one: the last round isn't always the best (Touvron et al. 2023, section 3.2.3, saw
//! capabilities regress until they took the best samples of all iterations), and what is served should be the best of all.

use super::asking::Asking;
use super::{Estimate, mean_interval, wilson_interval, won};
use crate::LearnError;
use crate::lora::Adapter;
use crate::train::Context;
use hone_domain::ids::PolicyId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An earlier policy against the new one, on the same prompts with the same random numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Which policy.
    pub policy: PolicyId,
    /// Mean of earlier - new, prompt by prompt: of the judge's reward, or of the optimised one's where there is no judge.
    pub gain: Estimate,
    /// Share of prompts on which the earlier answer has the higher reward, ties half.
    pub win_rate: Estimate,
}

/// Lets the earlier policies answer too. `of_new`: the verdict on the new policy's answers.
pub(super) fn compare(
    earlier: &BTreeMap<PolicyId, PathBuf>,
    prompts: &[Vec<u32>],
    of_new: &[f64],
    asking: &mut Asking<'_>,
    ctx: &mut Context<'_>,
) -> Result<Vec<Round>, LearnError> {
    let mut rounds = Vec::new();
    for (policy, dir) in earlier {
        let adapter = Adapter::load(dir, ctx.base.config())?;
        let answers = asking.answer(prompts, Some(&adapter), ctx)?;
        rounds.push(round(policy.clone(), &asking.verdict(&answers, ctx)?, of_new));
    }
    Ok(rounds)
}

fn round(policy: PolicyId, earlier: &[f64], new: &[f64]) -> Round {
    let gains: Vec<f64> = earlier.iter().zip(new).map(|(e, n)| e - n).collect();
    Round { policy, gain: mean_interval(&gains), win_rate: wilson_interval(gains.iter().map(won).sum(), gains.len()) }
}

/// The earlier policy that is surely better than the new one (its interval lies above 0), the best of several.
#[must_use]
pub fn better(rounds: &[Round]) -> Option<&Round> {
    let surely = rounds.iter().filter(|round| round.gain.low > 0.0);
    surely.max_by(|a, b| a.gain.mean.total_cmp(&b.gain.mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, earlier: &[f64]) -> Round {
        round(PolicyId::from_raw(name), earlier, &[0.0, 1.0, 2.0, 3.0])
    }

    #[test]
    fn only_what_is_surely_better_takes_the_new_ones_place() {
        let lucky = named("pol_lucky", &[9.0, 1.0, 1.0, 3.0]);
        assert_eq!((lucky.gain.mean, lucky.win_rate.mean), (2.0, 0.5));
        let (good, best) = (named("pol_good", &[0.5, 1.5, 2.6, 3.5]), named("pol_best", &[1.0, 2.1, 3.0, 4.0]));
        let worse = named("pol_worse", &[-1.0, 0.0, 1.0, 2.1]);
        assert_eq!(better(&[lucky.clone(), worse.clone()]), None);
        assert_eq!(better(&[worse, good, best.clone(), lucky]), Some(&best));
        assert_eq!(better(&[named("pol_same", &[0.0, 1.0, 2.0, 3.0])]), None);
    }
}
