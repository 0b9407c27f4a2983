//! Speed of serving passes on a base model: tokens per second of answers and of prompts, by the number of rows; one line of JSON per format.
//!
//! `cargo run --release -p hone-learn --example serve_speed -- MODEL_DIR [f32|bf16|q8_0 ...]`

use hone_learn::generate::{Part, Session, pass};
use hone_learn::model::Format;
use hone_learn::{Base, LearnError, Workspace};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;

/// Tokens that every session holds before anything is measured.
const BEFORE: usize = 64;
const STEPS: usize = 12;

/// Milliseconds of a pass of `sessions` sequences with `tokens` tokens each, median.
fn measure(base: &Base, sessions: usize, tokens: usize, ws: &mut Workspace) -> Result<f64, LearnError> {
    let text = |from: usize, n: usize| -> Vec<u32> { (from..from + n).map(|i| (i * 7919 % 40_000) as u32).collect() };
    let mut start = Session::new(base);
    let first = start.prefill(base, None, &text(0, BEFORE), ws)?;
    ws.give(first);
    let mut all = vec![start; sessions];
    let next = text(BEFORE, tokens);
    let mut ms = Vec::new();
    for _ in 0..STEPS {
        let mut parts: Vec<Part<'_>> =
            all.iter_mut().map(|session| Part { session, adapter: None, tokens: &next, logits: true }).collect();
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
        let mut found = Map::new();
        for rows in [1, 2, 4, 8, 16, 32] {
            let ms = rayon::scope(|_| measure(&base, rows, 1, &mut ws))?;
            found.insert(format!("answers_{rows}_ms"), round(ms));
        }
        for tokens in [16, 64, 256] {
            let ms = rayon::scope(|_| measure(&base, 1, tokens, &mut ws))?;
            found.insert(format!("prompt_{tokens}_ms"), round(ms));
        }
        println!("{}", json!({"format": name, "threads": rayon::current_num_threads(), "median": found}));
    }
    Ok(())
}

fn round(ms: f64) -> Value {
    json!((ms * 100.0).round() / 100.0)
}
