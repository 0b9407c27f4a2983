//! From scores to advantages: the EOS rule, per-token rewards, generalised advantage estimation, whitening. Pure functions over
//! `f64`; uses nothing but the standard library. Golden numbers are in `tests/golden_maths`.

/// What becomes of the score of an answer that didn't end by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EosRule {
    /// It gets this score, whatever it says (the EOS trick of Huang et al. 2024, arXiv 2403.17031: -1).
    pub replace: Option<f64>,
    /// Where `replace` is off: this is taken off its score.
    pub penalty: f64,
}

impl EosRule {
    /// The score that PPO sees.
    #[must_use]
    pub fn apply(&self, score: f64, ended: bool) -> f64 {
        match (ended, self.replace) {
            (true, _) => score,
            (false, Some(fixed)) => fixed,
            (false, None) => score - self.penalty,
        }
    }
}

/// r_t = -beta * kl_t, and the score on top of the last token (Ouyang et al. 2022, equation 2, token by token).
///
/// # Shapes
/// `kl` (response tokens), nats; answer the same. An empty response has no reward.
#[must_use]
pub fn token_rewards(kl: &[f64], kl_coef: f64, score: f64) -> Vec<f64> {
    let mut rewards: Vec<f64> = kl.iter().map(|k| -kl_coef * k).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// Advantages and the returns that the value function is trained towards.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// A_t (response tokens).
    pub advantages: Vec<f64>,
    /// R_t = A_t + V_t (response tokens).
    pub returns: Vec<f64>,
}

/// delta_t = r_t + gamma V_{t+1} - V_t, V_T = 0 (the episode is over); A_t = delta_t + gamma lambda A_{t+1}
/// (Schulman et al. 2015, arXiv 1506.02438, equations 11 and 16).
///
/// # Shapes
/// `rewards`, `values`: (response tokens) of one response.
#[must_use]
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Advantages {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gamma * next_value - values[t];
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = values[t];
        advantages[t] = next_advantage;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    Advantages { advantages, returns }
}

/// A_i = R_i - mean of the other answers' rewards to the same prompt (Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740,
/// section 3): an unbiased baseline without a value function. One answer alone has nothing to be compared with, and gets 0.
///
/// # Shapes
/// `rewards`: (answers), those to one prompt beside each other, `k` each; answer the same.
#[must_use]
pub fn leave_one_out(rewards: &[f64], k: usize) -> Vec<f64> {
    let group = |rewards: &[f64]| {
        let (sum, others) = (rewards.iter().sum::<f64>(), (rewards.len() - 1).max(1) as f64);
        let alone = rewards.len() == 1;
        rewards.iter().map(move |r| if alone { 0.0 } else { r - (sum - r) / others }).collect::<Vec<_>>()
    };
    rewards.chunks(k.max(1)).flat_map(group).collect()
}

/// Mean and population variance; (0, 0) of nothing.
#[must_use]
pub fn mean_variance(xs: &[f64]) -> (f64, f64) {
    let n = (xs.len() as f64).max(1.0);
    let mean = xs.iter().sum::<f64>() / n;
    (mean, xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

/// (x - mean) / sqrt(var + 1e-8) with the population variance (arXiv 2403.17031, whitening of advantages).
pub fn whiten(xs: &mut [f64]) {
    let (mean, variance) = mean_variance(xs);
    let scale = 1.0 / (variance + 1e-8).sqrt();
    xs.iter_mut().for_each(|x| *x = (*x - mean) * scale);
}

/// 1 - Var(returns - values) / Var(returns): 1 is a perfect value function, 0 one that knows only the mean. 0 where the returns
/// don't vary.
#[must_use]
pub fn explained_variance(values: &[f64], returns: &[f64]) -> f64 {
    let rest: Vec<f64> = returns.iter().zip(values).map(|(r, v)| r - v).collect();
    let (_, total) = mean_variance(returns);
    if total < 1e-12 { 0.0 } else { 1.0 - mean_variance(&rest).1 / total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambda_one_gives_the_whole_return() {
        let out = gae(&[0.0, 0.0, 2.0], &[0.5, -0.5, 1.0], 1.0, 1.0);
        assert_eq!(out.returns, [2.0, 2.0, 2.0]);
        assert_eq!(out.advantages, [1.5, 2.5, 1.0]);
    }

    #[test]
    fn lambda_zero_gives_the_temporal_difference() {
        let out = gae(&[0.1, 0.2], &[1.0, 3.0], 0.9, 0.0);
        assert!((out.advantages[0] - (0.1 + 0.9 * 3.0 - 1.0)).abs() < 1e-12);
        assert!((out.advantages[1] - (0.2 - 3.0)).abs() < 1e-12);
    }

    #[test]
    fn the_score_lands_on_the_last_token() {
        assert_eq!(token_rewards(&[1.0, -2.0], 0.5, 3.0), [-0.5, 4.0]);
        assert!(token_rewards(&[], 0.5, 3.0).is_empty());
    }

    #[test]
    fn an_answer_without_an_end_is_worth_less() {
        let trick = EosRule { replace: Some(-1.0), penalty: 0.0 };
        assert_eq!((trick.apply(2.0, true), trick.apply(2.0, false)), (2.0, -1.0));
        let softer = EosRule { replace: None, penalty: 0.5 };
        assert_eq!((softer.apply(2.0, true), softer.apply(2.0, false)), (2.0, 1.5));
    }

    #[test]
    fn answers_to_one_prompt_are_each_others_baseline() {
        assert_eq!(leave_one_out(&[1.0, 3.0, 2.0, 10.0, 10.0, 4.0], 3), [-1.5, 1.5, 0.0, 3.0, 3.0, -6.0]);
        assert_eq!(leave_one_out(&[5.0], 1), [0.0]);
    }

    #[test]
    fn whitened_advantages_have_mean_zero_and_variance_one() {
        let mut xs = vec![1.0, 4.0, -2.0, 8.0];
        whiten(&mut xs);
        let (mean, variance) = mean_variance(&xs);
        assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-6);
        let mut same = vec![3.0; 4];
        whiten(&mut same);
        assert_eq!(same, [0.0; 4]);
    }

    #[test]
    fn explained_variance_of_perfect_and_of_blind_values() {
        assert_eq!(explained_variance(&[1.0, 2.0], &[1.0, 2.0]), 1.0);
        assert_eq!(explained_variance(&[0.0, 0.0], &[1.0, 2.0]), 0.0);
        assert_eq!(explained_variance(&[0.0, 1.0], &[2.0, 2.0]), 0.0);
    }
}
