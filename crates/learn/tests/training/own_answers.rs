//! The loop as people drive it: they rank the base's own answers, a reward model learns their taste, PPO follows it, and other
//! people's prompts get answers that are more to the taste. The taste is counted in the text, never asked of the reward model.

use crate::world::World;
use hone_domain::{DataSet, Message, PromptItem, RankedPrompt, Ranking};
use hone_learn::generate::{GenerateConfig, generate};
use hone_learn::train::ppo::{self, PpoInputs};
use hone_learn::train::{PpoConfig, RewardConfig, reward};
use hone_learn::{Adapter, LearnError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::path::Path;

const ANSWER_TOKENS: usize = 16;

/// What people here like.
fn vowels(text: &str) -> usize {
    text.chars().filter(|c| "aeiou".contains(*c)).count()
}

fn prompts(numbers: std::ops::Range<usize>) -> Vec<Vec<Message>> {
    numbers.map(|i| vec![Message::user(format!("question {i}?"))]).collect()
}

fn answers(world: &World, prompts: &[Vec<Message>], adapter: Option<&Path>, seed: u64) -> Vec<String> {
    let encode = |p: &Vec<Message>| world.tokenizer.encode_prompt(p).expect("encodes");
    let adapter = adapter.map(|dir| Adapter::load(dir, world.base.config()).expect("loads"));
    let sampling = GenerateConfig {
        max_new_tokens: ANSWER_TOKENS,
        temperature: 1.0,
        top_p: 1.0,
        eos_ids: world.tokenizer.eos_ids().to_vec(),
    };
    let tokens: Vec<Vec<u32>> = prompts.iter().map(encode).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let drawn = generate(&world.base, adapter.as_ref(), &tokens, &sampling, &mut rng).expect("answers");
    drawn.iter().map(|g| world.tokenizer.decode(&g.tokens)).collect()
}

fn rank(world: &World, prompts: &[Vec<Message>]) -> Vec<RankedPrompt> {
    let drawn: Vec<Vec<String>> = (0..4).map(|seed| answers(world, prompts, None, seed)).collect();
    let ranked = |(i, messages): (usize, &Vec<Message>)| {
        let candidates: Vec<String> = drawn.iter().map(|d| d[i].clone()).collect();
        let ranks: Vec<u32> = candidates.iter().map(|c| (ANSWER_TOKENS - vowels(c)) as u32).collect();
        let ranking = Ranking::from_ranks(&ranks).expect("four candidates");
        let (quality, flags) = Default::default();
        RankedPrompt { messages: messages.clone(), candidates, ranking, quality, flags, labeler: "ann".into() }
    };
    prompts.iter().enumerate().map(ranked).collect()
}

#[test]
fn answers_to_new_prompts_follow_the_taste_of_those_who_ranked() -> Result<(), LearnError> {
    let world = World::new();
    let (seen, unseen) = (prompts(0..100), prompts(100..164));
    let data = DataSet {
        rankings: rank(&world, &seen),
        held_out_rankings: rank(&world, &unseen),
        prompts: seen.into_iter().map(|messages| PromptItem { messages }).collect(),
        ..DataSet::default()
    };
    let reward_config = RewardConfig {
        epochs: 6,
        learning_rate: 5e-3,
        lora_r: 8,
        lora_alpha: 16.0,
        lora_first_layer: Some(0),
        ..RewardConfig::default()
    };
    let reward = world.run("reward", false, None, |ctx| reward::train(&reward_config, &data, None, ctx)).0?;
    assert!(reward.metrics["evaluate/accuracy"] > 0.75, "{:?}", reward.metrics);
    let config = PpoConfig {
        total_episodes: 640,
        minibatch_episodes: 16,
        max_new_tokens: ANSWER_TOKENS,
        learning_rate: 1e-2,
        value_learning_rate: 1e-2,
        lora_first_layer: Some(0),
        missing_eos_score: None,
        lora_r: 8,
        lora_alpha: 16.0,
        ..PpoConfig::default()
    };
    let inputs = PpoInputs { policy: None, reference: None, reward: reward.artifact_dir };
    let policy = world.run("ppo", false, None, |ctx| ppo::train(&config, &data, &inputs, ctx)).0?;
    let (old, new) = (answers(&world, &unseen, None, 70), answers(&world, &unseen, Some(&policy.artifact_dir), 71));
    let (mut better, mut worse) = (0, 0);
    for (o, n) in old.iter().zip(&new) {
        better += usize::from(vowels(n) > vowels(o));
        worse += usize::from(vowels(n) < vowels(o));
    }
    // Sign test, one-sided: under "no change" a pair that differs is better with probability 1/2.
    let p = sign_test(better, better + worse);
    assert!(p < 1e-4, "{better} better, {worse} worse of 64: p = {p}");
    Ok(())
}

/// P(at least `better` heads in `n` fair throws).
fn sign_test(better: usize, n: usize) -> f64 {
    let log_choose = |k: usize| (1..=k).map(|i| (((n - k + i) as f64) / i as f64).ln()).sum::<f64>();
    (better..=n).map(|k| (log_choose(k) - n as f64 * 2f64.ln()).exp()).sum()
}

#[test]
fn the_sign_test_is_the_binomial_tail() {
    assert!((sign_test(9, 10) - 11.0 / 1024.0).abs() < 1e-12);
    assert!((sign_test(0, 7) - 1.0).abs() < 1e-12);
}
