//! Swaps under load, through HTTP: a thousand changes of champion while clients stream, and no answer fails, is cut short or mixes two policies.

use crate::support::{Answer, Setup, TestApp, events};
use futures_util::future::join_all;
use hone::store::users::Role;
use hone_engine_native::NativeEngine;
use hone_learn::tiny::TinySpec;
use hone_learn::{Adapter, LoraConfig, ModelConfig};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use reqwest::Method;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const SWAPS: usize = 1000;
const CLIENTS: usize = 6;
pub(crate) const PROMPTS: [&str; 3] = ["Hello?", "What is the sea?", "Tell me more."];
pub(crate) const POLICIES: [&str; 2] = ["base_tiny", "pol_other"];

/// An adapter with which the base answers otherwise.
fn write_adapter(data: &Path) {
    let config = ModelConfig::open(&data.join("models/tiny")).expect("opens");
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut adapter = Adapter::new(&config, LoraConfig::default(), false, &mut rng).expect("fits");
    for param in adapter.params.iter_mut().filter(|p| p.name.contains("lora_B")) {
        param.data.iter_mut().enumerate().for_each(|(i, b)| *b = ((i * 37 % 19) as f32 - 9.0) / 100.0);
    }
    adapter.save(&data.join("other"), "tiny").expect("saves");
}

pub(crate) async fn start() -> TestApp {
    let base = Some(TinySpec { context: 128, ..TinySpec::default() });
    let mut setup = Setup { engine: Arc::new(NativeEngine::new(CLIENTS)), base, ..Setup::default() };
    setup.config.limits.requests_per_minute_max = u32::MAX;
    let app = TestApp::with(setup).await;
    write_adapter(app.data.path());
    app.policy(POLICIES[1], "tiny", "other");
    app
}

async fn promote(app: &TestApp, operator: &str, policy: &str) {
    let promoted = app.post(&format!("/v1/policies/{policy}/promote"), operator, json!({})).await;
    assert_eq!(promoted.status, 200, "{promoted:?}");
}

/// Streams the likeliest answer to a prompt. Answers who gave it, and its text; every chunk must name the same policy, and the
/// last one how it ended.
async fn stream(app: &TestApp, key: &str, prompt: &str) -> (String, String) {
    let ask =
        json!({"messages": [{"role": "user", "content": prompt}], "max_tokens": 16, "temperature": 0, "stream": true});
    let response = app.request(Method::POST, "/v1/chat/completions", key).json(&ask).send().await.expect("an answer");
    let answer = Answer::of(response).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let policy = answer.headers["x-hone-policy"].to_str().expect("text").to_owned();
    let mut chunks = events(&answer);
    assert_eq!(chunks.pop(), Some(json!("[DONE]")));
    assert!(chunks.iter().all(|chunk| chunk["system_fingerprint"] == policy.as_str()), "{chunks:?}");
    let end = &chunks.last().expect("chunks")["choices"][0]["finish_reason"];
    assert!(end == "length" || end == "stop", "{end}");
    (policy, chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect())
}

#[actix_web::test]
async fn a_thousand_swaps_fail_cut_and_mix_no_answer() {
    let app = start().await;
    let (user, operator) = (app.person("ann", Role::User), app.person("olga", Role::Operator));
    let mut expected = BTreeMap::new();
    for policy in POLICIES {
        promote(&app, &operator, policy).await;
        for prompt in PROMPTS {
            let (by, text) = stream(&app, &user, prompt).await;
            assert_eq!(by, policy);
            expected.insert((policy.to_owned(), prompt), text);
        }
    }
    let of = |policy: usize| PROMPTS.map(|prompt| expected[&(POLICIES[policy].to_owned(), prompt)].clone());
    assert!(of(0).iter().zip(of(1)).all(|(a, b)| *a != b), "a mixed answer would show: {expected:?}");

    let over = Cell::new(false);
    let (app, user, expected, over) = (&app, user.as_str(), &expected, &over);
    let client = |place: usize| async move {
        let (mut by, mut answers) = (BTreeSet::new(), 0usize);
        while !over.get() {
            let prompt = PROMPTS[(place + answers) % PROMPTS.len()];
            let (policy, text) = stream(app, user, prompt).await;
            assert_eq!(text, expected[&(policy.clone(), prompt)], "{policy} alone answers so");
            by.insert(policy);
            answers += 1;
        }
        (by, answers)
    };
    let swaps = async {
        for i in 0..SWAPS {
            promote(app, &operator, POLICIES[i % 2]).await;
        }
        over.set(true);
    };
    let (answered, ()) = tokio::join!(join_all((0..CLIENTS).map(client)), swaps);
    let answers: usize = answered.iter().map(|(_, answers)| answers).sum();
    assert!(answered.iter().all(|(by, _)| by.len() == 2), "swapped under everybody: {answered:?}");
    assert!(answers >= SWAPS / 10, "{answers} answers met {SWAPS} swaps");
    let loaded = reqwest::get(format!("{}/metrics", app.url)).await.expect("an answer").text().await.expect("text");
    let loaded: Vec<Value> =
        loaded.lines().filter(|l| l.starts_with("hone_policy_loaded{")).map(|l| json!(l)).collect();
    assert_eq!(loaded.len(), 2, "{loaded:?}");
}
