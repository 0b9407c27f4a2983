//! A small text classifier of hone's own: hashed word and character n-grams, logistic regression, no tensors. It scores how toxic a
//! text is, on any machine, without asking anybody. Pure functions but for reading and writing its folder.

pub mod data;
mod features;
mod measure;
mod model;
mod train;

pub use data::Example;
pub use features::Features;
pub use measure::{Measure, measure};
pub use model::{Card, Classifier, Named, Source};
pub use train::{Labeled, TrainConfig, Weights, fit, split};

use crate::LearnError;

/// Everything that a new classifier is made of: its name, its data and what it is tested on.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// What it is called in results: name and number, as in `toxicity-1`.
    pub version: &'a str,
    /// In words: what it was made for, and what it is not good at.
    pub about: &'a str,
    /// How it is trained.
    pub config: &'a TrainConfig,
    /// What it learns from, each with what the file is called and its SHA-256.
    pub data: &'a [Labeled],
    /// What it is tested on besides, never trained.
    pub tests: &'a [Labeled],
}

/// Trains a classifier and measures it on the part of the data that was held out (by the text's hash, so that equal texts are on one
/// side) and on each test set. The same recipe gives the same bytes.
///
/// # Errors
/// Settings out of range, no toxic or no other text to learn from.
pub fn train(recipe: &Recipe<'_>) -> Result<Classifier, LearnError> {
    let config = recipe.config;
    config.check()?;
    let all: Vec<&Example> = recipe.data.iter().flat_map(|d| &d.examples).collect();
    let (train, held_out) = split(&all, config.held_out_share);
    let weights = fit(config, &train)?;
    let mut classifier = Classifier::new(recipe, &weights)?;
    let measured = |examples: &[&Example]| {
        let scores: Vec<f64> = examples.iter().map(|e| classifier.score(&e.text)).collect();
        let labels: Vec<f64> = examples.iter().map(|e| e.toxic).collect();
        measure(&scores, &labels)
    };
    let held_out_by_source = |d: &Labeled| {
        let mine: Vec<&Example> = d.examples.iter().collect();
        Named { name: d.source.name.clone(), measure: measured(&split(&mine, config.held_out_share).1) }
    };
    let held_out_measure = measured(&held_out);
    let by_source: Vec<Named> = recipe.data.iter().map(held_out_by_source).collect();
    let tests = recipe
        .tests
        .iter()
        .map(|d| Named { name: d.source.name.clone(), measure: measured(&d.examples.iter().collect::<Vec<_>>()) });
    let tests: Vec<Named> = tests.collect();
    classifier.measured(held_out_measure, by_source, tests)?;
    Ok(classifier)
}
