//! The tokenizer inside a GGUF file, written as Hugging Face's tokenizer.json and tokenizer_config.json.

use super::metadata::Metadata;
use super::write_json;
use crate::LearnError;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;

/// GGUF's kinds of tokens, as far as they matter here.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Contractions, words, numbers, punctuation, line breaks, spaces: how Llama 3 cuts text before merging.
const LLAMA3_CUTS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same for Qwen2, where each digit stands alone.
const QWEN2_CUTS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer as GGUF keeps it.
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    merging: Merging,
    chat_template: Option<String>,
    add_bos: bool,
    pub(super) bos: Option<usize>,
    pub(super) eos: Option<usize>,
    end_of_turn: Option<usize>,
    unknown: Option<usize>,
    padding: Option<usize>,
    context: Option<usize>,
}

enum Merging {
    /// GPT-2's byte-level BPE: merges in order, after cutting the text.
    ByteLevel { merges: Vec<String>, cuts: Cuts },
    /// Llama's SentencePiece BPE: the piece of the highest score is merged first.
    SentencePiece { scores: Vec<f32>, add_space: bool },
}

#[derive(Clone, Copy)]
enum Cuts {
    Gpt2,
    SmolLm,
    Qwen2,
    Llama3,
}

impl Vocabulary {
    pub(super) fn read(meta: &Metadata) -> Result<Self, LearnError> {
        let tokens: Vec<String> = texts(meta, "tokenizer.ggml.tokens")?;
        let kinds = meta.list("tokenizer.ggml.token_type").unwrap_or_default();
        let mut kinds: Vec<i32> = kinds.iter().map(|kind| kind.to_i32().unwrap_or(1)).collect();
        kinds.resize(tokens.len(), 1);
        let (merging, adds_bos_by_itself) = Merging::read(meta, tokens.len())?;
        let id = |key: &str| meta.optional_number(&format!("tokenizer.ggml.{key}")).filter(|&id| id < tokens.len());
        let architecture = meta.text("general.architecture")?;
        Ok(Self {
            add_bos: meta.flag("tokenizer.ggml.add_bos_token").unwrap_or(adds_bos_by_itself),
            chat_template: meta.optional_text("tokenizer.chat_template"),
            bos: id("bos_token_id"),
            eos: id("eos_token_id"),
            end_of_turn: id("eot_token_id"),
            unknown: id("unknown_token_id"),
            padding: id("padding_token_id"),
            context: meta.optional_number(&format!("{architecture}.context_length")),
            tokens,
            kinds,
            merging,
        })
    }

    fn text(&self, id: Option<usize>) -> Option<&str> {
        id.and_then(|id| self.tokens.get(id)).map(String::as_str)
    }

    fn tokenizer_json(&self) -> Value {
        let vocab: Map<String, Value> = self.tokens.iter().cloned().zip((0..).map(Value::from)).collect();
        let mut tokenizer = match &self.merging {
            Merging::ByteLevel { merges, cuts } => byte_level(&vocab, merges, *cuts),
            Merging::SentencePiece { scores, add_space } => self.sentence_piece(&vocab, scores, *add_space),
        };
        tokenizer["version"] = json!("1.0");
        tokenizer["added_tokens"] = self.added_tokens();
        tokenizer["post_processor"] = self.post_processor();
        tokenizer
    }

    fn sentence_piece(&self, vocab: &Map<String, Value>, scores: &[f32], add_space: bool) -> Value {
        let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        let mut normalizers = vec![replace(" ", "▁")];
        let mut decoders = vec![replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
        if add_space {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "BPE", "unk_token": self.text(self.unknown.or(Some(0))), "fuse_unk": true,
                "byte_fallback": true, "vocab": vocab, "merges": merges_by_score(&self.tokens, scores)},
        })
    }

    /// Control tokens are special, and left out of decoded text; tokens that the model's makers added are not.
    fn added_tokens(&self) -> Value {
        let added = self.kinds.iter().enumerate().filter(|(_, k)| matches!(**k, UNKNOWN | CONTROL | USER_DEFINED));
        added
            .map(|(id, &kind)| {
                json!({"id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind != USER_DEFINED})
            })
            .collect()
    }

    fn post_processor(&self) -> Value {
        let Some(bos) = self.text(self.bos).filter(|_| self.add_bos) else { return Value::Null };
        let special = json!({"SpecialToken": {"id": bos, "type_id": 0}});
        let first = json!({"Sequence": {"id": "A", "type_id": 0}});
        let second = json!({"Sequence": {"id": "B", "type_id": 1}});
        json!({"type": "TemplateProcessing", "single": [&special, &first], "pair": [&special, &first, second],
            "special_tokens": {bos: {"id": bos, "ids": [self.bos], "tokens": [bos]}}})
    }

    fn tokenizer_config(&self) -> Value {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.text(self.bos),
            "eos_token": self.text(self.eos),
            "unk_token": self.text(self.unknown),
            "pad_token": self.text(self.padding),
            "add_bos_token": self.add_bos,
            "model_max_length": self.context,
            "clean_up_tokenization_spaces": false,
        });
        if let Some(template) = &self.chat_template {
            config["chat_template"] = json!(template);
        }
        config
    }
}

/// Writes tokenizer.json, tokenizer_config.json and generation_config.json.
pub(super) fn write(vocabulary: &Vocabulary, dir: &Path) -> Result<(), LearnError> {
    let Vocabulary { bos, eos, end_of_turn, .. } = vocabulary;
    let ends: Vec<usize> = [*eos, *end_of_turn].into_iter().flatten().collect();
    write_json(&dir.join("tokenizer.json"), &vocabulary.tokenizer_json())?;
    write_json(&dir.join("tokenizer_config.json"), &vocabulary.tokenizer_config())?;
    write_json(&dir.join("generation_config.json"), &json!({"bos_token_id": bos, "eos_token_id": ends}))
}

impl Merging {
    /// How the tokens are merged, and whether such a tokenizer opens a text with the begin-of-text token when the file
    /// doesn't say.
    fn read(meta: &Metadata, tokens: usize) -> Result<(Self, bool), LearnError> {
        match meta.text("tokenizer.ggml.model")?.as_str() {
            "gpt2" => {
                let cuts = Cuts::read(meta)?;
                let merges = texts(meta, "tokenizer.ggml.merges")?;
                Ok((Self::ByteLevel { merges, cuts }, matches!(cuts, Cuts::Llama3)))
            }
            "llama" => {
                let scores = meta.list("tokenizer.ggml.scores").filter(|scores| scores.len() == tokens);
                let scores = scores.ok_or_else(|| meta.lacks("tokenizer.ggml.scores"))?;
                let scores = scores.iter().map(|score| score.to_f32().unwrap_or(0.0)).collect();
                let add_space = meta.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
                Ok((Self::SentencePiece { scores, add_space }, true))
            }
            other => Err(meta.unsupported(format!("its tokenizer is of kind {other}"))),
        }
    }
}

impl Cuts {
    fn read(meta: &Metadata) -> Result<Self, LearnError> {
        match meta.optional_text("tokenizer.ggml.pre").as_deref() {
            None | Some("default" | "gpt-2") => Ok(Self::Gpt2),
            Some("smollm") => Ok(Self::SmolLm),
            Some("qwen2" | "deepseek-r1-qwen") => Ok(Self::Qwen2),
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Self::Llama3),
            Some(other) => {
                Err(meta.unsupported(format!("its tokenizer cuts text in a way that isn't known here ({other})")))
            }
        }
    }

    fn pre_tokenizer(self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let two = |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
        match self {
            Self::Gpt2 => byte_level(true),
            Self::SmolLm => two(json!({"type": "Digits", "individual_digits": true}), byte_level(true)),
            Self::Qwen2 => two(split(QWEN2_CUTS), byte_level(false)),
            Self::Llama3 => two(split(LLAMA3_CUTS), byte_level(false)),
        }
    }
}

fn byte_level(vocab: &Map<String, Value>, merges: &[String], cuts: Cuts) -> Value {
    json!({
        "normalizer": matches!(cuts, Cuts::Qwen2).then(|| json!({"type": "NFC"})),
        "pre_tokenizer": cuts.pre_tokenizer(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "ignore_merges": matches!(cuts, Cuts::Llama3), "vocab": vocab, "merges": merges},
    })
}

/// SentencePiece keeps no merges: every way to make a piece of two others is one, in order of the piece's score; among
/// equals the longer left part first, then the longer right part, as Hugging Face's own conversion orders them.
fn merges_by_score(tokens: &[String], scores: &[f32]) -> Vec<[String; 2]> {
    let ids: HashMap<&str, usize> = tokens.iter().map(String::as_str).zip(0..).collect();
    let mut merges: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    for (token, &score) in tokens.iter().zip(scores) {
        let mut ways = Vec::new();
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                ways.push((*l, *r, left, right));
            }
        }
        ways.sort_unstable();
        merges.extend(ways.into_iter().map(|(_, _, l, r)| (score, l.chars().count(), r.chars().count(), l, r)));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    merges.into_iter().map(|(_, _, _, left, right)| [left.to_owned(), right.to_owned()]).collect()
}

fn texts(meta: &Metadata, key: &str) -> Result<Vec<String>, LearnError> {
    let list = meta.list(key).ok_or_else(|| meta.lacks(key))?;
    list.iter().map(|text| text.to_string().cloned().map_err(|_| meta.lacks(key))).collect()
}
