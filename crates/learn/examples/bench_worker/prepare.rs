//! What both sides of a comparison are given: a model folder with random weights, and texts as token ids.

use crate::Result;
use half::bf16;
use hone_domain::DataSet;
use hone_learn::ModelConfig;
use hone_learn::tiny::{self, TinySpec};
use hone_text::ChatTokenizer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What to write, and where.
#[derive(Deserialize)]
pub(crate) struct ModelSpec {
    dir: PathBuf,
    /// Blocks; SmolLM2-135M has 30.
    layers: usize,
    /// Width; SmolLM2-135M has 576 and a head width of 64.
    hidden: usize,
}

/// SmolLM2-135M's config.json with other sizes where asked for.
fn config(spec: &ModelSpec) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "bfloat16",
        "hidden_size": spec.hidden, "intermediate_size": spec.hidden / 3 * 8, "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.hidden / 64, "num_key_value_heads": spec.hidden / 192, "head_dim": 64,
        "vocab_size": 49152, "max_position_embeddings": 8192, "rope_theta": 100000.0, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
        "bos_token_id": 1, "eos_token_id": 5, "pad_token_id": 3, "initializer_range": 0.04167, "use_cache": true,
    })
}

/// A template that adds nothing, so that a text has as many tokens as it has characters.
const TEMPLATE: &str = "{% for message in messages %}{{ message['content'] }}{% endfor %}";

/// Writes a folder with random bf16 weights of SmolLM2-135M's shape and the tokenizer of `tiny`: one token per character.
pub(crate) fn model(spec: &ModelSpec) -> Result<()> {
    tiny::write(&spec.dir, &TinySpec::default())?;
    std::fs::write(spec.dir.join("config.json"), format!("{:#}\n", config(spec)))?;
    let path = spec.dir.join("tokenizer_config.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    tokenizer["chat_template"] = json!(TEMPLATE);
    std::fs::write(&path, format!("{tokenizer:#}\n"))?;
    write_weights(&spec.dir)
}

/// Normal values of deviation 1/24, SmolLM2's initialisation, in the file's order; norms are 1.
fn write_weights(dir: &Path) -> Result<()> {
    let c = ModelConfig::open(dir)?;
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![c.vocab, c.hidden]),
        ("model.norm.weight".into(), vec![c.hidden]),
    ];
    for layer in 0..c.layers {
        let block = [
            ("input_layernorm", vec![c.hidden]),
            ("post_attention_layernorm", vec![c.hidden]),
            ("self_attn.q_proj", vec![c.q_dim(), c.hidden]),
            ("self_attn.k_proj", vec![c.kv_dim(), c.hidden]),
            ("self_attn.v_proj", vec![c.kv_dim(), c.hidden]),
            ("self_attn.o_proj", vec![c.hidden, c.q_dim()]),
            ("mlp.gate_proj", vec![c.ffn, c.hidden]),
            ("mlp.up_proj", vec![c.ffn, c.hidden]),
            ("mlp.down_proj", vec![c.hidden, c.ffn]),
        ];
        shapes.extend(block.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let tensors: Vec<(String, Vec<usize>, Vec<bf16>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let n = shape.iter().product();
            let data = if shape.len() == 1 { vec![bf16::ONE; n] } else { (0..n).map(|_| normal(&mut rng)).collect() };
            (name, shape, data)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(n, s, d)| Ok((n.as_str(), TensorView::new(Dtype::BF16, s.clone(), bytemuck::cast_slice(d))?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()?;
    safetensors::serialize_to_file(
        views,
        Some([("format".to_owned(), "pt".to_owned())].into()),
        &dir.join("model.safetensors"),
    )?;
    Ok(())
}

/// Box and Muller 1958.
fn normal(rng: &mut ChaCha8Rng) -> bf16 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    bf16::from_f32((-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos() / 24.0)
}

/// Whose tokens.
#[derive(Deserialize)]
pub(crate) struct EncodeSpec {
    model: PathBuf,
    /// A [`DataSet`] as JSON.
    data: PathBuf,
}

/// Prints the data set as the trainers see it: prompts and answers as token ids, rankings as pairs (better, worse).
pub(crate) fn encode(spec: &EncodeSpec) -> Result<()> {
    let tokenizer = ChatTokenizer::open(&spec.model)?;
    let data: DataSet = crate::spec(&spec.data.to_string_lossy())?;
    let mut demonstrations = Vec::new();
    for d in &data.demonstrations {
        let (prompt, answer) = (tokenizer.encode_prompt(&d.messages)?, tokenizer.encode_answer(&d.ideal)?);
        demonstrations.push(json!({"prompt": prompt, "answer": answer}));
    }
    let mut rankings = Vec::new();
    for r in &data.rankings {
        let answers =
            r.candidates.iter().map(|c| tokenizer.encode_answer(c)).collect::<std::result::Result<Vec<_>, _>>()?;
        let prompt = tokenizer.encode_prompt(&r.messages)?;
        rankings.push(json!({"prompt": prompt, "answers": answers, "pairs": r.ranking.pairs()}));
    }
    let prompts = data
        .prompts
        .iter()
        .map(|p| tokenizer.encode_prompt(&p.messages))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let all = json!({
        "demonstrations": demonstrations, "rankings": rankings, "prompts": prompts, "eos_ids": tokenizer.eos_ids(),
    });
    println!("{all}");
    Ok(())
}
