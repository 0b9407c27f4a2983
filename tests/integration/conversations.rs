//! Conversations that the server keeps: for their owner alone, never overwritten silently, gone when deleted.

use crate::support::{Answer, TestApp};
use hone::store::users::Role;
use reqwest::Method;
use serde_json::{Value, json};

async fn put(app: &TestApp, key: &str, id: &str, body: Value) -> Answer {
    let request = app.request(Method::PUT, &format!("/v1/conversations/{id}"), key).json(&body);
    Answer::of(request.send().await.expect("an answer")).await
}

async fn delete(app: &TestApp, key: &str, path: &str) -> Answer {
    Answer::of(app.request(Method::DELETE, path, key).send().await.expect("an answer")).await
}

fn document(revision: u64, title: &str) -> Value {
    json!({"revision": revision, "title": title, "system": "Be brief.", "sampling": {"temperature": 0.5}, "shown": "t3", "turns": [
        {"id": "t1", "role": "user", "content": "Why is the sky BLÅ?"},
        {"id": "t2", "parent": "t1", "role": "assistant", "content": "Scattering.", "policy": "base_echo", "extra": {"stopped": true}},
        {"id": "t3", "parent": "t1", "role": "assistant", "content": "Rayleigh."},
    ]})
}

fn titles(list: &Answer) -> Vec<&str> {
    list.body["conversations"].as_array().expect("a list").iter().filter_map(|c| c["title"].as_str()).collect()
}

#[actix_web::test]
async fn a_conversation_is_kept_as_a_whole_found_renamed_exported_and_deleted() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    for (id, title) in [("c1", "the sky"), ("c2", "cooking")] {
        let mut body = document(0, title);
        body["turns"][1]["content"] = json!(format!("all about {title}"));
        let kept = put(&app, &key, id, body).await;
        assert_eq!((kept.status, &kept.body["revision"]), (200, &json!(1)), "{kept:?}");
    }
    let whole = app.get("/v1/conversations/c1", &key).await.body;
    assert_eq!(whole["turns"][1]["extra"], json!({"stopped": true}));
    assert_eq!((&whole["turns"][2]["parent"], &whole["shown"]), (&json!("t1"), &json!("t3")));
    assert_eq!((&whole["system"], &whole["sampling"]), (&json!("Be brief."), &json!({"temperature": 0.5})));

    let list = app.get("/v1/conversations", &key).await;
    assert_eq!((titles(&list), &list.body["total"]), (vec!["cooking", "the sky"], &json!(2)));
    assert_eq!(titles(&app.get("/v1/conversations?q=ABOUT+cook", &key).await), ["cooking"]);
    assert_eq!(titles(&app.get("/v1/conversations?q=blå", &key).await).len(), 2, "in any case, beyond ASCII too");
    assert_eq!(titles(&app.get("/v1/conversations?q=content", &key).await), Vec::<&str>::new(), "words, not the JSON");
    let second = app.get("/v1/conversations?limit=1&offset=1", &key).await;
    assert_eq!((titles(&second), &second.body["total"]), (vec!["the sky"], &json!(2)));
    assert_eq!(app.get("/v1/conversations?limit=0", &key).await.error(), (400, "invalid_value", Some("limit")));

    let rename = app.request(Method::PUT, "/v1/conversations/c1/title", &key).json(&json!({"title": " sky "}));
    let renamed = Answer::of(rename.send().await.expect("an answer")).await;
    assert_eq!((&renamed.body["title"], &renamed.body["revision"]), (&json!("sky"), &json!(2)));
    let file = app.get("/v1/conversations/c1/export?format=markdown", &key).await;
    let text = file.body.as_str().expect("a text");
    assert!(text.starts_with("# sky\n") && text.contains("**You**") && text.contains("Rayleigh."), "{text}");
    assert!(!text.contains("all about"), "the shown branch only: {text}");
    assert!(file.headers["content-disposition"].to_str().expect("text").contains("conversation.md"));
    assert_eq!(app.get("/v1/conversations/c1/export", &key).await.body["turns"][0]["id"], "t1");

    assert_eq!(delete(&app, &key, "/v1/conversations/c1").await.status, 204);
    assert_eq!(app.get("/v1/conversations/c1", &key).await.error().0, 404);
    assert_eq!(titles(&app.get("/v1/conversations", &key).await), ["cooking"]);
    let late = put(&app, &key, "c1", document(2, "back")).await;
    assert_eq!(late.error().0, 404, "another tab doesn't bring it back unasked");
}

#[actix_web::test]
async fn two_tabs_do_not_overwrite_each_other() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    assert_eq!(put(&app, &key, "c", document(0, "one")).await.status, 200);
    assert_eq!(put(&app, &key, "c", document(1, "two")).await.body["revision"], 2);
    let stale = put(&app, &key, "c", document(1, "three")).await;
    assert_eq!(stale.error(), (409, "conflict", None));
    let said = stale.body["error"]["message"].as_str().expect("a sentence");
    assert!(said.contains("revision 2") && said.contains("Read it again"), "{said}");
    assert_eq!(put(&app, &key, "c", document(0, "new")).await.error().0, 409);
    assert_eq!(app.get("/v1/conversations/c", &key).await.body["title"], "two");
}

#[actix_web::test]
async fn other_peoples_conversations_are_not_there() {
    let app = TestApp::start().await;
    let (ann, root) = (app.person("ann", Role::User), app.person("root", Role::Admin));
    assert_eq!(put(&app, &ann, "c", document(0, "mine")).await.status, 200);
    for path in ["/v1/conversations/c", "/v1/conversations/c/export"] {
        assert_eq!(app.get(path, &root).await.error().0, 404);
    }
    assert_eq!(delete(&app, &root, "/v1/conversations/c").await.error().0, 404);
    for revision in [0, 1] {
        assert_eq!(put(&app, &root, "c", document(revision, "theirs")).await.error().0, 404);
    }
    assert_eq!(app.get("/v1/conversations", &root).await.body["total"], 0);
    assert_eq!(app.get("/v1/conversations/c", &ann).await.body["title"], "mine");
}

#[actix_web::test]
async fn what_is_no_conversation_is_refused_and_nothing_is_kept() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let turns = |turns: Value| json!({"revision": 0, "title": "t", "turns": turns});
    let turn = |id: &str, parent: Option<&str>| json!({"id": id, "parent": parent, "role": "user", "content": "x"});
    let refused = [
        (turns(json!([turn("a", Some("b")), turn("b", None)])), 422, "turns"),
        (turns(json!([turn("a", None), turn("a", None)])), 422, "turns"),
        (turns(json!([turn("a", Some("a"))])), 422, "turns"),
        (turns(json!([turn("a b", None)])), 422, "turns"),
        (json!({"revision": 0, "title": "t", "shown": "z", "turns": [turn("a", None)]}), 422, "shown"),
        (json!({"revision": 0, "title": "  "}), 422, "title"),
        (json!({"revision": -1, "title": "t"}), 400, "revision"),
        (turns(json!([{"id": "a", "role": "system", "content": "x"}])), 400, "turns[0].role"),
    ];
    for (body, status, param) in refused {
        let answer = put(&app, &key, "c", body.clone()).await;
        let (got, _, at) = answer.error();
        assert_eq!((got, at), (status, Some(param)), "{body}");
    }
    assert_eq!(put(&app, &key, "c%20d", document(0, "t")).await.error(), (422, "unprocessable", Some("id")));
    let large = json!({"revision": 0, "title": "t", "system": "x".repeat(3 << 20)});
    assert_eq!(put(&app, &key, "c", large).await.error().0, 413);
    assert_eq!(app.get("/v1/conversations", &key).await.body["total"], 0);
}

async fn said(app: &TestApp, key: &str, text: &str) -> Value {
    let ask = json!({"messages": [{"role": "user", "content": text}]});
    app.post("/v1/chat/completions", key, ask).await.body["id"].clone()
}

/// The prompts that a snapshot would hold now.
fn learned(app: &TestApp) -> Vec<String> {
    let data = app.snapshot();
    let mut all: Vec<String> =
        data.prompts.iter().chain(&data.held_out_prompts).map(|p| p.messages[0].content.clone()).collect();
    all.sort();
    all
}

#[actix_web::test]
async fn what_is_not_recorded_or_deleted_is_not_learned_from() {
    let app = TestApp::start().await;
    let (key, bob) = (app.person("ann", Role::User), app.person("bob", Role::User));
    let (quiet, gone, other) =
        (said(&app, &key, "quiet").await, said(&app, &key, "gone").await, said(&app, &bob, "others").await);
    assert_eq!(learned(&app), ["gone", "others", "quiet"]);
    let with = |revision: u64, record: bool, completion: &Value| {
        json!({"revision": revision, "title": "t", "record": record,
               "turns": [{"id": "a", "role": "assistant", "content": "x", "completion": completion}]})
    };
    assert_eq!(put(&app, &key, "quiet", with(0, false, &quiet)).await.status, 200);
    assert_eq!(put(&app, &key, "gone", with(0, true, &gone)).await.status, 200);
    assert_eq!(put(&app, &key, "stolen", with(0, false, &other)).await.status, 200);
    assert_eq!(learned(&app), ["gone", "others"], "another's answer can't be taken out that way");
    assert_eq!(put(&app, &key, "quiet", with(1, true, &quiet)).await.status, 200);
    assert_eq!(learned(&app), ["gone", "others", "quiet"]);
    let gone = gone.as_str().expect("an id");
    assert_eq!(app.post(&format!("/v1/completions/{gone}/rating"), &key, json!({"thumb": "up"})).await.status, 200);
    assert_eq!(delete(&app, &key, "/v1/conversations/gone").await.status, 204);
    assert_eq!(learned(&app), ["others", "quiet"]);

    let data = app.get("/v1/me/data", &key).await.body;
    assert_eq!(data["conversations"].as_array().map(Vec::len), Some(2));
    assert_eq!(data["conversations"][0]["document"]["turns"][0]["id"], "a");
    assert_eq!(data["conversations"][0]["record"], true);
    assert_eq!(delete(&app, &key, "/v1/me/data").await.body["erased"]["conversations"], 2);
    assert_eq!(app.get("/v1/conversations", &key).await.body["total"], 0);
    assert_eq!(learned(&app), ["others"]);
}
