//! Speed of serving passes, of the base model and of a policy with an adapter on all linears: milliseconds by the number of answers, and of
//! tokens of a prompt; one line of JSON per format.
//!
//! `cargo run --release -p hone-learn --example serve_speed -- MODEL_DIR [f32|bf16|q8_0 ...]`

use hone_learn::generate::{Part, Session, pass};
use hone_learn::model::Format;
use hone_learn::{Adapter, Base, LearnError, LoraConfig, Served, Workspace};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;

/// Tokens that every session holds before anything is measured.
const BEFORE: usize = 64;
const STEPS: usize = 12;

/// Milliseconds of a pass of `sessions` sequences with `tokens` tokens each, median.
fn measure(
    (base, adapter): (&Base, Option<&Served>),
    sessions: usize,
    tokens: usize,
    ws: &mut Workspace,
) -> Result<f64, LearnError> {
    let text = |from: usize, n: usize| -> Vec<u32> { (from..from + n).map(|i| (i * 7919 % 40_000) as u32).collect() };
    let mut start = Session::new(base);
    let first = start.prefill(base, adapter, &text(0, BEFORE), ws)?;
    ws.give(first);
    let mut all = vec![start; sessions];
    let next = text(BEFORE, tokens);
    let mut ms = Vec::new();
    for _ in 0..STEPS {
        let mut parts: Vec<Part<'_>> =
            all.iter_mut().map(|session| Part { session, adapter, tokens: &next, logits: true }).collect();
        let begun = Instant::now();
        let logits = pass(base, &mut parts, ws)?;
        ms.push(begun.elapsed().as_secs_f64() * 1e3);
        ws.give(logits);
        if tokens > 1 {
            all.iter_mut().for_each(|session| *session = session.prefix(BEFORE));
        }
    }
    ms.sort_by(f64::total_cmp);
    Ok(ms[STEPS / 2])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("a base model's folder is needed")?;
    let mut formats: Vec<String> = arguments.collect();
    if formats.is_empty() {
        formats = ["f32", "bf16", "q8_0"].map(String::from).to_vec();
    }
    for name in formats {
        let format: Format = serde_json::from_value(json!(name))?;
        let base = Base::open_to_serve(Path::new(&dir), Some(format))?;
        let mut ws = Workspace::new();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let adapter = Adapter::new(base.config(), LoraConfig::default(), false, &mut rng)?;
        let adapted = Served::new(&base, &adapter)?;
        let mut found = [Map::new(), Map::new()];
        for (found, adapter) in found.iter_mut().zip([None, Some(&adapted)]) {
            for rows in [1, 2, 4, 8, 16, 32] {
                let ms = rayon::scope(|_| measure((&base, adapter), rows, 1, &mut ws))?;
                found.insert(format!("answers_{rows}_ms"), round(ms));
            }
            for tokens in [16, 64, 256] {
                let ms = rayon::scope(|_| measure((&base, adapter), 1, tokens, &mut ws))?;
                found.insert(format!("prompt_{tokens}_ms"), round(ms));
            }
        }
        let [of_base, with_adapter] = found;
        let threads = rayon::current_num_threads();
        println!(
            "{}",
            json!({"format": name, "threads": threads, "median": {"base": of_base, "adapter": with_adapter}})
        );
    }
    Ok(())
}

fn round(ms: f64) -> Value {
    json!((ms * 100.0).round() / 100.0)
}
