//! `ChatTokenizer`: a model folder's tokenizer and chat template as one thing.

use crate::TextError;
use crate::calls::{CallForm, for_template};
use crate::constraint::{Constraint, Grammars};
use crate::folder::Folder;
use crate::stream::TextStream;
use crate::template::{ChatTemplate, plain_template};
use hone_domain::{AnswerFormat, Message};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokenizers::Tokenizer;

/// Turns messages into the tokens that the model was trained on, and tokens back into text. Cheap to clone.
#[derive(Clone)]
pub struct ChatTokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    /// Reads special tokens where their text stands.
    tokenizer: Tokenizer,
    /// The same, taking the text of a special token as plain text: what a person typed never becomes one.
    literal: Tokenizer,
    template: ChatTemplate,
    /// The plain template, if the folder brings none.
    plain: Option<String>,
    /// Texts of the special tokens, longest first.
    special_texts: Vec<String>,
    /// Counted once: the tokenizer copies its whole vocabulary for it, ten milliseconds of a model with 49,000 tokens.
    vocab_size: usize,
    bos: Option<u32>,
    pad: Option<u32>,
    /// What stands before a text without a context.
    opening: Option<u32>,
    /// The end-of-turn token first, then every other id that ends an answer.
    eos: Vec<u32>,
    /// What formats are compiled with, from the first answer on that has one.
    grammars: OnceLock<Grammars>,
}

/// Stands for a special token's text that a person typed, while the template is rendered. Private-use characters.
const MARKS: [char; 2] = ['\u{F5A51}', '\u{F5A52}'];
const TOKEN_NAMES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

impl ChatTokenizer {
    /// Reads a model folder. A model without a chat template gets [`plain_template`].
    ///
    /// # Errors
    /// When `tokenizer.json` is missing, a file is broken, or no end-of-text token is named anywhere.
    pub fn open(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        if !path.is_file() {
            return Err(TextError::Missing(path));
        }
        let mut tokenizer =
            Tokenizer::from_file(&path).map_err(|e| TextError::Parse { path: path.clone(), reason: e.to_string() })?;
        let _ = tokenizer.with_truncation(None).map_err(|e| TextError::Encode(e.to_string()))?;
        tokenizer.with_padding(None);
        Self::new(tokenizer, &Folder::read(dir)?)
    }

    fn new(tokenizer: Tokenizer, folder: &Folder) -> Result<Self, TextError> {
        let id = |name: &str| folder.token(name).and_then(|text| tokenizer.token_to_id(text));
        let named =
            |name: &str, key: &str| if folder.names(name) { id(name) } else { folder.ids(key).first().copied() };
        let bos = named("bos_token", "bos_token_id");
        let pad = named("pad_token", "pad_token_id");
        let opening = bos.or(id("eos_token"));
        let mut eos: Vec<u32> = id("eos_token").into_iter().chain(folder.ids("eos_token_id")).collect();

        let mut tokens: BTreeMap<&str, String> =
            TOKEN_NAMES.into_iter().filter_map(|n| Some((n, folder.token(n)?.to_owned()))).collect();
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id)).unwrap_or_default();
        tokens.entry("bos_token").or_insert_with(|| text(bos));
        tokens.entry("eos_token").or_insert_with(|| text(eos.first().copied()));

        let own = folder.chat_template();
        let plain = own.is_none().then(|| plain_template(sets_bos(&tokenizer, bos)));
        let template = ChatTemplate::new(own.or(plain.as_deref()).unwrap_or_default(), tokens)?;
        if let Some(id) = end_of_turn(&tokenizer, &template)? {
            eos.insert(0, id);
        }
        let mut seen = std::collections::BTreeSet::new();
        eos.retain(|id| seen.insert(*id));
        if eos.is_empty() {
            return Err(TextError::NoEos(folder.dir().to_owned()));
        }
        let mut special_texts: Vec<String> =
            tokenizer.get_added_tokens_decoder().into_values().filter(|t| t.special).map(|t| t.content).collect();
        special_texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let mut literal = tokenizer.clone();
        literal.set_encode_special_tokens(true);
        let (vocab_size, grammars) = (tokenizer.get_vocab_size(true), OnceLock::new());
        let inner =
            Inner { tokenizer, literal, template, plain, special_texts, vocab_size, bos, pad, opening, eos, grammars };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The messages through the model's chat template, up to where the answer starts. Special tokens come from the
    /// template only: their text in a message stays text, so that no message can pretend to be another turn.
    ///
    /// # Errors
    /// When the template refuses the messages (many want strictly alternating roles).
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, TextError> {
        let inner = &*self.inner;
        let is_special = |m: &Message| inner.special_texts.iter().any(|text| m.content.contains(text.as_str()));
        if !messages.iter().any(is_special) {
            return encode(&inner.tokenizer, &inner.template.render(messages, true)?);
        }
        let marked = messages.iter().map(|m| Message { content: self.marked(&m.content), ..m.clone() });
        self.encode_marked(&inner.template.render(&marked.collect::<Vec<_>>(), true)?)
    }

    /// The same with functions that may be called, and messages that may call them or be what they returned.
    ///
    /// # Errors
    /// As [`Self::encode_prompt`].
    pub(crate) fn encode_prompt_with_tools(
        &self,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<Vec<u32>, TextError> {
        let marked = |values: Vec<Value>| values.into_iter().map(|value| self.marked_json(value)).collect::<Vec<_>>();
        let (messages, tools) = (marked(for_template(messages)), marked(tools.to_vec()));
        let tools = (!tools.is_empty()).then_some(tools.as_slice());
        self.encode_marked(&self.inner.template.render_with_tools(&messages, tools, true)?)
    }

    /// How the model writes calls of functions, where it may be offered any.
    pub(crate) fn calls(&self) -> Option<CallForm> {
        // A tag that is a special token never shows in an answer's text.
        let shows = |form: &CallForm| !self.inner.special_texts.iter().any(|text| form.is_tag(text));
        self.inner.template.calls().filter(shows)
    }

    /// A rendered prompt in which special tokens' texts are marked that the template didn't set.
    fn encode_marked(&self, prompt: &str) -> Result<Vec<u32>, TextError> {
        let inner = &*self.inner;
        let mut tokens = Vec::new();
        for piece in prompt.split(MARKS[0]) {
            let (literal, rest) = match piece.split_once(MARKS[1]) {
                Some((index, rest)) => (index.parse().ok().and_then(|i: usize| inner.special_texts.get(i)), rest),
                None => (None, piece),
            };
            if let Some(text) = literal {
                tokens.extend(encode(&inner.literal, text)?);
            }
            tokens.extend(encode(&inner.tokenizer, rest)?);
        }
        Ok(tokens)
    }

    /// An answer's tokens, ending with [`Self::eos_id`]. Special tokens in the text stay text.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_answer(&self, answer: &str) -> Result<Vec<u32>, TextError> {
        let mut tokens = encode(&self.inner.literal, answer)?;
        tokens.push(self.eos_id());
        Ok(tokens)
    }

    /// Plain text, for perplexities and benchmark sentences; with `add_bos` it opens with the begin-of-text token of
    /// models that have one. Special tokens in the text are read as such.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_text(&self, text: &str, add_bos: bool) -> Result<Vec<u32>, TextError> {
        let mut tokens: Vec<u32> = self.inner.bos.filter(|_| add_bos).into_iter().collect();
        tokens.extend(encode(&self.inner.tokenizer, text)?);
        Ok(tokens)
    }

    /// Plain text with the special tokens that the tokenizer sets by itself, such as begin-of-text, and those that it reads in the text:
    /// what `transformers` makes of a text, and lm-evaluation-harness with it.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_by_default(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.inner.tokenizer.encode_fast(text, true).map_err(|e| TextError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens to text, special tokens left out. Ids that the tokenizer doesn't know are left out too.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.inner.tokenizer.decode(tokens, true).unwrap_or_default()
    }

    /// The text of one token as it stands in the vocabulary's text form, for lists of likely tokens.
    #[must_use]
    pub fn token_text(&self, token: u32) -> String {
        self.inner.tokenizer.decode(&[token], false).unwrap_or_default()
    }

    /// The source of the plain template, if the folder brings no template of its own: an importer writes it into the
    /// folder, so that every other reader of it sees the same.
    #[must_use]
    pub fn plain_template(&self) -> Option<&str> {
        self.inner.plain.as_deref()
    }

    /// The token that ends an answer: the one that the chat template sets after each.
    #[must_use]
    pub fn eos_id(&self) -> u32 {
        self.inner.eos[0]
    }

    /// Every token that ends an answer; [`Self::eos_id`] is the first.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.inner.eos
    }

    /// The begin-of-text token, of models that have one.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.inner.bos
    }

    /// What stands before a text that has no context, so that its first token has a probability: begin-of-text, or end-of-text of models
    /// without one.
    #[must_use]
    pub fn opening_id(&self) -> u32 {
        self.inner.opening.unwrap_or_else(|| self.eos_id())
    }

    /// The padding token, of models that have one.
    #[must_use]
    pub fn pad_id(&self) -> Option<u32> {
        self.inner.pad
    }

    /// Number of tokens, special ones included. A model's embedding may have more rows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// A decoder for one answer that comes token by token.
    #[must_use]
    pub fn stream(&self) -> TextStream {
        TextStream::new(self.clone())
    }

    /// What holds one answer to a format.
    ///
    /// # Errors
    /// When the format makes no sense, or this vocabulary can't be held to any.
    pub(crate) fn constraint(&self, format: &AnswerFormat) -> Result<Constraint, TextError> {
        self.grammars()?.constraint(format)
    }

    /// What holds one answer to a grammar.
    ///
    /// # Errors
    /// As [`Self::constraint`].
    pub(crate) fn grammar(&self, lark: String) -> Result<Constraint, TextError> {
        self.grammars()?.of_grammar(lark)
    }

    fn grammars(&self) -> Result<&Grammars, TextError> {
        Ok(match self.inner.grammars.get() {
            Some(grammars) => grammars,
            None => {
                let made = Grammars::new(&self.inner.tokenizer, &self.inner.eos)?;
                self.inner.grammars.get_or_init(|| made)
            }
        })
    }

    /// The text with each special token's text replaced by its marked number.
    fn marked(&self, text: &str) -> String {
        let mut text = text.replace(MARKS, "\u{FFFD}");
        for (i, special) in self.inner.special_texts.iter().enumerate() {
            text = text.replace(special.as_str(), &format!("{}{i}{}", MARKS[0], MARKS[1]));
        }
        text
    }

    /// The same of every text in it.
    fn marked_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.marked(&text)),
            Value::Array(values) => values.into_iter().map(|value| self.marked_json(value)).collect(),
            Value::Object(map) => {
                map.into_iter().map(|(key, value)| (self.marked(&key), self.marked_json(value))).collect()
            }
            other => other,
        }
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TextError> {
    let encoding = tokenizer.encode_fast(text, false).map_err(|e| TextError::Encode(e.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

/// Whether the tokenizer opens every text with the begin-of-text token by itself.
fn sets_bos(tokenizer: &Tokenizer, bos: Option<u32>) -> bool {
    let empty = tokenizer.encode_fast("", true).ok();
    bos.is_some() && empty.and_then(|e| e.get_ids().first().copied()) == bos
}

/// The special token that the template sets after an answer, such as `<|im_end|>`. A template that refuses the probe,
/// or sets no special token there, has none; then the folder's end-of-text token ends answers.
fn end_of_turn(tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<Option<u32>, TextError> {
    const PROBE: &str = "hone-probe-7f3a";
    let messages = [Message::user("x"), Message::assistant(PROBE)];
    let Ok(text) = template.render(&messages, false) else { return Ok(None) };
    let Some((_, after)) = text.rsplit_once(PROBE) else { return Ok(None) };
    let special = tokenizer.get_added_tokens_decoder();
    Ok(encode(tokenizer, after)?.into_iter().find(|id| special.get(id).is_some_and(|token| token.special)))
}

#[cfg(test)]
mod tests;
