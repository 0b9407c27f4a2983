//! The losses of the three steps as pure functions over `f64`, each with its equation, its source and its analytic gradient.
//! Uses nothing but the standard library. The trainers convert at the edge; golden numbers are in `tests/golden_maths`.
//!
//! A loss over a batch is a mean. A batch is worked off in micro-batches, so the functions take the whole batch's count as
//! `normaliser` and return that micro-batch's share: shares (and their gradients) add up to the mean.

/// softplus(x) = log(1 + e^x), without overflow: max(x, 0) + log1p(e^-|x|).
#[must_use]
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// sigma(x) = 1 / (1 + e^-x), without overflow on either side.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// A scalar and its gradient with respect to each input.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The share of the mean loss, in nats unless said.
    pub value: f64,
    /// d value / d input, as long as the input.
    pub grad: Vec<f64>,
}

/// Cross-entropy of the response tokens: L = -(1/n) sum_t log p(y_t | x, y_<t), n = `normaliser` response tokens.
/// Prompt tokens have no row here, so they can't enter the loss (Ouyang et al. 2022, 3.5).
///
/// # Shapes
/// `logprobs` (response tokens); gradient the same.
#[must_use]
pub fn cross_entropy(logprobs: &[f64], normaliser: f64) -> Loss {
    let value = -logprobs.iter().sum::<f64>() / normaliser;
    Loss { value, grad: vec![-1.0 / normaliser; logprobs.len()] }
}

/// The ranking loss of one prompt with K completions (Ouyang et al. 2022, equation 1):
/// L = -1/C(K,2) sum_{(w,l)} log sigma(r_w - r_l) = 1/C(K,2) sum softplus(r_l - r_w);
/// dL/dr_w = -sigma(r_l - r_w) / C(K,2) per pair, dL/dr_l its negative.
/// Tied pairs aren't in `pairs`: they are dropped, as in the paper, while C(K,2) still counts them, so that a prompt whose
/// labeler saw few differences weighs less.
///
/// # Shapes
/// `scores` (K); `pairs` of (better, worse) indices into it; gradient (K).
#[must_use]
pub fn ranking(scores: &[f64], pairs: &[(usize, usize)]) -> Loss {
    ranking_with(scores, pairs, &[], 0.0)
}

/// [`ranking`] with a margin m for each pair (Touvron et al. 2023, arXiv 2307.09288, equation 2) and the conservative loss of
/// labels that are wrong with probability e (label smoothing; Mitchell 2023, "A note on DPO with noisy preferences"): with
/// d = r_w - r_l each pair's term is (1 - e) softplus(m - d) + e softplus(m + d), the mean over both ways round that the label may be;
/// its derivative by d is -(1 - e) sigma(m - d) + e sigma(m + d).
///
/// # Shapes
/// As [`ranking`]; `margins` (pairs), none are zeros.
#[must_use]
pub fn ranking_with(scores: &[f64], pairs: &[(usize, usize)], margins: &[f64], smoothing: f64) -> Loss {
    let k = scores.len() as f64;
    let weight = 2.0 / (k * (k - 1.0)).max(1.0);
    let mut loss = Loss { value: 0.0, grad: vec![0.0; scores.len()] };
    for (i, &(better, worse)) in pairs.iter().enumerate() {
        let (ahead, margin) = (scores[better] - scores[worse], margins.get(i).copied().unwrap_or_default());
        loss.value += weight * ((1.0 - smoothing) * softplus(margin - ahead) + smoothing * softplus(margin + ahead));
        let slope = -(1.0 - smoothing) * sigmoid(margin - ahead) + smoothing * sigmoid(margin + ahead);
        loss.grad[better] += weight * slope;
        loss.grad[worse] -= weight * slope;
    }
    loss
}

/// How many pairs the scores order as the labeler did; equal scores count half.
#[must_use]
pub fn pairs_correct(scores: &[f64], pairs: &[(usize, usize)]) -> f64 {
    let credit = |&(w, l): &(usize, usize)| match scores[w].partial_cmp(&scores[l]) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    pairs.iter().map(credit).sum()
}

/// The clipped objective of PPO and what is watched about it.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyLoss {
    /// Share of the loss, and its gradient with respect to the new log-probs.
    pub loss: Loss,
    /// Share of the mean of (log pi - log pi_old)^2 / 2, in nats: the second-order estimate of KL(old, new).
    pub approx_kl: f64,
    /// Share of tokens whose clipped branch is the larger.
    pub clip_fraction: f64,
    /// Share of the mean ratio.
    pub ratio: f64,
}

/// L = (1/n) sum_t max(-A_t rho_t, -A_t clip(rho_t, 1 - eps, 1 + eps)), rho_t = exp(log pi(a_t) - log pi_old(a_t))
/// (Schulman et al. 2017, equation 7, negated). dL/d log pi(a_t) = -A_t rho_t / n where the unclipped branch is active, else 0.
///
/// # Shapes
/// `new`, `old`, `advantages`: (response tokens), log-probs in nats.
#[must_use]
pub fn ppo_policy(new: &[f64], old: &[f64], advantages: &[f64], clip: f64, normaliser: f64) -> PolicyLoss {
    let mut out = PolicyLoss {
        loss: Loss { value: 0.0, grad: Vec::with_capacity(new.len()) },
        approx_kl: 0.0,
        clip_fraction: 0.0,
        ratio: 0.0,
    };
    for ((&n, &o), &a) in new.iter().zip(old).zip(advantages) {
        let ratio = (n - o).exp();
        let free = -a * ratio;
        let clipped = -a * ratio.clamp(1.0 - clip, 1.0 + clip);
        out.loss.value += free.max(clipped) / normaliser;
        out.loss.grad.push(if clipped > free { 0.0 } else { free / normaliser });
        out.approx_kl += 0.5 * (n - o) * (n - o) / normaliser;
        out.clip_fraction += f64::from(clipped > free) / normaliser;
        out.ratio += ratio / normaliser;
    }
    out
}

/// The clipped loss of one whole answer, for RLOO (Ahmadian et al. 2024, arXiv 2402.14740):
/// L = (1/n) max(-A rho, -A clip(rho, 1 - eps, 1 + eps)), rho = exp(sum_t log pi(a_t) - log pi_old(a_t)). On the first step rho is 1 and the
/// gradient is REINFORCE's, dL/d log pi(a_t) = -A / n for every token; the clip bounds the steps after it, as in PPO.
///
/// # Shapes
/// `new`, `old`: (response tokens) of one answer, nats; `advantage` of the whole answer; n = `answers`. The approximate KL is a mean over
/// `tokens`, as in [`ppo_policy`].
#[must_use]
pub fn rloo_policy(new: &[f64], old: &[f64], advantage: f64, clip: f64, answers: f64, tokens: f64) -> PolicyLoss {
    let ratio = new.iter().zip(old).map(|(n, o)| n - o).sum::<f64>().exp();
    let free = -advantage * ratio;
    let clipped = -advantage * ratio.clamp(1.0 - clip, 1.0 + clip);
    let slope = if clipped > free { 0.0 } else { free / answers };
    PolicyLoss {
        loss: Loss { value: free.max(clipped) / answers, grad: vec![slope; new.len()] },
        approx_kl: new.iter().zip(old).map(|(n, o)| 0.5 * (n - o) * (n - o) / tokens).sum(),
        clip_fraction: f64::from(clipped > free) / answers,
        ratio: ratio / answers,
    }
}

/// The clipped value loss and what is watched about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueLoss {
    /// Share of the loss, and its gradient with respect to the new values.
    pub loss: Loss,
    /// Share of tokens whose clipped branch is the larger.
    pub clip_fraction: f64,
}

/// L = (1/2n) sum_t max((V_t - R_t)^2, (clip(V_t, V_old - eps, V_old + eps) - R_t)^2) (Huang et al. 2024, arXiv 2403.17031, detail
/// on value clipping; from the PPO baselines). dL/dV_t = (V_t - R_t) / n where the unclipped branch is active; where the clipped one
/// is strictly larger V_t lies outside its range, so the gradient is 0.
///
/// # Shapes
/// `new`, `old`, `returns`: (response tokens), in units of reward.
#[must_use]
pub fn ppo_value(new: &[f64], old: &[f64], returns: &[f64], clip: f64, normaliser: f64) -> ValueLoss {
    let mut out = ValueLoss { loss: Loss { value: 0.0, grad: Vec::with_capacity(new.len()) }, clip_fraction: 0.0 };
    for ((&v, &o), &r) in new.iter().zip(old).zip(returns) {
        let free = (v - r).powi(2);
        let clipped = (v.clamp(o - clip, o + clip) - r).powi(2);
        out.loss.value += 0.5 * free.max(clipped) / normaliser;
        out.loss.grad.push(if clipped > free { 0.0 } else { (v - r) / normaliser });
        out.clip_fraction += f64::from(clipped > free) / normaliser;
    }
    out
}

/// The k1 estimate of KL(pi, pi_ref) at a sampled token: log pi - log pi_ref. Unbiased, may be negative
/// (Schulman 2020, "Approximating KL divergence"). It is what the reward is charged.
#[must_use]
pub fn kl_k1(logprob: f64, reference: f64) -> f64 {
    logprob - reference
}

/// The k3 estimate: e^d - 1 - d with d = log pi_ref - log pi. Unbiased, never negative, of lower variance. It is what is reported.
#[must_use]
pub fn kl_k3(logprob: f64, reference: f64) -> f64 {
    let d = reference - logprob;
    d.exp_m1() - d
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of `f` at `x`, compared with `grad`.
    fn check(x: &[f64], grad: &[f64], f: impl Fn(&[f64]) -> f64) {
        for i in 0..x.len() {
            let h = 1e-6;
            let at = |d: f64| {
                let mut y = x.to_vec();
                y[i] += d;
                f(&y)
            };
            let numeric = (at(h) - at(-h)) / (2.0 * h);
            assert!((numeric - grad[i]).abs() < 1e-7, "input {i}: numeric {numeric}, analytic {}", grad[i]);
        }
    }

    #[test]
    fn softplus_neither_overflows_nor_loses_small_values() {
        assert_eq!(softplus(1e4), 1e4);
        assert!((softplus(-40.0) - (-40f64).exp()).abs() < 1e-30);
        assert!((softplus(0.0) - 2f64.ln()).abs() < 1e-15);
        assert_eq!(sigmoid(-1e4), 0.0);
        assert_eq!(sigmoid(1e4), 1.0);
    }

    #[test]
    fn gradients_match_finite_differences() {
        let x = [-1.3, -0.2, -2.5, -0.9];
        check(&x, &cross_entropy(&x, 7.0).grad, |x| cross_entropy(x, 7.0).value);

        let scores = [0.3, -1.2, 2.0, 0.1];
        let pairs = [(0, 1), (2, 1), (2, 3), (0, 3), (1, 3)];
        check(&scores, &ranking(&scores, &pairs).grad, |s| ranking(s, &pairs).value);
        let margins = [0.0, 1.0, 0.5, 0.2, 0.9];
        let doubted = |s: &[f64]| ranking_with(s, &pairs, &margins, 0.1);
        check(&scores, &doubted(&scores).grad, |s| doubted(s).value);

        let old = [-1.0, -0.5, -2.0, -1.0];
        let adv = [1.0, -2.0, 0.5, -1.0];
        let policy = |n: &[f64]| ppo_policy(n, &old, &adv, 0.2, 4.0).loss;
        check(&x, &policy(&x).grad, |n| policy(n).value);

        let near = [-1.0, -0.45, -2.05, -1.0];
        for advantage in [1.5, -0.7] {
            let answer = |n: &[f64]| rloo_policy(n, &old, advantage, 0.2, 3.0, 4.0).loss;
            check(&near, &answer(&near).grad, |n| answer(n).value);
            check(&x, &answer(&x).grad, |n| answer(n).value);
        }

        let returns = [0.0, 1.0, -1.0, 2.0];
        let value = |v: &[f64]| ppo_value(v, &old, &returns, 0.2, 4.0).loss;
        check(&x, &value(&x).grad, |v| value(v).value);
    }

    #[test]
    fn the_first_step_is_an_identity() {
        let logprobs = [-0.4, -3.0, -1.0];
        let p = ppo_policy(&logprobs, &logprobs, &[1.0, -1.0, 0.3], 0.2, 3.0);
        assert_eq!((p.ratio, p.approx_kl, p.clip_fraction), (1.0, 0.0, 0.0));
        assert_eq!(ppo_value(&logprobs, &logprobs, &[0.0; 3], 0.2, 3.0).clip_fraction, 0.0);
        let whole = rloo_policy(&logprobs, &logprobs, 2.0, 0.2, 4.0, 3.0);
        assert_eq!((whole.ratio, whole.approx_kl, whole.clip_fraction), (0.25, 0.0, 0.0), "its share of 4 answers");
        assert_eq!(whole.loss.grad, [-0.5; 3], "REINFORCE");
    }

    #[test]
    fn shares_of_micro_batches_add_up() {
        let (n, o, a) = ([-1.0, -0.2, -0.7], [-1.1, -0.6, -0.7], [1.0, 2.0, -3.0]);
        let whole = ppo_policy(&n, &o, &a, 0.2, 3.0);
        let parts = [ppo_policy(&n[..1], &o[..1], &a[..1], 0.2, 3.0), ppo_policy(&n[1..], &o[1..], &a[1..], 0.2, 3.0)];
        assert!((whole.loss.value - parts.iter().map(|p| p.loss.value).sum::<f64>()).abs() < 1e-15);
        assert!((whole.approx_kl - parts.iter().map(|p| p.approx_kl).sum::<f64>()).abs() < 1e-15);
    }

    #[test]
    fn ties_carry_no_gradient() {
        let loss = ranking(&[1.0, 5.0], &[]);
        assert_eq!((loss.value, loss.grad), (0.0, vec![0.0, 0.0]));
        assert_eq!(pairs_correct(&[1.0, 1.0, 0.0], &[(0, 1), (0, 2)]), 1.5);
    }

    #[test]
    fn a_margin_asks_for_more_and_doubt_for_less() {
        let slope =
            |ahead: f64, margin: f64, doubt: f64| ranking_with(&[ahead, 0.0], &[(0, 1)], &[margin], doubt).grad[0];
        assert!(slope(1.0, 1.0, 0.0) < slope(1.0, 0.0, 0.0) && slope(1.0, 0.0, 0.0) < 0.0, "downhill is further apart");
        // With doubt e the best distance is log((1 - e) / e), and beyond it the two are drawn together again.
        let best = (0.9f64 / 0.1).ln();
        assert!(
            slope(best, 0.0, 0.1).abs() < 1e-12
                && slope(best + 1.0, 0.0, 0.1) > 0.0
                && slope(best - 1.0, 0.0, 0.1) < 0.0
        );
    }

    #[test]
    fn k3_is_never_negative_and_agrees_with_k1_on_average() {
        // pi = (0.7, 0.3), ref = (0.5, 0.5): both estimates have the exact KL as their mean.
        let (p, q) = ([0.7f64, 0.3], [0.5f64, 0.5]);
        let exact: f64 = (0..2).map(|i| p[i] * (p[i] / q[i]).ln()).sum();
        let mean = |k: fn(f64, f64) -> f64| (0..2).map(|i| p[i] * k(p[i].ln(), q[i].ln())).sum::<f64>();
        assert!((mean(kl_k1) - exact).abs() < 1e-12);
        assert!((mean(kl_k3) - exact).abs() < 1e-12);
        assert!(kl_k3(-3.0, -1.0) > 0.0 && kl_k1(-3.0, -1.0) < 0.0);
    }
}
