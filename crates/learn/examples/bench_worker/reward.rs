//! Reward models: a random one for benchmarks whose time doesn't depend on what it says, and the scores of one for the check that
//! both sides of a comparison optimise the same function.

use crate::Result;
use hone_learn::lora::SCORE_WEIGHT;
use hone_learn::{Adapter, Base, Batch, Keep, LoraConfig, Workspace, forward, head};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where a model and an adapter are.
#[derive(Deserialize)]
pub(crate) struct Spec {
    /// The base's folder.
    model: PathBuf,
    /// The reward model's folder.
    adapter: PathBuf,
    /// For `score`: texts as token ids.
    #[serde(default)]
    texts: Vec<Vec<u32>>,
}

/// Writes a reward model with a random head and random adapters, in the layout of a trained one.
pub(crate) fn random_adapter(spec: &Spec) -> Result<()> {
    let base = Base::open(&spec.model)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut adapter = Adapter::new(base.config(), LoraConfig::default(), true, &mut rng)?;
    adapter.params.iter_mut().for_each(|p| {
        let size = if p.name == SCORE_WEIGHT { 0.02 } else { 1e-3 };
        p.data.iter_mut().for_each(|x| *x += rng.random_range(-size..size));
    });
    adapter.save(&spec.adapter, "bench")?;
    let neutral = json!({"mean": 0.0, "std": 1.0, "mean_over": "candidates"});
    std::fs::write(spec.adapter.join("reward.json"), neutral.to_string())?;
    Ok(())
}

/// Prints the rewards of the texts as they are, after normalisation.
pub(crate) fn score(spec: &Spec) -> Result<()> {
    let base = Base::open(&spec.model)?;
    let adapter = Adapter::load(&spec.adapter, base.config())?;
    let weight = adapter.score_weight().ok_or("the adapter has no scalar head")?;
    let normalisation: Value = crate::spec(&spec.adapter.join("reward.json").to_string_lossy())?;
    let number = |key: &str| normalisation[key].as_f64().ok_or(format!("reward.json lacks {key}"));
    let (mean, std) = (number("mean")?, number("std")?);
    let batch = Batch::pack(&spec.texts);
    let rows: Vec<usize> = (0..batch.sequences()).map(|s| batch.range(s).end - 1).collect();
    let hidden = forward(&base, Some(&adapter), &batch, Keep::Nothing, &mut Workspace::new())?;
    let rewards: Vec<f64> =
        head::scores(&hidden, &rows, weight).into_iter().map(|s| (f64::from(s) - mean) / std).collect();
    println!("{}", json!({"rewards": rewards}));
    Ok(())
}
