//! The swap under concurrent requests, roll-back, unloading, a failing load, and the serve check through an engine.

use super::*;
use async_trait::async_trait;
use hone_domain::{FinishReason, GenerateRequest, Sampling, StreamEvent, TokenEvent};
use std::path::Path;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc;

const TOKENS: usize = 20;

/// An engine whose every token names its policy, so that a mixed answer shows. It can't load what is called "broken". Counts what it has in
/// memory.
#[derive(Default)]
struct NamingEngine {
    loaded: Arc<AtomicUsize>,
    loaded_max: Arc<AtomicUsize>,
}

struct NamingPolicy(PolicyId, Arc<AtomicUsize>);

impl Drop for NamingPolicy {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Engine for NamingEngine {
    fn name(&self) -> &'static str {
        "naming"
    }
    fn needs_merged(&self, _: &Path) -> bool {
        false
    }
    async fn load(&self, files: &PolicyFiles) -> Result<SharedPolicy, EngineError> {
        if files.id.as_str() == "broken" {
            return Err(EngineError::Load("half a file".into()));
        }
        self.loaded_max.fetch_max(self.loaded.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Ok(Arc::new(NamingPolicy(files.id.clone(), Arc::clone(&self.loaded))))
    }
}

#[async_trait]
impl LoadedPolicy for NamingPolicy {
    fn id(&self) -> &PolicyId {
        &self.0
    }
    fn context_tokens(&self) -> usize {
        1000
    }
    async fn generate(&self, _: GenerateRequest) -> Result<mpsc::UnboundedReceiver<StreamEvent>, EngineError> {
        let (send, events) = mpsc::unbounded_channel();
        let text = self.0.to_string();
        tokio::spawn(async move {
            for _ in 0..TOKENS {
                tokio::task::yield_now().await;
                let token = TokenEvent { text: text.clone(), logprob: None, top: vec![] };
                let _gone = send.send(StreamEvent::Token(token));
            }
            let finish = FinishReason::Stop;
            let _gone = send.send(StreamEvent::Done { finish, prompt_tokens: 1, completion_tokens: TOKENS });
        });
        Ok(events)
    }
    async fn logprobs(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let each = if self.0.as_str() == "skewed" { -2.0 } else { -1.0 };
        Ok(vec![each; tokens.len().saturating_sub(1)])
    }
}

fn files(id: &str) -> PolicyFiles {
    PolicyFiles { id: PolicyId::from_raw(id), base_dir: "base".into(), adapter_dir: None, merged_dir: None }
}

async fn serving() -> Arc<Serving> {
    Serving::start(Arc::new(NamingEngine::default()), &files("a"), &ServingConfig::default()).await.expect("starts")
}

/// One request as a handler makes it: admit, `live` once, read to the end. Returns the policy and the tokens' names.
async fn request(serving: &Serving) -> (String, Vec<String>) {
    let _permit = serving.admit(&UserId::from_raw("ann"), 1).await.expect("the queue has room");
    let policy = serving.live();
    let request = GenerateRequest::new(vec![], Sampling::default());
    let mut events = policy.generate(request).await.expect("starts");
    let mut names = Vec::new();
    while let Some(StreamEvent::Token(token)) = events.recv().await {
        names.push(token.text);
    }
    (policy.id().to_string(), names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_mixes_policies_while_they_are_swapped() {
    swaps_under_traffic(serving().await, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_memory_holds_one_policy_requests_wait_and_none_fails() {
    let engine = NamingEngine::default();
    let loaded_max = Arc::clone(&engine.loaded_max);
    let config = ServingConfig { swap: SwapMode::Drain, ..ServingConfig::default() };
    let serving = Serving::start(Arc::new(engine), &files("a"), &config).await.expect("starts");
    assert!(serving.load(&files("broken")).await.is_err());
    assert_eq!(request(&serving).await.0, "a", "what can't be loaded leaves the one before it");
    swaps_under_traffic(serving, 100).await;
    assert_eq!(loaded_max.load(Ordering::SeqCst), 1);
}

/// Eight clients, and as many swaps: each answer is of one policy, and whole.
async fn swaps_under_traffic(serving: Arc<Serving>, swaps: usize) {
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (serving, over) = (Arc::clone(&serving), Arc::clone(&over));
            tokio::spawn(async move {
                let mut answered_by = std::collections::BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    let (id, names) = request(&serving).await;
                    assert_eq!(names, vec![id.clone(); TOKENS]);
                    answered_by.insert(id);
                }
                answered_by
            })
        })
        .collect();
    for i in 0..swaps {
        let policy = serving.load(&files(&format!("p{i}"))).await.expect("loads");
        serving.publish(policy);
        tokio::time::sleep(std::time::Duration::from_micros(200)).await;
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        let answered_by = reader.await.expect("no answer mixed two policies");
        assert!(answered_by.len() > 2, "the swaps happened under traffic: {answered_by:?}");
    }
}

#[tokio::test]
async fn rolls_back_to_the_previous_policy_and_forward_again() {
    let serving = serving().await;
    assert!(serving.roll_back().is_err(), "there is nothing to go back to");
    serving.publish(serving.load(&files("b")).await.expect("loads"));
    assert_eq!(serving.live().id().as_str(), "b");
    assert_eq!(serving.roll_back().expect("goes back").id().as_str(), "a");
    assert_eq!(serving.live().id().as_str(), "a");
    assert_eq!(serving.previous().expect("kept").id().as_str(), "b");
    assert!(serving.by_id(&PolicyId::from_raw("b")).is_some());
    // Publishing what is live already must not make it its own predecessor.
    serving.publish(serving.live());
    assert_eq!(serving.previous().expect("kept").id().as_str(), "b");
}

#[tokio::test]
async fn an_old_policy_is_unloaded_when_its_last_request_ends() {
    let serving = serving().await;
    let request = serving.live();
    let watched: Weak<dyn LoadedPolicy> = Arc::downgrade(&request);
    for id in ["b", "c"] {
        serving.publish(serving.load(&files(id)).await.expect("loads"));
    }
    assert!(watched.upgrade().is_some(), "a request still holds it");
    assert!(serving.by_id(&PolicyId::from_raw("a")).is_none(), "no new request may have it");
    drop(request);
    assert!(watched.upgrade().is_none(), "and now it is gone");
}

#[tokio::test]
async fn a_load_that_fails_leaves_the_live_policy() {
    let serving = serving().await;
    assert!(matches!(serving.load(&files("broken")).await.err(), Some(EngineError::Load(_))));
    let (id, names) = request(&serving).await;
    assert_eq!((id.as_str(), names.len()), ("a", TOKENS));
}

#[tokio::test]
async fn the_serve_check_tells_a_skewed_policy() {
    let serving = serving().await;
    let check = ServeCheck { texts: vec![CheckText { tokens: vec![1, 2, 3], logprobs: vec![-1.0, -1.0] }] };
    assert!(serving.serve_check(&serving.live(), &check).await.expect("compares").passed);
    let skewed = serving.load(&files("skewed")).await.expect("loads");
    let report = serving.serve_check(&skewed, &check).await.expect("compares");
    assert!(!report.passed && (report.mean_abs_diff_nats - 1.0).abs() < 1e-9, "{report:?}");
}
