//! Generation: the rollout benchmark, and the samples that the learning curves' reward model is trained on.

use crate::Result;
use crate::turns::Turns;
use hone_domain::{DataSet, Message};
use hone_learn::generate::{GenerateConfig, generate};
use hone_learn::{Adapter, Base, LoraConfig};
use hone_text::ChatTokenizer;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;

/// What to generate.
#[derive(Deserialize)]
pub(crate) struct Spec {
    /// The base's folder.
    model: PathBuf,
    /// A [`DataSet`] as JSON; its prompts are answered.
    data: PathBuf,
    max_new_tokens: usize,
    /// With a LoRA on all linears, unmerged, as PPO's rollouts have.
    #[serde(default)]
    adapter: bool,
    seed: u64,
    /// For `sample`: answers per prompt, which may end; else there is one, and it never ends early.
    #[serde(default)]
    per_prompt: usize,
}

fn prompts(spec: &Spec, tokenizer: &ChatTokenizer) -> Result<Vec<Vec<u32>>> {
    let data: DataSet = crate::spec(&spec.data.to_string_lossy())?;
    Ok(data.prompts.iter().map(|p| tokenizer.encode_prompt(&p.messages)).collect::<std::result::Result<_, _>>()?)
}

/// All prompts at once, `max_new_tokens` each, at temperature 1; once per turn.
pub(crate) fn run(spec: &Spec) -> Result<()> {
    let base = Base::open(&spec.model)?;
    let prompts = prompts(spec, &ChatTokenizer::open(&spec.model)?)?;
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    let mut adapter = Adapter::new(base.config(), LoraConfig::default(), false, &mut rng)?;
    adapter.params.iter_mut().for_each(|p| p.data.iter_mut().for_each(|x| *x += 1e-4));
    let adapter = spec.adapter.then_some(&adapter);
    let config =
        GenerateConfig { max_new_tokens: spec.max_new_tokens, temperature: 1.0, top_p: 1.0, eos_ids: Vec::new() };
    let (mut turns, mut goes_on) = Turns::begin(false)?;
    while goes_on {
        let answers = generate(&base, adapter, &prompts, &config, &mut rng)?;
        goes_on = turns.next(json!({"new_tokens": answers.iter().map(|a| a.tokens.len()).sum::<usize>()}))?;
    }
    Ok(())
}

/// One line per prompt: its messages and `per_prompt` answers as text, each cut at `max_new_tokens`.
pub(crate) fn sample(spec: &Spec) -> Result<()> {
    let base = Base::open(&spec.model)?;
    let tokenizer = ChatTokenizer::open(&spec.model)?;
    let data: DataSet = crate::spec(&spec.data.to_string_lossy())?;
    let repeated: Vec<Vec<u32>> =
        prompts(spec, &tokenizer)?.into_iter().flat_map(|p| vec![p; spec.per_prompt]).collect();
    let eos_ids = tokenizer.eos_ids().to_vec();
    let config = GenerateConfig { max_new_tokens: spec.max_new_tokens, temperature: 1.0, top_p: 1.0, eos_ids };
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    let each = repeated.chunks(16 * spec.per_prompt).zip(data.prompts.chunks(16));
    for (tokens, prompts) in each {
        let answers = generate(&base, None, tokens, &config, &mut rng)?;
        for (prompt, answers) in prompts.iter().zip(answers.chunks(spec.per_prompt)) {
            let messages: &[Message] = &prompt.messages;
            let said: Vec<String> = answers.iter().map(|a| tokenizer.decode(&a.tokens).trim().to_owned()).collect();
            println!("{}", json!({"messages": messages, "answers": said}));
        }
    }
    Ok(())
}
