//! `serving.swap = "drain"`: where memory holds one policy only. Of all policies that are loaded here one is in memory; who asks for another waits
//! until its running answers have ended, then it is unloaded and the other loaded. Nobody is refused for that, and no answer is cut.
//! May use: any engine. Fair: a swap that waits goes before answers that came after it.

use super::{SharedPolicy, relay};
use async_trait::async_trait;
use hone_domain::ids::PolicyId;
use hone_domain::{Engine, EngineError, GenerateRequest, LoadedPolicy, PolicyFiles, StreamEvent};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// The one policy in memory; none only while another is loaded, or where neither that nor the one before could be.
type Seat = RwLock<Option<Held>>;

struct Held {
    files: PolicyFiles,
    policy: SharedPolicy,
}

/// Loads through another engine, one policy at a time.
pub struct DrainEngine {
    engine: Arc<dyn Engine>,
    seat: Arc<Seat>,
}

impl DrainEngine {
    /// With nothing in memory yet.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, seat: Arc::default() }
    }
}

#[async_trait]
impl Engine for DrainEngine {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn serves(&self, base_dir: &Path) -> bool {
        self.engine.serves(base_dir)
    }

    fn needs_merged(&self, base_dir: &Path) -> bool {
        self.engine.needs_merged(base_dir)
    }

    async fn load(&self, files: &PolicyFiles) -> Result<SharedPolicy, EngineError> {
        let mut policy = Seated {
            engine: Arc::clone(&self.engine),
            seat: Arc::clone(&self.seat),
            files: files.clone(),
            context_tokens: 0,
        };
        policy.context_tokens = policy.in_memory().await?.policy.context_tokens();
        Ok(Arc::new(policy))
    }
}

/// A policy that is in memory when it is asked.
struct Seated {
    engine: Arc<dyn Engine>,
    seat: Arc<Seat>,
    files: PolicyFiles,
    context_tokens: usize,
}

/// A policy that stays in memory as long as this is kept.
struct InMemory {
    policy: SharedPolicy,
    _kept: OwnedRwLockReadGuard<Option<Held>>,
}

impl Seated {
    /// # Errors
    /// When it can't be loaded; the one before it is loaded again then.
    async fn in_memory(&self) -> Result<InMemory, EngineError> {
        let of_this = |held: &&Held| held.files.id == self.files.id;
        let kept = Arc::clone(&self.seat).read_owned().await;
        if let Some(policy) = kept.as_ref().filter(of_this).map(|held| SharedPolicy::clone(&held.policy)) {
            return Ok(InMemory { policy, _kept: kept });
        }
        drop(kept);
        let mut seat = Arc::clone(&self.seat).write_owned().await;
        let policy = match seat.as_ref().filter(of_this) {
            // Somebody else was faster.
            Some(held) => SharedPolicy::clone(&held.policy),
            None => self.exchange(&mut seat).await?,
        };
        Ok(InMemory { policy, _kept: seat.downgrade() })
    }

    async fn exchange(&self, seat: &mut Option<Held>) -> Result<SharedPolicy, EngineError> {
        let before = seat.take().map(|held| held.files);
        tracing::info!(policy = %self.files.id, instead_of = before.as_ref().map(|files| files.id.as_str()), "loading into the memory of the one before");
        match self.engine.load(&self.files).await {
            Ok(policy) => {
                *seat = Some(Held { files: self.files.clone(), policy: SharedPolicy::clone(&policy) });
                Ok(policy)
            }
            Err(e) => {
                if let Some(files) = before {
                    let policy = self.engine.load(&files).await?;
                    *seat = Some(Held { files, policy });
                }
                Err(e)
            }
        }
    }
}

#[async_trait]
impl LoadedPolicy for Seated {
    fn id(&self) -> &PolicyId {
        &self.files.id
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    async fn generate(&self, request: GenerateRequest) -> Result<UnboundedReceiver<StreamEvent>, EngineError> {
        let in_memory = self.in_memory().await?;
        let events = in_memory.policy.generate(request).await?;
        Ok(relay(events, move |_| {
            let _until_the_end = &in_memory;
        }))
    }

    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.in_memory().await?.policy.logprobs(tokens).await
    }
}
