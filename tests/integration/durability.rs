//! The real binary, killed and started again: what was answered with 2xx is there, and two servers never share a folder.

use crate::binary::{run, serve};
use crate::support::{Setup, TestApp};
use hone::serving::echo::EchoEngine;
use hone::store::users::Role;
use hone::store::{Store, stats};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

#[actix_web::test]
async fn kill_9_right_after_the_answer_loses_nothing() {
    let data = TempDir::new().expect("temp dir");
    let (_, added, _) = run(data.path(), &["--json", "user", "add", "ann", "--role", "labeler"]);
    let key = added["key"].as_str().expect("a key").to_owned();
    assert_eq!(added["role"], "labeler");
    let client = Client::new();
    let mut ranked = Vec::new();
    for round in 0..3 {
        let mut server = serve(data.path());
        let post = |path: String, body: Value| {
            let request = client.post(format!("{}{path}", server.url)).bearer_auth(&key).json(&body);
            async move { request.send().await.expect("an answer").json::<Value>().await.expect("JSON") }
        };
        let ask = json!({"messages": [{"role": "user", "content": format!("round {round}")}], "k": 2});
        let comparison = post("/v1/comparisons".into(), ask).await;
        let id = comparison["id"].as_str().expect("an id").to_owned();
        let c: Vec<_> = comparison["candidates"].as_array().expect("two").iter().map(|c| c["id"].clone()).collect();
        let answer = post(format!("/v1/comparisons/{id}/ranking"), json!({"ranking": [[c[1]], [c[0]]]})).await;
        assert_eq!(answer["id"], id.as_str());
        server.kill();
        ranked.push((id, json!([[c[1]], [c[0]]])));
    }
    let server = serve(data.path());
    for (id, ranking) in ranked {
        let stored = client.get(format!("{}/v1/comparisons/{id}", server.url)).bearer_auth(&key);
        let stored: Value = stored.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(stored["ranking"]["ranking"], ranking);
    }
}

#[actix_web::test]
async fn a_stream_that_runs_when_the_server_is_told_to_stop_ends_as_it_should() {
    let engine = Arc::new(EchoEngine { token_delay: Duration::from_millis(50) });
    let mut app = TestApp::with(Setup { engine, ..Setup::default() }).await;
    let key = app.person("ann", Role::User);
    let ask = json!({"messages": [{"role": "user", "content": "word ".repeat(20)}], "stream": true});
    let mut response =
        app.request(Method::POST, "/v1/chat/completions", &key).json(&ask).send().await.expect("an answer");
    let mut text = response.chunk().await.expect("a chunk").expect("text").to_vec();
    app.stop();
    while let Some(chunk) = response.chunk().await.expect("the stream isn't cut off") {
        text.extend(chunk);
    }
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let path = app.data.path().to_owned();
    let counts = move || Store::open(&path).expect("opens").read_blocking(stats::counts).expect("counts");
    assert_eq!(tokio::task::spawn_blocking(counts).await.expect("joins").completions, 1, "and it is kept");
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let data = TempDir::new().expect("temp dir");
    let _first = serve(data.path());
    let (code, _, stderr) = run(data.path(), &["serve", "--engine", "echo", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("another hone is serving"), "{stderr}");
    let (code, _, _) = run(data.path(), &["user", "list"]);
    assert_eq!(code, Some(0), "people can be managed while the server runs");
}

#[test]
fn exit_codes_and_messages_tell_wrong_use_from_failure() {
    let data = TempDir::new().expect("temp dir");
    assert_eq!(run(data.path(), &["dance"]).0, Some(2));
    let file = data.path().join("hone.toml");
    std::fs::write(&file, "lisen = 'x'\n").expect("writes");
    let (code, _, stderr) = run(data.path(), &["--config", file.to_str().expect("text"), "config"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("`lisen`"), "{stderr}");
    let (code, _, stderr) = run(data.path(), &["serve", "--engine", "native", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("model pull"), "{stderr}");
    let (code, config, _) = run(data.path(), &["--json", "config"]);
    assert_eq!(code, Some(0));
    assert_eq!(config["listen"], json!({"value": "127.0.0.1:8080", "source": "default"}));
}
