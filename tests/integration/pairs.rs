//! Second thoughts: a ranking taken back, and two answers from a chat compared.

use crate::support::{Answer, TestApp};
use hone::store::users::Role;
use reqwest::Method;
use serde_json::{Value, json};

async fn answered(app: &TestApp, key: &str, text: &str) -> String {
    let ask = json!({"messages": [{"role": "user", "content": text}]});
    let id = &app.post("/v1/chat/completions", key, ask).await.body["id"];
    id.as_str().expect("an id").to_owned()
}

fn learned(app: &TestApp) -> (usize, usize) {
    let data = app.snapshot();
    let rankings = data.rankings.len() + data.held_out_rankings.len();
    (rankings, data.demonstrations.len() + data.held_out_demonstrations.len())
}

#[actix_web::test]
async fn a_ranking_is_taken_back_with_all_that_came_with_it() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann", Role::User), app.person("bob", Role::Admin));
    let request = json!({"messages": [{"role": "user", "content": "a"}], "k": 2});
    let made = app.post("/v1/comparisons", &ann, request).await.body;
    let (of, ids) = (format!("/v1/comparisons/{}", made["id"].as_str().expect("an id")), &made["candidates"]);
    let path = format!("{of}/ranking");
    let undo =
        async |key: &str| Answer::of(app.request(Method::DELETE, &path, key).send().await.expect("an answer")).await;
    assert_eq!(undo(&ann).await.error().0, 409, "there is none");
    let ranking = json!({"ranking": [[ids[0]["id"]], [ids[1]["id"]]], "ideal": "better"});
    assert_eq!(app.post(&path, &ann, ranking.clone()).await.status, 200);
    assert_eq!(learned(&app), (1, 1));
    assert_eq!(undo(&bob).await.error().0, 404, "it isn't bob's");
    let undone = undo(&ann).await;
    assert_eq!((undone.status, &undone.body["ranking"]), (200, &Value::Null));
    assert_eq!(undone.body["candidates"][0]["policy"], Value::Null, "blind again");
    assert_eq!(learned(&app), (0, 0));
    let audit = app.get("/v1/audit?action=ranking.undo", &bob).await.body;
    assert_eq!(audit["total"], 1);
    assert_eq!(app.post(&path, &ann, ranking).await.status, 200, "and ranked anew");
    app.write(|c| Ok(c.execute("update rankings set created_at = '2020-01-01T00:00:00.000000Z'", [])?));
    let late = undo(&ann).await;
    assert!(late.status == 409 && late.body["error"]["message"].as_str().expect("text").contains("10 minutes"));
    assert_eq!(learned(&app), (1, 1));
}

#[actix_web::test]
async fn two_answers_from_a_chat_are_compared() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann", Role::User), app.person("bob", Role::User));
    let (a, b) = (answered(&app, &ann, "same").await, answered(&app, &ann, "same").await);
    let (other, foreign) = (answered(&app, &ann, "other").await, answered(&app, &bob, "same").await);
    let pair = async |a: &str, b: &str| app.post("/v1/comparisons/pair", &ann, json!({"a": a, "b": b})).await;
    assert_eq!(pair(&a, &a).await.error().0, 409);
    assert_eq!(pair(&a, &other).await.error().0, 409);
    assert_eq!(pair(&a, &foreign).await.error().0, 404);
    assert_eq!(pair(&a, "cmpl_none").await.error().0, 404);
    let made = pair(&a, &b).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(
        (made.body["candidates"].as_array().map(Vec::len), &made.body["candidates"][0]["policy"]),
        (Some(2), &Value::Null)
    );
    assert_eq!(pair(&b, &a).await.body["id"], made.body["id"], "a second tap is the same comparison");

    let c = &made.body["candidates"];
    let path = format!("/v1/comparisons/{}/ranking", made.body["id"].as_str().expect("an id"));
    let ranked = app.post(&path, &ann, json!({"ranking": [[c[0]["id"]], [c[1]["id"]]]})).await;
    assert_eq!((ranked.status, &ranked.body["candidates"][1]["policy"]), (200, &json!("base_echo")));
    assert_eq!(learned(&app).0, 1);
    assert_eq!(app.post(&format!("/v1/completions/{a}/rating"), &ann, json!({"thumb": "up"})).await.status, 200);

    let quiet = json!({"revision": 0, "title": "t", "record": false,
                       "turns": [{"id": "x", "role": "assistant", "content": "y", "completion": a}]});
    let put = app.request(Method::PUT, "/v1/conversations/quiet", &ann).json(&quiet).send().await.expect("an answer");
    assert_eq!(put.status(), 200);
    let refused = pair(&a, &b).await;
    assert!(
        refused.status == 409 && refused.body["error"]["message"].as_str().expect("text").contains("isn't recorded")
    );
    let erase = app.request(Method::DELETE, "/v1/me/data", &ann).send().await.expect("an answer");
    assert!(erase.status().is_success(), "copies and all");
    assert_eq!(learned(&app).0, 0);
}
