//! Chat over a real model: hone's own engine on a tiny random base.

use crate::support::{Setup, TestApp, events};
use hone::store::users::Role;
use hone_engine_native::NativeEngine;
use hone_learn::tiny::TinySpec;
use serde_json::{Value, json};
use std::sync::Arc;

async fn start() -> (TestApp, String) {
    let base = Some(TinySpec { context: 128, ..TinySpec::default() });
    let app = TestApp::with(Setup { engine: Arc::new(NativeEngine::new(2)), base, ..Setup::default() }).await;
    let key = app.person("ann", Role::User);
    (app, key)
}

fn ask(extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 12});
    for (key, value) in extra.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn content(body: &Value) -> &str {
    body["choices"][0]["message"]["content"].as_str().expect("a text")
}

#[actix_web::test]
async fn the_seed_decides_the_answer_streamed_or_not() {
    let (app, key) = start().await;
    let first = app.post("/v1/chat/completions", &key, ask(json!({"seed": 5}))).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.body["system_fingerprint"], "base_tiny");
    let again = app.post("/v1/chat/completions", &key, ask(json!({"seed": 5}))).await;
    assert_eq!(content(&first.body), content(&again.body));
    let other = app.post("/v1/chat/completions", &key, ask(json!({"seed": 6}))).await;
    assert_ne!(content(&first.body), content(&other.body));
    let streamed = events(&app.post("/v1/chat/completions", &key, ask(json!({"seed": 5, "stream": true}))).await);
    let texts = streamed.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str());
    assert_eq!(texts.collect::<String>(), content(&first.body));
    let several = app.post("/v1/chat/completions", &key, ask(json!({"seed": 5, "n": 3}))).await.body;
    assert_eq!(content(&several), content(&first.body), "the first of several is the same");
    assert_ne!(several["choices"][0]["message"], several["choices"][1]["message"]);
}

#[actix_web::test]
async fn an_answer_is_held_to_the_schema_that_is_asked_for() {
    let (app, key) = start().await;
    let of = |format: Value| ask(json!({"response_format": format, "max_tokens": 60, "seed": 3}));
    let schema = json!({"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "verdict", "strict": true, "schema": schema}});
    let answer = app.post("/v1/chat/completions", &key, of(format)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let verdict: Value = serde_json::from_str(content(&answer.body)).expect("JSON");
    assert!(verdict["sure"].is_boolean(), "{verdict}");
    let object = app.post("/v1/chat/completions", &key, of(json!({"type": "json_object"}))).await;
    assert!(content(&object.body).starts_with('{'), "{object:?}");
    let text = app.post("/v1/chat/completions", &key, of(json!({"type": "text"}))).await;
    assert_eq!(text.status, 200);
    for wrong in [json!({"type": "json_schema", "json_schema": {"schema": {"type": "objekt"}}}), json!({"type": "xml"})]
    {
        let refused = app.post("/v1/chat/completions", &key, of(wrong)).await;
        assert_eq!((refused.status, refused.error().1), (400, "invalid_value"), "{refused:?}");
        assert!(refused.error().2.is_some_and(|param| param.starts_with("response_format")), "{refused:?}");
    }
}

#[actix_web::test]
async fn the_context_bounds_prompt_and_answer() {
    let (app, key) = start().await;
    let long = json!({"messages": [{"role": "user", "content": "a".repeat(500)}]});
    let answer = app.post("/v1/chat/completions", &key, long.clone()).await;
    assert_eq!(answer.error(), (400, "context_length_exceeded", Some("messages")));
    let mut streamed = long;
    streamed["stream"] = json!(true);
    let answer = app.post("/v1/chat/completions", &key, streamed).await;
    assert_eq!(answer.error(), (400, "context_length_exceeded", Some("messages")), "before the stream begins");
    let full = app.post("/v1/chat/completions", &key, ask(json!({"max_tokens": 5000}))).await.body;
    let tokens = full["usage"]["total_tokens"].as_u64().expect("a count");
    assert!(tokens <= 128, "clamped to what the context leaves: {tokens}");
}

#[actix_web::test]
async fn log_probabilities_are_a_distribution() {
    let (app, key) = start().await;
    let body = app.post("/v1/chat/completions", &key, ask(json!({"logprobs": true, "top_logprobs": 20}))).await.body;
    let tokens = body["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
    // The end token counts, and has no text to report.
    let end = u64::from(body["choices"][0]["finish_reason"] == "stop");
    assert_eq!(tokens.len() as u64 + end, body["usage"]["completion_tokens"].as_u64().expect("a count"));
    for token in tokens {
        let top: Vec<f64> =
            token["top_logprobs"].as_array().expect("20").iter().filter_map(|t| t["logprob"].as_f64()).collect();
        assert_eq!(top.len(), 20);
        assert!(top.windows(2).all(|pair| pair[0] >= pair[1]), "likeliest first: {top:?}");
        let mass: f64 = top.iter().map(|logprob| logprob.exp()).sum();
        assert!(mass > 0.0 && mass <= 1.0 + 1e-4, "{mass}");
    }
}

#[actix_web::test]
async fn a_comparison_has_different_answers() {
    let (app, key) = start().await;
    let body = app.post("/v1/comparisons", &key, ask(json!({"k": 4}))).await.body;
    let answers = body["candidates"].as_array().expect("four").iter().map(|c| c["content"].as_str());
    assert!(answers.collect::<std::collections::HashSet<_>>().len() > 1);
}
