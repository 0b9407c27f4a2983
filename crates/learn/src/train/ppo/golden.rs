//! One whole PPO iteration against TRL's own trainer: log-probs, values, rewards, advantages, returns, losses, gradient norms and
//! the weights after six AdamW steps. `tests/golden_ppo/make.py` made the numbers, and says where hone differs on purpose.

use super::roles::{Learner, Roles};
use super::rollout;
use super::scale::Scale;
use super::state::State;
use super::update::{Rates, Update};
use crate::lora::Adapter;
use crate::model::{Base, Workspace};
use crate::params::Params;
use crate::train::PpoConfig;
use crate::train::data::Sequence;
use crate::train::reward_model::RewardModel;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::Path;

const TOLERANCE: f64 = 1e-4;

fn path(name: &str) -> std::path::PathBuf {
    // Cargo runs tests in the package's folder.
    Path::new("tests/golden_ppo").join(name)
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(path("golden.json")).expect("golden.json")).expect("JSON")
}

fn number(v: &Value) -> f64 {
    v.as_f64().expect("a number")
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(number).collect()
}

fn tokens(v: &Value) -> Vec<u32> {
    numbers(v).into_iter().map(|x| x as u32).collect()
}

fn lists<'a>(g: &'a Value, name: &str) -> &'a [Value] {
    g[name].as_array().expect("a list")
}

fn assert_close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= TOLERANCE * expected.abs().max(1.0), "{what}: {found}, TRL has {expected}");
}

fn assert_all_close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).enumerate().for_each(|(i, (f, e))| assert_close(&format!("{what}[{i}]"), *f, *e));
}

fn config(g: &Value) -> PpoConfig {
    PpoConfig {
        temperature: number(&g["temperature"]),
        kl_coef: number(&g["kl_coef"]),
        gamma: number(&g["gamma"]),
        gae_lambda: number(&g["gae_lambda"]),
        clip_ratio: number(&g["clip_ratio"]),
        clip_value: number(&g["clip_value"]),
        value_coef: number(&g["value_coef"]),
        missing_eos_score: None,
        missing_eos_penalty: number(&g["missing_eos_penalty"]),
        gradient_norm_max: number(&g["gradient_norm_max"]),
        minibatch_episodes: number(&g["minibatch_episodes"]) as usize,
        inner_epochs: number(&g["inner_epochs"]) as usize,
        approx_kl_max_nats: 0.0,
        score_clip: 100.0,
        ..PpoConfig::default()
    }
}

fn roles<'a>(base: &'a Base, eos_ids: &'a [u32]) -> Roles<'a> {
    let adapter = |name: &str| Adapter::load(&path(name), base.config()).expect("an adapter");
    let reward = RewardModel::load(&path("reward"), base).expect("a reward model");
    let (value, value_offset) = reward.value_function();
    let policy = Learner::new(adapter("policy"));
    Roles {
        base,
        eos_ids,
        policy,
        value: Some(Learner::new(value)),
        value_offset,
        reward_offset: value_offset,
        scale: Scale::default(),
        reference: Some(adapter("reference")),
        reward,
    }
}

/// The fixed answers, each with whether it ended by itself.
fn answers(g: &Value) -> Vec<(Sequence, bool)> {
    let eos = number(&g["eos"]) as u32;
    let both = lists(g, "prompts").iter().zip(lists(g, "answers"));
    both.map(|(p, a)| (Sequence::new(&tokens(p), &tokens(a)), tokens(a).last() == Some(&eos))).collect()
}

/// `budget` tokens are worked off at once: 1 means each sequence alone.
fn check(budget: usize) {
    let g = golden();
    let config = PpoConfig { micro_batch_tokens: budget, ..config(&g) };
    let (base, eos_ids) = (Base::open(&path("base")).expect("the base"), tokens(&serde_json::json!([g["eos"]])));
    let (mut roles, mut ws) = (roles(&base, &eos_ids), Workspace::new());
    let mut episodes = rollout::judge(&roles, &config, answers(&g), &mut ws).expect("judges");
    rollout::credit(&config, config.kl_coef, &mut episodes);
    for (i, e) in episodes.iter().enumerate() {
        let all = |what: &str, found: &[f64]| {
            assert_all_close(&format!("{what} of answer {i}"), found, &numbers(&lists(&g, what)[i]));
        };
        all("logprobs", &e.logprobs);
        all("kl", &e.kl); // log-probs minus the reference's
        all("values", &e.values);
        all("advantages", &e.advantages);
        all("returns", &e.returns);
        assert_close(&format!("score of answer {i}"), e.score, number(&lists(&g, "scores")[i]));
        assert_all_close(
            "rewards",
            &crate::gae::token_rewards(&e.kl, config.kl_coef, e.score),
            &numbers(&lists(&g, "rewards")[i]),
        );
    }

    let rates = Rates { policy: number(&g["learning_rate"]), value: number(&g["value_learning_rate"]) };
    let mut state = State::new(&config, 0);
    state.rng = ChaCha8Rng::seed_from_u64(3); // its orders of the episodes are those in golden.json
    let update = Update { config: &config, rates, ptx: None, seed: 0, between: &|| Ok(()) };
    let figures = update.run(&mut roles, &episodes, &mut state, &mut ws).expect("updates");
    let minibatches = lists(&g, "minibatches");
    for (ours, theirs) in [
        ("loss/policy_avg", "policy_loss"),
        ("loss/value_avg", "value_loss"),
        ("policy/approxkl_avg", "approx_kl"),
        ("policy/clipfrac_avg", "policy_clipped"),
        ("val/clipfrac_avg", "value_clipped"),
        ("val/ratio", "ratio"),
        ("policy/grad_norm", "policy_norm"),
        ("value/grad_norm", "value_norm"),
    ] {
        let mean = minibatches.iter().map(|m| number(&m[theirs])).sum::<f64>() / minibatches.len() as f64;
        assert_close(ours, figures[ours], mean);
    }
    assert!(figures["policy/clipfrac_avg"] > 0.05 && figures["val/clipfrac_avg"] > 0.05, "both clips are at work");
    check_weights("policy", &roles.policy.adapter.params);
    check_weights("value", &roles.value.as_ref().expect("a value function").adapter.params);
}

fn check_weights(role: &str, params: &Params) {
    let bytes = std::fs::read(path("updated.safetensors")).expect("the weights");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    for p in params.iter() {
        let data = file.tensor(&format!("{role}/{}", p.name)).expect("a tensor").data();
        let expected = data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        let found: Vec<f64> = p.data.iter().map(|&x| f64::from(x)).collect();
        assert_all_close(&format!("{role}: {}", p.name), &found, &expected.collect::<Vec<_>>());
    }
}

#[test]
fn one_iteration_is_trls() {
    check(1024);
}

#[test]
fn and_stays_so_in_micro_batches_of_one() {
    check(1);
}
