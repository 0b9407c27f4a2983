//! A few prompts answered by the policy that a run started from and by the one that it made, side by side, so that a person sees what
//! training did. Uses `generate` and, where there is a reward model, its scores; nothing is learned here.

use crate::LearnError;
use crate::generate::{GenerateConfig, generate};
use crate::lora::Adapter;
use crate::model::{Base, Workspace};
use crate::train::data::{Encoder, Limits, Sequence};
use crate::train::roles::RewardModel;
use hone_domain::{Message, PromptItem};
use hone_text::ChatTokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Longest prompt that is shown, in tokens: a page is read by people.
const PROMPT_TOKENS_MAX: usize = 256;

/// How the answers are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleConfig {
    /// Prompts that are answered, the first ones that fit.
    pub prompts: usize,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 takes the likeliest token.
    pub temperature: f64,
    /// Both policies draw from it, so equal policies give equal answers.
    pub seed: u64,
}

/// The adapters of a run; `None` is the bare base (`reward`: there is none).
#[derive(Debug, Clone, Copy)]
pub struct BeforeAfter<'a> {
    /// What the run started from.
    pub before: Option<&'a Path>,
    /// What it made.
    pub after: Option<&'a Path>,
    /// A reward run's artifact.
    pub reward: Option<&'a Path>,
}

/// One prompt and both answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answer before the run.
    pub before: String,
    /// The answer after it.
    pub after: String,
    /// What the reward model gives the first answer.
    pub reward_before: Option<f64>,
    /// What it gives the second.
    pub reward_after: Option<f64>,
}

/// Lets both policies answer the first of `prompts` that fit. None that fits, no samples.
///
/// # Errors
/// An adapter that can't be read or is of another base.
pub fn draw(
    base: &Base,
    tokenizer: &ChatTokenizer,
    prompts: &[PromptItem],
    adapters: BeforeAfter<'_>,
    config: &SampleConfig,
) -> Result<Vec<Sample>, LearnError> {
    let (used, encoded) = encode(base, tokenizer, prompts, config)?;
    let before = answer(base, tokenizer, &encoded, adapters.before, config)?;
    let after = answer(base, tokenizer, &encoded, adapters.after, config)?;
    let judge = adapters.reward.map(|dir| RewardModel::load(dir, base)).transpose()?;
    let rewards = |answers: &[Sequence]| -> Result<Vec<Option<f64>>, LearnError> {
        let Some(judge) = &judge else { return Ok(vec![None; answers.len()]) };
        let found = judge.rewards(base, answers, tokenizer.eos_ids(), PROMPT_TOKENS_MAX, &mut Workspace::new())?;
        Ok(found.into_iter().map(Some).collect())
    };
    let (reward_before, reward_after) = (rewards(&before)?, rewards(&after)?);
    let text = |s: &Sequence| tokenizer.decode(&s.tokens[s.prompt_len..]);
    let sample = |i: usize| Sample {
        messages: used[i].messages.clone(),
        before: text(&before[i]),
        after: text(&after[i]),
        reward_before: reward_before[i],
        reward_after: reward_after[i],
    };
    Ok((0..used.len()).map(sample).collect())
}

type Encoded<'p> = (Vec<&'p PromptItem>, Vec<Vec<u32>>);

fn encode<'p>(
    base: &Base,
    tokenizer: &ChatTokenizer,
    prompts: &'p [PromptItem],
    config: &SampleConfig,
) -> Result<Encoded<'p>, LearnError> {
    let context = base.config().context;
    let prompt_tokens = context.saturating_sub(config.max_new_tokens).min(PROMPT_TOKENS_MAX);
    let limits = Limits { prompt_tokens, answer_tokens: config.max_new_tokens, context };
    let mut encoder = Encoder::new(tokenizer, limits);
    let (mut used, mut encoded) = (Vec::new(), Vec::new());
    for item in prompts {
        if used.len() == config.prompts {
            break;
        }
        if let Some(tokens) = encoder.prompt(&item.messages)? {
            used.push(item);
            encoded.push(tokens);
        }
    }
    Ok((used, encoded))
}

fn answer(
    base: &Base,
    tokenizer: &ChatTokenizer,
    prompts: &[Vec<u32>],
    adapter: Option<&Path>,
    config: &SampleConfig,
) -> Result<Vec<Sequence>, LearnError> {
    let adapter = adapter.map(|dir| Adapter::load(dir, base.config())).transpose()?;
    let sampling = GenerateConfig {
        max_new_tokens: config.max_new_tokens,
        temperature: config.temperature as f32,
        top_p: 1.0,
        eos_ids: tokenizer.eos_ids().to_vec(),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let drawn = generate(base, adapter.as_ref(), prompts, &sampling, &mut rng)?;
    Ok(prompts.iter().zip(&drawn).map(|(p, g)| Sequence::new(p, &g.tokens)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::LoraConfig;
    use crate::tiny::{self, TinySpec};

    #[test]
    fn equal_policies_give_equal_answers_and_others_do_not() {
        let home = tempfile::tempdir().expect("temp dir");
        let dir = home.path().join("base");
        tiny::write(&dir, &TinySpec::default()).expect("a base");
        let (base, tokenizer) = (Base::open(&dir).expect("opens"), ChatTokenizer::open(&dir).expect("opens"));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut adapter = Adapter::new(base.config(), LoraConfig::default(), false, &mut rng).expect("an adapter");
        adapter.params.iter_mut().for_each(|p| p.data.iter_mut().for_each(|x| *x += 0.05));
        let other = home.path().join("other");
        adapter.save(&other, "tiny").expect("saves");

        let long = PromptItem { messages: vec![Message::user("x".repeat(5000))] };
        let prompts: Vec<PromptItem> = std::iter::once(long)
            .chain((0..5).map(|i| PromptItem { messages: vec![Message::user(format!("prompt {i}"))] }))
            .collect();
        let config = SampleConfig { prompts: 3, max_new_tokens: 12, temperature: 1.0, seed: 4 };
        let draw = |after| {
            let adapters = BeforeAfter { before: None, after, reward: None };
            super::draw(&base, &tokenizer, &prompts, adapters, &config).expect("draws")
        };
        let (same, different) = (draw(None), draw(Some(other.as_path())));
        let asked: Vec<&str> = same.iter().map(|s| s.messages[0].content.as_str()).collect();
        assert_eq!(asked, ["prompt 0", "prompt 1", "prompt 2"], "what is too long is left out");
        assert!(same.iter().all(|s| s.before == s.after && s.reward_after.is_none()));
        assert!(different.iter().zip(&same).all(|(d, s)| d.before == s.before && d.after != d.before));
    }
}
