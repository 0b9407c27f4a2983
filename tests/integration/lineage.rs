//! From an answer to what it was learned from, and from feedback and people to what learned from them.

use super::support::TestApp;
use hone::store::policies::{self, NewPolicy};
use hone::store::runs::{self, NewRun, RunKind};
use hone::store::snapshots;
use hone::store::users::Role;
use hone_domain::ids::PolicyId;
use serde_json::{Value, json};

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

async fn compare(app: &TestApp, key: &str, prompt: &str) -> Value {
    let messages = json!([{"role": "user", "content": prompt}]);
    app.post("/v1/comparisons", key, json!({"messages": messages, "k": 2})).await.body
}

async fn rank(app: &TestApp, key: &str, comparison: &Value) {
    let c = &comparison["candidates"];
    let ranking = json!({"ranking": [[c[0]["id"]], [c[1]["id"]]]});
    let answer = app.post(&format!("/v1/comparisons/{}/ranking", text(&comparison["id"])), key, ranking).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A policy that a PPO run made of everything there is now, and one that was trained from it on nothing of that.
fn learn(app: &TestApp) {
    app.snapshot();
    app.write(|tx| {
        let sha256 = snapshots::list(tx, 1)?.remove(0).sha256;
        let new = |inputs: Value, sha256: &str| NewRun {
            kind: RunKind::Ppo,
            job_id: None,
            base_name: "echo".into(),
            snapshot_sha256: sha256.to_owned(),
            inputs,
            config: json!({}),
            seed: 1,
        };
        let run = runs::create(tx, &new(json!({}), &sha256))?;
        snapshots::record(tx, "other", "snapshots/gone.json", &json!({}))?;
        let later = runs::create(tx, &new(json!({"policy": "policies/pol_first"}), "other"))?;
        let policy = |id: &str, parent: PolicyId, run, sha256: &str| NewPolicy {
            id: PolicyId::from_raw(id),
            base_name: "echo".into(),
            adapter_dir: format!("policies/{id}"),
            parent_id: Some(parent),
            run_id: Some(run),
            snapshot_sha256: Some(sha256.to_owned()),
            config: json!({}),
            metrics: json!({}),
        };
        policies::create(tx, &policy("pol_first", PolicyId::base("echo"), run, &sha256))?;
        policies::create(tx, &policy("pol_second", PolicyId::from_raw("pol_first"), later, "other"))
    });
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|one| text(&one["id"])).collect()
}

#[tokio::test]
async fn an_answers_owner_learns_its_policy_and_nothing_before_it_is_ranked() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.person("ann", Role::User), app.person("bob", Role::User));
    let messages = json!([{"role": "user", "content": "hello"}]);
    let said = app.post("/v1/chat/completions", &ann, json!({"messages": messages})).await.body;
    let path = format!("/v1/lineage/{}", text(&said["id"]));
    let seen = app.get(&path, &ann).await;
    assert_eq!(seen.status, 200);
    assert_eq!((&seen.body["kind"], &seen.body["policy"]["id"]), (&json!("answer"), &said["system_fingerprint"]));
    assert_eq!(seen.body["policy"]["training"], Value::Null);
    assert_eq!(app.get(&path, &bob).await.status, 404);

    let comparison = compare(&app, &ann, "which?").await;
    let candidate = format!("/v1/lineage/{}", text(&comparison["candidates"][0]["id"]));
    assert_eq!(app.get(&candidate, &ann).await.body["policy"], Value::Null, "blind");
    rank(&app, &ann, &comparison).await;
    assert!(app.get(&candidate, &ann).await.body["policy"]["id"].is_string());
    for other in [text(&comparison["id"]), "nothing"] {
        assert_eq!(app.get(&format!("/v1/lineage/{other}"), &ann).await.status, 404);
    }
}

#[tokio::test]
async fn an_operator_goes_from_a_policy_to_its_rankings_and_from_feedback_to_its_policies() {
    let app = TestApp::start().await;
    let (ann, ops) = (app.person("ann", Role::User), app.person("ops", Role::Operator));
    let mut comparisons = Vec::new();
    for n in 0..8 {
        let comparison = compare(&app, &ann, &format!("question {n}")).await;
        rank(&app, &ann, &comparison).await;
        comparisons.push(text(&comparison["id"]).to_owned());
    }
    let shown = json!({"messages": [{"role": "user", "content": "how?"}], "ideal": "so"});
    let demonstration = text(&app.post("/v1/demonstrations", &ops, shown).await.body["id"]).to_owned();
    let lineage = async |id: &str| app.get(&format!("/v1/lineage/{id}"), &ops).await.body;
    assert_eq!(lineage(&comparisons[0]).await["policies"], json!([]), "nothing has learned yet");
    learn(&app);

    let policy = lineage("pol_first").await;
    let training = &policy["policy"]["training"];
    assert_eq!((&policy["kind"], &training["parent"]), (&json!("policy"), &json!("base_echo")));
    let named: Vec<&str> =
        training["newest_rankings"].as_array().expect("rankings").iter().map(|r| text(&r["comparison"])).collect();
    assert_eq!(training["rankings"], json!(named.len()));
    assert!(!named.is_empty() && named.iter().all(|id| comparisons.iter().any(|c| c == id)), "{training}");
    assert_eq!(training["newest_rankings"][0]["by"], json!("ann"));

    for id in &comparisons {
        let seen = lineage(id).await;
        let used = &seen["snapshots"][0];
        let trained = named.contains(&id.as_str());
        assert_eq!(used["rankings"], json!(usize::from(trained)), "{used}");
        assert!(trained || used["held_out"].as_u64() > Some(0), "{used}");
        // Through the first policy the second has learned from it, too.
        let policies = &seen["policies"];
        let mut both = ids(policies);
        both.sort_unstable();
        assert_eq!(both, ["pol_first", "pol_second"]);
        let direct =
            |id| policies.as_array().is_some_and(|all| all.iter().any(|p| p["id"] == id && p["direct"] == true));
        assert!(direct("pol_first") && !direct("pol_second"));
        assert_eq!(ids(&seen["runs"]).len(), 2);
    }
    let seen = lineage(&demonstration).await;
    assert_eq!((&seen["kind"], ids(&seen["policies"]).len()), (&json!("demonstration"), 2));

    let me = app.get("/v1/me", &ann).await.body;
    let person = lineage(text(&me["id"])).await;
    assert_eq!((&person["kind"], &person["snapshots"][0]["rankings"]), (&json!("person"), &training["rankings"]));
    assert_eq!(ids(&person["policies"]).len(), 2);
    assert_eq!(app.get("/v1/lineage/nothing", &ops).await.status, 404);
}
