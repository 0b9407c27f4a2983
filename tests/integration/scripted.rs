//! The real binary and people who talk to it by a script, for tests of whole cycles.

use hone_learn::tiny::{self, TinySpec};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const BASE: &str = "tiny";
/// Tokens (here: characters) of an answer.
pub(crate) const ANSWER_TOKENS: usize = 16;

/// The real binary, serving. Dropping it ends it.
pub(crate) struct Server {
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

    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> Response {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(key).json(body);
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{path}: {:?}", response.text().await);
        response
    }

    pub(crate) async fn post_json(&self, path: &str, key: &str, body: &Value) -> Value {
        self.post(path, key, body).await.json().await.expect("JSON")
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Value {
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

/// A server on a tiny base in a folder of its own, a labeler's key and an operator's.
pub(crate) async fn begin() -> (tempfile::TempDir, Server, String, String) {
    let data = tempfile::tempdir().expect("temp dir");
    let spec = TinySpec { seed: 3, ..TinySpec::default() };
    tiny::write(&data.path().join("models").join(BASE), &spec).expect("writes the base");
    let server = Server::start(data.path()).await;
    let (labeler, operator) = (add_user(data.path(), "lara", "labeler"), add_user(data.path(), "olga", "operator"));
    (data, server, labeler, operator)
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

pub(crate) fn chat_request(prompt: &str, more: &Value) -> Value {
    let mut request = json!({
        "messages": [{"role": "user", "content": prompt}], "max_tokens": ANSWER_TOKENS, "temperature": 1.0, "store": false,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    request
}

/// A cycle that a tiny model can learn from in a minute.
pub(crate) fn params() -> Value {
    json!({
        "seed": 1,
        "deterministic": true,
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

/// The labeler at work: four answers, the most liked first, ties where it sees no difference.
pub(crate) async fn compare_and_rank(server: &Server, key: &str, prompt: &str, liked: fn(&str) -> usize) {
    let seed: u32 = prompt.bytes().fold(0, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let request =
        json!({"messages": [{"role": "user", "content": prompt}], "k": 4, "max_tokens": ANSWER_TOKENS, "seed": seed});
    let comparison = server.post_json("/v1/comparisons", key, &request).await;
    let candidates = comparison["candidates"].as_array().expect("candidates");
    let mut scored: Vec<(usize, &Value)> =
        candidates.iter().map(|c| (liked(c["content"].as_str().unwrap_or_default()), &c["id"])).collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let tiers: Vec<Vec<&Value>> =
        scored.chunk_by(|a, b| a.0 == b.0).map(|tier| tier.iter().map(|(_, id)| *id).collect()).collect();
    let path = format!("/v1/comparisons/{}/ranking", comparison["id"].as_str().expect("an id"));
    server.post(&path, key, &json!({"ranking": tiers})).await;
}

/// Exact one-sided sign test: the chance of at least this many wins if each were a coin's.
#[allow(clippy::cast_precision_loss)] // counts are small
pub(crate) fn p_value(wins: usize, losses: usize) -> f64 {
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
