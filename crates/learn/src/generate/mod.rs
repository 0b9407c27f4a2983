//! Rollouts: many prompts at once with a KV cache, each answer with the log-prob of every token that was drawn.

mod cache;
mod sample;
mod session;

pub use session::{Part, Session, pass};

use crate::backend::Backend;
use crate::model::{Base, Batch, Model, ModelAdapters, Pool, Weights, resolve};
use crate::{Adapter, LearnError};
use cache::{KvCache, extend, logits, rows};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sample::sample;

/// Prompt tokens per forward pass: bounds the memory of the buffers.
const PREFILL_TOKENS: usize = 2048;

/// How answers are drawn.
#[derive(Debug, Clone)]
pub struct GenerateConfig {
    /// The longest answer in tokens, the end-of-turn token included.
    pub max_new_tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// Draw only from the likeliest tokens that hold this much probability together; 1 from all.
    pub top_p: f32,
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    /// Its tokens, with the end-of-turn token when it has one.
    pub tokens: Vec<u32>,
    /// Each token's log-prob, in nats, at the temperature, in the whole distribution (that of temperature 1 when greedy).
    pub logprobs: Vec<f32>,
    /// Whether it ended by an end-of-turn token, not by its length or the context.
    pub ended: bool,
}

/// A prompt whose answer is not complete.
struct Row<B: Backend> {
    index: usize,
    cache: KvCache<B>,
    rng: ChaCha8Rng,
    last: u32,
}

/// One answer per prompt, in their order. Each row draws from its own stream of random numbers, fixed by `rng`'s state and the
/// row's index, so what else is in the batch does not change an answer. An answer ends early when the context is full.
///
/// # Errors
/// When a prompt is empty or fills the context, a token is outside of the vocabulary, the adapter is of another shape, or a
/// logit is not finite.
pub fn generate(
    base: &Base,
    adapter: Option<&Adapter>,
    prompts: &[Vec<u32>],
    config: &GenerateConfig,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Generated>, LearnError> {
    let seed: [u8; 32] = rng.random();
    if config.max_new_tokens == 0 {
        return Ok(vec![Generated::default(); prompts.len()]);
    }
    // On a thread of the pool: from outside each of a step's few hundred products would wait for a pool thread to wake up.
    rayon::scope(|_| match &base.weights {
        Weights::Host(model) => answer_all(model, adapter, prompts, config, seed),
        #[cfg(feature = "cuda")]
        Weights::Cuda(model, _) => answer_all(model, adapter, prompts, config, seed),
    })
}

fn answer_all<B: Backend>(
    model: &Model<B>,
    adapter: Option<&Adapter>,
    prompts: &[Vec<u32>],
    config: &GenerateConfig,
    seed: [u8; 32],
) -> Result<Vec<Generated>, LearnError> {
    let adapters = resolve(model, adapter)?;
    let mut pool = Pool::new(model.on.clone());
    let mut answers = vec![Generated::default(); prompts.len()];
    let mut rows = Vec::with_capacity(prompts.len());
    for chunk in chunks(prompts) {
        let first = rows.len();
        rows.extend(chunk.clone().map(|i| start_row(model, config, i, &prompts[i], seed)));
        let last_hidden = prefill(model, &adapters, &mut rows[first..], &prompts[chunk], &mut pool)?;
        draw(model, config, &mut rows[first..], last_hidden, &mut answers, &mut pool)?;
    }
    loop {
        rows.retain(|row| goes_on(model, config, row, &answers[row.index]));
        if rows.is_empty() {
            return Ok(answers);
        }
        let tokens: Vec<[u32; 1]> = rows.iter().map(|row| [row.last]).collect();
        let mut caches: Vec<&mut KvCache<B>> = rows.iter_mut().map(|row| &mut row.cache).collect();
        let hidden = extend(model, &adapters, &mut caches, &Batch::pack(&tokens), &mut pool)?;
        draw(model, config, &mut rows, hidden, &mut answers, &mut pool)?;
    }
}

fn start_row<B: Backend>(
    model: &Model<B>,
    config: &GenerateConfig,
    index: usize,
    prompt: &[u32],
    seed: [u8; 32],
) -> Row<B> {
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_stream(index as u64);
    Row { index, cache: KvCache::new(&model.on, &model.config, prompt.len() + config.max_new_tokens), rng, last: 0 }
}

/// Ranges of prompts of at most [`PREFILL_TOKENS`] tokens together, at least one prompt each.
fn chunks(prompts: &[Vec<u32>]) -> Vec<std::ops::Range<usize>> {
    let (mut ranges, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (i, prompt) in prompts.iter().enumerate() {
        if i > start && tokens + prompt.len() > PREFILL_TOKENS {
            ranges.push(start..i);
            (start, tokens) = (i, 0);
        }
        tokens += prompt.len();
    }
    if start < prompts.len() {
        ranges.push(start..prompts.len());
    }
    ranges
}

/// The hidden state of each prompt's last token, `(rows, hidden)`.
fn prefill<B: Backend>(
    model: &Model<B>,
    adapters: &ModelAdapters<'_, B>,
    to: &mut [Row<B>],
    prompts: &[Vec<u32>],
    pool: &mut Pool<B>,
) -> Result<B::Buffer, LearnError> {
    if prompts.iter().any(Vec::is_empty) {
        return Err(LearnError::BadData { reason: "a prompt needs at least one token".into() });
    }
    let context = model.config.context;
    if let Some(found) = prompts.iter().map(Vec::len).find(|&n| n >= context) {
        return Err(LearnError::TooLong { found: found + 1, context }); // + 1: an answer needs room for a token
    }
    let batch = Batch::pack(prompts);
    let mut caches: Vec<&mut KvCache<B>> = to.iter_mut().map(|row| &mut row.cache).collect();
    let hidden = extend(model, adapters, &mut caches, &batch, pool)?;
    let ends: Vec<usize> = (0..batch.sequences()).map(|s| batch.range(s).end - 1).collect();
    let last = rows(model, &hidden, &ends, pool);
    pool.give(hidden);
    Ok(last)
}

/// Draws the next token of each row from its hidden state.
fn draw<B: Backend>(
    model: &Model<B>,
    config: &GenerateConfig,
    rows: &mut [Row<B>],
    hidden: B::Buffer,
    answers: &mut [Generated],
    pool: &mut Pool<B>,
) -> Result<(), LearnError> {
    let mut logits = logits(model, &hidden, pool);
    let mut scratch = Vec::new();
    let on_host = model.on.on_host(&mut logits, &mut scratch);
    model.on.check()?;
    let rngs: Vec<&mut ChaCha8Rng> = rows.iter_mut().map(|row| &mut row.rng).collect();
    let each = rngs.into_par_iter().zip(on_host.par_chunks_exact_mut(model.config.vocab));
    let drawn: Vec<Option<(u32, f32)>> =
        each.map(|(rng, logits)| sample(logits, config.temperature, config.top_p, rng)).collect();
    pool.give(logits);
    pool.give(hidden);
    for (row, drawn) in rows.iter_mut().zip(drawn) {
        let (token, logprob) =
            drawn.ok_or_else(|| LearnError::NonFinite { what: "the policy's output during generation".into() })?;
        let answer = &mut answers[row.index];
        answer.tokens.push(token);
        answer.logprobs.push(logprob);
        answer.ended = config.eos_ids.contains(&token);
        row.last = token;
    }
    Ok(())
}

fn goes_on<B: Backend>(model: &Model<B>, config: &GenerateConfig, row: &Row<B>, answer: &Generated) -> bool {
    !answer.ended && answer.tokens.len() < config.max_new_tokens && row.cache.len() < model.config.context
}
