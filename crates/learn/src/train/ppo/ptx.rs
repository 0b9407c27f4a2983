//! PPO-ptx (Ouyang et al. 2022, section 3.5, equation 2): the log-likelihood of other text is maximised beside the reward, so that the
//! policy doesn't lose what it knew. The text is the data set's demonstrations, a file of the user's, or both.

use super::roles::Learner;
use super::update::finite;
use crate::checkpoint::sha256;
use crate::model::{Base, Workspace, backward, forward};
use crate::train::data::{Encoder, Limits, Sequence, draw, micro_batches};
use crate::train::packed::{Packed, response_tokens};
use crate::train::{Context, PpoConfig, keep};
use crate::{LearnError, head, losses};
use hone_domain::Demonstration;
use serde::Deserialize;
use std::path::Path;

/// The text, cut into examples. What counts of one is everything behind its prompt.
pub(super) struct Ptx {
    examples: Vec<Sequence>,
    /// Hash of the user's file; a run that goes on with another is another run.
    pub(super) sha256: String,
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

impl Ptx {
    /// Reads and tokenises the text; `None` where `ptx_coef` is 0.
    pub(super) fn load(
        config: &PpoConfig,
        demonstrations: &[Demonstration],
        ctx: &Context<'_>,
    ) -> Result<Option<Self>, LearnError> {
        if config.ptx_coef == 0.0 {
            return Ok(None);
        }
        let mut it = Self { examples: Vec::new(), sha256: "none".to_owned() };
        if config.ptx_demonstrations {
            it.examples = demonstration_examples(config, demonstrations, ctx)?;
        }
        if let Some(path) = &config.ptx_text {
            let bytes = std::fs::read(path).map_err(LearnError::io(path))?;
            it.sha256 = sha256(&bytes);
            let text = String::from_utf8(bytes).map_err(|_| bad(path, "it is not UTF-8 text"))?;
            for document in documents(path, text)? {
                it.examples.extend(text_examples(config, &document, ctx)?);
            }
        }
        if it.examples.is_empty() {
            let reason = "`ptx_coef` is above 0, but there is no text: name a file in `ptx_text`, write demonstrations, or set it to 0";
            return Err(LearnError::BadData { reason: reason.into() });
        }
        Ok(Some(it))
    }

    /// The next examples for a minibatch of so many episodes, pass after pass over all of them; `cursor` moves on.
    pub(super) fn draw(&self, config: &PpoConfig, episodes: usize, seed: u64, cursor: &mut usize) -> Vec<&Sequence> {
        let count = (config.ptx_examples_ratio * episodes as f64).round().max(1.0) as usize;
        draw(self.examples.len(), seed, cursor, count).into_iter().map(|i| &self.examples[i]).collect()
    }
}

fn bad(path: &Path, what: &str) -> LearnError {
    LearnError::BadData { reason: format!("`ptx_text` {}: {what}", path.display()) }
}

/// The texts of a file: one per line of `.jsonl`, else the whole.
fn documents(path: &Path, text: String) -> Result<Vec<String>, LearnError> {
    if path.extension().is_none_or(|e| e != "jsonl") {
        return Ok(vec![text]);
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(i, line): (usize, &str)| {
        let parsed = serde_json::from_str::<Line>(line).map(|line| line.text);
        parsed.map_err(|e| bad(path, &format!("line {}: {e}; each line must be {{\"text\": ...}}", i + 1)))
    };
    lines.map(parse).collect()
}

fn limits(config: &PpoConfig, ctx: &Context<'_>) -> Limits {
    let context = ctx.base.config().context;
    Limits { prompt_tokens: config.prompt_tokens_max, answer_tokens: config.ptx_chunk_tokens, context }
}

/// Each demonstration's answer, given its prompt.
fn demonstration_examples(
    config: &PpoConfig,
    demonstrations: &[Demonstration],
    ctx: &Context<'_>,
) -> Result<Vec<Sequence>, LearnError> {
    let mut encoder = Encoder::new(ctx.tokenizer, limits(config, ctx));
    let mut examples = Vec::new();
    for d in demonstrations {
        if let Some(prompt) = encoder.prompt(&d.messages)? {
            examples.push(encoder.answer(&prompt, &d.ideal, false)?);
        }
    }
    Ok(examples)
}

/// A text in chunks of tokens; of each the first token is given and the others count.
fn text_examples(config: &PpoConfig, text: &str, ctx: &Context<'_>) -> Result<Vec<Sequence>, LearnError> {
    let tokens = ctx.tokenizer.encode_text(text, true).map_err(|e| LearnError::Tokenizer { reason: e.to_string() })?;
    let size = config.ptx_chunk_tokens.clamp(2, ctx.base.config().context);
    let chunks = tokens.chunks(size).filter(|chunk| chunk.len() > 1);
    Ok(chunks.map(|chunk| Sequence::new(&chunk[..1], &chunk[1..])).collect())
}

/// Adds the gradient of `ptx_coef` times the mean cross-entropy of the examples' tokens, at temperature 1; answers that mean, in nats.
pub(super) fn add_gradient(
    base: &Base,
    policy: &mut Learner,
    examples: &[&Sequence],
    config: &PpoConfig,
    ws: &mut Workspace,
) -> Result<f64, LearnError> {
    let sizes: Vec<usize> = examples.iter().map(|s| s.tokens.len()).collect();
    let everyone: Vec<usize> = (0..examples.len()).collect();
    let tokens = examples.iter().map(|s| s.response_len()).sum::<usize>() as f64;
    let mut mean = 0.0;
    for micro in micro_batches(&everyone, &sizes, config.micro_batch_tokens) {
        let members: Vec<&Sequence> = micro.iter().map(|&i| examples[i]).collect();
        let packed = Packed::new(&members);
        let (rows, targets) = (packed.response_rows(), response_tokens(&members));
        let hidden = forward(base, Some(&policy.adapter), &packed.batch, keep(config.recompute), ws)?;
        let (said, slope) = head::selected_logprobs_with_slope(base, &hidden, &rows, &targets, 1.0);
        let logprobs: Vec<f64> = said.logprob.iter().map(|&x| f64::from(x)).collect();
        let loss = losses::cross_entropy(&logprobs, tokens);
        let d_logprob: Vec<f32> = loss.grad.iter().map(|&g| (config.ptx_coef * g) as f32).collect();
        let mut d_hidden = vec![0.0; hidden.len()];
        head::add_slope(&slope, &rows, &d_logprob, &mut d_hidden);
        ws.give(hidden);
        backward(base, &policy.adapter, &packed.batch, ws, &d_hidden, &mut policy.grads)?;
        mean += loss.value;
    }
    finite("loss of the text (ptx)", mean)?;
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_text_or_one_per_line() {
        let of = |name: &str, text: &str| documents(Path::new(name), text.to_owned());
        assert_eq!(of("a.txt", "{\"text\": 1}\nb").expect("plain"), ["{\"text\": 1}\nb"]);
        assert_eq!(of("a.jsonl", "{\"text\": \"x\", \"id\": 3}\n\n{\"text\": \"y\"}\n").expect("lines"), ["x", "y"]);
        let wrong = of("a.jsonl", "{\"text\": \"x\"}\n{\"txt\": \"y\"}").expect_err("a typo").to_string();
        assert!(wrong.contains("line 2") && wrong.contains("ptx_text"), "{wrong}");
    }
}
