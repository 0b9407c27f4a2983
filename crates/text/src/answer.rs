//! One answer while it is computed: draws each token from the logits, turns it into text, finds the functions it calls, watches for the end
//! (end token, stop text, length) and tells the reader. What an engine adds is the logits.

use crate::calls::Calls;
use crate::constraint::Constraint;
use crate::sampler::{Picked, Sampler};
use crate::{ChatTokenizer, StopFilter, TextError, TextStream};
use hone_domain::{
    EngineError, FinishReason, GenerateRequest, Sampling, StreamEvent, TokenEvent, ToolCallDelta, ToolChoice,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The engine's side of an answer. The channel to the reader is unbounded, and bounded in fact by `max_tokens`: a reader
/// that stalls never stalls the engine.
pub struct Answer {
    tokenizer: ChatTokenizer,
    sampler: Sampler,
    /// Where the answer must have a format.
    constraint: Option<Constraint>,
    text: TextStream,
    stops: StopFilter,
    /// Where functions may be called.
    calls: Option<Calls>,
    /// Whether the first call ends the answer.
    one_call: bool,
    events: UnboundedSender<StreamEvent>,
    prompt_tokens: usize,
    completion_tokens: usize,
    tokens_max: usize,
    ended: bool,
}

impl Answer {
    /// The tokens of a request's prompt, the answer to it in a context of `context_tokens`, and the reader's side.
    ///
    /// # Errors
    /// [`EngineError::BadRequest`] when the chat template refuses the messages, [`EngineError::BadTools`] when functions are offered to a
    /// model that calls none, or with arguments that a call can't be held to; else as [`Answer::new`].
    pub fn begin(
        tokenizer: &ChatTokenizer,
        request: &GenerateRequest,
        context_tokens: usize,
    ) -> Result<(Vec<u32>, Self, UnboundedReceiver<StreamEvent>), EngineError> {
        let GenerateRequest { messages, tools, sampling } = request;
        let refused = |e: TextError| EngineError::BadRequest(e.to_string());
        if request.is_text() {
            let prompt = tokenizer.encode_prompt(messages).map_err(refused)?;
            let (answer, reader) = Self::new(tokenizer, sampling, prompt.len(), context_tokens)?;
            return Ok((prompt, answer, reader));
        }
        let form = tokenizer.calls().ok_or_else(EngineError::no_tools)?;
        let offered = if tools.choice == Some(ToolChoice::None) { &[] } else { tools.offered.as_slice() };
        let prompt = tokenizer.encode_prompt_with_tools(messages, offered).map_err(refused)?;
        let (mut answer, reader) = Self::new(tokenizer, sampling, prompt.len(), context_tokens)?;
        if !offered.is_empty() {
            answer.calls = Some(Calls::new(form, tools));
            answer.one_call = tools.parallel == Some(false);
            if let Some(grammar) = form.grammar(tools, sampling.format.as_ref()) {
                let held_to = tokenizer.grammar(grammar).map_err(|e| EngineError::BadTools(e.to_string()))?;
                answer.constraint = Some(held_to);
            }
        }
        Ok((prompt, answer, reader))
    }

    /// An answer to a prompt of `prompt_tokens` tokens in a context of `context_tokens`, and the reader's side.
    ///
    /// # Errors
    /// [`EngineError::PromptTooLong`] when not one token of an answer fits in, [`EngineError::BadFormat`] when the answer can't be
    /// held to its format.
    pub fn new(
        tokenizer: &ChatTokenizer,
        sampling: &Sampling,
        prompt_tokens: usize,
        context_tokens: usize,
    ) -> Result<(Self, UnboundedReceiver<StreamEvent>), EngineError> {
        let room = context_tokens.saturating_sub(prompt_tokens);
        if room == 0 {
            return Err(EngineError::PromptTooLong { tokens: prompt_tokens, max: context_tokens });
        }
        let constraint = sampling.format.as_ref().map(|format| tokenizer.constraint(format)).transpose();
        let constraint = constraint.map_err(|e| EngineError::BadFormat(e.to_string()))?;
        let (events, reader) = unbounded_channel();
        let answer = Self {
            constraint,
            tokenizer: tokenizer.clone(),
            sampler: Sampler::new(sampling, tokenizer.vocab_size()),
            text: tokenizer.stream(),
            stops: StopFilter::new(&sampling.stop),
            calls: None,
            one_call: false,
            events,
            prompt_tokens,
            completion_tokens: 0,
            tokens_max: sampling.max_tokens.clamp(1, room),
            ended: false,
        };
        Ok((answer, reader))
    }

    /// Most tokens that this answer will have.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// Whether there is nothing more to compute: the answer ended, failed, or nobody reads it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended || self.events.is_closed()
    }

    /// Takes the logits of the next place. Answers the token to go on with, or `None` when the answer is over.
    ///
    /// # Shapes
    /// `logits` (vocabulary).
    pub fn next(&mut self, logits: &[f32]) -> Option<u32> {
        if self.is_over() {
            return None;
        }
        let allowed = self.constraint.as_mut().map(Constraint::allowed).transpose();
        let picked = allowed.map(|allowed| self.sampler.pick_among(logits, allowed.as_ref()));
        match picked {
            Ok(Some(picked)) => self.go_on(picked),
            Ok(None) => {
                self.fail(EngineError::Failed("the model computed no finite logits; its weights are damaged".into()));
                None
            }
            Err(e) => self.refuse(&e),
        }
    }

    fn go_on(&mut self, picked: Picked) -> Option<u32> {
        self.completion_tokens += 1;
        if self.tokenizer.eos_ids().contains(&picked.token) {
            self.stop();
            return None;
        }
        let token = picked.token;
        let complete = self.constraint.as_mut().map(|constraint| constraint.take(token)).transpose();
        let next = self.take(picked);
        match complete {
            Ok(Some(true)) => {
                self.stop();
                None
            }
            Ok(_) => next,
            Err(e) => self.refuse(&e),
        }
    }

    /// The format can't be followed any further.
    fn refuse(&mut self, error: &TextError) -> Option<u32> {
        self.fail(EngineError::BadFormat(error.to_string()));
        None
    }

    /// The model ended the answer. Does nothing when it is over already.
    pub fn stop(&mut self) {
        if self.ended {
            return;
        }
        let rest = self.rest();
        let (text, calls) = self.parted(rest, true);
        if !text.is_empty() {
            self.send(StreamEvent::Token(TokenEvent { text, logprob: None, top: Vec::new() }));
        }
        self.call(calls);
        self.done(FinishReason::Stop);
    }

    /// A token that isn't the end token.
    fn take(&mut self, picked: Picked) -> Option<u32> {
        let (mut text, stopped) = self.stops.push(&self.text.push(picked.token));
        let full = self.completion_tokens == self.tokens_max;
        if full && !stopped {
            text += &self.rest();
        }
        let (text, calls) = self.parted(text, stopped || full);
        let top = picked.top.into_iter().map(|(token, logprob)| (self.tokenizer.token_text(token), logprob)).collect();
        self.send(StreamEvent::Token(TokenEvent { text, logprob: picked.logprob, top }));
        let stopped = stopped || self.one_call && !calls.is_empty();
        self.call(calls);
        if stopped {
            self.done(FinishReason::Stop);
        } else if full {
            self.done(FinishReason::Length);
        }
        (!self.ended).then_some(picked.token)
    }

    /// The answer can't be finished. Does nothing when it is over already.
    pub fn fail(&mut self, error: EngineError) {
        if !self.ended {
            self.ended = true;
            self.send(StreamEvent::Failed(error));
        }
    }

    /// What was held back: half a character, or what might have become a stop text.
    fn rest(&mut self) -> String {
        let (mut text, stopped) = self.stops.push(&self.text.finish());
        if !stopped {
            text += &self.stops.finish();
        }
        text
    }

    /// New text, the `last` one or not, parted into what is to be shown and calls of functions.
    fn parted(&mut self, text: String, last: bool) -> (String, Vec<ToolCallDelta>) {
        match &mut self.calls {
            Some(calls) => calls.push(&text, last),
            None => (text, Vec::new()),
        }
    }

    fn call(&mut self, calls: Vec<ToolCallDelta>) {
        calls.into_iter().for_each(|call| self.send(StreamEvent::ToolCall(call)));
    }

    fn done(&mut self, finish: FinishReason) {
        self.ended = true;
        let called = self.calls.as_ref().is_some_and(|calls| calls.begun() > 0);
        let finish = if called && finish == FinishReason::Stop { FinishReason::ToolCalls } else { finish };
        let Self { prompt_tokens, completion_tokens, .. } = *self;
        self.send(StreamEvent::Done { finish, prompt_tokens, completion_tokens });
    }

    fn send(&mut self, event: StreamEvent) {
        // A reader that is gone cancels the answer: `is_over` sees it.
        let _gone = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Letters a..=d are tokens 0..=3, the end token is 4; 5 and 6 are the two halves of "é".
    fn tokenizer() -> ChatTokenizer {
        let dir = tempfile::tempdir().expect("a temp folder");
        let end = json!({"id": 4, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        let vocab = json!({"a": 0, "b": 1, "c": 2, "d": 3, "</s>": 4, "<0xC3>": 5, "<0xA9>": 6});
        let decoder = json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]});
        let file = json!({"version": "1.0", "added_tokens": [end], "decoder": decoder,
            "model": {"type": "BPE", "vocab": vocab, "merges": []}});
        std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).expect("written");
        let config = json!({"eos_token": "</s>"}).to_string();
        std::fs::write(dir.path().join("tokenizer_config.json"), config).expect("written");
        ChatTokenizer::open(dir.path()).expect("opens")
    }

    /// Feeds logits that leave no choice, in a context of 16 after a prompt of 10; answers the pieces and the end.
    fn run(tokens: &[u32], set: impl FnOnce(&mut Sampling)) -> (Vec<String>, Option<(FinishReason, usize)>) {
        let mut sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        set(&mut sampling);
        let (mut answer, mut reader) = Answer::new(&tokenizer(), &sampling, 10, 16).expect("fits");
        for &token in tokens {
            let mut logits = [0.0; 7];
            logits[token as usize] = 9.0;
            if answer.next(&logits).is_none() {
                assert!(answer.is_over());
                break;
            }
        }
        let (mut pieces, mut end) = (Vec::new(), None);
        while let Ok(event) = reader.try_recv() {
            assert_eq!(end, None, "nothing comes after the end");
            match event {
                StreamEvent::Token(token) => pieces.push(token.text),
                StreamEvent::Done { finish, prompt_tokens, completion_tokens } => {
                    assert_eq!(prompt_tokens, 10);
                    end = Some((finish, completion_tokens));
                }
                other => panic!("{other:?}"),
            }
        }
        (pieces, end)
    }

    #[test]
    fn ends_at_the_end_token_a_stop_text_the_limit_and_the_context() {
        let (pieces, end) = run(&[0, 1, 4, 2], |_| {});
        assert_eq!((pieces.concat().as_str(), end), ("ab", Some((FinishReason::Stop, 3))));
        let (pieces, end) = run(&[0, 1, 2, 3], |s| s.stop = vec!["bc".into()]);
        assert_eq!((pieces.concat().as_str(), end), ("a", Some((FinishReason::Stop, 3))));
        let (pieces, end) = run(&[0, 1, 2, 3], |s| s.max_tokens = 2);
        assert_eq!((pieces.concat().as_str(), end), ("ab", Some((FinishReason::Length, 2))));
        let (pieces, end) = run(&[0; 9], |_| {});
        assert_eq!((pieces.len(), end), (6, Some((FinishReason::Length, 6))), "10 + 6 is the context");
    }

    #[test]
    fn what_is_held_back_comes_when_the_answer_ends() {
        let (pieces, _) = run(&[0, 1, 4], |s| s.stop = vec!["bc".into()]);
        assert_eq!(pieces, ["a", "", "b"], "b might have been the start of a stop text");
        let (pieces, _) = run(&[0, 1], |s| {
            s.stop = vec!["bc".into()];
            s.max_tokens = 2;
        });
        assert_eq!(pieces, ["a", "b"]);
        let (pieces, _) = run(&[5, 6, 4], |_| {});
        assert_eq!(pieces, ["", "é"]);
        let (pieces, _) = run(&[0, 5, 4], |_| {});
        assert_eq!(pieces.concat(), "a\u{FFFD}");
    }

    #[test]
    fn likely_tokens_are_reported_where_asked_for() {
        let sampling = Sampling { temperature: 0.0, logprobs: Some(2), ..Sampling::default() };
        let (mut answer, mut reader) = Answer::new(&tokenizer(), &sampling, 1, 9).expect("fits");
        assert_eq!(answer.next(&[2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), Some(0));
        let Ok(StreamEvent::Token(token)) = reader.try_recv() else { panic!("a token was sent") };
        // ln(e^2 / (e^2 + e + 5))
        assert!((token.logprob.expect("asked for") + 0.715_02).abs() < 1e-3, "{token:?}");
        assert_eq!(token.top.iter().map(|(t, _)| t.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_reader_that_leaves_cancels_and_broken_logits_fail() {
        let (mut answer, reader) = Answer::new(&tokenizer(), &Sampling::default(), 1, 9).expect("fits");
        drop(reader);
        assert!(answer.is_over());
        assert_eq!(answer.next(&[0.0; 7]), None);
        let (mut answer, mut reader) = Answer::new(&tokenizer(), &Sampling::default(), 1, 9).expect("fits");
        assert_eq!(answer.next(&[f32::NAN; 7]), None);
        assert!(matches!(reader.try_recv(), Ok(StreamEvent::Failed(EngineError::Failed(_)))));
        let full = Answer::new(&tokenizer(), &Sampling::default(), 9, 9).err();
        assert_eq!(full, Some(EngineError::PromptTooLong { tokens: 9, max: 9 }));
    }
}
