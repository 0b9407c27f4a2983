//! What must hold exactly, through the real trainers: micro-batches change nothing, every trainable tensor learns and nothing else
//! does, the first PPO update finds the policy where it was sampled.

use crate::world::{World, data, metrics};
use hone_domain::DataSet;
use hone_learn::train::ppo::{self, PpoInputs};
use hone_learn::train::{Outcome, PpoConfig, RewardConfig, SftConfig, reward, sft};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, Vec<f32>>;

fn tensors(file: &Path) -> Tensors {
    let bytes = std::fs::read(file).expect("reads");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    file.tensors().into_iter().map(|(name, view)| (name, values(view.data()))).collect()
}

fn artifact(outcome: &Outcome) -> Tensors {
    tensors(&outcome.artifact_dir.join("adapter_model.safetensors"))
}

/// An adapter with a non-zero B, and a reward model that starts from it.
struct Start {
    world: World,
    data: DataSet,
    sft: PathBuf,
    reward: PathBuf,
}

fn start() -> Start {
    let (world, data) = (World::new(), data(24));
    let config = SftConfig {
        epochs: 2,
        learning_rate: 2e-2,
        lora_r: 4,
        lora_alpha: 6.0,
        lora_first_layer: Some(0),
        ..SftConfig::default()
    };
    let sft = world.run("start-sft", false, None, |ctx| sft::train(&config, &data, None, ctx)).0.expect("trains");
    let config = RewardConfig { learning_rate: 1e-2, lora_first_layer: Some(0), ..RewardConfig::default() };
    let init = Some(sft.artifact_dir.as_path());
    let reward =
        world.run("start-reward", false, None, |ctx| reward::train(&config, &data, init, ctx)).0.expect("trains");
    Start { world, data, sft: sft.artifact_dir, reward: reward.artifact_dir }
}

impl Start {
    /// One optimiser step over all demonstrations, `budget` tokens at a time.
    fn sft(&self, name: &str, budget: usize) -> Outcome {
        let config = SftConfig { epochs: 1, batch_examples: 64, micro_batch_tokens: budget, ..SftConfig::default() };
        let init = Some(self.sft.as_path());
        self.world.run(name, false, None, |ctx| sft::train(&config, &self.data, init, ctx)).0.expect("trains")
    }

    fn reward(&self, name: &str, budget: usize) -> Outcome {
        let config =
            RewardConfig { epochs: 1, batch_prompts: 64, micro_batch_tokens: budget, ..RewardConfig::default() };
        let init = Some(self.reward.as_path());
        self.world.run(name, false, None, |ctx| reward::train(&config, &self.data, init, ctx)).0.expect("trains")
    }

    /// One iteration of one optimiser step.
    fn ppo(&self, name: &str, budget: usize) -> Outcome {
        let config = PpoConfig {
            total_episodes: 16,
            batch_episodes: 16,
            minibatch_episodes: 16,
            inner_epochs: 1,
            value_warmup_epochs: 0, // one step of the value function, and no more
            max_new_tokens: 12,
            missing_eos_score: None,
            micro_batch_tokens: budget,
            ..PpoConfig::default()
        };
        let sft = Some(self.sft.clone());
        let inputs = PpoInputs { policy: sft.clone(), reference: sft, reward: self.reward.clone() };
        self.world.run(name, false, None, |ctx| ppo::train(&config, &self.data, &inputs, ctx)).0.expect("trains")
    }
}

/// Both runs made one step: the same losses, the same gradient norms, the same weights.
fn assert_same(world: &World, (one, ones): (&str, &Outcome), (all, alls): (&str, &Outcome)) {
    let first = |name: &str| metrics(&world.path(name))[0].metrics.clone();
    let (theirs, ours) = (first(all), first(one));
    let compared =
        ["loss", "grad_norm", "accuracy", "loss/policy_avg", "loss/value_avg", "policy/grad_norm", "value/grad_norm"];
    for name in compared.into_iter().filter(|name| theirs.contains_key(*name)) {
        let (a, b) = (ours[name], theirs[name]);
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{all}: {name} is {a} in small parts and {b} in one");
    }
    assert!(theirs.keys().any(|name| name.ends_with("grad_norm")), "{theirs:?}");
    for ((name, a), b) in artifact(ones).into_iter().zip(artifact(alls).into_values()) {
        let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{all}: {name} is {apart} apart"); // a step is 5e-5 to 2e-4 long
    }
}

#[test]
fn micro_batches_change_neither_losses_nor_gradients_nor_weights() {
    let s = start();
    assert_same(&s.world, ("sft-1", &s.sft("sft-1", 1)), ("sft", &s.sft("sft", 1 << 20)));
    assert_same(&s.world, ("reward-1", &s.reward("reward-1", 1)), ("reward", &s.reward("reward", 1 << 20)));
    assert_same(&s.world, ("ppo-1", &s.ppo("ppo-1", 1)), ("ppo", &s.ppo("ppo", 1 << 20)));
}

/// Every tensor has other values than before, all of them finite.
fn assert_all_moved(what: &str, before: &Tensors, after: &Tensors) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{what}");
    for (name, values) in after {
        assert!(values.iter().all(|x| x.is_finite()), "{what}: {name}");
        let moved = values.iter().zip(&before[name]).filter(|(a, b)| a != b).count();
        assert!(2 * moved > values.len(), "{what}: only {moved} of {} values of {name} got a gradient", values.len());
    }
}

#[test]
fn every_trainable_tensor_of_every_role_learns() {
    let s = start();
    let (sft, reward) =
        (tensors(&s.sft.join("adapter_model.safetensors")), tensors(&s.reward.join("adapter_model.safetensors")));
    assert_all_moved("sft", &sft, &artifact(&s.sft("sft", 1024)));
    assert_all_moved("reward", &reward, &artifact(&s.reward("reward", 1024)));
    assert_all_moved("policy", &sft, &artifact(&s.ppo("ppo", 1024)));
    let checkpoint = tensors(&s.world.path("ppo").join("checkpoints/step-000001/tensors.safetensors"));
    let value: Tensors =
        checkpoint.into_iter().filter_map(|(name, x)| Some((name.strip_prefix("value/")?.to_owned(), x))).collect();
    assert_all_moved("value function", &reward, &value);
}

#[test]
fn what_is_frozen_stays_as_it_is() {
    let (world, data) = (World::new(), data(0));
    let weights = world.path("base").join("model.safetensors");
    let before = std::fs::read(&weights).expect("reads");
    let upper = SftConfig {
        epochs: 1,
        lora_r: 4,
        lora_first_layer: Some(1),
        lora_targets: vec!["v_proj".into(), "down_proj".into()],
        ..SftConfig::default()
    };
    let outcome = world.run("sft", false, None, |ctx| sft::train(&upper, &data, None, ctx)).0.expect("trains");
    let names: Vec<String> = artifact(&outcome).into_keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(
        names.iter().all(|n| n.contains("layers.1.") && (n.contains("v_proj") || n.contains("down_proj"))),
        "{names:?}"
    );
    assert!(std::fs::read(&weights).expect("reads") == before, "the base on disk");
}

#[test]
fn the_first_update_starts_where_the_answers_were_drawn() {
    let s = start();
    s.ppo("ppo", 1024);
    let m = &metrics(&s.world.path("ppo"))[0].metrics;
    // The reference is the policy's own start, which isn't the base.
    assert!(m["objective/kl"].abs() < 1e-5 && m["objective/kl_k3"].abs() < 1e-9, "{m:?}");
    assert!((m["val/ratio"] - 1.0).abs() < 1e-6 && m["val/ratio_var"].abs() < 1e-12, "{m:?}");
    assert!(m["policy/approxkl_avg"] < 1e-12, "{m:?}");
    assert_eq!((m["policy/clipfrac_avg"], m["val/clipfrac_avg"]), (0.0, 0.0));
    assert!(m["loss/policy_avg"].abs() < 1e-6, "whitened advantages have mean 0, the ratio is 1: {m:?}");
}
