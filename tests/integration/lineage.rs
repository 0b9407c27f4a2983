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

fn new_run(kind: RunKind, inputs: Value, sha256: &str) -> NewRun {
    NewRun {
        kind,
        job_id: None,
        base_name: "echo".into(),
        snapshot_sha256: sha256.to_owned(),
        inputs,
        config: json!({}),
        seed: 1,
    }
}

/// A policy that SFT, a reward model and PPO made of everything there is now, and one that was trained from it on nothing of that.
/// Answers with the snapshot.
fn learn(app: &TestApp) -> String {
    app.snapshot();
    app.write(|tx| {
        let sha256 = snapshots::list(tx, 1)?.remove(0).sha256;
        let sft = runs::create(tx, &new_run(RunKind::Sft, json!({}), &sha256))?;
        let init = format!("runs/{sft}/artifact");
        let reward = runs::create(tx, &new_run(RunKind::Reward, json!({"init": init}), &sha256))?;
        let inputs = json!({"init": init, "reward": format!("runs/{reward}/artifact")});
        let run = runs::create(tx, &new_run(RunKind::Ppo, inputs, &sha256))?;
        snapshots::record(tx, "other", "snapshots/gone.json", &json!({}))?;
        let later = runs::create(tx, &new_run(RunKind::Ppo, json!({"init": "policies/pol_first"}), "other"))?;
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
        policies::create(tx, &policy("pol_second", PolicyId::from_raw("pol_first"), later, "other"))?;
        Ok(sha256)
    })
}

/// Id, part, and whether its own snapshot holds it.
fn parts(policies: &Value) -> Vec<(&str, &str, bool)> {
    let mut all: Vec<_> = policies
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (text(&one["id"]), text(&one["part"]), one["direct"] == true))
        .collect();
    all.sort_unstable();
    all
}

/// The same by kind, the direct ones first.
fn kinds(runs: &Value) -> Vec<(&str, &str, bool)> {
    let mut all: Vec<_> = runs
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (text(&one["kind"]), text(&one["part"]), one["direct"] == true))
        .collect();
    all.sort_unstable_by_key(|&(kind, _, direct)| (kind, !direct));
    all
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
    let snapshot = learn(&app);

    let policy = lineage("pol_first").await;
    let training = &policy["policy"]["training"];
    assert_eq!((&policy["kind"], &training["parent"]), (&json!("policy"), &json!("base_echo")));
    let named: Vec<&str> =
        training["newest_rankings"].as_array().expect("rankings").iter().map(|r| text(&r["comparison"])).collect();
    assert_eq!((&training["rankings"], &training["rankings_known"]), (&json!(named.len()), &json!(named.len())));
    assert!(!named.is_empty() && named.iter().all(|id| comparisons.iter().any(|c| c == id)), "{training}");
    assert_eq!(training["newest_rankings"][0]["by"], json!("ann"));

    for id in &comparisons {
        let seen = lineage(id).await;
        let used = &seen["snapshots"][0];
        let trained = named.contains(&id.as_str());
        assert_eq!(used["rankings"], json!(usize::from(trained)), "{used}");
        assert_eq!(used["held_out_rankings"], json!(usize::from(!trained)), "{used}");
        if trained {
            // Through the first policy the second has learned from it, too.
            assert_eq!(parts(&seen["policies"]), [("pol_first", "trained", true), ("pol_second", "trained", false)]);
            let learned = [("ppo", "trained", true), ("ppo", "trained", false), ("reward", "trained", true)];
            assert_eq!(kinds(&seen["runs"])[..], learned, "SFT learned from other things");
        } else {
            assert_eq!(
                parts(&seen["policies"]),
                [("pol_first", "held_out", true)],
                "tested on it, and nothing after it"
            );
            assert_eq!(kinds(&seen["runs"]), [("reward", "held_out", true)]);
        }
    }
    let seen = lineage(&demonstration).await;
    assert_eq!(seen["kind"], json!("demonstration"));
    let (part, found) = if seen["snapshots"][0]["demonstrations"] == 1 { ("trained", 2) } else { ("held_out", 1) };
    assert_eq!((parts(&seen["policies"])[0].1, ids(&seen["policies"]).len()), (part, found));

    let me = app.get("/v1/me", &ann).await.body;
    let person = lineage(text(&me["id"])).await;
    assert_eq!((&person["kind"], &person["snapshots"][0]["rankings"]), (&json!("person"), &training["rankings"]));
    assert_eq!(ids(&person["policies"]).len(), 2);
    assert_eq!(app.get("/v1/lineage/nothing", &ops).await.status, 404);

    // With a judge, the rankings that are held out are what it learns from.
    app.write(move |tx| runs::create(tx, &new_run(RunKind::Judge, json!({}), &snapshot)));
    let held_out = comparisons.iter().find(|id| !named.contains(&id.as_str())).expect("some are held out");
    let seen = lineage(held_out).await;
    assert_eq!(seen["snapshots"][0]["judge_rankings"], json!(1));
    assert_eq!(parts(&seen["policies"]), [("pol_first", "judge", true)]);
    assert_eq!(kinds(&seen["runs"]), [("judge", "judge", true), ("reward", "held_out", true)]);
}
