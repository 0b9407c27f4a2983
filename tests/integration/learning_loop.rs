//! The loop learns: the most important test of the project.
//!
//! A random tiny base model is served by the real binary. A scripted labeler with one plain preference, answers in lowercase
//! letters, compares and ranks over HTTP. An operator starts a cycle over HTTP: snapshot, reward model, PPO, evaluation, gate, swap, while
//! people are being answered. Then, on prompts that were never trained on, the same labeler prefers the new policy's answer to the
//! old one's far more often than not: an exact one-sided sign test over the prompts (ties left out) has to give p < 0.01.

use crate::scripted::{Server, begin, chat_request, compare_and_rank, p_value, params};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Prompts that are compared and ranked; about a fifth of them is held out for the gate.
const PROMPTS: usize = 120;
/// Prompts that nobody ever sent before the judging.
const FRESH_PROMPTS: usize = 150;

/// The preference: how much of an answer is in lowercase letters.
fn lowercase(answer: &str) -> usize {
    answer.chars().filter(char::is_ascii_lowercase).count()
}

/// How the labeler likes the answer to each fresh prompt, by which policy, and one answer to look at.
async fn judge(server: &Server, key: &str) -> (Vec<usize>, String, String) {
    let (mut liked, mut policy, mut sample) = (Vec::new(), String::new(), String::new());
    for i in 0..FRESH_PROMPTS {
        let answer = server
            .post_json("/v1/chat/completions", key, &chat_request(&format!("fresh prompt {i}"), &json!({})))
            .await;
        let content = answer["choices"][0]["message"]["content"].as_str().expect("text");
        liked.push(lowercase(content));
        policy = answer["system_fingerprint"].as_str().expect("a policy").to_owned();
        sample = content.to_owned();
    }
    (liked, policy, sample)
}

/// One streamed answer, checked from its first to its last chunk: complete, and from one policy. Which?
async fn stream_one(server: &Server, key: &str, prompt: &str) -> String {
    let more = json!({"stream": true, "max_tokens": 150});
    let response = server.post("/v1/chat/completions", key, &chat_request(prompt, &more)).await;
    let named = response.headers()["x-hone-policy"].to_str().expect("text").to_owned();
    let text = response.text().await.expect("the whole stream arrives");
    let mut data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    let chunks: Vec<Value> = data.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(chunks.iter().all(|c| c["system_fingerprint"] == named.as_str()), "a mixed answer: {text}");
    assert!(chunks.iter().any(|c| c["choices"][0]["finish_reason"].is_string()), "an unfinished answer: {text}");
    named
}

/// Waits for the job while two people are streaming, from PPO until after the swap. Answers with the policies that
/// answered them, in order.
async fn stream_through_the_swap(server: &Server, key: &str, job: &str) -> (Value, Vec<String>) {
    let began = Instant::now();
    let (mut policies, mut after) = (Vec::new(), 0);
    loop {
        let view = server.get(&format!("/v1/jobs/{job}"), key).await;
        let is_final = !matches!(view["state"].as_str(), Some("queued" | "running"));
        if is_final {
            after += 1;
        }
        if after == 3 {
            return (view, policies);
        }
        assert!(began.elapsed() < Duration::from_secs(300), "stuck: {view}");
        if is_final || matches!(view["phase"].as_str(), Some("ppo" | "evaluate" | "gate" | "promote")) {
            let (a, b) = tokio::join!(stream_one(server, key, "one"), stream_one(server, key, "two"));
            policies.extend([a, b]);
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_makes_unseen_answers_more_like_what_the_labeler_prefers() {
    let began = Instant::now();
    let (_data, server, labeler, operator) = begin().await;

    let (liked_before, base, sample_before) = judge(&server, &operator).await;
    for i in 0..PROMPTS {
        compare_and_rank(&server, &labeler, &format!("question {i}"), lowercase).await;
    }
    println!("{:5.1} s: {PROMPTS} comparisons ranked", began.elapsed().as_secs_f64());
    let job = server.post_json("/v1/jobs", &operator, &json!({"kind": "cycle", "params": params()})).await;
    let job = job["id"].as_str().expect("an id").to_owned();
    let (view, streamed_by) = stream_through_the_swap(&server, &operator, &job).await;
    let rules = &view["policy"]["gate_report"]["rules"];
    for rule in rules.as_array().into_iter().flatten() {
        println!("  {}", rule["sentence"].as_str().unwrap_or_default());
    }
    assert_eq!(view["state"], "succeeded", "{}", view["error"]);
    println!("{:5.1} s: the cycle has promoted its policy", began.elapsed().as_secs_f64());

    let (liked_after, new, sample_after) = judge(&server, &operator).await;
    let wins = liked_after.iter().zip(&liked_before).filter(|(after, before)| after > before).count();
    let losses = liked_after.iter().zip(&liked_before).filter(|(after, before)| after < before).count();
    let p = p_value(wins, losses);
    println!("before: {sample_before:?}, after: {sample_after:?}");
    println!(
        "of {FRESH_PROMPTS} fresh prompts the labeler prefers the new answer on {wins}, the old one on {losses}; sign test: p = {p:.2e}"
    );
    assert!(p < 0.01, "p = {p}: {wins} wins, {losses} losses");
    assert_eq!(new, view["policy"]["id"].as_str().expect("a policy"));
    assert_eq!(streamed_by.first(), Some(&base), "streams ran before the swap");
    assert_eq!(streamed_by.last(), Some(&new), "and after it");
    assert!(streamed_by.iter().all(|by| *by == base || *by == new));

    server.post("/v1/policies/rollback", &operator, &json!({})).await;
    assert_eq!(stream_one(&server, &operator, "three").await, base, "and back");
    println!("{:5.1} s: done", began.elapsed().as_secs_f64());
}
