//! Functions that a model calls: offered, called and answered for, through hone to a server that can, and refused where the engine can't.

use crate::support::{Answer, Setup, TestApp, events};
use actix_web::{App, HttpResponse, HttpServer, web};
use hone::serving::remote::{RemoteConfig, RemoteEngine};
use hone::store::users::Role;
use hone_learn::tiny::TinySpec;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What the stand-in was asked, newest last.
type Asked = web::Data<Mutex<Vec<Value>>>;

async fn models() -> HttpResponse {
    HttpResponse::Ok().json(json!({"object": "list", "data": [{"id": "the-base", "max_model_len": 512}]}))
}

/// A server whose model calls whatever function it is offered, twice where it may, and reports what the last one returned.
async fn chat(asked: Asked, body: web::Json<Value>) -> HttpResponse {
    let body = body.into_inner();
    let chunk =
        |delta: Value, finish: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let call = |index: usize, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    let last = body["messages"].as_array().and_then(|all| all.last().cloned()).unwrap_or_default();
    let mut chunks = Vec::new();
    if last["role"] == "tool" {
        chunks.push(chunk(
            json!({"content": format!("It is {}.", last["content"].as_str().unwrap_or_default())}),
            Value::Null,
        ));
        chunks.push(chunk(json!({}), json!("stop")));
    } else if let Some(name) = body["tools"][0]["function"]["name"].as_str() {
        let most = if body["parallel_tool_calls"] == false { 1 } else { 2 };
        for index in 0..most {
            let begin = json!({"index": index, "id": format!("call_{index}"), "type": "function", "function": {"name": name, "arguments": ""}});
            chunks.push(chunk(json!({"content": null, "tool_calls": [begin]}), Value::Null));
            chunks.push(chunk(call(index, "{\"city\": "), Value::Null));
            chunks.push(chunk(call(index, "\"Oslo\"}"), Value::Null));
        }
        chunks.push(chunk(json!({}), json!("tool_calls")));
    } else {
        chunks.push(chunk(json!({"content": "No tools."}), json!("stop")));
    }
    chunks.push(json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}));
    asked.lock().expect("no panic").push(body);
    let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    HttpResponse::Ok().content_type("text/event-stream").body(text + "data: [DONE]\n\n")
}

/// hone before the stand-in.
async fn start() -> (TestApp, Asked) {
    let asked: Asked = web::Data::new(Mutex::default());
    let data = asked.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/v1/models", web::get().to(models))
            .route("/v1/chat/completions", web::post().to(chat))
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    let config = RemoteConfig { urls: vec![url], model: "the-base".into(), ..RemoteConfig::default() };
    let engine = RemoteEngine::new(config, Path::new("/here")).expect("a configuration");
    let base = Some(TinySpec::default());
    (TestApp::with(Setup { engine: Arc::new(engine), base, ..Setup::default() }).await, asked)
}

fn weather() -> Value {
    // In an order that a sorted map wouldn't keep, and with a field that hone doesn't know.
    let parameters = json!({"type": "object", "properties": {"when": {"type": "string"}, "city": {"type": "string"}}});
    json!({"type": "function", "function": {"name": "weather", "parameters": parameters, "strict": true, "x": 1}})
}

fn ask(extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "How is the weather in Oslo?"}]});
    for (key, value) in extra.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn call(id: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Oslo\"}"}})
}

#[actix_web::test]
async fn a_function_is_called_and_its_result_answered() {
    let (app, asked) = start().await;
    let key = app.person("ann", Role::User);
    let offer = json!({"tools": [weather()], "tool_choice": "required", "parallel_tool_calls": false});
    let called = app.post("/v1/chat/completions", &key, ask(offer)).await;
    assert_eq!(called.status, 200, "{called:?}");
    let choice = &called.body["choices"][0];
    let message = json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call("call_0")]});
    assert_eq!((&choice["message"], &choice["finish_reason"]), (&message, &json!("tool_calls")));
    let passed = asked.lock().expect("no panic").last().cloned().expect("was asked");
    assert_eq!(passed["tools"].to_string(), json!([weather()]).to_string(), "as it was sent, to the order of its keys");
    assert_eq!((&passed["tool_choice"], &passed["parallel_tool_calls"]), (&json!("required"), &json!(false)));

    // What clients send next: the answer as it came, and what the function returned.
    let mut next = ask(json!({"tools": [weather()]}));
    let said = next["messages"].as_array_mut().expect("a list");
    said.push(message);
    said.push(json!({"role": "tool", "tool_call_id": "call_0", "content": "raining"}));
    let answered = app.post("/v1/chat/completions", &key, next).await;
    assert_eq!(answered.body["choices"][0]["message"]["content"], "It is raining.", "{answered:?}");
    assert_eq!(answered.body["choices"][0]["message"].get("tool_calls"), None);
    let passed = asked.lock().expect("no panic").last().cloned().expect("was asked");
    assert_eq!(passed["messages"][1]["tool_calls"], json!([call("call_0")]));
    assert_eq!(passed["messages"][2], json!({"role": "tool", "content": "raining", "tool_call_id": "call_0"}));
    assert_eq!((passed.get("tool_choice"), passed.get("parallel_tool_calls")), (None, None), "as the server likes");
}

#[actix_web::test]
async fn streamed_calls_come_in_pieces() {
    let (app, _) = start().await;
    let key = app.person("ann", Role::User);
    let request = ask(json!({"tools": [weather()], "stream": true, "stream_options": {"include_usage": true}}));
    let events = events(&app.post("/v1/chat/completions", &key, request).await);
    let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
    let pieces: Vec<&Value> = deltas().filter_map(|delta| delta["tool_calls"].get(0)).collect();
    let begun =
        json!({"index": 0, "id": "call_0", "type": "function", "function": {"name": "weather", "arguments": ""}});
    assert_eq!((pieces.len(), pieces[0]), (6, &begun));
    assert_eq!(pieces[1], &json!({"index": 0, "function": {"arguments": "{\"city\": "}}));
    let second: String =
        pieces.iter().filter(|p| p["index"] == 1).filter_map(|p| p["function"]["arguments"].as_str()).collect();
    assert_eq!(second, "{\"city\": \"Oslo\"}");
    assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "tool_calls"));
    assert_eq!(events[events.len() - 2]["usage"]["completion_tokens"], 9);
    assert_eq!(events.last(), Some(&json!("[DONE]")));
}

#[actix_web::test]
async fn such_turns_are_logged_and_never_learned_from_or_compared() {
    let (app, _) = start().await;
    let (ann, olga) = (app.person("ann", Role::User), app.person("olga", Role::Operator));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let called = app.post("/v1/chat/completions", &ann, ask(json!({"tools": [weather()]}))).await;
        ids.push(called.body["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(app.get("/v1/stats", &olga).await.body["completions"], 2);
    let mine = app.get("/v1/me/data", &ann).await.body;
    let kept = &mine["completions"][0];
    assert_eq!((&kept["finish_reason"], &kept["tools"]["offered"]), (&json!("tool_calls"), &json!([weather()])));
    assert_eq!(kept["tools"]["calls"], json!([call("call_0"), call("call_1")]));
    let thumb = app.post(&format!("/v1/completions/{}/rating", ids[0]), &ann, json!({"thumb": "up"})).await;
    assert_eq!(thumb.status, 200, "{thumb:?}");
    assert_eq!(app.get("/v1/prompts", &olga).await.body["total"], 0, "nothing of it is in the data room");
    let data = app.snapshot();
    assert_eq!((data.prompts.len(), data.held_out_prompts.len()), (0, 0));
    let pair = app.post("/v1/comparisons/pair", &ann, json!({"a": ids[0], "b": ids[1]})).await;
    assert!(
        pair.status == 409 && pair.body["error"]["message"].as_str().is_some_and(|m| m.contains("tools")),
        "{pair:?}"
    );
    // Without tools the same prompt is learned from as ever.
    assert_eq!(
        app.post("/v1/chat/completions", &ann, ask(json!({}))).await.body["choices"][0]["message"]["content"],
        "No tools."
    );
    assert_eq!(app.get("/v1/prompts", &olga).await.body["total"], 1);
    let data = app.snapshot();
    assert_eq!(data.prompts.len() + data.held_out_prompts.len(), 1);
    let erased = Answer::of(app.request(Method::DELETE, "/v1/me/data", &ann).send().await.expect("an answer")).await;
    assert_eq!(erased.status, 200, "{erased:?}");
    assert_eq!(app.get("/v1/stats", &olga).await.body["completions"], 0);
}

#[actix_web::test]
async fn what_makes_no_sense_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::Labeler);
    let result = json!({"role": "tool", "tool_call_id": "call_0", "content": "raining"});
    let called = json!({"role": "assistant", "tool_calls": [call("call_0")]});
    let user = json!({"role": "user", "content": "a"});
    for (extra, param) in [
        (json!({"tools": [weather()]}), "tools"),
        (json!({"messages": [user, called, result]}), "tools"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0]"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"messages": [user, result]}), "messages"),
        (json!({"messages": [user, {"role": "assistant", "content": null}, user]}), "messages[1].content"),
        (
            json!({"messages": [user, {"role": "assistant", "tool_calls": [{"id": 3}]}, user]}),
            "messages[1].tool_calls[0].id",
        ),
    ] {
        let refused = app.post("/v1/chat/completions", &key, ask(extra)).await;
        assert_eq!(refused.error(), (400, "invalid_value", Some(param)), "{refused:?}");
    }
    assert_eq!(
        app.post("/v1/chat/completions", &key, ask(json!({"tools": [], "tool_choice": "auto"}))).await.status,
        200
    );
    for path in ["/v1/comparisons", "/v1/demonstrations"] {
        let request = json!({"messages": [user, called, result], "k": 2, "ideal": "it rains"});
        assert_eq!(app.post(path, &key, request).await.error().0, 400, "{path}: only texts");
    }
}
