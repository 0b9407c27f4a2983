//! The only crate that names mistralrs: policies served by it, for architectures and devices that the native engine hasn't.
//! May use: domain, text, mistralrs. Weights come from local folders; nothing is ever looked up in a hub.
//!
//! What mistralrs 0.8.1 needs to be guarded from, and where:
//! - A client that doesn't read, or leaves, must not stall or break its engine thread: `choose` sends each token through an
//!   unbounded channel of ours, and `policy` reads mistralrs's own channel to its end.
//! - It ignores seeds, its log-probabilities are to the base of 10, its stop texts cut at tokens: hone's own sampler draws
//!   inside its sampling step (`choose`).
//! - Its engine thread asserts that requests for whole logits and for answers don't meet: `policy` keeps them apart.
//! - Removing an engine kills its requests: each policy has an engine of its own, gone when its last request is (`policy`).
//! - Its scheduler starts all waiting requests at once when it was idle: `policy` hands over only what may run.
//! - A panic in its loading or computing ends in an error of ours; the next request starts the engine thread anew.

mod choose;
mod load;
mod logprobs;
mod policy;

use async_trait::async_trait;
use hone_domain::{Engine, EngineError, LoadedPolicy, PolicyFiles};
use policy::MistralPolicy;
use std::path::Path;
use std::sync::Arc;

/// The engine that hands the computing to mistralrs.
pub struct MistralEngine {
    running_max: usize,
    /// One load at a time: two would need the memory of both.
    loading: tokio::sync::Mutex<()>,
}

impl MistralEngine {
    /// An engine that computes up to `running_max` answers of a policy at once (at least 1).
    #[must_use]
    pub fn new(running_max: usize) -> Self {
        let running_max = running_max.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        Self { running_max, loading: tokio::sync::Mutex::new(()) }
    }
}

#[async_trait]
impl Engine for MistralEngine {
    fn name(&self) -> &'static str {
        "mistral"
    }

    fn needs_merged(&self, _: &Path) -> bool {
        true
    }

    async fn load(&self, files: &PolicyFiles) -> Result<Arc<dyn LoadedPolicy>, EngineError> {
        let dir = match (&files.adapter_dir, &files.merged_dir) {
            (None, _) => files.base_dir.clone(),
            (Some(_), Some(merged)) => merged.clone(),
            (Some(_), None) => {
                let why = format!("{} has an adapter but no merged weights, which this engine needs", files.id);
                return Err(EngineError::Load(why));
            }
        };
        let _one_at_a_time = self.loading.lock().await;
        let model = load::load(dir, self.running_max).await?;
        Ok(Arc::new(MistralPolicy::new(files.id.clone(), model, self.running_max)))
    }
}
