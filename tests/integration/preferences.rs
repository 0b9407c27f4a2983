//! Which of two chat answers is better.

use crate::support::TestApp;
use hone::store::users::Role;
use serde_json::{Value, json};

async fn say(app: &TestApp, key: &str, text: &str) -> Value {
    let request = json!({"messages": [{"role": "user", "content": text}]});
    app.post("/v1/chat/completions", key, request).await.body["id"].clone()
}

#[actix_web::test]
async fn a_preference_is_a_ranked_comparison_and_the_answers_stay_where_they_were() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let (a, b) = (say(&app, &key, "q").await, say(&app, &key, "q").await);
    let kept = app.post("/v1/preferences", &key, json!({"completions": [a, b], "preferred": b})).await;
    assert_eq!(kept.status, 201, "{kept:?}");
    let path = format!("/v1/comparisons/{}", kept.body["comparison_id"].as_str().expect("an id"));
    let stored = app.get(&path, &key).await.body;
    let candidates = stored["candidates"].as_array().expect("candidates");
    assert_eq!(candidates.len(), 2);
    assert_eq!(stored["ranking"]["ranking"], json!([[candidates[1]["id"]], [candidates[0]["id"]]]));
    assert_eq!(stored["messages"], json!([{"role": "user", "content": "q"}]));
    let rated =
        app.post(&format!("/v1/completions/{}/rating", a.as_str().expect("an id")), &key, json!({"thumb": "up"})).await;
    assert_eq!(rated.status, 200, "the answers are still chat answers: {rated:?}");
    let tie = app.post("/v1/preferences", &key, json!({"completions": [a, b], "preferred": null})).await;
    assert_eq!(tie.status, 201);
    let stats = app.get("/v1/stats", &app.person("olga", Role::Operator)).await.body;
    assert_eq!(stats["rankings"], 2);
}

#[actix_web::test]
async fn a_preference_that_makes_no_sense_is_refused_and_nothing_is_kept() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann", Role::User), app.person("bob", Role::User));
    let (a, b, other) = (say(&app, &ann, "q").await, say(&app, &ann, "q").await, say(&app, &ann, "another").await);
    let refused = [
        (&ann, json!({"completions": [a], "preferred": a}), 422),
        (&ann, json!({"completions": [a, a], "preferred": a}), 422),
        (&ann, json!({"completions": [a, b], "preferred": other}), 422),
        (&ann, json!({"completions": [a, other], "preferred": a}), 409),
        (&ann, json!({"completions": [a, "cmpl_none"], "preferred": a}), 404),
        (&bob, json!({"completions": [a, b], "preferred": a}), 404),
        (&ann, json!({"completions": "both"}), 400),
    ];
    for (key, body, status) in refused {
        assert_eq!(app.post("/v1/preferences", key, body.clone()).await.error().0, status, "{body}");
    }
    assert_eq!(app.get("/v1/comparisons", &ann).await.body["comparisons"], json!([]));
}
