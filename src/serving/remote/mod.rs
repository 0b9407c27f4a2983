//! `--engine remote`: OpenAI-compatible servers elsewhere compute the answers; hone keeps the loop (feedback, gate, swap). Several replicas
//! of one model share the load. With `remote.adapters = "vllm"` a trained policy is loaded on all of them as a LoRA adapter: under a name that
//! was never used before, checked on each (200 is no proof), and unloaded when its last answer has ended.
//! May use: domain, reqwest. What goes over the wire is in `client`, what comes back as an
//! answer in `answer`.

mod answer;
mod client;
mod policy;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use client::Replica;
use hone_domain::{Engine, EngineError, LoadedPolicy, PolicyFiles};
use policy::RemotePolicy;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The `[remote]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConfig {
    /// The replicas, "http://host:port" each; all serve the same base model.
    pub urls: Vec<String>,
    /// The name under which they serve the base model.
    pub model: String,
    /// What they want as bearer token.
    pub api_key: Option<String>,
    /// How they take adapters: "none" or "vllm".
    pub adapters: Adapters,
    /// The path under which they see this data folder; none: the same as here.
    pub data_dir: Option<PathBuf>,
    /// Prompt and answer together, where they don't say it themselves.
    pub context_tokens: usize,
    /// How long a replica may take to answer anything but a stream, and to begin one.
    pub timeout_seconds: u64,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            model: String::new(),
            api_key: None,
            adapters: Adapters::None,
            data_dir: None,
            context_tokens: 4096,
            timeout_seconds: 60,
        }
    }
}

/// How a server takes adapters while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adapters {
    /// Not at all: only the base is served.
    None,
    /// `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter` (vLLM with `VLLM_ALLOW_RUNTIME_LORA_UPDATING`).
    Vllm,
}

/// Servers elsewhere.
pub struct RemoteEngine {
    replicas: Vec<Arc<Replica>>,
    config: RemoteConfig,
    /// The folder here that `config.data_dir` names there.
    data_dir: PathBuf,
    /// Makes the names of loaded adapters new.
    loads: AtomicU64,
}

impl RemoteEngine {
    /// Over the replicas of the configuration; `data_dir` is hone's own data folder.
    ///
    /// # Errors
    /// What the configuration lacks.
    pub fn new(config: RemoteConfig, data_dir: &Path) -> Result<Self, String> {
        if config.urls.is_empty() || config.model.is_empty() {
            return Err("the remote engine needs `remote.urls` (where the servers are) and `remote.model` (what they call the base model): \
                        set both in hone.toml or the environment"
                .into());
        }
        let replicas: Result<Vec<_>, String> =
            config.urls.iter().map(|url| Replica::new(url, &config).map(Arc::new)).collect();
        Ok(Self { replicas: replicas?, config, data_dir: data_dir.to_owned(), loads: AtomicU64::new(0) })
    }

    /// A name that no server has seen: a server may go on answering with what it loaded under an old one.
    fn new_name(&self, files: &PolicyFiles) -> String {
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{}@{}-{}", files.id, started.as_millis(), self.loads.fetch_add(1, Ordering::Relaxed))
    }

    /// The adapter's folder as the replicas see it.
    fn there(&self, adapter: &Path) -> Result<PathBuf, EngineError> {
        let Some(data_there) = &self.config.data_dir else {
            return std::path::absolute(adapter).map_err(|e| EngineError::Load(format!("{}: {e}", adapter.display())));
        };
        let inside = adapter.strip_prefix(&self.data_dir);
        let inside =
            inside.map_err(|_| EngineError::Load(format!("{} lies outside of the data folder", adapter.display())))?;
        Ok(data_there.join(inside))
    }

    /// Loads an adapter everywhere, or nowhere.
    async fn load_adapter(&self, files: &PolicyFiles, adapter: &Path) -> Result<String, EngineError> {
        if self.config.adapters == Adapters::None {
            let hint = "set `remote.adapters = \"vllm\"` for servers that do";
            return Err(EngineError::Load(format!("the remote servers take no adapters: {hint}")));
        }
        let (name, path) = (self.new_name(files), self.there(adapter)?);
        for (at, replica) in self.replicas.iter().enumerate() {
            let loaded = match replica.load_adapter(&name, &path).await {
                Ok(()) => replica.prove(&name).await,
                Err(e) => Err(e),
            };
            if let Err(e) = loaded {
                // The one that failed too: it may have loaded it after all.
                policy::unload(&self.replicas[..=at], &name).await;
                return Err(EngineError::Load(e.to_string()));
            }
        }
        Ok(name)
    }
}

#[async_trait]
impl Engine for RemoteEngine {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn needs_merged(&self, _: &Path) -> bool {
        false
    }

    async fn load(&self, files: &PolicyFiles) -> Result<Arc<dyn LoadedPolicy>, EngineError> {
        let adapter = match &files.adapter_dir {
            Some(adapter) => Some(self.load_adapter(files, adapter).await?),
            None => None,
        };
        let name = adapter.clone().unwrap_or_else(|| self.config.model.clone());
        let mut context_tokens = usize::MAX;
        for replica in &self.replicas {
            let told = replica.context_tokens(&name).await.map_err(|e| EngineError::Load(e.to_string()))?;
            context_tokens = context_tokens.min(told.unwrap_or(self.config.context_tokens));
        }
        let id = files.id.clone();
        Ok(Arc::new(RemotePolicy::new(id, name, adapter.is_some(), self.replicas.clone(), context_tokens)))
    }
}
