//! The tensors of a Llama-family model: which there must be, in which shape, and what GGUF calls them.

use super::bad;
use crate::LearnError;
use crate::model::ModelConfig;
use std::collections::BTreeMap;
use std::path::Path;

/// Names and shapes of the tensors that a model of this config has.
pub(super) fn needed(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let ModelConfig { hidden, ffn, vocab, .. } = *config;
    let (q, kv) = (config.q_dim(), config.kv_dim());
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
    for layer in 0..config.layers {
        let mut add = |name: &str, shape: Vec<usize>| all.push((format!("model.layers.{layer}.{name}"), shape));
        add("input_layernorm.weight", vec![hidden]);
        for (part, rows) in [("q", q), ("k", kv), ("v", kv)] {
            add(&format!("self_attn.{part}_proj.weight"), vec![rows, hidden]);
            if config.qkv_bias {
                add(&format!("self_attn.{part}_proj.bias"), vec![rows]);
            }
        }
        add("self_attn.o_proj.weight", vec![hidden, q]);
        add("post_attention_layernorm.weight", vec![hidden]);
        add("mlp.gate_proj.weight", vec![ffn, hidden]);
        add("mlp.up_proj.weight", vec![ffn, hidden]);
        add("mlp.down_proj.weight", vec![hidden, ffn]);
    }
    all.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tied_embeddings {
        all.push(("lm_head.weight".to_owned(), vec![vocab, hidden]));
    }
    all
}

/// Checks what was found against what is needed, and gives the latter: nothing missing, every shape right, and nothing
/// over that the forward pass would leave out.
pub(super) fn check(
    path: &Path,
    config: &ModelConfig,
    mut found: BTreeMap<String, Vec<usize>>,
) -> Result<Vec<(String, Vec<usize>)>, LearnError> {
    let needed = needed(config);
    for (name, shape) in &needed {
        match found.remove(name) {
            None => return Err(bad(path, format!("the tensor {name} is missing; download the model again"))),
            Some(other) if other != *shape => {
                return Err(bad(path, format!("{name} has shape {other:?}, where its config says {shape:?}")));
            }
            Some(_) => {}
        }
    }
    // A copy of tied embeddings, and frequencies that follow from the config, may be left out.
    let stranger = found.into_keys().find(|name| name != "lm_head.weight" && !name.ends_with("rotary_emb.inv_freq"));
    match stranger {
        None => Ok(needed),
        Some(name) => Err(LearnError::UnsupportedArchitecture {
            found: config.model_type.clone(),
            reason: format!("it has a tensor {name}, which the Llama block doesn't"),
        }),
    }
}

/// The Hugging Face name of a GGUF tensor of the Llama family; `None` for tensors that such a model doesn't have.
pub(super) fn hugging_face(gguf: &str) -> Option<String> {
    let name = match gguf {
        "token_embd.weight" => "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => "model.norm.weight".to_owned(),
        "output.weight" => "lm_head.weight".to_owned(),
        _ => {
            let (layer, rest) = gguf.strip_prefix("blk.")?.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            let (part, kind) = rest.rsplit_once('.')?;
            let bias_allowed = matches!(part, "attn_q" | "attn_k" | "attn_v");
            if kind != "weight" && !(kind == "bias" && bias_allowed) {
                return None;
            }
            format!("model.layers.{layer}.{}.{kind}", block_part(part)?)
        }
    };
    Some(name)
}

fn block_part(part: &str) -> Option<&'static str> {
    Some(match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::hugging_face;

    #[test]
    fn names_are_mapped_and_strangers_refused() {
        let name = |gguf| hugging_face(gguf).unwrap_or_default();
        assert_eq!(name("blk.12.attn_q.weight"), "model.layers.12.self_attn.q_proj.weight");
        assert_eq!(name("blk.0.attn_k.bias"), "model.layers.0.self_attn.k_proj.bias");
        assert_eq!(name("blk.3.ffn_norm.weight"), "model.layers.3.post_attention_layernorm.weight");
        assert_eq!(name("output.weight"), "lm_head.weight");
        for stranger in ["blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "blk.0.ffn_up.bias", "blk.0.exp.probs"] {
            assert_eq!(hugging_face(stranger), None, "{stranger}");
        }
    }
}
