//! What is wrong gets a clear answer in OpenAI's shape, and the server goes on.

use crate::support::{Answer, Setup, TestApp};
use hone::serving::echo::EchoEngine;
use hone::store::users::Role;
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

async fn raw(app: &TestApp, key: &str, body: Vec<u8>) -> Answer {
    let request = app.request(Method::POST, "/v1/chat/completions", key).body(body);
    Answer::of(request.send().await.expect("an answer")).await
}

#[actix_web::test]
async fn wrong_parameters_are_named() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let user = json!([{"role": "user", "content": "a"}]);
    let wrong = [
        (json!({}), "invalid_value", None),
        (json!({"messages": []}), "invalid_value", Some("messages")),
        (json!({"messages": [{"role": "user", "content": ""}]}), "invalid_value", Some("messages")),
        (json!({"messages": [{"role": "wizard", "content": "a"}]}), "invalid_value", Some("messages[0].role")),
        (json!({"messages": [{"role": "user", "content": 7}]}), "invalid_value", Some("messages[0].content")),
        (json!({"messages": user, "temperature": "hot"}), "invalid_value", Some("temperature")),
        (json!({"messages": user, "temperature": 3}), "invalid_value", Some("temperature")),
        (json!({"messages": user, "n": 10}), "invalid_value", Some("n")),
        (json!({"messages": user, "max_tokens": 0}), "invalid_value", Some("max_tokens")),
        (json!({"messages": user, "max_tokens": -1}), "invalid_value", Some("max_tokens")),
        (json!({"messages": user, "stop": {"a": 1}}), "invalid_value", Some("stop")),
        (json!({"messages": user, "top_logprobs": 3}), "invalid_value", Some("top_logprobs")),
        (json!({"messages": user, "stream": "yes"}), "invalid_value", Some("stream")),
        (
            json!({"messages": [{"role": "user", "content": "word ".repeat(9000)}]}),
            "context_length_exceeded",
            Some("messages"),
        ),
    ];
    for (body, code, param) in wrong {
        let answer = app.post("/v1/chat/completions", &key, body.clone()).await;
        assert_eq!(answer.error(), (400, code, param), "{}", body.to_string().get(..200).unwrap_or_default());
    }
}

#[actix_web::test]
async fn bodies_that_are_no_json_are_refused() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    assert_eq!(raw(&app, &key, b"{\"messages\": [".to_vec()).await.error(), (400, "invalid_body", None));
    let invalid_utf8 = b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}".to_vec();
    assert_eq!(raw(&app, &key, invalid_utf8).await.error(), (400, "invalid_body", None));
    assert_eq!(raw(&app, &key, b"[]".to_vec()).await.error(), (400, "invalid_body", None));
    let deep = [b"{\"x\": ".to_vec(), vec![b'['; 100_000]].concat();
    assert_eq!(raw(&app, &key, deep).await.error(), (400, "invalid_body", None));
}

#[actix_web::test]
async fn a_50_mb_body_is_refused_and_the_answer_arrives() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    assert_eq!(raw(&app, &key, vec![b' '; 50 << 20]).await.error(), (413, "body_too_large", None));
    assert_eq!(app.get("/v1/me", &key).await.status, 200);
}

#[actix_web::test]
async fn unknown_paths_and_methods_answer_in_json() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    assert_eq!(app.get("/v1/nothing", &key).await.error(), (404, "not_found", None));
    let wrong = app.get("/v1/chat/completions", &key).await;
    assert_eq!(wrong.error(), (405, "method_not_allowed", None));
    assert_eq!(wrong.headers["allow"], "POST");
    assert_eq!(app.get("/v1/comparisons?limit=many", &key).await.error(), (400, "invalid_value", Some("query")));
}

#[actix_web::test]
async fn one_person_cannot_take_all_places() {
    let mut setup = Setup { engine: Arc::new(EchoEngine { token_delay: Duration::from_secs(1) }), ..Setup::default() };
    setup.config.serving.person_max = 2;
    let app = TestApp::with(setup).await;
    let (ann, bob) = (app.person("ann", Role::User), app.person("bob", Role::User));
    let ask = json!({"messages": [{"role": "user", "content": "a b c d e f g h"}], "stream": true, "n": 2});
    let stream = |key: &str| app.request(Method::POST, "/v1/chat/completions", key).json(&ask).send();
    let anns = stream(&ann).await.expect("an answer");
    assert_eq!(anns.status(), 200);
    let refused = app.post("/v1/chat/completions", &ann, ask.clone()).await;
    assert_eq!(refused.error(), (429, "rate_limit_exceeded", None));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(stream(&bob).await.expect("an answer").status(), 200);
    drop(anns);
    let since = std::time::Instant::now();
    while stream(&ann).await.expect("an answer").status() == 429 {
        assert!(since.elapsed() < Duration::from_secs(5), "free as soon as the client is gone");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix_web::test]
async fn a_full_queue_says_when_to_come_back() {
    let mut setup = Setup { engine: Arc::new(EchoEngine { token_delay: Duration::from_secs(1) }), ..Setup::default() };
    setup.config.serving.running_max = 1;
    setup.config.serving.waiting_max = 0;
    let app = TestApp::with(setup).await;
    let key = app.person("ann", Role::User);
    let ask = json!({"messages": [{"role": "user", "content": "a b c d e f g h"}], "stream": true});
    let running = app.request(Method::POST, "/v1/chat/completions", &key).json(&ask).send().await.expect("an answer");
    assert_eq!(running.status(), 200);
    let refused = app.post("/v1/chat/completions", &key, ask).await;
    assert_eq!(refused.error(), (503, "overloaded", None));
    assert!(refused.headers.contains_key("retry-after"));
    drop(running);
}
