//! Comparisons, rankings, ratings, demonstrations.

use crate::support::{Answer, TestApp, events};
use hone::store::users::Role;
use serde_json::{Value, json};

async fn compare(app: &TestApp, key: &str, k: usize) -> (String, Vec<String>) {
    let request = json!({"messages": [{"role": "user", "content": "a b"}], "k": k, "seed": 7});
    let answer = app.post("/v1/comparisons", key, request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.body.to_string().contains("base_echo"), "candidates are blind: {answer:?}");
    (text(&answer.body["id"]), ids(&answer))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.body["candidates"].as_array().expect("candidates").iter().map(|c| text(&c["id"])).collect()
}

#[actix_web::test]
async fn a_ranking_with_ties_is_kept_and_reveals_the_policies() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let (id, c) = compare(&app, &key, 3).await;
    let path = format!("/v1/comparisons/{id}/ranking");
    let ranking = json!([[c[2]], [c[0], c[1]]]);
    let labels = json!({&c[2]: {"overall": 7, "flags": ["helpful"]}});
    let verdict = json!({"ranking": ranking, "labels": labels, "comment": "c", "ideal": "the best answer"});
    let ranked = app.post(&path, &key, verdict).await;
    assert_eq!(ranked.status, 200, "{ranked:?}");
    assert_eq!(ranked.body["candidates"][0]["policy"], "base_echo");
    assert!(text(&ranked.body["demonstration_id"]).starts_with("demo_"));

    let stored = app.get(&format!("/v1/comparisons/{id}"), &key).await;
    let stored = &stored.body["ranking"];
    assert_eq!(stored["ranking"], ranking);
    assert_eq!(stored["labels"], labels);
    assert_eq!(stored["comment"], "c");

    let again = app.post(&path, &key, json!({"ranking": [[c[0], c[1], c[2]]]})).await;
    assert_eq!(again.error().0, 409);
    assert_eq!(app.get(&format!("/v1/comparisons/{id}"), &key).await.body["ranking"]["ranking"], ranking);
    let stats = app.get("/v1/stats", &app.person("olga", Role::Operator)).await.body;
    assert_eq!((&stats["rankings"], &stats["demonstrations"]), (&json!(1), &json!(1)));
}

#[actix_web::test]
async fn a_ranking_that_is_none_is_refused_and_nothing_is_kept() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let (id, c) = compare(&app, &key, 2).await;
    let path = format!("/v1/comparisons/{id}/ranking");
    let refused = [
        (json!({"ranking": [[c[0]]]}), 422, "ranking"),
        (json!({"ranking": [[c[0]], [c[0], c[1]]]}), 422, "ranking"),
        (json!({"ranking": [[c[0]], ["cmpl_other"], [c[1]]]}), 422, "ranking"),
        (json!({"ranking": [[c[0]], [], [c[1]]]}), 422, "ranking"),
        (json!({}), 422, "ranking"),
        (json!({"not_rankable": true, "ranking": [[c[0], c[1]]]}), 422, "ranking"),
        (json!({"ranking": [[c[0], c[1]]], "labels": {&c[0]: {"overall": 8}}}), 422, "labels"),
        (json!({"ranking": "best"}), 400, "ranking"),
    ];
    for (body, status, param) in refused {
        let answer = app.post(&path, &key, body.clone()).await;
        let (got, _, at) = answer.error();
        assert_eq!((got, at), (status, Some(param)), "{body}");
    }
    assert_eq!(app.get(&format!("/v1/comparisons/{id}"), &key).await.body["ranking"], Value::Null);
    let unranked = app.get("/v1/comparisons?unranked=true", &key).await;
    assert_eq!(unranked.body["comparisons"].as_array().map(Vec::len), Some(1));
    assert_eq!(app.post(&path, &key, json!({"not_rankable": true, "ranking": null, "labels": null})).await.status, 200);
    let unranked = app.get("/v1/comparisons?unranked=true", &key).await;
    assert_eq!(unranked.body["comparisons"], json!([]));
}

#[actix_web::test]
async fn a_comparison_streams_all_answers_and_ends_with_the_whole() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let request = json!({"messages": [{"role": "user", "content": "a b c"}], "k": 3, "stream": true});
    let answer = app.post("/v1/comparisons", &key, request).await;
    let events = events(&answer);
    assert_eq!(events[0]["type"], "comparison");
    let candidates = events[0]["candidates"].as_array().expect("ids").clone();
    for candidate in &candidates {
        let id = &candidate["id"];
        let own = events.iter().filter(|e| e["type"] == "delta" && e["candidate"] == *id);
        assert_eq!(own.filter_map(|e| e["content"].as_str()).collect::<String>(), "a b c");
        assert!(events.iter().any(|e| e["type"] == "done" && e["candidate"] == *id && e["finish_reason"] == "stop"));
    }
    let complete = &events[events.len() - 2];
    assert_eq!((&complete["type"], &complete["id"]), (&json!("complete"), &events[0]["id"]));
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    let stored = app.get(&format!("/v1/comparisons/{}", text(&complete["id"])), &key).await;
    assert_eq!(stored.body["candidates"][2]["id"], candidates[2]["id"], "in the order shown");
}

#[actix_web::test]
async fn k_is_two_to_nine() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    for k in [json!(0), json!(1), json!(10), json!(-3), json!("4")] {
        let request = json!({"messages": [{"role": "user", "content": "a"}], "k": k});
        assert_eq!(app.post("/v1/comparisons", &key, request).await.error(), (400, "invalid_value", Some("k")), "{k}");
    }
    assert_eq!(compare(&app, &key, 9).await.1.len(), 9);
}

#[actix_web::test]
async fn other_peoples_things_are_not_there() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann", Role::User), app.person("bob", Role::Admin));
    let (id, c) = compare(&app, &ann, 2).await;
    let path = format!("/v1/comparisons/{id}");
    assert_eq!(app.get(&path, &bob).await.error().0, 404);
    let verdict = json!({"ranking": [[c[0], c[1]]]});
    assert_eq!(app.post(&format!("{path}/ranking"), &bob, verdict).await.error().0, 404);
    let rating = app.post(&format!("/v1/completions/{}/rating", c[0]), &bob, json!({"thumb": "up"})).await;
    assert_eq!(rating.error().0, 404);
    assert_eq!(app.get("/v1/comparisons", &bob).await.body["comparisons"], json!([]));
    assert_eq!(app.get(&path, &ann).await.status, 200);
}

#[actix_web::test]
async fn ratings_and_demonstrations_are_kept() {
    let app = TestApp::start().await;
    let key = app.person("ann", Role::User);
    let chat = json!({"messages": [{"role": "user", "content": "a"}]});
    let id = text(&app.post("/v1/chat/completions", &key, chat).await.body["id"]);
    let path = format!("/v1/completions/{id}/rating");
    assert_eq!(app.post(&path, &key, json!({"thumb": "down", "tags": ["short"]})).await.status, 200);
    assert_eq!(app.post(&path, &key, json!({"thumb": "up"})).await.status, 200, "one may change one's mind");
    assert_eq!(
        app.post(&path, &key, json!({"thumb": "sideways"})).await.error(),
        (400, "invalid_value", Some("thumb"))
    );

    let demonstration = json!({"messages": [{"role": "user", "content": "a"}], "ideal": "A"});
    let refused = app.post("/v1/demonstrations", &key, demonstration.clone()).await;
    assert_eq!(refused.status, 403, "labelers write them");
    let key = app.person("lea", Role::Labeler);
    assert_eq!(app.post("/v1/demonstrations", &key, demonstration).await.status, 201);
    let empty = json!({"messages": [{"role": "user", "content": "a"}], "ideal": " "});
    assert_eq!(app.post("/v1/demonstrations", &key, empty).await.error(), (422, "unprocessable", Some("ideal")));
    let stats = app.get("/v1/stats", &app.person("olga", Role::Operator)).await.body;
    assert_eq!(
        (&stats["thumbs_up"], &stats["thumbs_down"], &stats["demonstrations"]),
        (&json!(1), &json!(0), &json!(1))
    );
}

#[actix_web::test]
async fn a_person_takes_their_data_and_erases_it() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann", Role::User), app.person("bob", Role::User));
    let (id, c) = compare(&app, &ann, 2).await;
    let verdict = json!({"ranking": [[c[0]], [c[1]]], "ideal": "mine: zebra-7f3a", "comment": "so"});
    assert_eq!(app.post(&format!("/v1/comparisons/{id}/ranking"), &ann, verdict).await.status, 200);
    assert_eq!(app.post(&format!("/v1/completions/{}/rating", c[0]), &ann, json!({"thumb": "up"})).await.status, 200);
    let (others, _) = compare(&app, &bob, 2).await;
    let blind = app.get("/v1/me/data", &bob).await.body;
    assert_eq!(blind["completions"][0]["policy"], Value::Null, "not told before it is ranked");

    let data = app.get("/v1/me/data", &ann).await.body;
    let counts =
        ["completions", "rankings", "ratings", "demonstrations"].map(|kind| data[kind].as_array().map(Vec::len));
    assert_eq!(counts, [Some(2), Some(1), Some(1), Some(1)], "{data}");
    assert_eq!(data["rankings"][0]["ranks"], json!([0, 1]));
    assert_eq!(data["completions"][0]["policy"], "base_echo");
    assert_eq!(data["demonstrations"][0]["ideal"], "mine: zebra-7f3a");

    let erase = app.request(reqwest::Method::DELETE, "/v1/me/data", &ann).send().await.expect("an answer");
    let answer = Answer::of(erase).await.body;
    for file in ["hone.db", "hone.db-wal"] {
        let bytes = std::fs::read(app.data.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(10).any(|text| text == b"zebra-7f3a"), "{file} still holds it");
    }
    assert_eq!(answer["erased"]["completions"], 2);
    assert_eq!((&answer["runs"], &answer["policies"]), (&json!([]), &json!([])), "nothing has learned from it yet");
    let data = app.get("/v1/me/data", &ann).await.body;
    assert_eq!((&data["completions"], &data["demonstrations"]), (&json!([]), &json!([])));
    assert_eq!(app.get(&format!("/v1/comparisons/{id}"), &ann).await.status, 404);
    assert_eq!(app.get(&format!("/v1/comparisons/{others}"), &bob).await.status, 200, "others keep theirs");
}
