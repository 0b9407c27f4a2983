//! People and keys: what admins do with them, what nobody can do, and that it is written down.

use crate::support::{Answer, TestApp};
use hone::store::users::Role;
use reqwest::Method;
use serde_json::{Value, json};

async fn send(app: &TestApp, key: &str, method: Method, path: &str, body: Value) -> Answer {
    Answer::of(app.request(method, path, key).json(&body).send().await.expect("an answer")).await
}

async fn person(app: &TestApp, key: &str, name: &str) -> Value {
    let list = app.get("/v1/users", key).await.body;
    let found = list["users"].as_array().expect("a list").iter().find(|user| user["name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

fn id(person: &Value) -> &str {
    person["id"].as_str().expect("an id")
}

#[actix_web::test]
async fn an_admin_adds_changes_and_shuts_out_people() {
    let app = TestApp::start().await;
    let root = app.person("root", Role::Admin);
    let added = send(&app, &root, Method::POST, "/v1/users", json!({"name": "ann", "role": "user"})).await;
    assert_eq!((added.status, &added.body["role"]), (201, &json!("user")));
    let key = added.body["key"].as_str().expect("a key").to_owned();
    assert_eq!(app.get("/v1/me", &key).await.body["name"], "ann");
    let token = added.body["sign_in"].as_str().expect("a link").strip_prefix("/#/sign-in?token=").expect("a path");
    assert_eq!(app.post("/v1/session", "ignored", json!({"token": token})).await.body["user"]["name"], "ann");
    let again = send(&app, &root, Method::POST, "/v1/users", json!({"name": "ann", "role": "user"})).await;
    assert_eq!(again.error().0, 409);
    assert_eq!(send(&app, &root, Method::POST, "/v1/users", json!({"name": "x", "role": "king"})).await.error().0, 400);

    let ask = json!({"messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(app.post("/v1/chat/completions", &key, ask).await.status, 200);
    let ann = person(&app, &root, "ann").await;
    assert_eq!((&ann["completions"], &ann["rankings"], &ann["trust"]), (&json!(1), &json!(0), &Value::Null));
    assert!(ann["last_seen"].as_str() > ann["created_at"].as_str());
    let role = format!("/v1/users/{}/role", id(&ann));
    assert_eq!(app.get("/v1/labeling/guidelines", &key).await.status, 403);
    assert_eq!(send(&app, &root, Method::PUT, &role, json!({"role": "labeler"})).await.body["role"], "labeler");
    assert_eq!(app.get("/v1/labeling/guidelines", &key).await.status, 200, "from the next request on");

    let revoke = format!("/v1/users/{}/revoke", id(&ann));
    assert!(app.post(&revoke, &root, json!({})).await.body["revoked_at"].is_string());
    assert_eq!(app.get("/v1/me", &key).await.error().0, 401);
    assert_eq!(app.post(&format!("/v1/users/{}/keys", id(&ann)), &root, json!({})).await.error().0, 409);
    let restored = app.post(&format!("/v1/users/{}/restore", id(&ann)), &root, json!({})).await;
    assert_eq!(restored.body["revoked_at"], Value::Null);
    assert_eq!(app.get("/v1/me", &key).await.error().0, 401, "the old key stays dead");
    let fresh = app.post(&format!("/v1/users/{}/keys", id(&ann)), &root, json!({})).await;
    assert_eq!(app.get("/v1/me", fresh.body["key"].as_str().expect("a key")).await.status, 200);

    let audit = app.get(&format!("/v1/audit?object={}", id(&ann)), &root).await.body;
    let entries = audit["entries"].as_array().expect("entries");
    let actions: Vec<&str> = entries.iter().filter_map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["key.add", "user.restore", "user.revoke", "user.role", "user.add"]);
    assert_eq!(entries[3]["detail"], json!({"from": "user", "to": "labeler"}));
    assert!(entries.iter().all(|entry| entry["actor"] == "root"));
    assert!(!audit.to_string().contains("hone_"), "no secret in the log");
    let page = app.get("/v1/audit?action=user&limit=1&offset=1", &root).await.body;
    assert_eq!(
        (page["entries"].as_array().map(Vec::len), &page["entries"][0]["action"]),
        (Some(1), &json!("user.revoke"))
    );
    assert_eq!(app.get("/v1/audit?actor=nobody", &root).await.body["total"], 0);
}

#[actix_web::test]
async fn the_last_admin_stays_one() {
    let app = TestApp::start().await;
    let root = app.person("root", Role::Admin);
    let (first, mine) = (person(&app, &root, "admin").await, person(&app, &root, "root").await);
    assert_eq!(app.post(&format!("/v1/users/{}/revoke", id(&first)), &root, json!({})).await.status, 200);
    let revoked = app.post(&format!("/v1/users/{}/revoke", id(&mine)), &root, json!({})).await;
    assert_eq!(revoked.error().0, 409);
    let role = format!("/v1/users/{}/role", id(&mine));
    let demoted = send(&app, &root, Method::PUT, &role, json!({"role": "operator"})).await;
    assert!(demoted.status == 409 && demoted.body["error"]["message"].as_str().expect("text").contains("last admin"));
    assert_eq!(send(&app, &root, Method::PUT, &role, json!({"role": "admin"})).await.status, 200, "no change is none");
    assert_eq!(app.get("/v1/users", &root).await.status, 200);
}

#[actix_web::test]
async fn keys_are_shown_once_listed_and_ended() {
    let app = TestApp::start().await;
    let (root, ann) = (app.person("root", Role::Admin), app.person("ann", Role::User));
    let who = person(&app, &root, "ann").await;
    let keys = format!("/v1/users/{}/keys", id(&who));
    let made = app.post(&keys, &root, json!({})).await;
    assert_eq!(made.status, 201);
    let second = made.body["key"].as_str().expect("a key").to_owned();
    let list = app.get(&keys, &root).await.body;
    assert_eq!((list["keys"].as_array().map(Vec::len), &list["keys"][0]["kind"]), (Some(2), &json!("api_key")));
    assert!(!list.to_string().contains("hone_"), "{list}");
    let path = format!("{keys}/{}", made.body["id"].as_str().expect("an id"));
    assert_eq!(send(&app, &root, Method::DELETE, &path, json!({})).await.status, 204);
    assert_eq!(app.get("/v1/me", &second).await.error().0, 401);
    assert_eq!(app.get("/v1/me", &ann).await.status, 200, "the other one works");
    assert_eq!(send(&app, &root, Method::DELETE, &path, json!({})).await.error().0, 404);
    let others = person(&app, &root, "root").await;
    let kept = app.get(&keys, &root).await.body["keys"][0]["id"].as_str().expect("an id").to_owned();
    let wrong = format!("/v1/users/{}/keys/{kept}", id(&others));
    assert_eq!(send(&app, &root, Method::DELETE, &wrong, json!({})).await.error().0, 404, "it is ann's");
}

#[actix_web::test]
async fn only_admins_manage_people() {
    let app = TestApp::start().await;
    let (olga, ann) = (app.person("olga", Role::Operator), app.person("ann", Role::User));
    let root = app.person("root", Role::Admin);
    let target = person(&app, &root, "ann").await;
    let of = |what: &str| format!("/v1/users/{}/{what}", id(&target));
    assert_eq!(app.get("/v1/users", &olga).await.error().0, 403);
    assert_eq!(app.get(&of("keys"), &olga).await.error().0, 403);
    for path in ["/v1/users".to_owned(), of("revoke"), of("restore"), of("keys"), of("link")] {
        assert_eq!(app.post(&path, &olga, json!({"name": "x", "role": "admin"})).await.error().0, 403, "{path}");
    }
    assert_eq!(send(&app, &ann, Method::PUT, &of("role"), json!({"role": "admin"})).await.error().0, 403);
    assert_eq!(app.get("/v1/audit", &olga).await.status, 200);
    assert_eq!(app.get("/v1/audit", &ann).await.error().0, 403);
    assert_eq!(app.post("/v1/users/user_none/revoke", &root, json!({})).await.error().0, 404);
}
