//! Several rounds in a row, with a labeler who changes their mind half-way: the policy follows, and the jobs say what was decided and why.

use crate::scripted::{Server, begin, chat_request, compare_and_rank, p_value, params};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Rounds until the labeler changes their mind, and after it.
const ROUNDS: [usize; 2] = [2, 2];
/// Prompts that are compared and ranked in a round.
const PROMPTS: usize = 120;
/// Prompts that nobody ever sent before the judging.
const FRESH_PROMPTS: usize = 100;

/// What the labeler likes at first.
fn lowercase(answer: &str) -> usize {
    answer.chars().filter(char::is_ascii_lowercase).count()
}

/// What they like later: the contrary.
fn no_lowercase(answer: &str) -> usize {
    answer.chars().filter(|c| !c.is_ascii_lowercase()).count()
}

/// The champion's answers to the fresh prompts.
async fn answers(server: &Server, key: &str) -> Vec<String> {
    let mut all = Vec::new();
    for i in 0..FRESH_PROMPTS {
        let request = chat_request(&format!("fresh prompt {i}"), &json!({"seed": i}));
        let answer = server.post_json("/v1/chat/completions", key, &request).await;
        all.push(answer["choices"][0]["message"]["content"].as_str().expect("text").to_owned());
    }
    all
}

/// Parameters of a round: what was said before a change of mind counts for little.
fn following() -> Value {
    let mut params = params();
    params["old_rankings_per_new"] = json!(0.25);
    params
}

/// Runs a cycle to its end.
async fn cycle(server: &Server, key: &str, params: &Value) -> Value {
    let job = server.post_json("/v1/jobs", key, &json!({"kind": "cycle", "params": params})).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    let began = Instant::now();
    loop {
        let view = server.get(&path, key).await;
        if !matches!(view["state"].as_str(), Some("queued" | "running")) {
            return view;
        }
        assert!(began.elapsed() < Duration::from_secs(300), "stuck: {view}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The chance that `after` pleases this labeler no more than `before`, by a sign test over the prompts.
fn no_better(after: &[String], before: &[String], liked: fn(&str) -> usize) -> f64 {
    let pairs = || after.iter().zip(before).map(|(a, b)| (liked(a), liked(b)));
    p_value(pairs().filter(|(a, b)| a > b).count(), pairs().filter(|(a, b)| a < b).count())
}

#[allow(clippy::cast_precision_loss)] // counts are small
fn share(answers: &[String], liked: fn(&str) -> usize) -> f64 {
    let (liked, all) = answers.iter().fold((0, 0), |(l, n), a| (l + liked(a), n + a.chars().count()));
    liked as f64 / all as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_follows_a_labeler_who_changes_their_mind() {
    let (_data, server, labeler, operator) = begin().await;
    let mut said = vec![answers(&server, &operator).await];
    println!("base: {:.0} % lowercase", 100.0 * share(&said[0], lowercase));
    for round in 0..ROUNDS[0] + ROUNDS[1] {
        let liked = if round < ROUNDS[0] { lowercase } else { no_lowercase };
        for i in 0..PROMPTS {
            compare_and_rank(&server, &labeler, &format!("question {round} {i}"), liked).await;
        }
        let view = cycle(&server, &operator, &following()).await;
        let rules = view["policy"]["gate_report"]["rules"].as_array().expect("the decision, rule by rule");
        assert_eq!(view["state"], "succeeded", "{rules:?}");
        let decided =
            server.get(&format!("/v1/policies/{}", view["policy"]["id"].as_str().expect("an id")), &operator).await;
        assert_eq!((&decided["state"], &decided["gate_report"]["passed"]), (&json!("champion"), &json!(true)));
        said.push(answers(&server, &operator).await);
        println!("round {}: {:.0} % lowercase", round + 1, 100.0 * share(&said[round + 1], lowercase));
        rules.iter().for_each(|rule| println!("  {}", rule["sentence"].as_str().unwrap_or_default()));
    }
    let (first_mind, second_mind) = (&said[ROUNDS[0]], said.last().expect("rounds"));
    let p = no_better(first_mind, &said[0], lowercase);
    assert!(p < 0.01, "p = {p}");
    let p = no_better(second_mind, first_mind, no_lowercase);
    assert!(p < 0.01, "p = {p}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_better_policy_of_an_earlier_round_takes_the_new_ones_place() {
    let (_data, server, labeler, operator) = begin().await;
    for i in 0..PROMPTS {
        compare_and_rank(&server, &labeler, &format!("question {i}"), lowercase).await;
    }
    let first = cycle(&server, &operator, &params()).await;
    let champion = first["policy"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(first["state"], "succeeded", "{}", first["error"]);
    server.post_json("/v1/policies/rollback", &operator, &json!({})).await;

    // It learns next to nothing, so what the first round has made is far better than what it makes.
    let mut lazy = params();
    lazy["ppo"]["total_episodes"] = json!(64);
    lazy["ppo"]["learning_rate"] = json!(1e-6);
    let second = cycle(&server, &operator, &lazy).await;
    let sentences = |policy: &Value| policy["gate_report"]["rules"].to_string();
    assert_eq!(second["state"], "succeeded", "{}", second["error"]);
    let served = &second["policy"];
    assert_eq!((&served["state"], &served["parent_id"]), (&json!("champion"), &json!(champion)));
    assert_eq!(served["run_id"], first["policy"]["run_id"], "the same weights");
    assert!(sentences(served).contains(&format!("this is policy {champion} of an earlier round again")));

    let all = server.get("/v1/policies", &operator).await;
    let all = all["policies"].as_array().expect("policies");
    let made = all.iter().find(|p| p["state"] == "rejected").expect("what the second round has made");
    assert!(sentences(made).contains(&format!("policy {champion} of an earlier round is surely better")));
    assert_eq!(made["parent_id"], "base_tiny");

    // Asked not to look back, the gate decides about the new one alone.
    server.post_json("/v1/policies/rollback", &operator, &json!({})).await;
    lazy["earlier_policies_max"] = json!(0);
    let third = cycle(&server, &operator, &lazy).await;
    assert_eq!(third["state"], "rejected", "it is no better than the champion");
    assert!(!sentences(&third["policy"]).contains("earlier round"));
}
