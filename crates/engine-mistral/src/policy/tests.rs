//! What only this file can bring about: mistralrs's engine thread breaks, or is held up by its own stream.

use super::*;
use hone_domain::{Message, Sampling};
use hone_learn::tiny;
use mistralrs::{CustomLogitsProcessor, Tensor};

/// Breaks the engine thread in the middle of a step.
struct Break;

impl CustomLogitsProcessor for Break {
    fn apply(&self, _logits: &Tensor, _context: &[u32]) -> mistralrs::Result<Tensor> {
        panic!("this test breaks the engine thread on purpose")
    }
}

async fn policy() -> (tempfile::TempDir, MistralPolicy) {
    let dir = tempfile::tempdir().expect("a temp folder");
    let base_dir = dir.path().join("base");
    // The context is so long that an answer up to it is still running whenever a test looks.
    let spec = tiny::TinySpec { hidden: 64, heads: 2, kv_heads: 1, context: 50_000, ..tiny::TinySpec::default() };
    tiny::write(&base_dir, &spec).expect("a tiny base");
    let loaded = crate::load::load(base_dir, 4).await.expect("loads");
    (dir, MistralPolicy::new(PolicyId::base("tiny"), loaded, 4))
}

async fn end(mut events: UnboundedReceiver<StreamEvent>) -> Option<StreamEvent> {
    let mut last = None;
    while let Some(event) = events.recv().await {
        last = Some(event);
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_engine_thread_fails_its_answers_and_the_next_request_revives_it() {
    let (_dir, policy) = policy().await;
    let ask = |max_tokens| {
        let sampling = Sampling { temperature: 0.0, max_tokens, ..Sampling::default() };
        GenerateRequest::new(vec![Message::user("hello")], sampling)
    };
    for _ in 0..2 {
        let running = policy.generate(ask(50_000)).await.expect("starts");
        let (response, mut responses) = channel(RESPONSES_MAX);
        let mut breaking = request(vec![8, 9], SamplingParams::neutral(), response);
        breaking.logits_processors = Some(vec![Arc::new(Break)]);
        policy.served.send(breaking).await.expect("is taken");
        while responses.recv().await.is_some() {}
        let last = end(running).await;
        assert!(matches!(last, Some(StreamEvent::Failed(EngineError::Failed(_)))), "{last:?}");
        let next = end(policy.generate(ask(5)).await.expect("starts")).await;
        assert!(matches!(next, Some(StreamEvent::Done { completion_tokens: 5, .. })), "{next:?}");
    }
}

/// What the suite's `a_reader_that_stalls_holds_up_nobody` asks of every engine, asked of the stream that mistralrs itself offers (of
/// capacity 1 in `Model::stream_chat_request`), fails: whoever doesn't read it holds up everybody. This is what the way through `Choose` is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_mistralrs_own_stream_that_stalls_holds_up_everybody() {
    let (_dir, policy) = policy().await;
    let sampling = Sampling { temperature: 0.0, max_tokens: 5, ..Sampling::default() };
    let ask = || GenerateRequest::new(vec![Message::user("hello")], sampling.clone());
    let in_time = Duration::from_secs(5);

    let (response, mut stalled) = channel(1);
    let mut streamed =
        request(vec![8, 9], SamplingParams { max_len: Some(200), ..SamplingParams::neutral() }, response);
    streamed.is_streaming = true;
    policy.served.send(streamed).await.expect("is taken");
    assert!(stalled.recv().await.is_some(), "it streams");
    // It may get a few tokens before the stream is full, but never its 100.
    let longer = Sampling { max_tokens: 100, ..sampling.clone() };
    let other = policy.generate(GenerateRequest { sampling: longer, ..ask() }).await.expect("starts");
    let mut other = std::pin::pin!(end(other));
    let waited = tokio::time::timeout(in_time, &mut other).await;
    assert!(waited.is_err(), "nobody reads the stream, and yet another answer ends: {waited:?}");

    // Read again, it lets the other go on.
    while stalled.recv().await.is_some() {}
    assert!(matches!(other.await, Some(StreamEvent::Done { completion_tokens: 100, .. })));
    // The same stall of an answer that hone streams holds up nobody.
    let long = Sampling { max_tokens: 50_000, ..sampling.clone() };
    let unread = policy.generate(GenerateRequest { sampling: long, ..ask() }).await.expect("starts");
    let other = tokio::time::timeout(in_time, async { end(policy.generate(ask()).await.expect("starts")).await }).await;
    assert!(matches!(other, Ok(Some(StreamEvent::Done { completion_tokens: 5, .. }))), "{other:?}");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_logits_and_answers_may_be_asked_for_at_once() {
    let (_dir, policy) = policy().await;
    let policy = Arc::new(policy);
    let messages = vec![Message::user("hello")];
    // As long as the answers' prompt: mistralrs computes sequences of one length in one step.
    let text = policy.tokenizer.encode_prompt(&messages).expect("encodes");
    for round in 0..5 {
        let scored: Vec<_> = (0..4)
            .map(|_| {
                let (policy, text) = (Arc::clone(&policy), text.clone());
                tokio::spawn(async move { policy.logprobs(&text).await })
            })
            .collect();
        for seed in 0..4 {
            let sampling = Sampling { seed: Some(seed), max_tokens: 10, ..Sampling::default() };
            let answer = policy.generate(GenerateRequest::new(messages.clone(), sampling)).await;
            let last = end(answer.expect("starts")).await;
            assert!(matches!(last, Some(StreamEvent::Done { .. })), "round {round}: {last:?}");
        }
        for scored in scored {
            let scored = scored.await.expect("no panic").expect("computes");
            assert_eq!(scored.len(), text.len() - 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_goes_with_the_last_that_needs_it() {
    let (_dir, policy) = policy().await;
    let served = Arc::downgrade(&policy.served);
    let sampling = Sampling { temperature: 0.0, max_tokens: 100, ..Sampling::default() };
    let answer = policy.generate(GenerateRequest::new(vec![Message::user("hello")], sampling));
    let events = answer.await.expect("starts");
    drop(policy);
    assert!(matches!(end(events).await, Some(StreamEvent::Done { .. })), "the answer that ran is finished");
    // Its task lets go a moment after the last event.
    for _ in 0..200 {
        if served.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the model is still held");
}
