//! The Llama family on CPUs, on learn's own forward pass: what is served is what was trained, to the bit of the weights.
//! May use: domain, text, learn. Base weights are in memory once per base folder, shared by all policies on it; a policy's
//! adapter is applied at run time. All answers are computed together, a token of each at a time (`batcher`).

mod batcher;
mod policy;
mod prompts;

use async_trait::async_trait;
use batcher::Batcher;
use hone_domain::{Engine, EngineError, LoadedPolicy, PolicyFiles};
use hone_learn::model::Format;
use hone_learn::{Adapter, Base, ModelConfig, Served};
use hone_text::ChatTokenizer;
use policy::{NativePolicy, Weights};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A base model in memory.
struct LoadedBase {
    base: Base,
    tokenizer: ChatTokenizer,
}

/// Bases in memory by their folder. Weak: the policies hold a base, and the last of them drops it.
type Bases = Mutex<HashMap<PathBuf, Weak<LoadedBase>>>;

/// The engine for CPUs.
pub struct NativeEngine {
    bases: Arc<Bases>,
    /// How a base's matrices are kept; `None`: as they were published, in bf16 or f32.
    format: Option<Format>,
    /// Answers that are computed at once.
    running_max: usize,
    /// What computes them, from the first load on. Locked while a policy is loaded, so that two on one base can't each read it.
    batcher: tokio::sync::Mutex<Option<Batcher>>,
}

impl NativeEngine {
    /// An engine that computes up to `running_max` answers at once (at least 1).
    #[must_use]
    pub fn new(running_max: usize) -> Self {
        Self { bases: Arc::default(), format: None, running_max, batcher: tokio::sync::Mutex::new(None) }
    }

    /// The same, with the bases' matrices in another number format than the one that they were published in.
    #[must_use]
    pub fn with_format(self, format: Option<Format>) -> Self {
        Self { format, ..self }
    }
}

#[async_trait]
impl Engine for NativeEngine {
    fn name(&self) -> &'static str {
        "native"
    }

    /// The families that learn's forward pass knows.
    fn serves(&self, base_dir: &Path) -> bool {
        ModelConfig::open(base_dir).is_ok()
    }

    fn needs_merged(&self, _: &Path) -> bool {
        false
    }

    async fn load(&self, files: &PolicyFiles) -> Result<Arc<dyn LoadedPolicy>, EngineError> {
        let mut started = self.batcher.lock().await;
        let batcher = match &*started {
            Some(batcher) => batcher.clone(),
            None => {
                let batcher = Batcher::start(self.running_max);
                started.insert(batcher.map_err(|e| EngineError::Load(format!("no thread to compute on: {e}")))?).clone()
            }
        };
        let (bases, format, owned) = (Arc::clone(&self.bases), self.format, files.clone());
        let weights = tokio::task::spawn_blocking(move || read(&bases, format, &owned)).await;
        let weights = weights.map_err(|e| EngineError::Load(e.to_string()))??;
        Ok(Arc::new(NativePolicy::new(files.id.clone(), weights, batcher)))
    }
}

/// Reads a policy's files; its base from memory, if it's there.
fn read(bases: &Bases, format: Option<Format>, files: &PolicyFiles) -> Result<Weights, EngineError> {
    let base = base(bases, format, &files.base_dir)?;
    let adapter = files.adapter_dir.as_deref().map(|dir| {
        let adapter = Adapter::load(dir, base.base.config()).and_then(|adapter| Served::new(&base.base, &adapter));
        adapter.map_err(|e| EngineError::Load(format!("the adapter in {}: {e}", dir.display())))
    });
    Ok(Weights { adapter: adapter.transpose()?, base })
}

fn base(bases: &Bases, format: Option<Format>, dir: &Path) -> Result<Arc<LoadedBase>, EngineError> {
    let failed = |e: String| EngineError::Load(format!("the base model in {}: {e}", dir.display()));
    let dir = dir.canonicalize().map_err(|e| failed(e.to_string()))?;
    let known = || bases.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(base) = known().get(&dir).and_then(Weak::upgrade) {
        return Ok(base);
    }
    let tokenizer = ChatTokenizer::open(&dir).map_err(|e| failed(e.to_string()))?;
    let base = Base::open_to_serve(&dir, format).map_err(|e| failed(e.to_string()))?;
    let loaded = Arc::new(LoadedBase { base, tokenizer });
    let mut known = known();
    known.retain(|_, base| base.strong_count() > 0);
    known.insert(dir, Arc::downgrade(&loaded));
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::ids::PolicyId;
    use hone_learn::{LoraConfig, tiny};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[tokio::test]
    async fn policies_share_their_base_and_the_last_one_drops_it() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let (base_dir, adapter_dir) = (dir.path().join("base"), dir.path().join("adapter"));
        tiny::write(&base_dir, &tiny::TinySpec::default()).expect("a tiny base");
        let model = Base::open(&base_dir).expect("opens");
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let adapter = Adapter::new(model.config(), LoraConfig::default(), false, &mut rng).expect("fits");
        adapter.save(&adapter_dir, "tiny").expect("saves");
        let base = PolicyFiles { id: PolicyId::base("tiny"), base_dir, adapter_dir: None, merged_dir: None };
        let id = PolicyId::from_raw("pol_tuned");
        let tuned = PolicyFiles { id, adapter_dir: Some(adapter_dir), ..base.clone() };

        let engine = NativeEngine::new(2);
        let loaded = [engine.load(&base).await.expect("loads"), engine.load(&tuned).await.expect("loads")];
        let known = engine.bases.lock().expect("no panic").values().next().cloned().expect("one base");
        assert_eq!((known.strong_count(), engine.bases.lock().expect("no panic").len()), (2, 1));
        drop(loaded);
        assert_eq!(known.strong_count(), 0);
    }
}
