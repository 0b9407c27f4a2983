//! From text to token sequences that fit, and from sequences to micro-batches. What doesn't fit is left out or cut, and counted:
//! one over-long prompt must not end a run.

use crate::LearnError;
use hone_domain::Message;
use hone_text::{ChatTokenizer, TextError};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A prompt followed by its response, in tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// Prompt, then response.
    pub(crate) tokens: Vec<u32>,
    /// How many of them are the prompt. At least 1, so that the first response token has a state that predicts it.
    pub(crate) prompt_len: usize,
    /// What the blocks that no adapter touches make of it, computed once for all roles and epochs. Not written down: it can be computed.
    #[serde(skip)]
    pub(crate) trunk: Option<Arc<Trunk>>,
}

/// What goes into a block, for a sequence and perhaps what follows it.
#[derive(Debug, PartialEq)]
pub(crate) struct Trunk {
    /// The block.
    pub(crate) block: usize,
    /// Width of a row.
    pub(crate) hidden: usize,
    /// `(tokens or more, hidden)`.
    pub(crate) rows: Vec<f32>,
}

impl AsRef<[u32]> for Sequence {
    fn as_ref(&self) -> &[u32] {
        &self.tokens
    }
}

impl Sequence {
    pub(crate) fn new(prompt: &[u32], response: &[u32]) -> Self {
        Self { tokens: [prompt, response].concat(), prompt_len: prompt.len(), trunk: None }
    }

    pub(crate) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt_len]
    }

    pub(crate) fn response_len(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }
}

/// Most tokens of a prompt and of an answer; together they are within the model's context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) prompt_tokens: usize,
    pub(crate) answer_tokens: usize,
    pub(crate) context: usize,
}

/// What didn't fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Misfits {
    /// Prompts left out.
    pub(crate) skipped: usize,
    /// Answers cut.
    pub(crate) truncated: usize,
}

impl Misfits {
    pub(crate) fn add(&mut self, other: Self) {
        self.skipped += other.skipped;
        self.truncated += other.truncated;
    }

    /// Warns once, and gives the counts as metrics.
    pub(crate) fn report(self) -> BTreeMap<String, f64> {
        let Self { skipped, truncated } = self;
        if skipped + truncated > 0 {
            tracing::warn!(
                skipped,
                truncated,
                "{skipped} prompts were too long and left out, {truncated} answers were cut"
            );
        }
        [("data/skipped".to_owned(), skipped as f64), ("data/truncated".to_owned(), truncated as f64)].into()
    }
}

/// Tokenises within limits.
pub(crate) struct Encoder<'a> {
    tokenizer: &'a ChatTokenizer,
    limits: Limits,
    /// What didn't fit so far.
    pub(crate) misfits: Misfits,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(tokenizer: &'a ChatTokenizer, limits: Limits) -> Self {
        Self { tokenizer, limits, misfits: Misfits::default() }
    }

    /// The prompt's tokens; `None` where it is too long (and counted) or has none.
    pub(crate) fn prompt(&mut self, messages: &[Message]) -> Result<Option<Vec<u32>>, LearnError> {
        let tokens = self.tokenizer.encode_prompt(messages).map_err(tokenizer_error)?;
        let fits = tokens.len() <= self.limits.prompt_tokens && tokens.len() + 2 <= self.limits.context;
        if fits && !tokens.is_empty() {
            return Ok(Some(tokens));
        }
        self.misfits.skipped += 1;
        Ok(None)
    }

    /// Prompt and answer. A long answer is cut; it then ends with the end token only if `keep_end`: the reward model reads its
    /// score there, while SFT must not teach to stop in the middle.
    pub(crate) fn answer(&mut self, prompt: &[u32], answer: &str, keep_end: bool) -> Result<Sequence, LearnError> {
        let mut tokens = self.tokenizer.encode_answer(answer).map_err(tokenizer_error)?;
        let most = self.limits.answer_tokens.min(self.limits.context - prompt.len());
        if tokens.len() > most {
            self.misfits.truncated += 1;
            tokens.truncate(most);
            if let (true, Some(last)) = (keep_end, tokens.last_mut()) {
                *last = self.tokenizer.eos_id();
            }
        }
        Ok(Sequence::new(prompt, &tokens))
    }
}

pub(crate) fn tokenizer_error(e: TextError) -> LearnError {
    LearnError::Tokenizer { reason: e.to_string() }
}

/// Splits `members`, in their order, into groups of at most `budget` in `sizes` each; a member above the budget is a group alone.
/// Packed batches have no padding, so nothing is gained by sorting by length, and answers to one prompt stay together.
pub(crate) fn micro_batches(members: &[usize], sizes: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut used = 0;
    for &i in members {
        match groups.last_mut() {
            Some(group) if used + sizes[i] <= budget => group.push(i),
            _ => {
                groups.push(vec![i]);
                used = 0;
            }
        }
        used += sizes[i];
    }
    groups
}

/// A permutation of 0..n that is a function of seed and epoch alone: the data cursor of a resumed run is its step number.
pub(crate) fn epoch_order(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 + epoch as u64); // stream 0 initialises weights
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut rng);
    order
}

/// The next `count` of `n` things: pass after pass over all of them, each in its own seeded order. `cursor` counts what was drawn.
pub(crate) fn draw(n: usize, seed: u64, cursor: &mut usize, count: usize) -> Vec<usize> {
    let mut order = (usize::MAX, Vec::new());
    let mut drawn = Vec::with_capacity(count);
    for at in *cursor..*cursor + count {
        if order.0 != at / n {
            order = (at / n, epoch_order(n, seed, at / n));
        }
        drawn.push(order.1[at % n]);
    }
    *cursor += count;
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_hold_each_member_once_within_the_budget() {
        let sizes = [3, 9, 4, 1, 12, 5];
        let groups = micro_batches(&[0, 1, 2, 3, 4, 5], &sizes, 10);
        assert_eq!(groups, [vec![0], vec![1], vec![2, 3], vec![4], vec![5]]);
        assert!(micro_batches(&[], &sizes, 10).is_empty());
    }

    #[test]
    fn drawing_goes_on_where_it_stopped_and_misses_nobody() {
        let (mut whole, mut parts) = (0, 0);
        let all = draw(7, 3, &mut whole, 16);
        assert_eq!([draw(7, 3, &mut parts, 5), draw(7, 3, &mut parts, 11)].concat(), all);
        assert_eq!((whole, parts), (16, 16));
        let mut pass = all[7..14].to_vec();
        pass.sort_unstable();
        assert_eq!(pass, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn orders_repeat_with_the_seed_and_differ_between_epochs() {
        assert_eq!(epoch_order(20, 7, 0), epoch_order(20, 7, 0));
        assert_ne!(epoch_order(20, 7, 0), epoch_order(20, 7, 1));
        assert_ne!(epoch_order(20, 7, 0), epoch_order(20, 8, 0));
        let mut sorted = epoch_order(20, 7, 3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
