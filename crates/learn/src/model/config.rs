//! The shape of a Llama-family model, read from a Hugging Face `config.json`. No tensors here.

use crate::LearnError;
use crate::kernels::attention::Heads;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The numbers that fix a Llama-family model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `model_type` as the model names itself: llama, mistral, qwen2.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched for long contexts.
    pub rope_scaling: RopeScaling,
    /// Epsilon of every RMSNorm.
    pub norm_eps: f32,
    /// Whether the output head is the embedding itself.
    pub tied_embeddings: bool,
    /// The longest sequence in tokens.
    pub context: usize,
    /// A token attends to this many tokens at most, itself included, in the blocks from `window_from` (Mistral, Qwen2).
    pub window: Option<usize>,
    /// The first block with a window.
    pub window_from: usize,
    /// Whether the q, k and v projections have a bias (Qwen2).
    pub qkv_bias: bool,
}

/// Changes of the rotary frequencies that some models of the family make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, between them a smooth change.
    Llama3 {
        /// The divisor of the low frequencies.
        factor: f64,
        /// A frequency that makes fewer turns than this over the original context is low.
        low: f64,
        /// One that makes more turns than this is high.
        high: f64,
        /// The context that the model was first trained at.
        original_context: f64,
    },
}

impl RopeScaling {
    /// A frequency after scaling. Llama 3's formula is that of the model's reference code: by how many turns the original
    /// context makes at this frequency, it is kept, divided, or something between.
    fn apply(self, f: f64) -> f64 {
        match self {
            Self::None => f,
            Self::Linear { factor } => f / factor,
            Self::Llama3 { factor, low, high, original_context } => {
                let turns = original_context * f / std::f64::consts::TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                f * (kept + (1.0 - kept) / factor)
            }
        }
    }
}

/// `config.json` as Hugging Face writes it; what is left out there takes the family's default.
#[derive(Debug, Deserialize, Serialize)]
struct HfConfig {
    #[serde(default)]
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    rms_norm_eps: Option<f32>,
    tie_word_embeddings: Option<bool>,
    max_position_embeddings: Option<usize>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
}

/// A block whose attention sees everything, as `layer_types` names it.
const FULL_ATTENTION: &str = "full_attention";

impl ModelConfig {
    /// Width of all query heads together.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The heads of a block's attention, and how far back they see.
    pub(crate) fn attention_heads(&self, layer: usize) -> Heads {
        let window = self.window.filter(|_| layer >= self.window_from);
        Heads { heads: self.heads, kv_heads: self.kv_heads, dim: self.head_dim, window }
    }

    /// The rotary frequencies `theta^(-2i/d)`, `(head_dim / 2,)`, changed as the model's scaling says.
    pub(crate) fn rope_frequencies(&self) -> Vec<f64> {
        let plain = (0..self.head_dim / 2).map(|i| self.rope_theta.powf(-2.0 * i as f64 / self.head_dim as f64));
        plain.map(|f| self.rope_scaling.apply(f)).collect()
    }

    /// Reads `config.json` in a model folder.
    ///
    /// # Errors
    /// When the file is missing or unreadable, or names an architecture outside of the family.
    pub fn open(dir: &Path) -> Result<Self, LearnError> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(LearnError::io(&path))?;
        Self::parse(&text, &path)
    }

    /// Parses the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`ModelConfig::open`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, LearnError> {
        let bad = |reason: String| LearnError::BadModel { path: path.to_path_buf(), reason };
        let value: Value = serde_json::from_str(text).map_err(|e| bad(format!("config.json is not JSON: {e}")))?;
        let model_type = value.get("model_type").and_then(Value::as_str).unwrap_or("").to_owned();
        let refuse = |reason: String| LearnError::UnsupportedArchitecture { found: model_type.clone(), reason };
        if !matches!(model_type.as_str(), "llama" | "mistral" | "qwen2") {
            return Err(refuse("its blocks differ from Llama's".into()));
        }
        let hf: HfConfig = serde_json::from_value(value)
            .map_err(|e| bad(format!("config.json lacks what a Llama model needs: {e}")))?;
        hf.check_supported().map_err(&refuse)?;
        let scaling = hf.rope_scaling().map_err(&refuse)?;
        let config = hf.into_config(scaling);
        config.check().map_err(bad)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let positive = [self.hidden, self.layers, self.heads, self.kv_heads, self.head_dim, self.ffn, self.vocab];
        if positive.contains(&0) || self.context == 0 {
            return Err("config.json has a size of 0".into());
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} query heads can't share {} key/value heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim {} is odd; rotary embedding needs pairs", self.head_dim));
        }
        Ok(())
    }
}

impl HfConfig {
    fn check_supported(&self) -> Result<(), String> {
        if let Some(act) = self.hidden_act.as_deref().filter(|a| !matches!(*a, "silu" | "swish")) {
            return Err(format!("its activation is {act}, not silu"));
        }
        if self.mlp_bias == Some(true) {
            return Err("its feed-forward layer has biases".into());
        }
        let mut upper = self.layer_types.iter().flatten().skip(self.full_layers().unwrap_or(0));
        if let Some(other) = upper.find(|t| *t != "sliding_attention") {
            return Err(format!("a block of {other} lies above one with a sliding window"));
        }
        if self.model_type == "llama" && self.attention_bias == Some(true) {
            return Err("its output projection has a bias".into());
        }
        Ok(())
    }

    /// Newer files name the kind of each block's attention: how many see everything before the first one that slides.
    fn full_layers(&self) -> Option<usize> {
        self.layer_types.as_ref().map(|types| types.iter().take_while(|t| *t == FULL_ATTENTION).count())
    }

    /// The rope settings stand in `rope_scaling` (older files) or in `rope_parameters` (newer ones, with the theta).
    fn rope_scaling(&self) -> Result<RopeScaling, String> {
        let Some(value) = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).filter(|v| !v.is_null()) else {
            return Ok(RopeScaling::None);
        };
        let number = |key: &str| value.get(key).and_then(Value::as_f64).ok_or(format!("its rope scaling lacks {key}"));
        match value.get("rope_type").or(value.get("type")).and_then(Value::as_str).unwrap_or("default") {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")?,
            }),
            other => Err(format!("its rope scaling is of type {other}")),
        }
    }

    fn into_config(self, rope_scaling: RopeScaling) -> ModelConfig {
        let heads = self.num_attention_heads;
        let in_parameters = self.rope_parameters.as_ref().and_then(|v| v.get("rope_theta")).and_then(Value::as_f64);
        let context = self.max_position_embeddings.unwrap_or(2048);
        let slides = self.model_type == "mistral" || self.use_sliding_window == Some(true);
        // Qwen2's lower blocks see everything; 28 of them is what its configuration class says where the file doesn't.
        let lower = if self.model_type == "qwen2" { self.max_window_layers.unwrap_or(28) } else { 0 };
        ModelConfig {
            qkv_bias: self.model_type == "qwen2",
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / heads.max(1)),
            ffn: self.intermediate_size,
            vocab: self.vocab_size,
            rope_theta: self.rope_theta.or(in_parameters).unwrap_or(10_000.0),
            rope_scaling,
            norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            tied_embeddings: self.tie_word_embeddings.unwrap_or(false),
            context,
            window: self.sliding_window.filter(|&w| slides && w < context),
            window_from: self.full_layers().unwrap_or(lower),
            model_type: self.model_type,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelConfig, LearnError> {
        ModelConfig::parse(text, Path::new("config.json"))
    }

    const SMALL: &str = r#"{"model_type":"MT","hidden_size":8,"num_hidden_layers":2,"num_attention_heads":4,
        "num_key_value_heads":2,"intermediate_size":12,"vocab_size":30,"max_position_embeddings":64,"hidden_act":"silu" MORE}"#;

    fn small(model_type: &str, more: &str) -> String {
        SMALL.replace("MT", model_type).replace("MORE", more)
    }

    #[test]
    fn reads_the_family_and_its_defaults() {
        let c = parse(&small("qwen2", r#","rope_theta":1e6,"sliding_window":16,"use_sliding_window":false"#))
            .expect("config");
        assert!(c.qkv_bias && !c.tied_embeddings);
        assert_eq!((c.head_dim, c.q_dim(), c.kv_dim(), c.context, c.rope_theta), (2, 8, 4, 64, 1e6));
        let c = parse(&small("mistral", r#","sliding_window":16"#)).expect("config");
        assert_eq!((c.context, c.window, c.attention_heads(0).window), (64, Some(16), Some(16)));
        let c = parse(&small("qwen2", r#","sliding_window":16,"use_sliding_window":true,"max_window_layers":1"#))
            .expect("config");
        assert_eq!((c.attention_heads(0).window, c.attention_heads(1).window), (None, Some(16)));
        let c =
            parse(&small("llama", r#","rope_parameters":{"rope_type":"default","rope_theta":5e5}"#)).expect("config");
        assert_eq!((c.rope_theta, c.rope_scaling), (5e5, RopeScaling::None));
    }

    #[test]
    fn refuses_what_it_would_compute_wrongly() {
        for (model_type, more) in [
            ("gpt2", ""),
            ("llama", r#","rope_scaling":{"type":"yarn","factor":2.0}"#),
            ("llama", r#","mlp_bias":true"#),
            ("qwen2", r#","layer_types":["sliding_attention","full_attention"]"#),
        ] {
            let error = parse(&small(model_type, more)).expect_err("must refuse");
            assert!(matches!(error, LearnError::UnsupportedArchitecture { .. }), "{error}");
        }
        assert!(parse(&small("llama", r#","head_dim":3"#)).is_err());
        assert!(parse("{").is_err());
    }
}
