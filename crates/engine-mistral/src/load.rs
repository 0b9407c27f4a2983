//! Loads a Hugging Face folder into an engine of its own.

use hone_domain::EngineError;
use hone_text::ChatTokenizer;
use mistralrs::core::DeviceMapSetting;
use mistralrs::model_builder_trait::{build_model_from_pipeline, build_text_pipeline};
use mistralrs::{Model, ModelDType, TextModelBuilder, TokenSource};
use std::path::{Path, PathBuf};
use tokio::runtime::Handle;

/// A model in memory, with what hone must know of it.
pub(crate) struct LoadedModel {
    pub(crate) model: Model,
    pub(crate) tokenizer: ChatTokenizer,
    /// Most tokens of prompt and answer together.
    pub(crate) context_tokens: usize,
    /// A token at which mistralrs ends an answer.
    pub(crate) end_token: u32,
}

/// Loads the folder's model. f32: it is the format that agrees with the trainer; quantised products on a CPU moved
/// log-probabilities by up to 0.28 nats.
pub(crate) async fn load(dir: PathBuf, running_max: usize) -> Result<LoadedModel, EngineError> {
    let shown = dir.display().to_string();
    let runtime = Handle::current();
    // Loading blocks, and panics on some broken folders: on a thread of its own it can do neither harm.
    let loaded = tokio::task::spawn_blocking(move || runtime.block_on(build(&dir, running_max))).await;
    match loaded {
        Ok(Ok(model)) => Ok(model),
        Ok(Err(why)) => Err(EngineError::Load(format!("{shown}: {why}"))),
        Err(panic) => Err(EngineError::Load(format!("{shown}: mistralrs can't read it: {panic}"))),
    }
}

async fn build(dir: &Path, running_max: usize) -> Result<LoadedModel, String> {
    // An absolute path of a folder that is there: any other name would be looked up in a hub.
    let dir = dir.canonicalize().map_err(|e| e.to_string())?;
    if !dir.is_dir() {
        return Err("it isn't a folder".into());
    }
    let name = dir.to_str().ok_or("its name isn't valid UTF-8: rename it")?;
    let tokenizer = ChatTokenizer::open(&dir).map_err(|e| e.to_string())?;
    let builder = TextModelBuilder::new(name)
        .with_token_source(TokenSource::None)
        .with_dtype(ModelDType::F32)
        .with_device_mapping(DeviceMapSetting::dummy())
        .with_max_num_seqs(running_max)
        .with_prefix_cache_n(None);
    let (pipeline, scheduler, engine) = build_text_pipeline(builder).await.map_err(|e| format!("{e:#}"))?;
    let metadata = pipeline.lock().await.get_metadata();
    let ends = |token: &&u32| metadata.eos_tok.contains(token);
    let end_token = tokenizer.eos_ids().iter().find(ends).or(metadata.eos_tok.first()).copied();
    Ok(LoadedModel {
        end_token: end_token.unwrap_or_else(|| tokenizer.eos_id()),
        context_tokens: metadata.max_seq_len,
        model: build_model_from_pipeline(pipeline, scheduler, engine).await,
        tokenizer,
    })
}
