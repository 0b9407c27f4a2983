//! Log-likelihoods of continuations under one policy, token for token as lm-evaluation-harness (0.4) computes them. The forward pass
//! and the tokenizer are used here and in suites that generate, nowhere else.

use crate::LearnError;
use crate::head;
use crate::lora::Adapter;
use crate::model::{Base, Batch, Keep, Workspace, forward};
use crate::train::data::{Sequence, tokenizer_error};
use crate::train::roles;
use hone_domain::Message;
use hone_text::ChatTokenizer;

/// Tokens of one forward pass, before what sequences share is taken out: bounds the memory, not the result.
const MICRO_BATCH_TOKENS: usize = 4096;

/// A context and what follows it, in tokens. The context is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// What is given.
    pub context: Vec<u32>,
    /// What is scored.
    pub continuation: Vec<u32>,
}

/// One policy, and what it takes to ask it.
pub struct Scorer<'a> {
    /// The frozen weights.
    pub base: &'a Base,
    /// The policy; `None` is the bare base.
    pub adapter: Option<&'a Adapter>,
    /// Its tokenizer and chat template.
    pub tokenizer: &'a ChatTokenizer,
    /// All randomness comes from it.
    pub seed: u64,
    ws: Workspace,
}

impl<'a> Scorer<'a> {
    /// Asks this policy.
    #[must_use]
    pub fn new(base: &'a Base, adapter: Option<&'a Adapter>, tokenizer: &'a ChatTokenizer, seed: u64) -> Self {
        Self { base, adapter, tokenizer, seed, ws: Workspace::new() }
    }

    /// Encodes as the harness does: spaces at the context's end go to the continuation; the continuation is what the whole text has beyond
    /// as many tokens as the context alone has; before a text without context stands the begin-of-text token.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn pair(&self, context: &str, continuation: &str) -> Result<Pair, LearnError> {
        let kept = context.trim_end();
        if kept.is_empty() {
            let opening = self.tokenizer.opening_id();
            let mut tokens = self.tokenizer.encode_text(continuation, false).map_err(tokenizer_error)?;
            if tokens.first() == Some(&opening) {
                tokens.remove(0);
            }
            return Ok(Pair { context: vec![opening], continuation: tokens });
        }
        let encode = |text: &str| self.tokenizer.encode_by_default(text).map_err(tokenizer_error);
        let whole = encode(&format!("{context}{continuation}"))?;
        let context = encode(kept)?;
        let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
        Ok(Pair { context, continuation })
    }

    /// An answer to messages, as in a chat, with the token that ends it. `None` where both together are longer than the model's context.
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub fn answer(&self, messages: &[Message], answer: &str) -> Result<Option<Pair>, LearnError> {
        let context = self.tokenizer.encode_prompt(messages).map_err(tokenizer_error)?;
        let continuation = self.tokenizer.encode_answer(answer).map_err(tokenizer_error)?;
        let fits = !context.is_empty() && context.len() + continuation.len() <= self.base.config().context;
        Ok(fits.then_some(Pair { context, continuation }))
    }

    /// log p(continuation | context) in nats, summed over its tokens.
    ///
    /// # Errors
    /// A token outside of the vocabulary, a failing device.
    pub fn log_likelihoods(&mut self, pairs: &[Pair]) -> Result<Vec<f64>, LearnError> {
        let mut all = vec![0.0; pairs.len()];
        let context = self.base.config().context;
        let (mut places, mut sequences) = (Vec::new(), Vec::new());
        for (i, pair) in pairs.iter().enumerate() {
            let sequence = Sequence::new(&pair.context, &pair.continuation);
            if sequence.tokens.len() <= context {
                places.push(i);
                sequences.push(sequence);
            } else {
                all[i] = self.cut(&sequence, context)?;
            }
        }
        let found = roles::logprobs(self.base, self.adapter, &sequences, 1.0, MICRO_BATCH_TOKENS, &mut self.ws)?;
        places.into_iter().zip(found).for_each(|(i, said)| all[i] = said.logprob.iter().sum());
        Ok(all)
    }

    /// What is longer than the context loses its beginning; the last token is only predicted, so there is room for one more.
    fn cut(&mut self, sequence: &Sequence, context: usize) -> Result<f64, LearnError> {
        let tokens = &sequence.tokens[sequence.tokens.len() - context - 1..];
        let scored = sequence.response_len().min(context);
        let hidden =
            forward(self.base, self.adapter, &Batch::pack(&[&tokens[..context]]), Keep::Nothing, &mut self.ws)?;
        let rows: Vec<usize> = (context - scored..context).collect();
        let said = head::selected_logprobs(self.base, &hidden, &rows, &tokens[context + 1 - scored..], 1.0);
        self.ws.give(hidden);
        Ok(said.logprob.iter().map(|&l| f64::from(l)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny::{self, TinySpec};

    #[test]
    fn a_shared_context_and_a_cut_one_give_the_plain_sum() {
        let home = tempfile::tempdir().expect("temp dir");
        tiny::write(home.path(), &TinySpec { context: 24, ..TinySpec::default() }).expect("a base");
        let (base, tokenizer) =
            (Base::open(home.path()).expect("opens"), ChatTokenizer::open(home.path()).expect("opens"));
        let mut scorer = Scorer::new(&base, None, &tokenizer, 0);
        let pairs = [
            scorer.pair("Q: one? ", "yes").expect("encodes"),
            scorer.pair("Q: one? ", "or no").expect("encodes"),
            scorer.pair("a context of many letters", " long").expect("encodes"),
            scorer.pair("", "alone").expect("encodes"),
        ];
        assert_eq!(tokenizer.decode(&pairs[0].continuation), " yes", "the space goes over");
        assert_eq!((pairs[3].context.as_slice(), pairs[3].continuation.len()), (&[1][..], 5));
        let found = scorer.log_likelihoods(&pairs).expect("scores");
        for (pair, found) in pairs.iter().zip(&found) {
            let all = [pair.context.as_slice(), &pair.continuation].concat();
            let kept = &all[all.len().saturating_sub(24 + 1)..];
            // One token less is what `logprobs` takes, so the last one is looked up in two steps.
            let (head, last) = (&kept[..kept.len().min(24)], kept.len() > 24);
            let mut each = crate::evaluate::logprobs(&base, None, head).expect("scores");
            if last {
                let hidden = forward(&base, None, &Batch::pack(&[head]), Keep::Nothing, &mut Workspace::new());
                let said =
                    head::selected_logprobs(&base, &hidden.expect("passes"), &[head.len() - 1], &kept[24..], 1.0);
                each.extend(said.logprob);
            }
            let expected: f64 = each[each.len() - pair.continuation.len()..].iter().map(|&l| f64::from(l)).sum();
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        assert!(scorer.answer(&[Message::user("x".repeat(30))], "y").expect("encodes").is_none());
    }
}
