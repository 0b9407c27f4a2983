//! A Hugging Face folder: its small files are copied, its safetensors become one file.

use super::weights::{TensorHead, WeightsFile};
use super::{Report, bad, tensors};
use crate::LearnError;
use crate::model::{ModelConfig, WeightFiles};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Architectures whose forward pass is the Llama block and whose head is the language model's.
const ARCHITECTURES: [&str; 3] = ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"];
const SMALL_FILES: [&str; 5] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// A folder that was looked at.
pub(super) struct HubFolder {
    dir: PathBuf,
    config: ModelConfig,
    files: WeightFiles,
    /// In the order in which they are written.
    heads: Vec<TensorHead>,
}

impl HubFolder {
    pub(super) fn open(dir: &Path) -> Result<Self, LearnError> {
        let config_path = dir.join("config.json");
        if !config_path.is_file() {
            let reason =
                "it has no config.json; a Hugging Face model folder has one (for GGUF give the .gguf file itself)";
            return Err(bad(dir, reason));
        }
        check_architecture(&config_path)?;
        let config = ModelConfig::open(dir)?;
        if !dir.join("tokenizer.json").is_file() {
            let reason = "tokenizer.json is missing; get it from where the model came from (a tokenizer.model alone isn't \
                          enough: open it with transformers' AutoTokenizer and call save_pretrained, which writes it)";
            return Err(bad(dir, reason));
        }
        if !dir.join("model.safetensors").is_file() && !dir.join("model.safetensors.index.json").is_file() {
            let reason = "model.safetensors is missing; hone reads safetensors only (weights in .bin files can be saved \
                          again by transformers' save_pretrained)";
            return Err(bad(dir, reason));
        }
        let files = WeightFiles::open(dir)?;
        let heads = heads(dir, &config, &files)?;
        Ok(Self { dir: dir.to_owned(), config, files, heads })
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(super) fn bytes(&self) -> u64 {
        self.heads.iter().map(|head| head.bytes).sum()
    }

    pub(super) fn parameters(&self) -> u64 {
        self.heads.iter().map(|head| head.shape.iter().product::<usize>() as u64).sum()
    }

    /// Writes config, tokenizer and weights.
    pub(super) fn write(&self, out: &Path, report: Report<'_>) -> Result<(), LearnError> {
        for name in SMALL_FILES {
            let (from, to) = (self.dir.join(name), out.join(name));
            if from.is_file() {
                let bytes = fs::read(&from).map_err(LearnError::io(&from))?;
                fs::write(&to, bytes).map_err(LearnError::io(&to))?;
            }
        }
        let shards = self.files.parse()?;
        let mut weights = WeightsFile::create(out, &self.heads)?;
        let (mut done, total) = (0, self.bytes());
        for head in &self.heads {
            let view = shards.find(&head.name).ok_or_else(|| bad(&self.dir, format!("{} is gone", head.name)))?;
            weights.append(view.data())?;
            done += head.bytes;
            report(done, total);
        }
        weights.finish()
    }
}

fn check_architecture(path: &Path) -> Result<(), LearnError> {
    let text = fs::read(path).map_err(LearnError::io(path))?;
    let config: Value = serde_json::from_slice(&text).map_err(|e| bad(path, format!("it is not JSON: {e}")))?;
    let found = config["architectures"][0].as_str().unwrap_or("none");
    if ARCHITECTURES.contains(&found) {
        return Ok(());
    }
    let reason = "its config.json names an architecture that is not a chat model of the Llama family".to_owned();
    Err(LearnError::UnsupportedArchitecture { found: found.to_owned(), reason })
}

/// The tensors that the model needs, found in its files and checked against config.json.
fn heads(dir: &Path, config: &ModelConfig, files: &WeightFiles) -> Result<Vec<TensorHead>, LearnError> {
    let shards = files.parse()?;
    let found = shards.names().into_iter().filter_map(|name| {
        let shape = shards.find(&name)?.shape().to_vec();
        Some((name, shape))
    });
    let needed = tensors::check(dir, config, found.collect())?;
    let head = |(name, shape): (String, Vec<usize>)| {
        let view = shards.find(&name)?;
        Some(TensorHead { name, dtype: format!("{:?}", view.dtype()), shape, bytes: view.data().len() as u64 })
    };
    Ok(needed.into_iter().filter_map(head).collect())
}
