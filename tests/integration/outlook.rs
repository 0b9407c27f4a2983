//! What the loop does now and what is next, through HTTP; and a job's log.

use super::support::{Setup, TestApp};
use hone::store::users::Role;
use reqwest::Method;
use serde_json::{Value, json};

async fn import(app: &TestApp, key: &str, numbers: std::ops::Range<usize>) {
    let line = |i| json!({"prompt": format!("question {i}"), "chosen": "yes", "rejected": "no"}).to_string();
    let lines: Vec<String> = numbers.map(line).collect();
    let sent =
        app.request(Method::POST, "/v1/data/import", key).body(lines.join("\n")).send().await.expect("an answer");
    assert_eq!(sent.status().as_u16(), 200);
}

/// A job that has ended: over the echo engine a cycle can't go far.
async fn failed_cycle(app: &TestApp, key: &str) -> String {
    let id = app.post("/v1/jobs", key, json!({"kind": "cycle"})).await.body["id"].as_str().expect("an id").to_owned();
    for _ in 0..200 {
        if app.get(&format!("/v1/jobs/{id}"), key).await.body["state"] == "failed" {
            return id;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the job goes on and on");
}

#[tokio::test]
async fn nothing_starts_by_itself_unless_it_is_set() {
    let app = TestApp::start().await;
    let (ann, ops) = (app.person("ann", Role::User), app.person("ops", Role::Operator));
    assert_eq!(app.get("/v1/loop", &ann).await.status, 403);
    let seen = app.get("/v1/loop", &ops).await;
    assert_eq!(seen.status, 200);
    assert_eq!(
        seen.body,
        json!({"running": null, "queued": 0, "frozen": null, "last_cycle_at": null, "rankings": 0, "rankings_left_out": 0,
               "demonstrations": 0, "new_rankings": 0, "new_demonstrations": 0, "min_new_rankings": null, "schedule": null,
               "next_at": null, "drift": false})
    );
}

#[tokio::test]
async fn the_way_to_the_next_cycle_is_counted_from_the_last() {
    let mut setup = Setup::default();
    setup.config.retrain.min_new_rankings = Some(50);
    setup.config.retrain.schedule = Some("0 3 * * *".into());
    setup.config.retrain.drift.share = 0.2;
    let app = TestApp::with(setup).await;
    let ops = app.person("ops", Role::Operator);
    import(&app, &ops, 0..4).await;
    let messages = json!([{"role": "user", "content": "q"}]);
    app.post("/v1/demonstrations", &ops, json!({"messages": messages, "ideal": "a"})).await;
    let seen = app.get("/v1/loop", &ops).await.body;
    assert_eq!((&seen["new_rankings"], &seen["min_new_rankings"]), (&json!(4), &json!(50)));
    assert_eq!((&seen["new_demonstrations"], &seen["schedule"]), (&json!(1), &json!("0 3 * * *")));
    assert_eq!(seen["drift"], json!(true));
    assert!(seen["next_at"].as_str().is_some_and(|at| at.ends_with("T03:00:00.000000Z")), "{seen}");

    failed_cycle(&app, &ops).await;
    import(&app, &ops, 4..6).await;
    let seen = app.get("/v1/loop", &ops).await.body;
    assert_eq!((&seen["new_rankings"], &seen["new_demonstrations"]), (&json!(2), &json!(0)));
    assert_eq!((&seen["rankings"], &seen["demonstrations"]), (&json!(6), &json!(1)));
    assert!(seen["last_cycle_at"].is_string() && seen["running"] == Value::Null, "{seen}");
}

#[tokio::test]
async fn what_is_left_out_of_training_is_counted_apart() {
    let app = TestApp::start().await;
    let ops = app.person("ops", Role::Operator);
    import(&app, &ops, 0..4).await;
    let question = json!([{"role": "user", "content": "q"}]);
    let comparison = app.post("/v1/comparisons", &ops, json!({"messages": question, "k": 2})).await.body;
    let path = format!("/v1/comparisons/{}/ranking", comparison["id"].as_str().expect("an id"));
    assert_eq!(app.post(&path, &ops, json!({"not_rankable": true, "ranking": []})).await.status, 200);
    let listed = app.get("/v1/prompts?source=import", &ops).await.body;
    let demonstration = app.post("/v1/demonstrations", &ops, json!({"messages": question, "ideal": "a"})).await.body;
    let excluded = json!({"ids": [listed["prompts"][0]["id"], demonstration["id"]], "reason": "wrong"});
    assert_eq!(app.post("/v1/exclusions", &ops, excluded).await.status, 200);
    let seen = app.get("/v1/loop", &ops).await.body;
    let count = |name: &str| seen[name].as_u64().expect("a count");
    assert_eq!((count("rankings"), count("new_rankings"), count("rankings_left_out")), (3, 3, 2));
    assert_eq!((count("demonstrations"), count("new_demonstrations")), (0, 0));
}

#[tokio::test]
async fn a_jobs_log_is_for_operators_and_bounded() {
    let app = TestApp::start().await;
    let (ann, ops) = (app.person("ann", Role::User), app.person("ops", Role::Operator));
    let log = format!("/v1/jobs/{}/log", failed_cycle(&app, &ops).await);
    assert_eq!(app.get(&log, &ann).await.status, 403);
    // It failed before a training process began.
    assert_eq!(app.get(&log, &ops).await.body, json!({"lines": []}));
    assert_eq!(app.get(&format!("{log}?lines=0"), &ops).await.error(), (400, "invalid_value", Some("lines")));
    assert_eq!(app.get(&format!("{log}?lines=2001"), &ops).await.status, 400);
    assert_eq!(app.get("/v1/jobs/none/log", &ops).await.status, 404);
}
