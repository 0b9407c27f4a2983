//! The parts of PPO's recipe that can be switched on, each with what it is for, and the baselines.

use crate::ppo::{config, inputs, reward_model};
use crate::world::{World, data, metrics};
use hone_domain::DataSet;
use hone_learn::evaluate;
use hone_learn::train::ppo::{self, BASELINES, Contender};
use hone_learn::train::{Algorithm, KlEstimator, Outcome, PpoConfig, RewardNormalisation};
use std::path::Path;

fn train(world: &World, data: &DataSet, reward: &Path, config: &PpoConfig, name: &str) -> Outcome {
    world.run(name, false, None, |ctx| ppo::train(config, data, &inputs(reward), ctx)).0.expect("trains")
}

/// Mean log-prob per token of the word that every demonstration answers, after `adapter`.
fn log_likelihood(world: &World, data: &DataSet, adapter: &Path) -> f64 {
    let adapter = hone_learn::Adapter::load(adapter, world.base.config()).expect("loads");
    let mut all = Vec::new();
    for d in &data.demonstrations {
        let prompt = world.tokenizer.encode_prompt(&d.messages).expect("encodes");
        let tokens = [prompt.clone(), world.tokenizer.encode_answer(&d.ideal).expect("encodes")].concat();
        let logprobs = evaluate::logprobs(&world.base, Some(&adapter), &tokens).expect("forward");
        all.extend_from_slice(&logprobs[prompt.len() - 1..]);
    }
    all.iter().map(|&x| f64::from(x)).sum::<f64>() / all.len() as f64
}

#[test]
fn ptx_keeps_what_is_said_of_other_text() {
    let (world, data) = (World::new(), data(60));
    let reward = reward_model(&world, &data);
    let plain = PpoConfig { total_episodes: 320, ..config() };
    let without = train(&world, &data, &reward, &plain, "without");
    let with = train(&world, &data, &reward, &PpoConfig { ptx_coef: 1.0, ..plain.clone() }, "with");
    let [without_text, with_text] = [&without, &with].map(|o| log_likelihood(&world, &data, &o.artifact_dir));
    assert!(with_text > without_text + 1.0, "{with_text} with, {without_text} without");
    let losses: Vec<f64> = metrics(&world.path("with")).iter().map(|l| l.metrics["loss/ptx_avg"]).collect();
    assert!(losses[losses.len() - 1] < losses[0] - 1.0, "{losses:?}");
    let scores =
        |name: &str| metrics(&world.path(name)).iter().map(|l| l.metrics["objective/scores"]).collect::<Vec<_>>();
    let all = scores("with");
    assert!(all[all.len() - 1] > all[0], "and the reward still rises: {all:?}");
}

#[test]
fn ptx_reads_a_file_and_another_file_is_another_run() {
    let (world, data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let text = world.path("text.jsonl");
    let config = PpoConfig {
        total_episodes: 32,
        ptx_coef: 1.0,
        ptx_text: Some(text.clone()),
        ptx_demonstrations: false,
        ptx_chunk_tokens: 16,
        ..config()
    };
    let run = |resume, stop_at| {
        let (outcome, _) = world.run("ppo", resume, stop_at, |ctx| ppo::train(&config, &data, &inputs(&reward), ctx));
        outcome.map_err(|e| e.to_string())
    };
    assert!(run(false, None).expect_err("no such file").contains("text.jsonl"));
    std::fs::write(&text, "\n").expect("writes");
    assert!(run(false, None).expect_err("nothing in it").contains("ptx_text"));
    std::fs::write(&text, "{\"text\": \"the quick brown fox jumps over the lazy dog\"}\n").expect("writes");
    assert!(run(false, Some(3)).expect_err("stops").contains("stopped"));
    std::fs::write(&text, "{\"text\": \"something else altogether\"}\n").expect("writes");
    assert!(run(true, None).expect_err("another text").contains("data set"));
    assert!(run(false, None).expect("a new run").metrics["loss/ptx_avg"] > 1.0);
}

#[test]
fn the_average_lies_between_the_start_and_the_policy() {
    let (world, data) = (World::new(), data(16));
    let reward = reward_model(&world, &data);
    let plain = PpoConfig { total_episodes: 64, ..config() };
    let policy = train(&world, &data, &reward, &plain, "plain");
    let average = train(&world, &data, &reward, &PpoConfig { ema_decay: 0.9, ..plain }, "average");
    // The run is the same; only what it leaves behind differs, and is nearer to the start, whose second matrices are zero.
    let size = |o: &Outcome| {
        let adapter = hone_learn::Adapter::load(&o.artifact_dir, world.base.config()).expect("loads");
        let second = adapter.params.iter().filter(|p| p.name.contains("lora_B"));
        second.flat_map(|p| &p.data).map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    };
    assert_eq!(policy.metrics["objective/scores"], average.metrics["objective/scores"]);
    let (policy, average) = (size(&policy), size(&average));
    assert!(average > 0.0 && average < 0.5 * policy, "{average} of {policy}");
}

#[test]
fn rewards_have_mean_zero_on_the_references_answers() {
    let (world, data) = (World::new(), data(60));
    let reward = reward_model(&world, &data);
    let first = |normalisation, name: &str| {
        let config = PpoConfig {
            total_episodes: 64,
            batch_episodes: 64,
            reference_answers: 256,
            reward_normalisation: normalisation,
            ..config()
        };
        train(&world, &data, &reward, &config, name);
        metrics(&world.path(name))[0].metrics["objective/rewards_before_eos_rule"]
    };
    let (as_trained, zeroed) =
        (first(RewardNormalisation::Training, "trained"), first(RewardNormalisation::ReferenceMean, "reference"));
    assert!(as_trained < -0.5, "a random base answers worse than the ranked answers: {as_trained}");
    assert!(zeroed.abs() < 0.3, "the policy starts as the reference: {zeroed}");
}

#[test]
fn k3_charges_what_can_not_be_negative() {
    let (world, data) = (World::new(), data(60));
    let reward = reward_model(&world, &data);
    let config =
        PpoConfig { total_episodes: 160, kl_estimator: KlEstimator::K3, kl_target_nats: Some(0.01), ..config() };
    train(&world, &data, &reward, &config, "ppo");
    let lines = metrics(&world.path("ppo"));
    for m in lines.iter().map(|l| &l.metrics) {
        let charged = m["objective/kl_coef"] * m["objective/kl_k3"];
        assert!(m["objective/non_score_reward"] <= 0.0 && (m["objective/non_score_reward"] + charged).abs() < 1e-9);
    }
    let coefs: Vec<f64> = lines.iter().skip(1).map(|l| l.metrics["objective/kl_coef"]).collect();
    assert!(coefs.windows(2).all(|w| w[1] > w[0]), "KL is past its target from the second iteration on: {coefs:?}");
}

#[test]
fn rloo_raises_the_reward_without_a_value_function() {
    let (world, data) = (World::new(), data(200));
    let reward = reward_model(&world, &data);
    let rloo = PpoConfig { algorithm: Algorithm::Rloo, ..config() };
    let outcome = train(&world, &data, &reward, &rloo, "rloo");
    let scores: Vec<f64> = metrics(&world.path("rloo")).iter().map(|l| l.metrics["objective/scores"]).collect();
    let mean = |xs: &[f64]| xs.iter().sum::<f64>() / xs.len() as f64;
    let gain = mean(&scores[15..]) - mean(&scores[..5]);
    assert!(gain > 0.5, "{scores:?}");
    assert!(!outcome.metrics.contains_key("val/explained_variance"));
    let stops = |resume, stop_at| {
        let short = PpoConfig { total_episodes: 96, ..rloo.clone() };
        world.run("parts", resume, stop_at, |ctx| ppo::train(&short, &data, &inputs(&reward), ctx)).0
    };
    let whole = stops(false, None).expect("trains").sha256;
    stops(false, Some(8)).expect_err("stops");
    assert_eq!(stops(true, None).expect("goes on").sha256, whole);
}

#[test]
fn the_value_function_knows_something_after_its_warm_up() {
    let (world, data) = (World::new(), data(200));
    let reward = reward_model(&world, &data);
    let second = |epochs, name: &str| {
        let config = PpoConfig {
            total_episodes: 128,
            batch_episodes: 64,
            learning_rate: 1e-3,
            value_learning_rate: 1e-3,
            lora_first_layer: Some(0),
            value_warmup_epochs: epochs,
            ..config()
        };
        train(&world, &data, &reward, &config, name);
        metrics(&world.path(name))[1].metrics["val/explained_variance"]
    };
    let (cold, warm) = (second(0, "cold"), second(PpoConfig::default().value_warmup_epochs, "warm"));
    assert!(warm > cold + 0.1, "{warm} after it, {cold} without");
}

#[test]
fn the_baselines_stand_beside_it() {
    let (world, data) = (World::new(), data(200));
    let reward = reward_model(&world, &data);
    let config = PpoConfig { total_episodes: 320, baselines: true, ..config() };
    let run =
        |resume, stop_at| world.run("ppo", resume, stop_at, |ctx| ppo::train(&config, &data, &inputs(&reward), ctx));
    let (outcome, reports) = run(false, None);
    let outcome = outcome.expect("trains");
    let text = std::fs::read_to_string(world.path("ppo").join(BASELINES)).expect("written");
    let all: Vec<Contender> = serde_json::from_str(&text).expect("reads");
    let names: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["start", "best-of-8", "rloo", "ppo"]);
    let (start, best_of) = (&all[0], &all[1]);
    assert!(best_of.reward.low > start.reward.high, "the best of 8 are better than one: {all:?}");
    assert!((best_of.kl_nats - (8f64.ln() - 0.875)).abs() < 1e-12 && start.kl_nats.abs() < 1e-5);
    for trained in &all[2..] {
        assert!(trained.reward.low > start.reward.high && trained.kl_nats > 0.0 && trained.seconds > 0.0, "{all:?}");
        assert_eq!(trained.episodes, 320, "the same budget");
    }
    assert_eq!(outcome.metrics["baselines/ppo/reward"], all[3].reward.mean);
    // Stopped while RLOO trains (after PPO's 1 + 10 * 4 reports): PPO isn't trained again, and the end is the same.
    run(false, Some(60)).0.expect_err("stops");
    let (resumed, rest) = run(true, None);
    assert_eq!(resumed.expect("goes on").sha256, outcome.sha256);
    assert!(rest.len() < reports.len() - 50, "{} of {}", rest.len(), reports.len());
    let again: Vec<Contender> =
        serde_json::from_str(&std::fs::read_to_string(world.path("ppo").join(BASELINES)).expect("written"))
            .expect("reads");
    assert_eq!(again[2].reward, all[2].reward);
}
