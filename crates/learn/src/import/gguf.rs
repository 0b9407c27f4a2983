//! A GGUF file of a Llama-family model: metadata to config.json, tensors to f32 in Hugging Face's order.

use super::metadata::Metadata;
use super::vocabulary::{self, Vocabulary};
use super::weights::{TensorHead, WeightsFile};
use super::{Report, tensors, write_json};
use crate::LearnError;
use crate::model::ModelConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A GGUF file that was looked at.
pub(super) struct GgufModel {
    metadata: Metadata,
    architecture: Architecture,
    config_json: Value,
    config: ModelConfig,
    vocabulary: Vocabulary,
    /// GGUF's name, then Hugging Face's name and shape, in the order in which they are written.
    tensors: Vec<(String, String, Vec<usize>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Architecture {
    Llama,
    Mistral,
    Qwen2,
}

impl Architecture {
    fn read(meta: &Metadata) -> Result<Self, LearnError> {
        match meta.text("general.architecture")?.as_str() {
            "llama" => Ok(Self::Llama),
            "mistral" => Ok(Self::Mistral),
            "qwen2" => Ok(Self::Qwen2),
            _ => Err(meta.unsupported("its blocks differ from Llama's".to_owned())),
        }
    }

    /// Its prefix in GGUF's keys (which is also Hugging Face's `model_type`), and its class there.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Llama => ("llama", "LlamaForCausalLM"),
            Self::Mistral => ("mistral", "MistralForCausalLM"),
            Self::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        }
    }

    /// GGUF keeps q and k of the Llama family with the two halves of each head's rotary pairs interleaved, because
    /// its rotary embedding turns neighbours. Qwen2's embedding turns halves, as Hugging Face's does.
    fn interleaves_rotary_pairs(self) -> bool {
        match self {
            Self::Llama | Self::Mistral => true,
            Self::Qwen2 => false,
        }
    }
}

impl GgufModel {
    pub(super) fn open(path: &Path) -> Result<Self, LearnError> {
        let metadata = Metadata::open(path)?;
        let architecture = Architecture::read(&metadata)?;
        metadata.check_length()?;
        let vocabulary = Vocabulary::read(&metadata)?;
        let config_json = config_json(&metadata, architecture, &vocabulary)?;
        let config = ModelConfig::parse(&config_json.to_string(), path)?;

        let mut names = BTreeMap::new();
        let mut found = BTreeMap::new();
        for gguf in metadata.tensors().filter(|name| *name != ROPE_FACTORS) {
            let name = tensors::hugging_face(gguf);
            let name = name.ok_or_else(|| metadata.unsupported(format!("it has a tensor {gguf}")))?;
            found.insert(name.clone(), metadata.shape(gguf).to_vec());
            names.insert(name, gguf.clone());
        }
        let needed = tensors::check(path, &config, found)?;
        let tensors =
            needed.into_iter().filter_map(|(name, shape)| Some((names.remove(&name)?, name, shape))).collect();
        Ok(Self { metadata, architecture, config_json, config, vocabulary, tensors })
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(super) fn parameters(&self) -> u64 {
        self.tensors.iter().map(|(_, _, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        4 * self.parameters()
    }

    /// Writes config, tokenizer and weights.
    pub(super) fn write(&self, out: &Path, report: Report<'_>) -> Result<(), LearnError> {
        write_json(&out.join("config.json"), &self.config_json)?;
        vocabulary::write(&self.vocabulary, out)?;
        let head = |(_, name, shape): &(String, String, Vec<usize>)| {
            let bytes = 4 * shape.iter().product::<usize>() as u64;
            TensorHead { name: name.clone(), dtype: "F32".to_owned(), shape: shape.clone(), bytes }
        };
        let heads: Vec<TensorHead> = self.tensors.iter().map(head).collect();
        let mut weights = WeightsFile::create(out, &heads)?;
        let mut file = self.metadata.reader()?;
        let (mut done, total) = (0, self.bytes());
        for (gguf, name, _) in &self.tensors {
            let values = self.in_order(name, self.metadata.values(&mut file, gguf)?);
            weights.append(bytemuck::cast_slice(&values))?;
            done += 4 * values.len() as u64;
            report(done, total);
        }
        weights.finish()
    }

    /// A tensor's values in Hugging Face's order.
    fn in_order(&self, name: &str, values: Vec<f32>) -> Vec<f32> {
        let heads = match name.rsplit('.').nth(1) {
            Some("q_proj") => self.config.heads,
            Some("k_proj") => self.config.kv_heads,
            _ => return values,
        };
        if !self.architecture.interleaves_rotary_pairs() {
            return values;
        }
        separate_rotary_halves(&values, heads, self.config.head_dim)
    }
}

/// From GGUF's order of a q or k projection's rows (pairs of the rotary embedding beside each other) to Hugging Face's
/// (first halves, then second halves): within each head, row `2 i + half` becomes row `half * head_dim / 2 + i`.
///
/// # Shapes
/// `values` (heads * head_dim, in).
fn separate_rotary_halves(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let width = values.len() / (heads * head_dim);
    let mut out = Vec::with_capacity(values.len());
    for head in 0..heads {
        for row in 0..head_dim {
            let (half, i) = (row / (head_dim / 2), row % (head_dim / 2));
            let from = (head * head_dim + 2 * i + half) * width;
            out.extend_from_slice(&values[from..from + width]);
        }
    }
    out
}

fn config_json(meta: &Metadata, arch: Architecture, vocabulary: &Vocabulary) -> Result<Value, LearnError> {
    let (prefix, class) = arch.names();
    let key = |key: &str| format!("{prefix}.{key}");
    let number = |k: &str| meta.number(&key(k));
    let (hidden, heads) = (number("embedding_length")?, number("attention.head_count")?);
    let head_dim = meta.optional_number(&key("attention.key_length")).unwrap_or(hidden / heads.max(1));
    let rotary = meta.optional_number(&key("rope.dimension_count")).unwrap_or(head_dim);
    if rotary != head_dim {
        return Err(meta.unsupported(format!("its rotary embedding turns {rotary} of {head_dim} dimensions")));
    }
    if meta.optional_number(&key("expert_count")).is_some_and(|n| n > 0) {
        return Err(meta.unsupported("it is a mixture of experts".to_owned()));
    }
    let rope_theta = meta.float(&key("rope.freq_base")).unwrap_or(10_000.0);
    Ok(json!({
        "architectures": [class],
        "model_type": prefix,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": number("feed_forward_length")?,
        "num_hidden_layers": number("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": meta.optional_number(&key("attention.head_count_kv")).unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": number("context_length")?,
        "sliding_window": meta.optional_number(&key("attention.sliding_window")),
        "rms_norm_eps": meta.float(&key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-5),
        "rope_theta": rope_theta,
        "rope_scaling": rope_scaling(meta, prefix, rope_theta, head_dim)?,
        "vocab_size": meta.shape("token_embd.weight").first().ok_or_else(|| meta.lacks("token_embd.weight"))?,
        "tie_word_embeddings": meta.shape("output.weight").is_empty(),
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "torch_dtype": "float32",
    }))
}

/// Llama 3.1's stretched frequencies are kept as a tensor of divisors.
const ROPE_FACTORS: &str = "rope_freqs.weight";

fn rope_scaling(meta: &Metadata, prefix: &str, theta: f64, head_dim: usize) -> Result<Value, LearnError> {
    let factor = meta.float(&format!("{prefix}.rope.scaling.factor"));
    match (meta.optional_text(&format!("{prefix}.rope.scaling.type")).as_deref(), factor) {
        (None | Some("none"), _) => {}
        (Some("linear"), Some(factor)) => return Ok(json!({"rope_type": "linear", "factor": factor})),
        (Some(kind), _) => return Err(meta.unsupported(format!("its rotary embedding is scaled ({kind})"))),
    }
    if meta.shape(ROPE_FACTORS).is_empty() {
        return Ok(Value::Null);
    }
    let divisors = meta.values(&mut meta.reader()?, ROPE_FACTORS)?;
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    let found = llama3_divisors(f64::from(factor), theta, head_dim);
    let same =
        found.len() == divisors.len() && found.iter().zip(&divisors).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-3 * a);
    if !same {
        return Err(meta.unsupported("its rotary embedding is scaled in a way that isn't Llama 3's".to_owned()));
    }
    Ok(json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": LLAMA3_CONTEXT}))
}

/// The context that Llama 3 was first trained at, in tokens.
const LLAMA3_CONTEXT: u32 = 8192;

/// By what each rotary frequency is divided in Llama 3.1 and later: 1 where it turns more than 4 times in the first
/// context, `factor` where it turns less than once, smooth between (the models' reference code).
fn llama3_divisors(factor: f64, theta: f64, head_dim: usize) -> Vec<f64> {
    let divisor = |i: usize| {
        let frequency = theta.powf(-2.0 * i as f64 / head_dim as f64);
        let turns = f64::from(LLAMA3_CONTEXT) * frequency / std::f64::consts::TAU;
        let kept = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
        1.0 / (kept + (1.0 - kept) / factor)
    };
    (0..head_dim / 2).map(divisor).collect()
}
