//! The reward model.

use crate::world::{World, data, metrics};
use hone_domain::{DataSet, RankedPrompt, Ranking};
use hone_learn::train::config::Scoring;
use hone_learn::train::ppo::{self, PpoInputs};
use hone_learn::train::{PpoConfig, RewardConfig, SftConfig, reward, sft};
use hone_learn::{Adapter, LearnError};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

pub(crate) fn config() -> RewardConfig {
    RewardConfig {
        epochs: 3,
        learning_rate: 1e-2,
        lora_r: 4,
        lora_first_layer: Some(0),
        checkpoint_steps: 10,
        ..RewardConfig::default()
    }
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

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("there")).expect("JSON")
}

#[test]
fn labelers_are_held_against_each_other() {
    let (world, mut data) = (World::new(), data(120));
    // Bob sees the same answers as Ann and likes what she likes, but for every fourth comparison, which he turns round.
    let bobs = |all: &[RankedPrompt]| -> Vec<RankedPrompt> {
        let turned = |(i, r): (usize, &RankedPrompt)| {
            let most = r.ranking.ranks().iter().copied().max().unwrap_or_default();
            let ranks: Vec<u32> =
                r.ranking.ranks().iter().map(|&x| u32::from(if i % 4 == 0 { most - x } else { x })).collect();
            RankedPrompt {
                ranking: Ranking::from_ranks(&ranks).expect("four candidates"),
                labeler: "bob".into(),
                ..r.clone()
            }
        };
        all.iter().enumerate().map(turned).collect()
    };
    let (train, held_out) = (bobs(&data.rankings[..60]), bobs(&data.held_out_rankings));
    data.rankings.extend(train);
    data.held_out_rankings.extend(held_out);
    data.held_out_rankings[0].labeler = "cid".into();
    let outcome = world.run("run", false, None, |ctx| reward::train(&config(), &data, None, ctx)).0.expect("trains");
    let m = &outcome.metrics;
    let agreement = m["labelers/agreement"];
    assert!((agreement - 0.75).abs() < 0.05 && m["labelers/agreement_pairs"] > 300.0, "{m:?}");
    // The names are hashes: the first eight hex digits of SHA-256.
    let name = |labeler: &str| hone_learn::checkpoint::sha256(labeler.as_bytes())[..8].to_owned();
    let of = |labeler: &str| m[&format!("evaluate/accuracy/{}", name(labeler))];
    assert!(of("ann") > 0.85 && of("bob") < 0.85 && of("bob") > 0.6, "{m:?}");
    assert!(m.contains_key(&format!("train/accuracy/{}", name("bob"))) && m.contains_key("train/accuracy"));
    assert_eq!(m["evaluate/accuracy_new_labelers"], of("cid"), "only Cid wasn't trained on");
    assert!((0.0..0.5).contains(&m["evaluate/calibration_error"]) && m["evaluate/temperature"] > 0.0);
    let report = read(&outcome.artifact_dir.join("reward_report.json"));
    let bins = report["calibration"]["bins"].as_array().expect("a table");
    let pairs: f64 = bins.iter().map(|b| b["pairs"].as_f64().expect("a number")).sum();
    assert_eq!(pairs, m["evaluate/pairs"], "every held-out pair is in one bin");
    assert_eq!(report["labelers"].as_object().expect("by name").len(), 3);
    assert!(report["ensemble"].is_null());
    let people = report["labelers"].as_object().expect("by name");
    let ordered = |r: &&RankedPrompt| !r.ranking.pairs().is_empty();
    let by_ann = data.rankings.iter().filter(|r| r.labeler == "ann").filter(ordered).count();
    assert_eq!(people[&name("ann")]["rankings"], by_ann, "what is all tied teaches nothing");
    assert_eq!((&people[&name("cid")]["rankings"], &people[&name("cid")]["held_out_rankings"]), (&json!(0), &json!(1)));
    let rewarded = &report["rewarded"];
    let asked = |r: &RankedPrompt| (r.messages.last().map(|m| m.content.clone()), r.candidates.clone());
    let different: BTreeSet<_> = data.held_out_rankings.iter().filter(ordered).map(asked).collect();
    let answers: usize = different.iter().map(|(_, candidates)| candidates.len()).sum();
    assert_eq!((&rewarded["answers"], &rewarded["of_training"]), (&json!(answers), &json!(false)));
    let reward = |list: &str, i: usize| rewarded[list][i]["reward"].as_f64().expect("a number");
    assert!(reward("most_liked", 0) >= reward("most_liked", 1) && reward("most_liked", 4) > reward("least_liked", 0));
}

#[test]
fn an_ensemble_is_scored_by_its_worst_head_and_ppo_starts_from_its_mean() {
    let (world, data) = (World::new(), data(120));
    let config = RewardConfig { ensemble_heads: 4, ensemble_scoring: Scoring::Worst, ..config() };
    let train = |name: &str, resume, stop_at| {
        world.run(name, resume, stop_at, |ctx| reward::train(&config, &data, None, ctx)).0
    };
    let outcome = train("whole", false, None).expect("trains");
    let m = &outcome.metrics;
    assert!(m["evaluate/accuracy"] > 0.85 && m["ensemble/accuracy"] > 0.8, "{m:?}");
    assert!(m["ensemble/disagreement"] > 0.02, "{m:?}");
    let adapter = Adapter::load(&outcome.artifact_dir, world.base.config()).expect("loads");
    let heads = adapter.params.get("score.weight").expect("heads");
    assert_eq!(heads.shape, [4, world.base.config().hidden]);
    assert!(matches!(train("parts", false, Some(4)), Err(LearnError::Stopped)));
    assert_eq!(train("parts", true, None).expect("goes on").sha256, outcome.sha256);

    let one = PpoConfig { total_episodes: 8, batch_episodes: 8, max_new_tokens: 12, lora_r: 4, ..PpoConfig::default() };
    let inputs = PpoInputs { policy: None, reference: None, reward: outcome.artifact_dir.clone() };
    let policy = world.run("ppo", false, None, |ctx| ppo::train(&one, &data, &inputs, ctx)).0.expect("trains");
    assert!(policy.metrics["objective/scores"].is_finite() && policy.metrics["loss/value_avg"].is_finite());
    assert!(policy.metrics["objective/reward_disagreement"] > 0.0);
    let two = RewardConfig { ensemble_heads: 2, ..config.clone() };
    let other = world.run("two", false, None, |ctx| reward::train(&two, &data, Some(&outcome.artifact_dir), ctx)).0;
    assert!(other.expect_err("another size").to_string().contains("ensemble_heads"));
}

#[test]
fn margins_draw_scores_apart_and_smoothing_holds_them_together() {
    let (world, mut data) = (World::new(), data(60));
    let spread = |data: &DataSet, change: fn(&mut RewardConfig)| {
        let mut config = RewardConfig { epochs: 6, ..config() };
        change(&mut config);
        let run = world.run("run", false, None, |ctx| reward::train(&config, data, None, ctx)).0.expect("trains");
        run.metrics["reward/std"]
    };
    let plain = spread(&data, |_| ());
    assert!(spread(&data, |c| c.label_smoothing = 0.3) < 0.8 * plain);
    assert!(spread(&data, |c| c.margin_max = 6.0) > 1.1 * plain);
    // Marks that say "all equally good" take the margin away again.
    data.rankings.iter_mut().for_each(|r| r.quality = vec![Some(4); 4]);
    assert_eq!(spread(&data, |c| c.margin_max = 6.0), plain);
}
