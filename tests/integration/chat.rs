//! `POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients use them.

use crate::support::{Setup, TestApp, events};
use hone::serving::echo::EchoEngine;
use hone::store::users::Role;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn ask(extra: Value) -> Value {
    let mut body = json!({"model": "champion", "messages": [{"role": "user", "content": "one two three"}]});
    for (key, value) in extra.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

async fn stats(app: &TestApp) -> Value {
    let operator = app.person("olga", Role::Operator);
    app.get("/v1/stats", &operator).await.body
}

#[actix_web::test]
async fn a_whole_answer_names_its_policy_and_is_logged() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let answer = app.post("/v1/chat/completions", &key, ask(json!({"n": 2, "seed": 1, "unknown_field": [1]}))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = &answer.body;
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["system_fingerprint"], "base_echo");
    assert_eq!(answer.headers["x-hone-policy"], "base_echo");
    assert_eq!(body["choices"].as_array().map(Vec::len), Some(2));
    assert_eq!(body["choices"][1]["index"], 1);
    assert_eq!(
        body["choices"][0]["message"],
        json!({"role": "assistant", "content": "one two three", "refusal": null})
    );
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"], json!({"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}));
    assert_eq!(stats(&app).await["completions"], 2);
}

#[actix_web::test]
async fn a_stream_has_openais_shape() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let request =
        ask(json!({"stream": true, "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 0}));
    let answer = app.post("/v1/chat/completions", &key, request).await;
    assert_eq!(answer.headers["x-hone-policy"], "base_echo");
    let events = events(&answer);
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let chunks = &events[..events.len() - 1];
    let texts = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str());
    assert_eq!(texts.collect::<String>(), "one two three");
    for chunk in chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["system_fingerprint"], "base_echo");
        assert_eq!(chunk["id"], chunks[0]["id"]);
    }
    let (end, usage) = (&chunks[chunks.len() - 2], &chunks[chunks.len() - 1]);
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(end["usage"], Value::Null, "there, and null");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], 6);
    assert_eq!(chunks[1]["choices"][0]["logprobs"]["content"][0]["logprob"], 0.0);
    assert_eq!(stats(&app).await["completions"], 1);
}

#[actix_web::test]
async fn limits_and_stops_are_kept() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let short = app.post("/v1/chat/completions", &key, ask(json!({"max_tokens": 2}))).await;
    assert_eq!(short.body["choices"][0]["finish_reason"], "length");
    assert_eq!(short.body["usage"]["completion_tokens"], 2);
    let newer = app.post("/v1/chat/completions", &key, ask(json!({"max_tokens": 9, "max_completion_tokens": 1}))).await;
    assert_eq!(newer.body["usage"]["completion_tokens"], 1, "the newer name wins");
    let far = app.post("/v1/chat/completions", &key, ask(json!({"max_tokens": 100_000_000}))).await;
    assert_eq!(far.status, 200, "clamped to the context");
    let stopped = app.post("/v1/chat/completions", &key, ask(json!({"stop": ["two"]}))).await;
    assert!(!stopped.body["choices"][0]["message"]["content"].as_str().expect("text").contains("two"));
}

#[actix_web::test]
async fn store_false_is_served_and_never_kept() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    for stream in [false, true] {
        let answer = app.post("/v1/chat/completions", &key, ask(json!({"store": false, "stream": stream}))).await;
        assert_eq!(answer.status, 200);
    }
    let whole = app.post("/v1/chat/completions", &key, ask(json!({"store": false}))).await;
    let id = whole.body["id"].as_str().expect("an id");
    let rating = app.post(&format!("/v1/completions/{id}/rating"), &key, json!({"thumb": "up"})).await;
    assert_eq!(rating.status, 404);
    assert_eq!(stats(&app).await["completions"], 0);
}

#[actix_web::test]
async fn an_answer_that_nobody_waits_for_is_cancelled_and_not_kept() {
    let mut setup =
        Setup { engine: Arc::new(EchoEngine { token_delay: Duration::from_millis(50) }), ..Setup::default() };
    setup.config.serving.running_max = 1;
    setup.config.serving.waiting_max = 0;
    let app = TestApp::with(setup).await;
    let key = app.person("ann", Role::User);
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(400)}], "stream": true});
    let mut response =
        app.request(reqwest::Method::POST, "/v1/chat/completions", &key).json(&long).send().await.expect("an answer");
    assert!(response.chunk().await.expect("a chunk").is_some());
    drop(response);
    // The 400 tokens would hold the only place for 20 s.
    let since = Instant::now();
    while app.post("/v1/chat/completions", &key, ask(json!({"store": false}))).await.status == 503 {
        assert!(since.elapsed() < Duration::from_secs(5), "the place is free as soon as the client is gone");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stats(&app).await["completions"], 0);
}

#[actix_web::test]
async fn a_client_that_does_not_read_takes_nobodys_turn() {
    let mut setup = Setup::default();
    (setup.config.serving.running_max, setup.config.serving.waiting_max) = (1, 0);
    let app = TestApp::with(setup).await;
    let key = app.person("ann", Role::User);
    // Computed at once, and far more than the sockets between us hold.
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(4000)}], "stream": true, "n": 9, "max_tokens": 4000});
    let request = app.request(reqwest::Method::POST, "/v1/chat/completions", &key).json(&long);
    let mut unread = request.send().await.expect("an answer");
    assert!(unread.chunk().await.expect("a chunk").is_some());
    let since = Instant::now();
    while app.post("/v1/chat/completions", &key, ask(json!({"store": false}))).await.status == 503 {
        assert!(since.elapsed() < Duration::from_secs(10), "the place is free as soon as the answer is computed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(unread);
}

#[actix_web::test]
async fn a_request_that_gives_up_waiting_is_never_answered() {
    let mut setup =
        Setup { engine: Arc::new(EchoEngine { token_delay: Duration::from_millis(50) }), ..Setup::default() };
    setup.config.serving.running_max = 1;
    let app = TestApp::with(setup).await;
    let key = app.person("ann", Role::User);
    let words = json!({"messages": [{"role": "user", "content": "word ".repeat(16)}]});
    let request = |body: &Value| app.request(reqwest::Method::POST, "/v1/chat/completions", &key).json(body);
    let running = request(&words).send();
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        request(&words).timeout(Duration::from_millis(200)).send().await
    };
    let (first, second) = tokio::join!(running, waiting);
    assert_eq!(first.expect("an answer").status(), 200);
    assert!(second.expect_err("gives up").is_timeout());
    // In its turn now, were it still waiting, and 0.8 s long.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(stats(&app).await["completions"], 1);
}

#[actix_web::test]
async fn models_are_listed_and_others_refused() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let models = app.get("/v1/models", &key).await;
    let ids: Vec<_> = models.body["data"].as_array().expect("a list").iter().map(|m| m["id"].clone()).collect();
    assert_eq!(ids, ["champion", "base_echo"]);
    assert_eq!(app.get("/v1/models/champion", &key).await.body["policy"], "base_echo");
    assert_eq!(app.get("/v1/models/gpt-4", &key).await.error(), (404, "model_not_found", None));
    assert_eq!(app.post("/v1/chat/completions", &key, ask(json!({"model": "base_echo"}))).await.status, 200);
    let other = app.post("/v1/chat/completions", &key, ask(json!({"model": "gpt-4"}))).await;
    assert_eq!(other.error(), (404, "model_not_found", Some("model")));
}
