//! Supervised fine-tuning.

use crate::world::{World, data, metrics};
use hone_domain::DataSet;
use hone_learn::LearnError;
use hone_learn::train::{RewardConfig, SftConfig, reward, sft};
use hone_learn::{Adapter, Params};
use std::path::PathBuf;

fn config() -> SftConfig {
    SftConfig {
        epochs: 6,
        learning_rate: 2e-2,
        lora_r: 4,
        lora_first_layer: Some(0),
        checkpoint_steps: 5,
        ..SftConfig::default()
    }
}

#[test]
fn it_learns_the_demonstrations_and_says_so() {
    let (world, data) = (World::new(), data(0));
    let (outcome, reports) = world.run("run", false, None, |ctx| sft::train(&config(), &data, None, ctx));
    let outcome = outcome.expect("trains");
    assert!(outcome.artifact_dir.join("adapter_model.safetensors").exists());
    assert_eq!(outcome.sha256.len(), 64);
    let lines = metrics(&world.path("run"));
    let losses: Vec<f64> = lines.iter().filter_map(|l| l.metrics.get("loss").copied()).collect();
    assert_eq!(losses.len(), 12, "16 demonstrations in batches of 8, 6 epochs");
    assert!(losses[0] > 3.0 && losses[11] < 1.5, "from about log(101) nats down: {losses:?}");
    let held_out: Vec<f64> = lines.iter().filter_map(|l| l.metrics.get("evaluate/loss").copied()).collect();
    assert!(held_out.len() == 6 && held_out[5] < 1.5, "other prompts, same answer: {held_out:?}");
    let last = reports.last().expect("reports");
    assert_eq!((last.step, last.steps_total, last.rate_unit), (12, 12, "tokens/s"));
    assert!(last.rate > 0.0 && last.seconds_left == 0.0);
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let (world, data) = (World::new(), data(0));
    let train =
        |name: &str, resume, stop_at| world.run(name, resume, stop_at, |ctx| sft::train(&config(), &data, None, ctx)).0;
    let whole = train("whole", false, None).expect("trains");
    // Stopped before the first step, in the middle of an epoch, and right after an evaluation.
    for stop_at in [0, 2, 5, 6] {
        let stopped = train("parts", false, Some(stop_at)).expect_err("stopped");
        assert!(matches!(stopped, LearnError::Stopped), "{stopped}");
        let resumed = train("parts", true, None).expect("goes on");
        assert_eq!(resumed.sha256, whole.sha256, "stopped after {stop_at} reports");
        let steps = |run: &str| metrics(&world.path(run)).iter().map(|l| (l.step, l.phase.clone())).collect::<Vec<_>>();
        assert_eq!(steps("parts"), steps("whole"), "no line is missing or doubled");
    }
    let again = train("parts", true, None).expect("a finished run only writes its artifact again");
    assert_eq!(again.sha256, whole.sha256);
}

/// A reward model of people who like the letter e, and demonstrations that say nothing but another one.
fn judged_by_others(world: &World) -> (PathBuf, DataSet) {
    let mut data = data(120);
    let liked = RewardConfig {
        epochs: 3,
        learning_rate: 1e-2,
        lora_r: 4,
        lora_first_layer: Some(0),
        ..RewardConfig::default()
    };
    let judge = world.run("reward", false, None, |ctx| reward::train(&liked, &data, None, ctx)).0.expect("trains");
    data.demonstrations.iter_mut().for_each(|d| d.ideal = "zzz".into());
    (judge.artifact_dir, data)
}

#[test]
fn a_best_checkpoint_that_was_removed_is_none() {
    let world = World::new();
    let (judge, data) = judged_by_others(&world);
    let config = SftConfig { judged_tokens_max: 12, checkpoint_steps: 1, ..config() };
    let train = |resume, stop_at| {
        world.run("run", resume, stop_at, |ctx| sft::train_judged(&config, &data, None, Some(&judge), ctx)).0
    };
    train(false, Some(15)).expect_err("stopped in the fifth epoch");
    let kept: Vec<PathBuf> = std::fs::read_dir(world.path("run/checkpoints"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    let best = kept.iter().min().expect("checkpoints");
    let evaluations =
        metrics(&world.path("run")).into_iter().filter_map(|l| Some((l.step, *l.metrics.get("evaluate/reward")?)));
    let (step, _) = evaluations.max_by(|a, b| a.1.total_cmp(&b.1)).expect("evaluated");
    assert!(
        best.ends_with(format!("step-{step:06}")) && step < 8,
        "the best epoch's is kept beside the last ones: {kept:?}"
    );
    std::fs::remove_dir_all(best).expect("removed");
    let outcome = train(true, None).expect("goes on without it");
    assert_eq!(outcome.metrics["evaluate/best_step"], 12.0, "the best of those that came after it");
}

#[test]
fn the_epoch_whose_answers_score_best_is_the_result() {
    let world = World::new();
    // The demonstrations say e once, then learning turns to nothing but other letters.
    let (judge, data) = judged_by_others(&world);
    let train = |name: &str, config: &SftConfig, resume, stop_at| {
        let reward = Some(judge.as_path());
        world.run(name, resume, stop_at, |ctx| sft::train_judged(config, &data, None, reward, ctx)).0
    };
    let config = SftConfig { judged_tokens_max: 12, checkpoint_steps: 1, ..config() };
    let whole = train("whole", &config, false, None).expect("trains");
    let evaluations: Vec<(usize, f64)> = metrics(&world.path("whole"))
        .iter()
        .filter_map(|l| Some((l.step, *l.metrics.get("evaluate/reward")?)))
        .collect();
    assert_eq!(evaluations.len(), 6, "one an epoch");
    let &(step, best) = evaluations.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("some");
    assert!(step < 12 && best > evaluations[5].1, "the last epoch is not the best one: {evaluations:?}");
    assert_eq!((whole.metrics["evaluate/reward"], whole.metrics["evaluate/best_step"]), (best, step as f64));
    // It is the adapter of that step, which a run that ends there has as its last.
    let load = |dir: &std::path::Path| -> Params { Adapter::load(dir, world.base.config()).expect("loads").params };
    let chosen = load(&whole.artifact_dir);
    let off = SftConfig { judged_prompts_max: 0, ..config.clone() };
    let last = train("last", &off, false, None).expect("trains");
    assert!(!last.metrics.contains_key("evaluate/reward") && load(&last.artifact_dir) != chosen);
    // However it is interrupted, the best is found again bit by bit: after the last step it is the best checkpoint that is read.
    for stop_at in [4, 10, 15] {
        train("parts", &config, false, Some(stop_at)).expect_err("stopped");
        assert_eq!(train("parts", &config, true, None).expect("goes on").sha256, whole.sha256, "{stop_at}");
    }
    assert_eq!(train("parts", &config, true, None).expect("only writes the artifact").sha256, whole.sha256);
    assert!(world.path("parts").join(format!("checkpoints/step-{step:06}")).exists(), "besides the newest two");
}

#[test]
fn dropout_is_off_in_evaluation_and_goes_on_with_the_same_masks() {
    let (world, data) = (World::new(), data(0));
    let dropping = SftConfig { dropout: 0.2, recompute: true, ..config() };
    let train = |name: &str, config: &SftConfig, resume, stop_at| {
        world.run(name, resume, stop_at, |ctx| sft::train(config, &data, None, ctx)).0
    };
    let whole = train("whole", &dropping, false, None).expect("trains");
    assert!(whole.metrics["evaluate/loss"] < 1.5, "it learns all the same: {:?}", whole.metrics);
    train("parts", &dropping, false, Some(5)).expect_err("stopped");
    assert_eq!(train("parts", &dropping, true, None).expect("goes on").sha256, whole.sha256);
    // A step that changes nothing: what is evaluated is the fresh adapter, with the dropout off.
    let still = |dropout| {
        let still = SftConfig { dropout, learning_rate: 1e-30, epochs: 1, ..config() };
        train("still", &still, false, None).expect("trains").metrics
    };
    let (with, without) = (still(0.2), still(0.0));
    assert_eq!(with["evaluate/loss"], without["evaluate/loss"]);
    assert_ne!(with["loss"], without["loss"]);
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let (world, data) = (World::new(), data(0));
    world.run("run", false, Some(3), |ctx| sft::train(&config(), &data, None, ctx)).0.expect_err("stopped");
    let other = SftConfig { learning_rate: 1e-3, ..config() };
    let refused = world.run("run", true, None, |ctx| sft::train(&other, &data, None, ctx)).0.expect_err("refused");
    assert!(
        matches!(&refused, LearnError::CheckpointMismatch { reason, .. } if reason.contains("settings")),
        "{refused}"
    );
}

#[test]
fn micro_batches_change_the_memory_and_not_the_result() {
    let (world, data) = (World::new(), data(0));
    let last_loss = |name: &str, micro_batch_tokens| {
        let config = SftConfig { micro_batch_tokens, ..config() };
        let outcome = world.run(name, false, None, |ctx| sft::train(&config, &data, None, ctx)).0;
        outcome.expect("trains").metrics["loss"]
    };
    assert!((last_loss("one", 1) - last_loss("all", 100_000)).abs() < 1e-3);
}

#[test]
fn what_cannot_be_used_is_said_or_counted() {
    let world = World::new();
    let empty = world.run("run", false, None, |ctx| sft::train(&config(), &DataSet::default(), None, ctx)).0;
    assert!(empty.expect_err("nothing to learn").to_string().contains("hone data import"));
    let mut data = data(0);
    data.demonstrations[0].messages[0].content = "x".repeat(1000);
    data.demonstrations[1].ideal = "y".repeat(1000);
    let outcome = world.run("run", false, None, |ctx| sft::train(&config(), &data, None, ctx)).0.expect("trains");
    assert_eq!((outcome.metrics["data/skipped"], outcome.metrics["data/truncated"]), (1.0, 1.0));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_at_its_last_good_checkpoint() {
    let (world, data) = (World::new(), data(0));
    let wild = SftConfig { learning_rate: 1e30, checkpoint_steps: 1, ..config() };
    let stopped = world.run("run", false, None, |ctx| sft::train(&wild, &data, None, ctx)).0.expect_err("diverges");
    assert!(matches!(&stopped, LearnError::NonFinite { .. }), "{stopped}");
    // The first step threw the weights out: its checkpoint would only give the same again.
    assert!(stopped.to_string().contains("the loss of step 2 (NaN)"), "{stopped}");
    assert!(stopped.to_string().contains("without a good checkpoint"), "{stopped}");
    assert!(!world.path("run").join("artifact").exists(), "nothing half-good is left");
}

#[test]
fn a_run_goes_on_from_the_checkpoint_before_the_one_that_is_no_good() {
    let (world, data) = (World::new(), data(0));
    let config = SftConfig { checkpoint_steps: 1, ..config() };
    let train =
        |name: &str, resume, stop_at| world.run(name, resume, stop_at, |ctx| sft::train(&config, &data, None, ctx)).0;
    let whole = train("whole", false, None).expect("trains");
    train("parts", false, Some(5)).expect_err("stopped");
    let checkpoints = world.path("parts").join("checkpoints");
    let steps = || -> Vec<String> {
        let entries = std::fs::read_dir(&checkpoints).expect("lists");
        let mut names: Vec<_> = entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let newest = steps().pop().expect("a checkpoint");
    // Weights that a step has thrown out: finite, and too large for any sum.
    let tensors = checkpoints.join(&newest).join("tensors.safetensors");
    let mut bytes = std::fs::read(&tensors).expect("reads");
    let data_from = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    bytes[data_from..].chunks_exact_mut(4).for_each(|x| x.copy_from_slice(&1e30f32.to_le_bytes()));
    std::fs::write(&tensors, bytes).expect("writes");
    let stopped = train("parts", true, None).expect_err("not finite").to_string();
    let before = steps().pop().expect("the one before");
    assert!(before < newest, "{newest} is gone, {before} is the last");
    let step: usize = before.trim_start_matches("step-").parse().expect("a number");
    assert!(stopped.contains(&format!("the last good checkpoint being step {step}")), "{stopped}");
    assert_eq!(train("parts", true, None).expect("goes on").sha256, whole.sha256);
}
