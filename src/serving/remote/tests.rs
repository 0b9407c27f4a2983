//! The driver against a stand-in for vLLM: its endpoints, and the faults that such servers are known for.

use super::*;
use actix_web::{App, HttpResponse, HttpServer, web};
use hone_domain::ids::PolicyId;
use hone_domain::{FinishReason, GenerateRequest, Message, Sampling, StreamEvent};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const BASE: &str = "the-base";

/// What a stand-in does wrong.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Says 200 to a load and loads nothing.
    lies: bool,
    /// Answers with nothing but what it has, late.
    slow: Option<Duration>,
    /// Breaks off every answer after its first word.
    breaks_off: bool,
    /// Its log-probabilities are others.
    skewed: bool,
}

#[derive(Default)]
struct StandIn {
    faults: Faults,
    loaded: Mutex<BTreeSet<String>>,
    ever: Mutex<Vec<String>>,
    answered: AtomicU64,
}

impl StandIn {
    fn knows(&self, model: &Value) -> bool {
        model.as_str().is_some_and(|name| name == BASE || self.loaded.lock().expect("no panic").contains(name))
    }
}

type Shared = web::Data<StandIn>;

async fn models(stand_in: Shared) -> HttpResponse {
    let loaded = stand_in.loaded.lock().expect("no panic").clone();
    let names = [BASE.to_owned()].into_iter().chain(loaded);
    let data: Vec<Value> = names.map(|name| json!({"id": name, "max_model_len": 512})).collect();
    HttpResponse::Ok().json(json!({"object": "list", "data": data}))
}

async fn load(stand_in: Shared, body: web::Json<Value>) -> HttpResponse {
    let name = body["lora_name"].as_str().expect("a name").to_owned();
    assert!(body["lora_path"].as_str().is_some_and(|path| path.starts_with("/there/")), "{body:?}");
    let mut ever = stand_in.ever.lock().expect("no panic");
    assert!(!ever.contains(&name), "a name is never used again: {name}");
    ever.push(name.clone());
    if !stand_in.faults.lies {
        stand_in.loaded.lock().expect("no panic").insert(name);
    }
    HttpResponse::Ok().body("Success")
}

async fn unload(stand_in: Shared, body: web::Json<Value>) -> HttpResponse {
    let removed = stand_in.loaded.lock().expect("no panic").remove(body["lora_name"].as_str().expect("a name"));
    if removed { HttpResponse::Ok().body("Success") } else { HttpResponse::NotFound().body("no such adapter") }
}

async fn chat(stand_in: Shared, body: web::Json<Value>) -> HttpResponse {
    if let Some(slow) = stand_in.faults.slow {
        tokio::time::sleep(slow).await;
    }
    if !stand_in.knows(&body["model"]) {
        return HttpResponse::NotFound().json(json!({"error": {"message": "no such model"}}));
    }
    if body["messages"][0]["content"].as_str().is_some_and(|text| text.len() > 400) {
        return HttpResponse::BadRequest().json(json!({"error": {"message": "maximum context length is 512 tokens"}}));
    }
    if body["stream"] != true {
        return HttpResponse::Ok()
            .json(json!({"choices": [{"finish_reason": "length", "message": {"content": "Hi"}}]}));
    }
    stand_in.answered.fetch_add(1, Ordering::Relaxed);
    let chunk = |delta: &str, finish: Value| json!({"choices": [{"index": 0, "delta": {"content": delta}, "finish_reason": finish}]});
    let mut chunks = vec![chunk("by ", Value::Null)];
    if !stand_in.faults.breaks_off {
        chunks.push(chunk(body["model"].as_str().unwrap_or_default(), json!("stop")));
        chunks.push(json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}));
    }
    let mut text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    text += if stand_in.faults.breaks_off { "" } else { "data: [DONE]\n\n" };
    HttpResponse::Ok().content_type("text/event-stream").body(text)
}

async fn complete(stand_in: Shared, body: web::Json<Value>) -> HttpResponse {
    let tokens = body["prompt"].as_array().expect("tokens").len();
    let each = if stand_in.faults.skewed { -3.0 } else { -1.5 };
    let told: Vec<Value> = (0..=tokens).map(|i| if i == 0 { Value::Null } else { json!(each) }).collect();
    HttpResponse::Ok().json(json!({"choices": [{"logprobs": {"token_logprobs": told}}]}))
}

/// Starts a stand-in; its URL.
fn stand_in(faults: Faults) -> (Shared, String) {
    let shared = web::Data::new(StandIn { faults, ..StandIn::default() });
    let data = shared.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/v1/models", web::get().to(models))
            .route("/v1/load_lora_adapter", web::post().to(load))
            .route("/v1/unload_lora_adapter", web::post().to(unload))
            .route("/v1/chat/completions", web::post().to(chat))
            .route("/v1/completions", web::post().to(complete))
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    (shared, url)
}

fn engine(urls: &[String]) -> RemoteEngine {
    let config = RemoteConfig {
        urls: urls.to_vec(),
        model: BASE.into(),
        adapters: Adapters::Vllm,
        data_dir: Some("/there".into()),
        timeout_seconds: 1,
        ..RemoteConfig::default()
    };
    RemoteEngine::new(config, Path::new("/here")).expect("a configuration")
}

fn files(adapter: Option<&str>) -> PolicyFiles {
    let id = PolicyId::from_raw(if adapter.is_some() { "pol_1" } else { "base_x" });
    PolicyFiles { id, base_dir: "/here/models/x".into(), adapter_dir: adapter.map(Into::into), merged_dir: None }
}

fn request(text: &str) -> GenerateRequest {
    GenerateRequest::new(vec![Message::user(text)], Sampling::default())
}

async fn answer(policy: &dyn LoadedPolicy) -> Result<(String, usize), EngineError> {
    let mut events = policy.generate(request("hi")).await?;
    let mut text = String::new();
    loop {
        match events.recv().await.expect("an end") {
            StreamEvent::Token(token) => text += &token.text,
            StreamEvent::ToolCall(call) => panic!("no function was offered: {call:?}"),
            StreamEvent::Done { finish, prompt_tokens, completion_tokens } => {
                assert_eq!((finish, completion_tokens), (FinishReason::Stop, 2));
                return Ok((text, prompt_tokens));
            }
            StreamEvent::Failed(e) => return Err(e),
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[actix_web::test]
async fn a_policy_is_loaded_everywhere_answers_and_is_unloaded_after_its_last_answer() {
    let (one, first) = stand_in(Faults::default());
    let (two, second) = stand_in(Faults::default());
    let engine = engine(&[first, second]);
    let policy = engine.load(&files(Some("/here/policies/a"))).await.expect("loads");
    let again = engine.load(&files(Some("/here/policies/a"))).await.expect("loads under another name");
    assert_eq!(policy.context_tokens(), 512);
    let (text, prompt_tokens) = answer(policy.as_ref()).await.expect("answers");
    assert!(text.starts_with("by pol_1@") && prompt_tokens == 7, "{text}");
    assert_eq!(policy.logprobs(&[1, 2, 3]).await, Ok(vec![-1.5, -1.5]));
    for _ in 0..6 {
        answer(again.as_ref()).await.expect("answers");
    }
    let running = policy.generate(request("hi")).await.expect("starts");
    drop(policy);
    drop(running);
    for stand_in in [&one, &two] {
        until("unloaded when the last answer has ended", || stand_in.loaded.lock().expect("no panic").len() == 1).await;
    }
    let base = engine.load(&files(None)).await.expect("the base");
    assert_eq!(answer(base.as_ref()).await, Ok((format!("by {BASE}"), 7)));
    assert_eq!(one.ever.lock().expect("no panic").len(), 2, "the base isn't loaded by us");
}

#[actix_web::test]
async fn a_load_that_fails_anywhere_leaves_nothing_anywhere() {
    let (honest, first) = stand_in(Faults::default());
    let (_liar, second) = stand_in(Faults { lies: true, ..Faults::default() });
    let refused = engine(&[first.clone(), second]).load(&files(Some("/here/policies/a"))).await.err();
    assert!(matches!(&refused, Some(EngineError::Load(why)) if why.contains("doesn't serve pol_1@")), "{refused:?}");
    assert!(honest.loaded.lock().expect("no panic").is_empty(), "200 is no proof");
    let down = "http://127.0.0.1:9".to_owned();
    let refused = engine(&[first, down]).load(&files(Some("/here/policies/a"))).await.err();
    assert!(matches!(&refused, Some(EngineError::Load(why)) if why.contains("can't be reached")), "{refused:?}");
    assert!(honest.loaded.lock().expect("no panic").is_empty());
}

#[actix_web::test]
async fn a_slow_or_fallen_replica_is_passed_over_and_a_broken_answer_fails() {
    let (fast, first) = stand_in(Faults::default());
    let (_slow, second) = stand_in(Faults { slow: Some(Duration::from_secs(30)), ..Faults::default() });
    let base = engine(&[second, first]).load(&files(None)).await.expect("both list it");
    for _ in 0..2 {
        answer(base.as_ref()).await.expect("the fast one answers when the slow one says nothing for a second");
    }
    assert_eq!(fast.answered.load(Ordering::Relaxed), 2);
    let (_broken, url) = stand_in(Faults { breaks_off: true, ..Faults::default() });
    let base = engine(&[url]).load(&files(None)).await.expect("loads");
    assert!(matches!(answer(base.as_ref()).await, Err(EngineError::Failed(_))), "half an answer is none");
}

#[actix_web::test]
async fn what_a_server_refuses_is_the_requests_fault_and_skewed_replicas_show() {
    let (_one, first) = stand_in(Faults::default());
    let (_two, second) = stand_in(Faults { skewed: true, ..Faults::default() });
    let base = engine(&[first, second]).load(&files(None)).await.expect("loads");
    let refused = base.generate(request(&"long ".repeat(100))).await.err();
    assert!(
        matches!(&refused, Some(EngineError::BadRequest(why)) if why.contains("512 tokens") && !why.contains("127.0.0.1") && !why.contains('{')),
        "{refused:?}"
    );
    let skewed = base.logprobs(&[1, 2, 3]).await.err();
    assert!(matches!(&skewed, Some(EngineError::Failed(why)) if why.contains("1.500 nats apart")), "{skewed:?}");
}

#[test]
fn the_configuration_says_what_it_lacks() {
    let make = |urls: &[&str], model: &str| {
        let urls = urls.iter().map(ToString::to_string).collect();
        RemoteEngine::new(RemoteConfig { urls, model: model.into(), ..RemoteConfig::default() }, Path::new("/here"))
            .err()
    };
    assert!(make(&[], "m").is_some_and(|why| why.contains("remote.urls")));
    assert!(make(&["here:80"], "m").is_some_and(|why| why.contains("here:80")));
    assert!(make(&["https://a.example"], "m").is_some_and(|why| why.contains("TLS")));
    assert!(make(&["http://a.example"], "m").is_none());
}
