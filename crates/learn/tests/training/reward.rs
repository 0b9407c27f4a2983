//! The reward model.

use crate::world::{World, data, metrics};
use hone_domain::{DataSet, Ranking};
use hone_learn::LearnError;
use hone_learn::train::{RewardConfig, SftConfig, reward, sft};

pub(crate) fn config() -> RewardConfig {
    RewardConfig { epochs: 3, learning_rate: 1e-2, lora_r: 4, checkpoint_steps: 10, ..RewardConfig::default() }
}

#[test]
fn it_orders_answers_that_it_never_saw() {
    let (world, data) = (World::new(), data(200));
    let (outcome, _) = world.run("run", false, None, |ctx| reward::train(&config(), &data, None, ctx));
    let outcome = outcome.expect("trains");
    let accuracy = outcome.metrics["evaluate/accuracy"];
    assert!(accuracy > 0.9, "held-out accuracy {accuracy}");
    let first = &metrics(&world.path("run"))[0];
    assert!((first.metrics["loss"] - 2f64.ln() * share_of_pairs(&data)).abs() < 0.1, "a head of zeros knows nothing");
    let text = std::fs::read_to_string(outcome.artifact_dir.join("reward.json")).expect("normalisation");
    let normalisation: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(normalisation["mean_over"], "demonstrations");
    assert!(normalisation["std"].as_f64().is_some_and(|s| s > 0.1));
}

/// Ties are dropped, but C(K,2) counts them: the first loss is log 2 times this.
fn share_of_pairs(data: &DataSet) -> f64 {
    data.rankings.iter().map(|r| r.ranking.pairs().len() as f64 / 6.0).sum::<f64>() / data.rankings.len() as f64
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes_from_an_sft_adapter() {
    let (world, data) = (World::new(), data(24));
    let sft_config = SftConfig { epochs: 1, lora_r: 4, ..SftConfig::default() };
    let sft = world.run("sft", false, None, |ctx| sft::train(&sft_config, &data, None, ctx)).0.expect("trains");
    let train = |name: &str, resume, stop_at| {
        let init = Some(sft.artifact_dir.as_path());
        world.run(name, resume, stop_at, |ctx| reward::train(&config(), &data, init, ctx)).0
    };
    let whole = train("whole", false, None).expect("trains");
    assert!(matches!(train("parts", false, Some(4)), Err(LearnError::Stopped)));
    assert_eq!(train("parts", true, None).expect("goes on").sha256, whole.sha256);
    assert!(matches!(train("parts", false, Some(2)), Err(LearnError::Stopped)), "anew");
    let other_init = world.run("parts", true, None, |ctx| reward::train(&config(), &data, None, ctx)).0;
    assert!(other_init.expect_err("refused").to_string().contains("starting adapters"));
}

#[test]
fn rankings_without_a_pair_are_no_data() {
    let (world, mut data) = (World::new(), data(3));
    data.rankings.iter_mut().for_each(|r| r.ranking = Ranking::from_ranks(&[0; 4]).expect("all tied"));
    let ties = world.run("run", false, None, |ctx| reward::train(&config(), &data, None, ctx)).0;
    assert!(ties.expect_err("ties").to_string().contains("tie"));
    let none = world.run("run", false, None, |ctx| reward::train(&config(), &DataSet::default(), None, ctx)).0;
    assert!(none.expect_err("empty").to_string().contains("no rankings"));
}
