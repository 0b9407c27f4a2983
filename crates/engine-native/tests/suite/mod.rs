//! What every engine must do. Each function is one promise of `trait Engine`, checked on a tiny random model that is
//! written on the spot; the engines' own test files call them all, with an engine that computes one answer at a time.

use hone_domain::ids::PolicyId;
use hone_domain::{
    AnswerFormat, Engine, EngineError, FinishReason, GenerateRequest, LoadedPolicy, Message, PolicyFiles, Role,
    Sampling, StreamEvent, TokenEvent, ToolCall, ToolChoice, Tools,
};
use hone_learn::{Adapter, Base, LoraConfig, evaluate, merge, tiny};
use hone_text::ChatTokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

const CONTEXT: usize = 1024;
/// Nothing here takes this long; a test that does hangs.
const HANGS: Duration = Duration::from_secs(120);

/// A base and a policy on it, as files.
pub(crate) struct Fixture {
    dir: TempDir,
    pub(crate) base: PolicyFiles,
    pub(crate) tuned: PolicyFiles,
}

/// Writes a tiny base, an adapter that changes its answers, and the two merged.
pub(crate) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("a temp folder");
    let path = |name: &str| dir.path().join(name);
    let spec = tiny::TinySpec { seed: 3, hidden: 64, layers: 2, heads: 2, kv_heads: 1, ffn: 128, context: CONTEXT };
    tiny::write(&path("base"), &spec).expect("a tiny base");
    let model = Base::open(&path("base")).expect("opens");
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut adapter =
        Adapter::new(model.config(), LoraConfig { r: 16, ..LoraConfig::default() }, false, &mut rng).expect("fits");
    for param in adapter.params.iter_mut().filter(|p| p.name.contains("lora_B")) {
        param.data.iter_mut().enumerate().for_each(|(i, b)| *b = ((i * 37 % 19) as f32 - 9.0) / 100.0);
    }
    adapter.save(&path("adapter"), "tiny").expect("saves");
    merge::write_merged(&path("base"), &path("adapter"), &path("merged")).expect("merges");
    let base = PolicyFiles { id: PolicyId::base("tiny"), base_dir: path("base"), adapter_dir: None, merged_dir: None };
    let id = PolicyId::from_raw("pol_tuned");
    let tuned =
        PolicyFiles { id, adapter_dir: Some(path("adapter")), merged_dir: Some(path("merged")), ..base.clone() };
    Fixture { dir, base, tuned }
}

impl Fixture {
    fn tokenizer(&self) -> ChatTokenizer {
        ChatTokenizer::open(&self.base.base_dir).expect("opens")
    }
}

fn greedy(max_tokens: usize) -> Sampling {
    Sampling { temperature: 0.0, max_tokens, ..Sampling::default() }
}

fn ask(text: &str, sampling: Sampling) -> GenerateRequest {
    GenerateRequest::new(vec![Message::user(text)], sampling)
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
struct Answered {
    tokens: Vec<TokenEvent>,
    calls: Vec<ToolCall>,
    finish: FinishReason,
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl Answered {
    fn text(&self) -> String {
        self.tokens.iter().map(|t| t.text.as_str()).collect()
    }
}

async fn read(mut events: UnboundedReceiver<StreamEvent>) -> Answered {
    let (mut tokens, mut calls) = (Vec::new(), Vec::new());
    loop {
        let event = tokio::time::timeout(HANGS, events.recv()).await.expect("the engine doesn't hang");
        match event.expect("the channel doesn't close before the end") {
            StreamEvent::Token(token) => tokens.push(token),
            StreamEvent::Done { finish, prompt_tokens, completion_tokens } => {
                assert_eq!(events.recv().await, None, "nothing comes after the end");
                return Answered { tokens, calls, finish, prompt_tokens, completion_tokens };
            }
            StreamEvent::ToolCall(delta) => delta.grow(&mut calls),
            StreamEvent::Failed(error) => panic!("{error}"),
        }
    }
}

async fn answer(policy: &Arc<dyn LoadedPolicy>, request: GenerateRequest) -> Answered {
    read(policy.generate(request).await.expect("starts")).await
}

pub(crate) async fn holds_an_answer_to_a_schema(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["mood", "sure"],
        "properties": {"mood": {"enum": ["glad", "sad"]}, "sure": {"type": "boolean"}}});
    for seed in 0..4 {
        let format = Some(AnswerFormat::JsonSchema(schema.clone()));
        let sampling = Sampling { seed: Some(seed), max_tokens: 100, format, ..Sampling::default() };
        let answered = answer(&policy, ask("hello", sampling)).await;
        let value: Value = serde_json::from_str(&answered.text()).expect("JSON, though the model is random");
        assert!(["glad", "sad"].contains(&value["mood"].as_str().expect("a mood")), "{value}");
        assert!(value["sure"].is_boolean() && answered.finish == FinishReason::Stop, "{value}");
    }
    let format = Some(AnswerFormat::JsonSchema(json!({"type": "objekt"})));
    let refused = policy.generate(ask("hello", Sampling { format, ..Sampling::default() })).await;
    assert!(matches!(refused.err(), Some(EngineError::BadFormat(_))));
}

pub(crate) async fn calls_a_function_that_it_must(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    // A reference, as clients' libraries write schemas of more than one class.
    let parameters = json!({"type": "object", "additionalProperties": false, "required": ["mood", "sure"],
        "properties": {"mood": {"$ref": "#/$defs/mood"}, "sure": {"type": "boolean"}}, "$defs": {"mood": {"enum": ["glad", "sad"]}}});
    let offer = |parameters: &Value| Tools {
        offered: vec![json!({"type": "function", "function": {"name": "feel", "parameters": parameters}})],
        choice: Some(ToolChoice::Required),
        parallel: Some(false),
    };
    let with = |tools, seed| {
        let sampling = Sampling { seed: Some(seed), max_tokens: 200, ..Sampling::default() };
        GenerateRequest { tools, ..ask("hello", sampling) }
    };
    for seed in 0..4 {
        let answered = answer(&policy, with(offer(&parameters), seed)).await;
        assert_eq!((answered.text().as_str(), answered.finish, answered.calls.len()), ("", FinishReason::ToolCalls, 1));
        let ToolCall { id, function } = &answered.calls[0];
        let arguments: Value = serde_json::from_str(&function.arguments).expect("JSON, though the model is random");
        assert!(["glad", "sad"].contains(&arguments["mood"].as_str().expect("a mood")), "{arguments}");
        assert!(arguments["sure"].is_boolean() && function.name == "feel" && !id.is_empty(), "{answered:?}");
        // What comes next: the call, its result, and no need to call anything.
        let result = Message { tool_call_id: Some(id.clone()), ..Message::new(Role::Tool, "noted") };
        let called = Message { tool_calls: answered.calls.clone(), ..Message::assistant("") };
        let mut next = with(Tools { choice: None, ..offer(&parameters) }, seed);
        next.messages.extend([called, result]);
        let bare = GenerateRequest { tools: Tools::default(), ..next.clone() };
        let (next, bare) = (answer(&policy, next).await, answer(&policy, bare).await);
        assert!(bare.calls.is_empty() && next.prompt_tokens > bare.prompt_tokens, "the offer is part of the prompt");
    }
    let refused = policy.generate(with(offer(&json!({"type": "objekt"})), 1)).await;
    assert!(matches!(refused.err(), Some(EngineError::BadTools(_))));
}

pub(crate) async fn streams_an_answer_and_counts_its_tokens(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    assert_eq!((policy.id(), policy.context_tokens()), (&files.base.id, CONTEXT));
    let request = ask("hello", greedy(12));
    let prompt = files.tokenizer().encode_prompt(&request.messages).expect("encodes").len();
    let first = answer(&policy, request.clone()).await;
    assert_eq!((first.finish, first.completion_tokens, first.prompt_tokens), (FinishReason::Length, 12, prompt));
    assert_eq!(first.tokens.len(), 12);
    assert_eq!(answer(&policy, request).await, first, "temperature 0 leaves no chance");
}

pub(crate) async fn a_seed_repeats_an_answer(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    let with_seed = |seed| ask("hello", Sampling { seed, max_tokens: 24, ..Sampling::default() });
    let first = answer(&policy, with_seed(Some(1))).await;
    assert_eq!(answer(&policy, with_seed(Some(1))).await, first);
    assert_ne!(answer(&policy, with_seed(Some(2))).await.text(), first.text());
    assert_ne!(answer(&policy, with_seed(None)).await.text(), answer(&policy, with_seed(None)).await.text());
}

pub(crate) async fn ends_before_a_stop_text(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    let whole = answer(&policy, ask("hello", greedy(24))).await.text();
    let stop: String = whole.chars().skip(6).take(3).collect();
    let before = whole.split(&stop).next().expect("there is a start").to_owned();
    let stopped = answer(&policy, ask("hello", Sampling { stop: vec![stop], ..greedy(24) })).await;
    assert_eq!((stopped.text(), stopped.finish), (before, FinishReason::Stop));
}

pub(crate) async fn a_reader_that_leaves_cancels(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    let long = || ask("hello", greedy(CONTEXT));
    let begun = Instant::now();
    let whole = answer(&policy, long()).await;
    let whole_takes = begun.elapsed();
    assert_eq!(whole.finish, FinishReason::Length, "only an answer up to the context is long enough for this test");
    let mut events = policy.generate(long()).await.expect("starts");
    assert!(matches!(events.recv().await, Some(StreamEvent::Token(_))));
    drop(events);
    let begun = Instant::now();
    answer(&policy, ask("hello", greedy(1))).await;
    let waited = begun.elapsed();
    assert!(waited < whole_takes / 2, "waited {waited:?} for an answer that nobody reads ({whole_takes:?} in full)");
}

pub(crate) async fn a_reader_that_stalls_holds_up_nobody(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    // The engine computes one answer at a time: it must get rid of all the first one's tokens though nobody reads them.
    let stalled = policy.generate(ask("hello", greedy(CONTEXT))).await.expect("starts");
    assert_eq!(answer(&policy, ask("another", greedy(8))).await.completion_tokens, 8);
    assert_eq!(read(stalled).await.finish, FinishReason::Length, "the stalled reader lost nothing");
}

pub(crate) async fn refuses_a_prompt_that_fills_the_context(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    let refused = policy.generate(ask(&"x".repeat(CONTEXT), greedy(1))).await.err();
    assert!(
        matches!(refused, Some(EngineError::PromptTooLong { tokens, max: CONTEXT }) if tokens > CONTEXT),
        "{refused:?}"
    );
    let refused = policy.logprobs(&vec![8; CONTEXT + 1]).await.err();
    assert!(matches!(refused, Some(EngineError::PromptTooLong { .. })), "{refused:?}");
    answer(&policy, ask("hello", greedy(1))).await;
}

pub(crate) async fn computes_what_the_trainer_computes(engine: &dyn Engine) {
    let files = fixture();
    let (base, tokenizer) = (Base::open(&files.base.base_dir).expect("opens"), files.tokenizer());
    let mut tokens = tokenizer.encode_prompt(&[Message::user("What is it?")]).expect("encodes");
    tokens.extend(tokenizer.encode_answer("It is a test of 3 things: {all, of, them}").expect("encodes"));
    for policy in [&files.base, &files.tuned] {
        let adapter = policy.adapter_dir.as_ref().map(|dir| Adapter::load(dir, base.config()).expect("loads"));
        let trained = evaluate::logprobs(&base, adapter.as_ref(), &tokens).expect("computes");
        let served = engine.load(policy).await.expect("loads").logprobs(&tokens).await.expect("computes");
        assert_eq!(served.len(), tokens.len() - 1);
        let apart = trained.iter().zip(&served).map(|(t, s)| (t - s).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-3, "{}: {apart} nats apart", policy.id);
    }
}

pub(crate) async fn reports_the_logprobs_of_what_it_says(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.tuned).await.expect("loads");
    let request = ask("hello", Sampling { logprobs: Some(3), ..greedy(10) });
    let tokenizer = files.tokenizer();
    let mut tokens = tokenizer.encode_prompt(&request.messages).expect("encodes");
    let prompt = tokens.len();
    let said = answer(&policy, request).await;
    tokens.extend(tokenizer.encode_text(&said.text(), false).expect("encodes"));
    assert_eq!(tokens.len(), prompt + 10, "each character is a token");
    let scored = policy.logprobs(&tokens).await.expect("computes");
    for (token, scored) in said.tokens.iter().zip(&scored[prompt - 1..]) {
        let logprob = token.logprob.expect("asked for");
        assert!((logprob - scored).abs() < 1e-3, "{logprob} when said, {scored} when scored");
        assert_eq!((token.top.len(), &token.top[0]), (3, &(token.text.clone(), logprob)), "greedy takes the likeliest");
        assert!(token.top.is_sorted_by(|a, b| a.1 >= b.1));
    }
}

pub(crate) async fn policies_loaded_together_keep_apart(engine: &dyn Engine) {
    let files = fixture();
    let base = engine.load(&files.base).await.expect("loads");
    let tuned = engine.load(&files.tuned).await.expect("loads");
    let said = |policy| answer(policy, ask("hello", greedy(32)));
    let (of_base, of_tuned) = tokio::join!(said(&base), said(&tuned));
    assert_ne!(of_base.text(), of_tuned.text());
    for _ in 0..3 {
        let (again_base, again_tuned) = tokio::join!(said(&base), said(&tuned));
        assert_eq!((&again_base, &again_tuned), (&of_base, &of_tuned));
    }
}

pub(crate) async fn an_answer_outlives_its_policys_last_handle(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.tuned).await.expect("loads");
    let whole = answer(&policy, ask("hello", greedy(200))).await;
    let events = policy.generate(ask("hello", greedy(200))).await.expect("starts");
    drop(policy);
    assert_eq!(read(events).await, whole);
    let again = engine.load(&files.tuned).await.expect("loads again");
    assert_eq!(answer(&again, ask("hello", greedy(200))).await, whole);
}

pub(crate) async fn refuses_broken_files_and_goes_on(engine: &dyn Engine) {
    let files = fixture();
    let policy = engine.load(&files.base).await.expect("loads");
    let mut missing = files.tuned.clone();
    missing.base_dir = files.dir.path().join("nowhere");
    missing.merged_dir = Some(missing.base_dir.clone());
    let half = files.dir.path().join("half");
    std::fs::create_dir(&half).expect("created");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(files.base.base_dir.join(name), half.join(name)).expect("copied");
    }
    let weights = std::fs::read(files.base.base_dir.join("model.safetensors")).expect("reads");
    std::fs::write(half.join("model.safetensors"), &weights[..weights.len() / 2]).expect("written");
    let half = PolicyFiles { id: PolicyId::from_raw("pol_half"), base_dir: half, ..files.base.clone() };
    for broken in [&missing, &half] {
        let refused = engine.load(broken).await.err();
        assert!(matches!(refused, Some(EngineError::Load(_))), "{refused:?}");
    }
    answer(&policy, ask("hello", greedy(4))).await;
}

/// For engines that compute answers together: what else they compute changes no answer, not in one bit of its log-probs. Some prompts
/// are long, some begin alike, some are the same; answers come and go while others are being made.
pub(crate) async fn a_crowd_changes_no_answer(engine: &dyn Engine) {
    let files = fixture();
    let policies = [engine.load(&files.base).await.expect("loads"), engine.load(&files.tuned).await.expect("loads")];
    let request = |i: usize| {
        let text = format!("{}{}", "once upon a time ".repeat(i % 4 * 8), i / 8);
        let seed = Some(i as u64);
        ask(&text, Sampling { seed, max_tokens: 8 + 5 * i, logprobs: Some(2), ..Sampling::default() })
    };
    let mut alone = Vec::new();
    for i in 0..16 {
        alone.push(answer(&policies[i % 2], request(i)).await);
    }
    let asked: Vec<_> = (0..alone.len())
        .map(|i| {
            let policy = Arc::clone(&policies[i % 2]);
            tokio::spawn(async move { answer(&policy, request(i)).await })
        })
        .collect();
    for (i, (asked, alone)) in asked.into_iter().zip(&alone).enumerate() {
        assert_eq!(&asked.await.expect("answers"), alone, "answer {i}");
    }
}
