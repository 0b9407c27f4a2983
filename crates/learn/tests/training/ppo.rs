//! PPO against a trained reward model, and the evaluation that the gate reads.

use crate::world::{LIKED, World, data, metrics};
use hone_domain::DataSet;
use hone_learn::LearnError;
use hone_learn::evaluate::{self, Contenders, EvaluateConfig, EvaluateReport};
use hone_learn::train::ppo::{self, PpoInputs};
use hone_learn::train::{Algorithm, KlEstimator, Outcome, PpoConfig, RewardConfig, RewardNormalisation, reward};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(crate) fn config() -> PpoConfig {
    PpoConfig {
        total_episodes: 640,
        batch_episodes: 32,
        minibatch_episodes: 16,
        inner_epochs: 2,
        max_new_tokens: 16,
        learning_rate: 1e-2,
        value_learning_rate: 1e-2,
        lora_first_layer: Some(0),
        missing_eos_score: None,
        lora_r: 4,
        ..PpoConfig::default()
    }
}

pub(crate) fn reward_model(world: &World, data: &DataSet) -> PathBuf {
    let trained = world.run("reward", false, None, |ctx| reward::train(&super::reward::config(), data, None, ctx)).0;
    trained.expect("trains").artifact_dir
}

pub(crate) fn inputs(reward: &Path) -> PpoInputs {
    PpoInputs { policy: None, reference: None, reward: reward.to_path_buf() }
}

fn compare(world: &World, data: &DataSet, new: Option<&Path>, reward: &Path) -> EvaluateReport {
    let config = EvaluateConfig { max_new_tokens: 16, ..EvaluateConfig::default() };
    let contenders = Contenders { old: None, new, reference: None, reward, judge: None, earlier: &BTreeMap::new() };
    let mut report = None;
    let (done, _) = world.run("evaluate", false, None, |ctx| {
        report = Some(evaluate::policies(&config, &data.held_out_prompts, &contenders, ctx)?);
        Ok(Outcome { artifact_dir: PathBuf::new(), sha256: String::new(), metrics: Default::default() })
    });
    done.expect("evaluates");
    report.expect("a report")
}

#[test]
fn it_raises_the_reward_on_prompts_it_never_saw() {
    let (world, data) = (World::new(), data(200));
    let reward = reward_model(&world, &data);
    let (outcome, reports) = world.run("ppo", false, None, |ctx| ppo::train(&config(), &data, &inputs(&reward), ctx));
    let outcome = outcome.expect("trains");
    let report = compare(&world, &data, Some(&outcome.artifact_dir), &reward);
    assert!(report.reward_gain.low > 0.5, "gain {:?}", report.reward_gain);
    assert!(report.win_rate.low > 0.6, "win rate {:?}", report.win_rate);
    // The reward is only a proxy: what people like must have become more frequent.
    let count = |f: fn(&evaluate::Sample) -> &String| {
        report.samples.iter().map(|s| f(s).chars().filter(|&c| c == LIKED).count()).sum::<usize>()
    };
    let (before, after) = (count(|s| &s.old), count(|s| &s.new));
    assert!(after > 3 * before.max(1), "{before} before, {after} after");
    let phases: Vec<&str> = reports.iter().take(5).map(|p| p.phase.as_str()).collect();
    assert_eq!(phases, ["rollout", "rollout", "score", "update", "update"], "the reference answers first");
    let best = world.path("ppo/checkpoints/best/adapter_model.safetensors");
    assert!(best.exists() && outcome.metrics["best/rlhf_reward"] >= outcome.metrics["objective/rlhf_reward"]);
}

#[test]
fn the_first_update_is_an_identity() {
    let (world, data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let one = PpoConfig { total_episodes: 16, batch_episodes: 16, inner_epochs: 1, ..config() };
    let (outcome, _) = world.run("ppo", false, None, |ctx| ppo::train(&one, &data, &inputs(&reward), ctx));
    outcome.expect("trains");
    let m = &metrics(&world.path("ppo"))[0].metrics;
    assert!((m["val/ratio"] - 1.0).abs() < 1e-5, "{m:?}");
    assert!(m["policy/approxkl_avg"] < 1e-10 && m["policy/clipfrac_avg"] == 0.0 && m["val/clipfrac_avg"] == 0.0);
    assert!(m["objective/kl"].abs() < 1e-5, "a fresh adapter is its own reference: {m:?}");
    assert!((m["objective/entropy"] / m["response_tokens"]) > 2.0, "a random base is nearly uniform over 101 tokens");
}

/// The field's names (Huang et al. 2024), and what is watched beside them.
const NAMES: [&str; 37] = [
    "episode",
    "loss/policy_avg",
    "loss/ptx_avg",
    "loss/value_avg",
    "lr",
    "objective/entropy",
    "objective/kl",
    "objective/kl_coef",
    "objective/kl_k3",
    "objective/non_score_reward",
    "objective/rewards_before_eos_rule",
    "objective/rlhf_reward",
    "objective/scores",
    "policy/approxkl_avg",
    "policy/clipfrac_avg",
    "policy/entropy_avg",
    "policy/grad_norm",
    "response_tokens",
    "response_tokens_drift",
    "response_tokens_p95",
    "seconds/rollout",
    "seconds/score",
    "seconds/update",
    "val/clipfrac_avg",
    "val/ended_share",
    "val/explained_variance",
    "val/num_eos_tokens",
    "val/optimiser_steps",
    "val/ratio",
    "val/ratio_var",
    "val/reference_perplexity",
    "value/grad_norm",
    "warning/kl",
    "warning/length",
    "best/iteration",
    "best/rlhf_reward",
    "data/skipped",
];

#[test]
fn every_figure_has_its_name() {
    let (world, data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let all = PpoConfig { total_episodes: 16, batch_episodes: 16, ptx_coef: 0.5, ..config() };
    let (outcome, _) = world.run("ppo", false, None, |ctx| ppo::train(&all, &data, &inputs(&reward), ctx));
    let found = outcome.expect("trains").metrics;
    let (found, named): (BTreeSet<&str>, BTreeSet<&str>) =
        (found.keys().map(String::as_str).collect(), NAMES.into_iter().chain(["data/truncated"]).collect());
    assert_eq!(found, named);
    let plain = PpoConfig { ptx_coef: 0.0, algorithm: Algorithm::Rloo, ..all };
    let (outcome, _) = world.run("rloo", false, None, |ctx| ppo::train(&plain, &data, &inputs(&reward), ctx));
    let metrics = outcome.expect("trains").metrics;
    let missing: Vec<&str> = named.iter().copied().filter(|name| !metrics.contains_key(*name)).collect();
    let only_ppo = ["loss/ptx_avg", "loss/value_avg", "val/clipfrac_avg", "val/explained_variance", "value/grad_norm"];
    assert_eq!(missing, only_ppo, "RLOO has no value function, and no text was asked for");
}

/// Everything that has a state of its own, at once.
fn everything() -> PpoConfig {
    PpoConfig {
        total_episodes: 96,
        kl_target_nats: Some(1.0),
        kl_estimator: KlEstimator::K3,
        reward_normalisation: RewardNormalisation::ReferenceMeanStd,
        ptx_coef: 0.2,
        ema_decay: 0.5,
        ..config()
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let (world, data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let train = |name: &str, config: &PpoConfig, resume, stop_at| {
        world.run(name, resume, stop_at, |ctx| ppo::train(config, &data, &inputs(&reward), ctx))
    };
    let rare = PpoConfig { checkpoint_iterations: 2, ..everything() };
    let everywhere: &[usize] = &[0, 1, 2, 3, 4, 5, 8, 9, 12];
    for (config, stops) in [(everything(), everywhere), (rare, &[8, 12])] {
        let whole = train("whole", &config, false, None).0.expect("trains");
        // Stopped before anything, while the reference answers, in the first rollout, in judging, before an update, between two
        // iterations, and later.
        for &stop_at in stops {
            assert!(matches!(train("parts", &config, false, Some(stop_at)).0, Err(LearnError::Stopped)), "{stop_at}");
            let resumed = train("parts", &config, true, None).0.expect("goes on");
            assert_eq!(resumed.sha256, whole.sha256, "stopped after {stop_at} reports");
            let steps: Vec<usize> = metrics(&world.path("parts")).iter().map(|l| l.step).collect();
            assert_eq!(steps, [1, 2, 3]);
        }
    }
}

#[test]
fn adapters_in_the_upper_block_alone_go_on_to_the_same_bytes() {
    let (world, data) = (World::new(), data(16));
    let rewarding = RewardConfig { lora_first_layer: None, ..crate::reward::config() };
    let reward = world.run("reward", false, None, |ctx| reward::train(&rewarding, &data, None, ctx)).0;
    let reward = reward.expect("trains").artifact_dir;
    let config = PpoConfig { lora_first_layer: None, ..everything() };
    let train = |name: &str, resume, stop_at| {
        world.run(name, resume, stop_at, |ctx| ppo::train(&config, &data, &inputs(&reward), ctx))
    };
    let whole = train("whole", false, None).0.expect("trains");
    for stop_at in [4, 8] {
        assert!(matches!(train("parts", false, Some(stop_at)).0, Err(LearnError::Stopped)));
        assert_eq!(train("parts", true, None).0.expect("goes on").sha256, whole.sha256, "stopped after {stop_at}");
    }
}

#[test]
fn a_run_that_is_killed_in_its_update_answers_nothing_again() {
    let (world, data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let train = |resume, stop_at| {
        world.run("ppo", resume, stop_at, |ctx| ppo::train(&everything(), &data, &inputs(&reward), ctx))
    };
    // rollout of the reference, then rollout, score, update, update of the first iteration and of the second.
    for (stop_at, done) in [(4, 0), (8, 1)] {
        assert!(matches!(train(false, Some(stop_at)).0, Err(LearnError::Stopped)));
        let (outcome, reports) = train(true, None);
        outcome.expect("goes on");
        let first: Vec<(&str, usize)> = reports.iter().take(3).map(|p| (p.phase.as_str(), p.step)).collect();
        assert_eq!(first, [("update", done), ("update", done + 1), ("rollout", done + 1)]);
    }
    // What can't be read is drawn again, to the same end.
    let whole = train(false, None).0.expect("trains");
    assert!(matches!(train(false, Some(8)).0, Err(LearnError::Stopped)));
    std::fs::write(world.path("ppo/checkpoints/rollout.json"), "{").expect("damages it");
    let (outcome, reports) = train(true, None);
    assert_eq!(outcome.expect("goes on").sha256, whole.sha256);
    assert_eq!(reports[0].phase, "rollout");
}

#[test]
fn a_run_ends_early_where_it_is_told_to() {
    let (world, data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let halts = PpoConfig { kl_stop_nats: Some(0.5), ..config() };
    let (outcome, _) = world.run("ppo", false, None, |ctx| ppo::train(&halts, &data, &inputs(&reward), ctx));
    assert!(outcome.expect("ends well").metrics["objective/kl"] > 0.5);
    let lines = metrics(&world.path("ppo"));
    assert!(lines.len() < 20, "it stopped after {} iterations of 20", lines.len());
    let calm = PpoConfig { approx_kl_max_nats: 1e-6, total_episodes: 32, ..config() };
    let (outcome, _) = world.run("calm", false, None, |ctx| ppo::train(&calm, &data, &inputs(&reward), ctx));
    assert_eq!(outcome.expect("ends well").metrics["val/optimiser_steps"], 1.0, "one step, and the second is too far");
}

#[test]
fn equal_policies_draw_and_bad_inputs_are_refused() {
    let (world, mut data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let report = compare(&world, &data, None, &reward);
    assert_eq!((report.win_rate.mean, report.reward_gain.mean, report.n), (0.5, 0.0, 64));
    assert!(report.kl_nats.mean.abs() < 1e-6);
    let said = |data: &DataSet, reward: &Path, config: &PpoConfig| {
        let (outcome, _) = world.run("ppo", false, None, |ctx| ppo::train(config, data, &inputs(reward), ctx));
        outcome.expect_err("refused").to_string()
    };
    assert!(said(&data, &world.path("nowhere"), &config()).contains("nowhere"));
    let too_long = PpoConfig { max_new_tokens: 256, ..config() };
    assert!(said(&data, &reward, &too_long).contains("max_new_tokens"));
    data.prompts.clear();
    assert!(said(&data, &reward, &config()).contains("no prompts"));
}
