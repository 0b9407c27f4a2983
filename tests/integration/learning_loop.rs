//! The loop learns: the most important test of the project.
//!
//! A random tiny base model is served by the real binary. A scripted labeler with one plain preference, answers in lowercase
//! letters, compares and ranks over HTTP. An operator starts a cycle over HTTP: snapshot, reward model, PPO, evaluation, gate, swap, while
//! people are being answered. Then, on prompts that were never trained on, the same labeler prefers the new policy's answer to the
//! old one's far more often than not: an exact one-sided sign test over the prompts (ties left out) has to give p < 0.01.

use hone_learn::tiny::{self, TinySpec};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BASE: &str = "tiny";
/// Tokens (here: characters) of an answer.
const ANSWER_TOKENS: usize = 16;
/// Prompts that are compared and ranked; about a fifth of them is held out for the gate.
const PROMPTS: usize = 120;
/// Prompts that nobody ever sent before the judging.
const FRESH_PROMPTS: usize = 150;

/// A cycle that a tiny model can learn from in a minute.
fn params() -> Value {
    json!({
        "seed": 1,
        // The tiny base has two blocks: the upper third of them is too little to learn from, so both are trained.
        "reward": {"epochs": 6, "learning_rate": 1e-2, "lora_r": 8, "lora_first_layer": 0},
        "ppo": {
            "total_episodes": 1536, "batch_episodes": 64, "minibatch_episodes": 16, "inner_epochs": 2,
            "max_new_tokens": ANSWER_TOKENS, "learning_rate": 1e-2, "value_learning_rate": 1e-2, "kl_coef": 0.01,
            // A random model hardly ever ends an answer by itself.
            "missing_eos_score": null,
            "lora_r": 8, "lora_first_layer": 0,
        },
        // Random to lowercase is a long way for a policy of this size.
        "gate": {"kl_nats_max": 100.0, "prompts_min": 10},
    })
}

/// The preference: how much of an answer is in lowercase letters.
fn lowercase(answer: &str) -> usize {
    answer.chars().filter(char::is_ascii_lowercase).count()
}

/// The real binary, serving. Dropping it ends it.
struct Server {
    process: Child,
    url: String,
    client: Client,
}

impl Server {
    async fn start(data: &Path) -> Self {
        let mut command = hone(data);
        command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--base", BASE, "--engine", "native"]);
        command.env("HONE_LIMITS_REQUESTS_PER_MINUTE_MAX", "100000").stdout(Stdio::piped());
        let mut process = command.spawn().expect("starts");
        let output = process.stdout.take().expect("an output");
        let line = tokio::task::spawn_blocking(|| BufReader::new(output).lines().next()).await.expect("a thread");
        let line: Value = serde_json::from_str(&line.expect("a line").expect("reads")).expect("JSON");
        let url = format!("http://{}", line["listen"].as_str().expect("an address"));
        Self { process, url, client: Client::new() }
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Response {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(key).json(body);
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{path}: {:?}", response.text().await);
        response
    }

    async fn post_json(&self, path: &str, key: &str, body: &Value) -> Value {
        self.post(path, key, body).await.json().await.expect("JSON")
    }

    async fn get(&self, path: &str, key: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.url)).bearer_auth(key).send().await.expect("an answer");
        response.json().await.expect("JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ended_already = self.process.wait();
    }
}

fn hone(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hone"));
    command.arg("--data").arg(data);
    command
}

/// Adds a person as an operator of the machine would, and answers with their key.
fn add_user(data: &Path, name: &str, role: &str) -> String {
    let output = hone(data).args(["--json", "user", "add", name, "--role", role]).output().expect("runs");
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    line["key"].as_str().expect("a key").to_owned()
}

fn chat_request(prompt: &str, more: &Value) -> Value {
    let mut request = json!({
        "messages": [{"role": "user", "content": prompt}], "max_tokens": ANSWER_TOKENS, "temperature": 1.0, "store": false,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    request
}

/// The labeler at work: four answers, ranked by the preference, ties where it sees none.
async fn compare_and_rank(server: &Server, key: &str, prompt: &str) {
    let request = json!({"messages": [{"role": "user", "content": prompt}], "k": 4, "max_tokens": ANSWER_TOKENS});
    let comparison = server.post_json("/v1/comparisons", key, &request).await;
    let candidates = comparison["candidates"].as_array().expect("candidates");
    let mut scored: Vec<(usize, &Value)> =
        candidates.iter().map(|c| (lowercase(c["content"].as_str().unwrap_or_default()), &c["id"])).collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let tiers: Vec<Vec<&Value>> =
        scored.chunk_by(|a, b| a.0 == b.0).map(|tier| tier.iter().map(|(_, id)| *id).collect()).collect();
    let path = format!("/v1/comparisons/{}/ranking", comparison["id"].as_str().expect("an id"));
    server.post(&path, key, &json!({"ranking": tiers})).await;
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

/// Exact one-sided sign test: the chance of at least this many wins if each were a coin's.
#[allow(clippy::cast_precision_loss)] // counts are small
fn p_value(wins: usize, losses: usize) -> f64 {
    let n = wins + losses;
    let mut term = 0.5_f64.powi(i32::try_from(n).expect("a small count"));
    let mut tail = 0.0;
    for k in 0..=n {
        if k >= wins {
            tail += term;
        }
        term *= (n - k) as f64 / (k + 1) as f64;
    }
    tail
}

#[test]
fn the_p_value_is_that_of_the_tables() {
    // R: binom.test(8, 10, alternative = "greater")$p.value is 0.0546875
    assert!((p_value(8, 2) - 0.054_687_5).abs() < 1e-12);
    assert!((p_value(0, 10) - 1.0).abs() < 1e-12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_makes_unseen_answers_more_like_what_the_labeler_prefers() {
    let began = Instant::now();
    let data = tempfile::tempdir().expect("temp dir");
    let spec = TinySpec { seed: 3, ..TinySpec::default() };
    tiny::write(&data.path().join("models").join(BASE), &spec).expect("writes the base");
    let server = Server::start(data.path()).await;
    let labeler = add_user(data.path(), "lara", "labeler");
    let operator = add_user(data.path(), "olga", "operator");

    let (liked_before, base, sample_before) = judge(&server, &operator).await;
    for i in 0..PROMPTS {
        compare_and_rank(&server, &labeler, &format!("question {i}")).await;
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
