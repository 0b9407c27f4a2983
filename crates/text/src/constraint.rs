//! Answers that must be JSON, JSON of a schema, or calls of functions: which tokens may come next (llguidance's grammars over the model's own vocabulary).
//! May use: llguidance, toktrie. Knows nothing of logits; the sampler asks it.

use crate::TextError;
use hone_domain::AnswerFormat;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory, token_bytes_from_tokenizer_json};
use serde_json::{Value, json};
use std::sync::Arc;
use tokenizers::Tokenizer;
use toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};

/// Compiles formats for one vocabulary. Made once per tokenizer (a tenth of a second, a few megabytes), when the first answer needs it.
pub(crate) struct Grammars(ParserFactory);

/// The text of one answer, as far as its format has been followed.
pub(crate) struct Constraint(Matcher);

/// The tokens that may come next.
pub(crate) struct Allowed(SimpleVob);

impl Grammars {
    /// Over a tokenizer's vocabulary; `eos` are the tokens that end an answer, at least one.
    ///
    /// # Errors
    /// When its tokens aren't made of bytes in a way that is known.
    pub(crate) fn new(tokenizer: &Tokenizer, eos: &[u32]) -> Result<Self, TextError> {
        let failed = |e: &dyn std::fmt::Display| TextError::Format(format!("this model's tokenizer allows none ({e})"));
        let file = tokenizer.to_string(false).map_err(|e| failed(&e))?;
        let file: Value = serde_json::from_str(&file).map_err(|e| failed(&e))?;
        let tokens = token_bytes_from_tokenizer_json(&file).map_err(|e| failed(&e))?;
        let count = u32::try_from(tokens.len()).map_err(|e| failed(&e))?;
        let eos: Vec<u32> = eos.iter().copied().filter(|&id| id < count).collect();
        let first = eos.first().ok_or_else(|| failed(&"no token ends an answer"))?;
        let trie = TokTrie::from(&TokRxInfo::new(count, *first), &tokens).with_eos_tokens(&eos);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| failed(&e))?;
        // What it says goes to the client, not to the server's standard error; the client knows its own schema.
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Self(factory))
    }

    /// An answer of this format, at its beginning.
    ///
    /// # Errors
    /// When the schema is none, asks for what can't be checked while writing, or is too large.
    pub(crate) fn constraint(&self, format: &AnswerFormat) -> Result<Constraint, TextError> {
        self.begin(TopLevelGrammar::from_json_schema(schema(format)))
    }

    /// An answer of this grammar in llguidance's Lark, at its beginning.
    ///
    /// # Errors
    /// As [`Grammars::constraint`], of the schemas in it.
    pub(crate) fn of_grammar(&self, lark: String) -> Result<Constraint, TextError> {
        self.begin(TopLevelGrammar::from_lark(lark))
    }

    fn begin(&self, grammar: TopLevelGrammar) -> Result<Constraint, TextError> {
        let matcher = Matcher::new(self.0.create_parser(grammar));
        match matcher.get_error() {
            Some(why) => Err(TextError::Format(why)),
            None => Ok(Constraint(matcher)),
        }
    }
}

/// A format's schema with one way to put spaces, the one of Python's `json.dumps`, which models saw most: left free, a model that likes
/// spaces writes nothing else.
pub(crate) fn schema(format: &AnswerFormat) -> Value {
    let mut schema = match format {
        AnswerFormat::JsonObject => json!({"type": "object"}),
        AnswerFormat::JsonSchema(schema) => schema.clone(),
    };
    if let Some(schema) = schema.as_object_mut() {
        let spaces = json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false});
        schema.insert("x-guidance".into(), spaces);
    }
    schema
}

impl Constraint {
    /// What may come next.
    ///
    /// # Errors
    /// When following the schema takes more work than a token may.
    pub(crate) fn allowed(&mut self) -> Result<Allowed, TextError> {
        self.0.compute_mask().map(Allowed).map_err(|e| TextError::Format(e.to_string()))
    }

    /// Goes on by an allowed token. Answers whether the text is complete: nothing more may come.
    ///
    /// # Errors
    /// As [`Constraint::allowed`].
    pub(crate) fn take(&mut self, token: u32) -> Result<bool, TextError> {
        self.0.consume_token(token).map_err(|e| TextError::Format(e.to_string()))?;
        Ok(self.0.is_stopped())
    }
}

impl Allowed {
    /// Whether this token may come next.
    pub(crate) fn has(&self, token: usize) -> bool {
        token < self.0.len() && self.0.get(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A vocabulary of single bytes (as `<0x..>` tokens) and an end token, 256.
    fn grammars() -> Grammars {
        let vocab: serde_json::Map<String, Value> = (0..256)
            .map(|byte| (format!("<0x{byte:02X}>"), json!(byte)))
            .chain([("</s>".into(), json!(256))])
            .collect();
        let end = json!({"id": 256, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        let decoder = json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]});
        let file = json!({"version": "1.0", "added_tokens": [end], "decoder": decoder,
            "model": {"type": "BPE", "vocab": vocab, "merges": []}});
        let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).expect("a tokenizer");
        Grammars::new(&tokenizer, &[256]).expect("made of bytes")
    }

    /// How much of the text may be written, and whether it is complete then.
    fn follow(format: &AnswerFormat, text: &str) -> (usize, bool) {
        let mut constraint = grammars().constraint(format).expect("a schema");
        let mut complete = false;
        for (at, byte) in text.bytes().enumerate() {
            if complete || !constraint.allowed().expect("a mask").has(byte.into()) {
                return (at, complete);
            }
            complete = constraint.take(byte.into()).expect("allowed");
        }
        (text.len(), complete || constraint.allowed().expect("a mask").has(256))
    }

    #[test]
    fn only_json_of_the_schema_can_be_written() {
        let schema = AnswerFormat::JsonSchema(json!({"type": "object", "additionalProperties": false,
            "required": ["mood", "n"],
            "properties": {"mood": {"enum": ["glad", "sad"]}, "n": {"type": "integer", "minimum": 0, "maximum": 20}}}));
        assert_eq!(follow(&schema, r#"{"mood": "sad", "n": 17}"#), (24, true));
        assert_eq!(follow(&schema, r#"{"mood": "mad""#), (10, false));
        assert_eq!(follow(&schema, r#"{"mood": "sad", "n": 27}"#), (22, false));
        assert_eq!(follow(&schema, r#"{"mood": "sad"}"#), (14, false), "n is required");
        assert_eq!(follow(&schema, "{ "), (1, false), "one way to put spaces");
        let object = AnswerFormat::JsonObject;
        assert!(follow(&object, r#"{"a": [1, {"b": null}], "c": "\"é"}"#).1);
        assert_eq!(follow(&object, "[1]"), (0, false));
    }

    #[test]
    fn what_is_no_schema_is_refused_with_the_reason() {
        for schema in [json!({"type": "objekt"}), json!({"type": "string", "pattern": "("}), json!([1])] {
            let Err(error) = grammars().constraint(&AnswerFormat::JsonSchema(schema.clone())) else {
                panic!("{schema} was taken");
            };
            assert!(error.to_string().len() > 20, "{schema}: {error}");
        }
    }
}
