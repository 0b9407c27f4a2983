//! An engine that dies: the answer it broke is told as an error, readiness is gone, and comes back when it computes again.

use crate::support::{Setup, TestApp};
use async_trait::async_trait;
use hone::serving::SharedPolicy;
use hone::serving::echo::EchoEngine;
use hone::store::users::Role;
use hone_domain::ids::PolicyId;
use hone_domain::{Engine, EngineError, GenerateRequest, LoadedPolicy, PolicyFiles, StreamEvent};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// An echo whose thread is dead while it is told so: answers break off, as they do when a thread panics.
struct Mortal(Arc<AtomicBool>);

struct MortalPolicy(SharedPolicy, Arc<AtomicBool>);

#[async_trait]
impl Engine for Mortal {
    fn name(&self) -> &'static str {
        "echo"
    }
    fn needs_merged(&self, _: &Path) -> bool {
        false
    }
    async fn load(&self, files: &PolicyFiles) -> Result<SharedPolicy, EngineError> {
        let policy = EchoEngine::default().load(files).await?;
        Ok(Arc::new(MortalPolicy(policy, Arc::clone(&self.0))))
    }
}

#[async_trait]
impl LoadedPolicy for MortalPolicy {
    fn id(&self) -> &PolicyId {
        self.0.id()
    }
    fn context_tokens(&self) -> usize {
        self.0.context_tokens()
    }
    async fn generate(&self, request: GenerateRequest) -> Result<UnboundedReceiver<StreamEvent>, EngineError> {
        match self.1.load(Ordering::SeqCst) {
            true => Ok(unbounded_channel().1),
            false => self.0.generate(request).await,
        }
    }
    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.0.logprobs(tokens).await
    }
}

#[actix_web::test]
async fn a_dead_engine_is_told_and_readiness_comes_back_with_it() {
    let dead = Arc::new(AtomicBool::new(false));
    let app = TestApp::with(Setup { engine: Arc::new(Mortal(Arc::clone(&dead))), ..Setup::default() }).await;
    let ann = app.person("ann", Role::User);
    let ask = || app.post("/v1/chat/completions", &ann, json!({"messages": [{"role": "user", "content": "hello"}]}));
    let ready = || app.get("/readyz", "");
    assert_eq!((ask().await.status, ready().await.status), (200, 200));
    dead.store(true, Ordering::SeqCst);
    let broken = ask().await;
    assert_eq!(broken.error(), (500, "internal_error", None), "{broken:?}");
    assert_eq!(ready().await.error().0, 503);
    assert_eq!(app.get("/healthz", "").await.status, 200, "the process itself lives");
    dead.store(false, Ordering::SeqCst);
    assert_eq!(ready().await.status, 200, "asked for a token, it gave one");
    assert_eq!(ask().await.status, 200);
}
