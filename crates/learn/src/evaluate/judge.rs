//! What the judge says of two policies' answers: a reward model of people whom the optimised one never saw, so that its verdict isn't
//! what the policy was trained to get. Beside it what best-of-n gets without any training. Pure, but for what is handed in.

use super::{Estimate, length, mean_interval, wilson_interval, won};
use serde::{Deserialize, Serialize};

/// The judge's verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Share of prompts on which the new answer has the judge's higher reward, ties half.
    pub win_rate: Estimate,
    /// The same if both answers were equally long (`length::controlled_win_rate`). `None` where that can't be told, and in reports from
    /// before it was asked.
    #[serde(default)]
    pub win_rate_length_controlled: Option<Estimate>,
    /// Mean of new - old of the judge's reward, prompt by prompt.
    pub reward_gain: Estimate,
    /// The old policy's best of several answers against its usual one.
    pub best_of_n: Option<BestOfN>,
}

/// Taking the answer that the reward model likes most, of several by the old policy: the same wish for reward, without training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestOfN {
    /// Answers to each prompt.
    pub n: usize,
    /// As the new policy's.
    pub win_rate: Estimate,
    /// ln n - (n - 1) / n, the most that it can be away from the old policy (Stiennon et al. 2020, appendix G.3; Beirami et al. 2024).
    pub kl_nats_max: f64,
}

/// Compares the judge's rewards of old and new answers to the same prompts, and of the best-of-n ones where there are any. `longer`: by how
/// many tokens each new answer is longer.
pub(super) fn judgement(old: &[f64], new: &[f64], longer: &[f64], best: Option<(usize, &[f64])>) -> Judgement {
    let gains = |better: &[f64]| better.iter().zip(old).map(|(b, o)| b - o).collect::<Vec<f64>>();
    let rate = |gains: &[f64]| wilson_interval(gains.iter().map(won).sum(), gains.len());
    let gained = gains(new);
    let best_of_n = best.map(|(n, rewards)| {
        let k = n as f64;
        BestOfN { n, win_rate: rate(&gains(rewards)), kl_nats_max: k.ln() - (k - 1.0) / k }
    });
    let wins: Vec<f64> = gained.iter().map(won).collect();
    Judgement {
        win_rate: rate(&gained),
        win_rate_length_controlled: length::controlled_win_rate(&wins, longer),
        reward_gain: mean_interval(&gained),
        best_of_n,
    }
}

/// Of each `n` answers in a row the place of the one with the highest reward, the first of equals.
pub(super) fn best_of(rewards: &[f64], n: usize) -> Vec<usize> {
    let best = |(group, of): (usize, &[f64])| {
        let better = |best: usize, i: usize| if of[i] > of[best] { i } else { best };
        group * n + (1..of.len()).fold(0, better)
    };
    rewards.chunks(n.max(1)).enumerate().map(best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_compares_prompt_by_prompt() {
        let (old, new, best) = ([0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0]);
        let found = judgement(&old, &new, &[0.0; 4], Some((4, &best)));
        assert_eq!((found.win_rate.mean, found.reward_gain.mean), (0.625, 0.25));
        let of_n = found.best_of_n.expect("asked for");
        assert_eq!((of_n.n, of_n.win_rate.mean), (4, 1.0));
        assert!((of_n.kl_nats_max - 0.636_294).abs() < 1e-6, "ln 4 - 3/4");
        assert!(
            found.win_rate_length_controlled.is_some_and(|rate| (rate.mean - 0.6).abs() < 1e-9),
            "3 of 5, smoothed"
        );
        assert_eq!(judgement(&old, &new, &[0.0; 4], None).best_of_n, None);
    }

    #[test]
    fn the_best_of_each_group_is_taken() {
        assert_eq!(best_of(&[1.0, 3.0, 2.0, 5.0, 4.0, 5.0], 3), [1, 3]);
        assert_eq!(best_of(&[1.0, 3.0], 1), [0, 1]);
    }
}
