//! `adapter_config.json`, as the PEFT library writes and reads it: which variants of LoRA are understood, which are refused and why.
//! The tensors are `lora`'s. Uses serde_json.

use crate::lora::LoraConfig;
use crate::{LearnError, files};
use serde_json::{Value, json};
use std::path::Path;

/// Settings that change the arithmetic of an adapter, or need other tensors than A and B. Filled in, they are refused.
const UNSUPPORTED: [&str; 14] = [
    "use_dora",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "monteclora_config",
    "arrow_config",
    "kasa_config",
];

/// The starts that leave the base's weights as they are. Others (PiSSA, OLoRA, LoftQ, CorDA, LoRA-GA) move a part of the base into the
/// adapter: on the original base such an adapter would compute something else.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Reads `adapter_config.json`; refuses the variants of LoRA whose arithmetic differs.
///
/// # Errors
/// When the file is missing, damaged, or of a kind that isn't supported.
pub(crate) fn read_config(dir: &Path) -> Result<LoraConfig, LearnError> {
    let path = dir.join("adapter_config.json");
    let text = std::fs::read_to_string(&path).map_err(LearnError::io(&path))?;
    parse_config(&text).map_err(|reason| LearnError::BadAdapter { path, reason })
}

/// Which linears and blocks carry matrices is read from the tensors: `target_modules` may be a pattern.
fn parse_config(text: &str) -> Result<LoraConfig, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    if value["peft_type"] != "LORA" {
        return Err(format!("peft_type is {}; only LORA is supported", value["peft_type"]));
    }
    if let Some(key) = UNSUPPORTED.iter().find(|key| is_filled(&value[**key])) {
        return Err(format!("{key} is not supported; export it as plain LoRA"));
    }
    if let Some(bias) = value["bias"].as_str().filter(|bias| *bias != "none") {
        return Err(format!("bias is \"{bias}\": it trains biases of the base too, only \"none\" is supported"));
    }
    if let Some(start) = value["init_lora_weights"].as_str().filter(|start| !PLAIN_STARTS.contains(start)) {
        return Err(format!(
            "init_lora_weights is \"{start}\", which changes the base's weights: convert it to plain LoRA with \
             save_pretrained(path_initial_model_for_weight_conversion=...)"
        ));
    }
    if let Some(module) = saved_modules(&value).find(|module| *module != "score") {
        return Err(format!(
            "modules_to_save names {module}: of the base's own weights only a scalar head, score, is read"
        ));
    }
    let r = value["r"].as_u64().filter(|r| *r > 0).ok_or("r is missing or 0")? as usize;
    let alpha = value["lora_alpha"].as_f64().ok_or("lora_alpha is missing")?;
    // Rank-stabilised LoRA (Kalajdzievski 2023) scales by alpha / sqrt(r): the same as alpha * sqrt(r) scaled by 1 / r.
    let alpha = if value["use_rslora"] == true { alpha * (r as f64).sqrt() } else { alpha };
    Ok(LoraConfig { r, alpha: alpha as f32, targets: Vec::new(), layers: 0 })
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

/// PEFT lists the heads of a classifier here by itself: those that the model doesn't have are no tensors either.
fn saved_modules(value: &Value) -> impl Iterator<Item = &str> {
    let names = value["modules_to_save"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).filter(|name| *name != "classifier")
}

/// Writes `adapter_config.json`. `blocks` are those that carry matrices: PEFT would make empty ones in the others. `base` is what other software will look for as the base: a folder or a name.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn write_config(dir: &Path, config: &LoraConfig, blocks: &[usize], base: &str) -> Result<(), LearnError> {
    let all_blocks = config.layers == 0;
    let value = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base,
        "r": config.r, "lora_alpha": config.alpha, "target_modules": config.targets,
        "layers_to_transform": if all_blocks { None } else { Some(blocks) },
        "bias": "none", "lora_dropout": 0.0, "fan_in_fan_out": false, "inference_mode": true,
        "init_lora_weights": true, "use_rslora": false, "use_dora": false,
    });
    files::write_atomic(&dir.join("adapter_config.json"), format!("{value:#}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(more: Value) -> Result<LoraConfig, String> {
        let mut all = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "init_lora_weights": true});
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        parse_config(&all.to_string())
    }

    #[test]
    fn plain_lora_is_read_and_the_rank_stabilised_kind_is_folded_into_alpha() {
        assert!((with(json!({})).expect("plain").scale() - 2.0).abs() < 1e-6);
        assert!((with(json!({"use_rslora": true})).expect("rslora").scale() - 4.0).abs() < 1e-6);
        assert!(with(json!({"modules_to_save": ["classifier", "score"], "init_lora_weights": "gaussian"})).is_ok());
        assert!(with(json!({"rank_pattern": {}, "target_parameters": null, "layer_replication": []})).is_ok());
    }

    #[test]
    fn what_would_compute_something_else_is_refused_with_the_reason() {
        let refused = [
            (json!({"peft_type": "IA3"}), "IA3"),
            (json!({"use_dora": true}), "use_dora"),
            (json!({"alpha_pattern": {"q_proj": 3}}), "alpha_pattern"),
            (json!({"bias": "lora_only"}), "lora_only"),
            (json!({"init_lora_weights": "pissa_niter_4"}), "pissa_niter_4"),
            (json!({"modules_to_save": ["lm_head"]}), "lm_head"),
            (json!({"r": 0}), "r is missing"),
        ];
        for (more, named) in refused {
            let why = with(more.clone()).expect_err("must be refused");
            assert!(why.contains(named), "{more}: {why}");
        }
    }
}
