//! hone's side of the benchmarks in `benches/training`: `bench_worker KIND SPEC.json`, where SPEC holds the model's folder, the
//! data and the settings. May use hone-learn's public API only, as any user of the library.
//!
//! A measuring kind prints one line of JSON when it is ready, then waits: each line on its input lets it do one measurement, which
//! it answers with one line. So the runner can let both sides of a comparison take turns in one run. The end of its input ends it.

mod peak;
mod prepare;
mod reward;
mod rollout;
mod train;
mod turns;

use serde::de::DeserializeOwned;
use std::error::Error;

/// What can go wrong is told to the runner's terminal.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn spec<T: DeserializeOwned>(path: &str) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{path}: {e}").into())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, path] = arguments.as_slice() else {
        return Err(
            "usage: bench_worker model|adapter|encode|sample|score|sft|reward|ppo|rollout|peak SPEC.json".into()
        );
    };
    match kind.as_str() {
        "model" => prepare::model(&spec(path)?),
        "encode" => prepare::encode(&spec(path)?),
        "adapter" => reward::random_adapter(&spec(path)?),
        "score" => reward::score(&spec(path)?),
        "sample" => rollout::sample(&spec(path)?),
        "sft" | "reward" | "ppo" => train::run(kind, &spec(path)?),
        "rollout" => rollout::run(&spec(path)?),
        "peak" => peak::run(&spec(path)?),
        other => Err(format!("there is no kind {other}").into()),
    }
}
