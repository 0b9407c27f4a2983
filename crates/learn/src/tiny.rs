//! A complete, random, tiny base model for tests and demos: weights, tokenizer and chat template in a Hugging Face folder.
//! May use files and safetensors; knows nothing of the forward pass.

use crate::LearnError;
use crate::files::{write_atomic, write_folder_atomic};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::path::Path;

/// The shape of a tiny model. Its head is not tied to its embedding: tied random weights would only repeat the last token.
#[derive(Debug, Clone)]
pub struct TinySpec {
    /// Seed of the random weights.
    pub seed: u64,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads; `hidden / heads` is the width of each and must be even.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// The longest sequence in tokens.
    pub context: usize,
}

impl Default for TinySpec {
    fn default() -> Self {
        Self { seed: 0, hidden: 32, layers: 2, heads: 4, kv_heads: 2, ffn: 64, context: 256 }
    }
}

/// Special tokens, in the order of their ids. `<|im_end|>` ends a turn and is the EOS token.
const SPECIALS: [&str; 6] = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"];
const EOS_ID: usize = 5;

/// ChatML, with functions as Hermes models call them.
const CHAT_TEMPLATE: &str = "{% if tools %}{{ '<|im_start|>system\nTools:\n' }}{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}\
{{ 'Call: <tool_call>\n{\"name\": ..., \"arguments\": ...}\n</tool_call><|im_end|>\n' }}{% endif %}\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}\
{% for call in message['tool_calls'] or [] %}{{ '<tool_call>\n{\"name\": ' }}{{ call['function']['name'] | tojson }}{{ ', \"arguments\": ' }}\
{{ call['function']['arguments'] | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>' + '\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Writes `config.json`, `tokenizer.json`, `tokenizer_config.json` and `model.safetensors` into `dir`, atomically. The same
/// `spec` gives the same bytes.
///
/// # Errors
/// When the sizes don't fit each other, or `dir` can't be written.
pub fn write(dir: &Path, spec: &TinySpec) -> Result<(), LearnError> {
    let fits = spec.heads > 0
        && spec.kv_heads > 0
        && spec.hidden.is_multiple_of(2 * spec.heads)
        && spec.heads.is_multiple_of(spec.kv_heads);
    if !fits || spec.layers == 0 || spec.ffn == 0 || spec.context == 0 {
        let reason =
            format!("hidden must be an even multiple of heads, heads a multiple of kv_heads, none 0: {spec:?}");
        return Err(LearnError::BadConfig { name: "tiny".into(), reason });
    }
    let vocab = vocabulary();
    write_folder_atomic(dir, |d| {
        write_atomic(&d.join("config.json"), pretty(&config(spec, vocab.len())).as_bytes())?;
        write_atomic(&d.join("tokenizer.json"), pretty(&tokenizer(&vocab)).as_bytes())?;
        write_atomic(&d.join("tokenizer_config.json"), pretty(&tokenizer_config()).as_bytes())?;
        write_atomic(&d.join("model.safetensors"), &weights(d, spec, vocab.len())?)
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Specials, then newline and printable ASCII, written as byte-level BPE writes them.
fn vocabulary() -> Vec<String> {
    let byte_level = |c: char| match c {
        '\n' => 'Ċ',
        ' ' => 'Ġ',
        other => other,
    };
    let chars = std::iter::once('\n').chain(' '..='~');
    SPECIALS.iter().map(|s| (*s).to_owned()).chain(chars.map(|c| byte_level(c).to_string())).collect()
}

fn config(spec: &TinySpec, vocab: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
        "hidden_size": spec.hidden, "intermediate_size": spec.ffn, "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads, "num_key_value_heads": spec.kv_heads, "head_dim": spec.hidden / spec.heads,
        "vocab_size": vocab, "max_position_embeddings": spec.context, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
        "bos_token_id": 1, "eos_token_id": EOS_ID, "pad_token_id": 3, "initializer_range": 0.02, "use_cache": true,
    })
}

/// Byte-level BPE without merges: one token per character.
fn tokenizer(vocab: &[String]) -> Value {
    let added: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        })
        .collect();
    let ids: serde_json::Map<String, Value> = vocab.iter().enumerate().map(|(id, t)| (t.clone(), json!(id))).collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": ids, "merges": []},
    })
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<|im_end|>",
        "pad_token": "<pad>", "unk_token": "<unk>", "clean_up_tokenization_spaces": false,
        "add_bos_token": false, "chat_template": CHAT_TEMPLATE,
    })
}

/// Normal weights with variance 1 / fan-in, so that activations and logits have a size of about 1; norms are 1.
fn weights(dir: &Path, spec: &TinySpec, vocab: usize) -> Result<Vec<u8>, LearnError> {
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    let kv = spec.kv_heads * (spec.hidden / spec.heads);
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![vocab, spec.hidden]),
        ("lm_head.weight".into(), vec![vocab, spec.hidden]),
        ("model.norm.weight".into(), vec![spec.hidden]),
    ];
    for layer in 0..spec.layers {
        for (name, shape) in [
            ("input_layernorm", vec![spec.hidden]),
            ("post_attention_layernorm", vec![spec.hidden]),
            ("self_attn.q_proj", vec![spec.hidden, spec.hidden]),
            ("self_attn.k_proj", vec![kv, spec.hidden]),
            ("self_attn.v_proj", vec![kv, spec.hidden]),
            ("self_attn.o_proj", vec![spec.hidden, spec.hidden]),
            ("mlp.gate_proj", vec![spec.ffn, spec.hidden]),
            ("mlp.up_proj", vec![spec.ffn, spec.hidden]),
            ("mlp.down_proj", vec![spec.hidden, spec.ffn]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let data = if shape.len() == 1 { vec![1.0; shape[0]] } else { normal(&mut rng, &shape) };
            (name, shape, data)
        })
        .collect();
    let bad = |e: safetensors::SafeTensorError| LearnError::BadModel { path: dir.to_path_buf(), reason: e.to_string() };
    let views = tensors
        .iter()
        .map(|(n, s, d)| {
            Ok((n.as_str(), TensorView::new(Dtype::F32, s.clone(), bytemuck::cast_slice(d)).map_err(bad)?))
        })
        .collect::<Result<Vec<_>, LearnError>>()?;
    safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).map_err(bad)
}

/// Normal values with variance 1 / fan-in (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng, shape: &[usize]) -> Vec<f32> {
    use rand::RngExt;
    let std = 1.0 / (shape[1] as f32).sqrt();
    (0..shape.iter().product())
        .map(|_| {
            let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
            std * (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_spec_gives_the_same_bytes() {
        let home = tempfile::tempdir().expect("temp dir");
        let read = |name: &str| std::fs::read(home.path().join(name).join("model.safetensors")).expect("weights");
        write(&home.path().join("a"), &TinySpec::default()).expect("a");
        write(&home.path().join("b"), &TinySpec::default()).expect("b");
        write(&home.path().join("c"), &TinySpec { seed: 1, ..TinySpec::default() }).expect("c");
        assert_eq!(read("a"), read("b"));
        assert_ne!(read("a"), read("c"));
        write(home.path(), &TinySpec { heads: 3, ..TinySpec::default() }).expect_err("32 does not divide by 3");
    }
}
