//! Two policies' answers side by side.

use crate::support::{Setup, TestApp};
use crate::swaps;
use hone::serving::SwapMode;
use hone::store::users::Role;
use serde_json::{Value, json};

#[actix_web::test]
async fn two_policies_answer_the_same_prompts_and_nothing_is_kept() {
    let app = TestApp::start().await;
    app.policy("pol_new", "echo", "new");
    app.policy("pol_other", "other", "new");
    let (ann, olga) = (app.person("ann", Role::User), app.person("olga", Role::Operator));
    let pair = json!({"a": "base_echo", "b": "pol_new"});
    assert_eq!(app.post("/v1/policies/diff", &ann, pair.clone()).await.error().0, 403);
    assert_eq!(app.post("/v1/policies/diff", &olga, pair.clone()).await.error().0, 409, "no prompt yet");
    let chat = json!({"messages": [{"role": "user", "content": "asked"}]});
    assert_eq!(app.post("/v1/chat/completions", &ann, chat).await.status, 200);
    let diff = app.post("/v1/policies/diff", &olga, pair).await.body;
    assert_eq!((&diff["a"], &diff["b"]), (&json!("base_echo"), &json!("pol_new")));
    let own = json!({"a": "base_echo", "b": "pol_new", "prompts": [[{"role": "user", "content": "x y"}], [{"role": "user", "content": "z"}]]});
    let answers = app.post("/v1/policies/diff", &olga, own).await.body["answers"].clone();
    assert_eq!(
        answers[0],
        json!({"messages": [{"role": "user", "content": "x y"}], "a": "x y", "b": "x y", "same": true})
    );
    assert_eq!(answers.as_array().map(Vec::len), Some(2));
    assert_eq!(app.get("/v1/stats", &olga).await.body["completions"], 1, "only what ann was answered");
    for (a, status) in [("pol_none", 404), ("pol_other", 409)] {
        let refused = app.post("/v1/policies/diff", &olga, json!({"a": a, "b": "base_echo"})).await;
        assert_eq!(refused.error().0, status, "{a}");
    }
    let many = vec![json!([{"role": "user", "content": "x"}]); 9];
    let refused =
        app.post("/v1/policies/diff", &olga, json!({"a": "base_echo", "b": "pol_new", "prompts": many})).await;
    assert_eq!(refused.error(), (400, "invalid_value", Some("prompts")));
}

#[actix_web::test]
async fn where_memory_holds_one_policy_none_is_loaded_beside_it() {
    let mut setup = Setup::default();
    setup.config.serving.swap = SwapMode::Drain;
    let app = TestApp::with(setup).await;
    let olga = app.person("olga", Role::Operator);
    let refused = app.post("/v1/policies/diff", &olga, json!({"a": "base_echo", "b": "base_echo"})).await;
    assert_eq!(refused.error().0, 409);
}

#[actix_web::test]
async fn with_a_real_engine_each_side_is_its_own_policys_answer() {
    let app = swaps::start().await;
    let (ann, olga) = (app.person("ann", Role::User), app.person("olga", Role::Operator));
    let prompts: Vec<Value> = swaps::PROMPTS.iter().map(|text| json!([{"role": "user", "content": text}])).collect();
    let [a, b] = swaps::POLICIES;
    let ask = json!({"a": a, "b": b, "prompts": prompts, "max_tokens": 12});
    let diff = app.post("/v1/policies/diff", &olga, ask.clone()).await.body;
    assert_eq!(app.post("/v1/policies/diff", &olga, ask).await.body, diff, "the likeliest answers, again");
    let answers = diff["answers"].as_array().expect("answers");
    assert_eq!(answers.len(), prompts.len());
    assert!(answers.iter().any(|answer| answer["same"] == false), "the adapter makes a difference: {diff}");
    for (answer, messages) in answers.iter().zip(&prompts) {
        assert_eq!(answer["same"], json!(answer["a"] == answer["b"]));
        // What people are told by each when it is the champion.
        for (policy, said) in [(a, &answer["a"]), (b, &answer["b"])] {
            let promoted = app.post(&format!("/v1/policies/{policy}/promote"), &olga, json!({})).await;
            assert_eq!(promoted.status, 200, "{promoted:?}");
            let chat = json!({"messages": messages, "max_tokens": 12, "temperature": 0, "store": false});
            let told = app.post("/v1/chat/completions", &ann, chat).await.body;
            assert_eq!(
                (&told["choices"][0]["message"]["content"], &told["system_fingerprint"]),
                (said, &json!(policy))
            );
        }
    }
}
