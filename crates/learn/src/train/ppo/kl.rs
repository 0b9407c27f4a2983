//! The KL coefficient: fixed, or adapted so that the policy stays at a chosen distance from its reference. Pure.

/// beta of the next iteration: e = clip(KL / target - 1, -0.2, 0.2); beta <- beta (1 + K_beta e) (Ziegler et al. 2019,
/// arXiv 1909.08593, section 2.2). `kl_nats` and `target_nats` are per answer; without a target beta stays.
pub(crate) fn next_coef(coef: f64, kl_nats: f64, target_nats: Option<f64>, gain: f64) -> f64 {
    match target_nats {
        Some(target) => coef * (1.0 + gain * (kl_nats / target - 1.0).clamp(-0.2, 0.2)),
        None => coef,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pushes_towards_the_target_and_no_faster_than_its_gain() {
        assert!((next_coef(0.1, 400.0, Some(4.0), 0.1) - 0.102).abs() < 1e-12);
        assert!((next_coef(0.1, 4.0, Some(4.0), 0.1) - 0.1).abs() < 1e-12);
        assert!((next_coef(0.1, 0.0, Some(4.0), 0.1) - 0.098).abs() < 1e-12);
        assert_eq!(next_coef(0.1, 400.0, None, 0.1), 0.1);
    }
}
