//! What is watched: an iteration's figures under the field's names, and the warnings that a run is going wrong. "Watch KL, response length
//! and perplexity, not reward" (PPO-max, arXiv 2307.04964). Pure.

use super::rollout::Episode;
use crate::gae::explained_variance;
use crate::train::PpoConfig;
use std::collections::BTreeMap;

/// The iteration's figures. Sums run over an answer's tokens, means over answers.
pub(super) fn figures(config: &PpoConfig, episodes: &[Episode], kl_coef: f64) -> BTreeMap<String, f64> {
    let mean = |f: &dyn Fn(&Episode) -> f64| episodes.iter().map(f).sum::<f64>() / episodes.len() as f64;
    let sum = |xs: &[f64]| xs.iter().sum::<f64>();
    let charged = mean(&|e| sum(e.charged(config)));
    let scores = mean(&|e| e.score);
    let tokens = mean(&|e| e.kl.len() as f64);
    let ended = mean(&|e| f64::from(e.ended));
    // log pi_ref = log pi - k1
    let reference = mean(&|e| sum(&e.logprobs) - sum(&e.kl)) / tokens.max(1e-9);
    let mut named = vec![
        ("objective/kl", mean(&|e| sum(&e.kl))),
        ("objective/kl_k3", mean(&|e| sum(&e.kl_k3))),
        ("objective/kl_coef", kl_coef),
        ("objective/entropy", mean(&|e| -sum(&e.logprobs))),
        ("objective/non_score_reward", -kl_coef * charged),
        ("objective/rlhf_reward", scores - kl_coef * charged),
        ("objective/scores", scores),
        ("objective/rewards_before_eos_rule", mean(&|e| e.reward)),
        ("policy/entropy_avg", mean(&|e| sum(&e.entropy)) / tokens.max(1e-9)),
        ("val/num_eos_tokens", ended * episodes.len() as f64),
        ("val/ended_share", ended),
        ("val/reference_perplexity", (-reference).exp()),
        ("response_tokens", tokens),
        ("response_tokens_p95", percentile(episodes.iter().map(|e| e.kl.len()).collect(), 0.95)),
    ];
    if episodes.iter().any(|e| !e.values.is_empty()) {
        let all = |f: fn(&Episode) -> &Vec<f64>| episodes.iter().flat_map(f).copied().collect::<Vec<f64>>();
        named.push(("val/explained_variance", explained_variance(&all(|e| &e.values), &all(|e| &e.returns))));
    }
    if episodes.iter().any(|e| e.disagreement > 0.0) {
        named.push(("objective/reward_disagreement", mean(&|e| e.disagreement)));
    }
    named.into_iter().map(|(name, x)| (name.to_owned(), x)).collect()
}

/// The smallest value that at least `share` of them don't exceed; 0 of none.
fn percentile(mut xs: Vec<usize>, share: f64) -> f64 {
    xs.sort_unstable();
    let rank = (share * xs.len() as f64).ceil() as usize;
    xs.get(rank.saturating_sub(1)).map_or(0.0, |&x| x as f64)
}

/// A warning is said again when what it warns of has grown by this factor since.
const WORSE: f64 = 1.25;

/// How bad what was warned of was when it was last said; 0 before the first time. Every iteration's figures have the warnings; said in
/// words at each, they would be most of a run's log. A run that is resumed says them once more.
#[derive(Debug, Default)]
pub(super) struct Warned {
    length: f64,
    kl: f64,
}

/// Whether it is time to say it: it never was, or it has become worse by [`WORSE`].
fn is_news(said: &mut f64, now: f64) -> bool {
    let news = now > *said * WORSE;
    if news {
        *said = now;
    }
    news
}

/// Drift of the answers' length since the first iteration, and the warnings: 1 where raised.
pub(super) fn warnings(
    config: &PpoConfig,
    figures: &BTreeMap<String, f64>,
    first_response_tokens: f64,
) -> BTreeMap<String, f64> {
    let of = |name: &str| figures.get(name).copied().unwrap_or_default();
    let drift = of("response_tokens") / first_response_tokens.max(1e-9);
    let length = drift > config.warn_length_ratio || drift < 1.0 / config.warn_length_ratio;
    let far = of("objective/kl") > config.warn_kl_nats;
    [
        ("response_tokens_drift".to_owned(), drift),
        ("warning/length".to_owned(), f64::from(length)),
        ("warning/kl".to_owned(), f64::from(far)),
    ]
    .into()
}

/// What is to be said of the figures' warnings, with what to do: each once, and again when it has become worse.
pub(super) fn sentences(config: &PpoConfig, figures: &BTreeMap<String, f64>, warned: &mut Warned) -> Vec<String> {
    let of = |name: &str| figures.get(name).copied().unwrap_or_default();
    let (drift, kl) = (of("response_tokens_drift"), of("objective/kl"));
    let mut said = Vec::new();
    if of("warning/length") > 0.0 && is_news(&mut warned.length, drift.max(1.0 / drift.max(1e-9))) {
        said.push(format!(
            "answers are {drift:.2} times as long as in the first iteration: look at some, the reward model may be exploited"
        ));
    }
    if of("warning/kl") > 0.0 && is_news(&mut warned.kl, kl) {
        said.push(format!(
            "KL is {kl:.1} nats per answer, over {}: raise `kl_coef` or stop earlier, before the policy outruns the reward model",
            config.warn_kl_nats
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        assert_eq!(percentile((1..=100).rev().collect(), 0.95), 95.0);
        assert_eq!(percentile(vec![7], 0.95), 7.0);
        assert_eq!(percentile(Vec::new(), 0.95), 0.0);
    }

    #[test]
    fn drift_either_way_and_distance_are_warned_of() {
        let config = PpoConfig::default();
        let at = |tokens: f64, kl: f64| {
            let figures = [("response_tokens".to_owned(), tokens), ("objective/kl".to_owned(), kl)].into();
            let w = warnings(&config, &figures, 20.0);
            (w["response_tokens_drift"], w["warning/length"], w["warning/kl"])
        };
        assert_eq!(at(20.0, 1.0), (1.0, 0.0, 0.0));
        assert_eq!(at(41.0, 1.0), (2.05, 1.0, 0.0));
        assert_eq!(at(9.0, 10.5), (0.45, 1.0, 1.0));
    }

    #[test]
    fn a_warning_is_said_once_and_again_when_it_is_worse() {
        let config = PpoConfig::default();
        let mut warned = Warned::default();
        let mut said = |tokens: f64, kl: f64| {
            let mut figures = [("response_tokens".to_owned(), tokens), ("objective/kl".to_owned(), kl)].into();
            let raised = warnings(&config, &figures, 20.0);
            figures.extend(raised);
            sentences(&config, &figures, &mut warned)
        };
        assert_eq!(said(20.0, 1.0), Vec::<String>::new());
        let first = said(9.0, 1.0);
        assert!(first.len() == 1 && first[0].starts_with("answers are 0.45 times as long"), "{first:?}");
        for tokens in [9.0, 8.0, 20.0, 9.0] {
            assert_eq!(said(tokens, 1.0), Vec::<String>::new(), "about the same, or better");
        }
        assert_eq!(said(6.0, 1.0).len(), 1, "shorter still");
        assert!(said(6.0, 11.0)[0].starts_with("KL is 11.0 nats"));
        assert_eq!(said(6.0, 12.0), Vec::<String>::new());
        assert_eq!(said(90.0, 15.0).len(), 2, "longer by more than it was shorter, and farther");
    }
}
