//! A trained classifier and its folder: `classifier.json` says what it is, `weights.i8` holds the table, a byte a place. Its identity is the
//! SHA-256 of the first, which names that of the second.

use super::features::Features;
use super::measure::Measure;
use super::train::{TrainConfig, Weights};
use super::{Labeled, Recipe};
use crate::LearnError;
use crate::checkpoint::sha256;
use crate::files::{write_atomic, write_folder_atomic};
use crate::losses::sigmoid;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Of `classifier.json`. A later format gets another number.
const FORMAT: u32 = 1;
const CARD: &str = "classifier.json";
const WEIGHTS: &str = "weights.i8";

/// A weight is `step * byte`.
const LARGEST: f32 = 127.0;

/// A file of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What the file is called, without its folder and ending.
    pub name: String,
    /// Of the file.
    pub sha256: String,
    /// Texts in it.
    pub texts: usize,
    /// Those with a label of 0.5 or more.
    pub toxic: usize,
}

/// What was found on the texts of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// The file.
    pub name: String,
    /// The figures.
    #[serde(flatten)]
    pub measure: Measure,
}

/// What `classifier.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Of this file: 1.
    pub format: u32,
    /// Its name and number, as results name it.
    pub version: String,
    /// In words: what it is for, and what it isn't good at.
    pub about: String,
    /// How it was trained, and what it sees of a text.
    pub config: TrainConfig,
    /// Log odds of a text without any feature.
    pub bias: f32,
    /// A weight is `step` times its byte.
    pub step: f32,
    /// Of `weights.i8`.
    pub weights_sha256: String,
    /// What it learned from.
    pub data: Vec<Source>,
    /// On the texts of that data which were held out. `None` while it is being measured.
    pub held_out: Option<Measure>,
    /// The same, file by file.
    pub held_out_by_source: Vec<Named>,
    /// On files of which it never learned anything.
    pub tests: Vec<Named>,
}

/// A classifier that can score.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    card: Card,
    table: Vec<i8>,
    sha256: String,
}

impl Classifier {
    pub(super) fn new(recipe: &Recipe<'_>, weights: &Weights) -> Result<Self, LearnError> {
        let (step, table) = rounded(&weights.table);
        let card = Card {
            format: FORMAT,
            version: recipe.version.to_owned(),
            about: recipe.about.to_owned(),
            config: *recipe.config,
            bias: weights.bias,
            step,
            weights_sha256: sha256(bytemuck::cast_slice(&table)),
            data: recipe.data.iter().map(|Labeled { source, .. }| source.clone()).collect(),
            held_out: None,
            held_out_by_source: Vec::new(),
            tests: Vec::new(),
        };
        if !(card.bias.is_finite() && step.is_finite()) {
            return Err(LearnError::NonFinite { what: "a weight of the classifier".into() });
        }
        let sha256 = sha256(&card.json()?);
        Ok(Self { card, table, sha256 })
    }

    /// Writes what was found into the card, and names it anew.
    pub(super) fn measured(
        &mut self,
        held_out: Measure,
        by_source: Vec<Named>,
        tests: Vec<Named>,
    ) -> Result<(), LearnError> {
        self.card = Card { held_out: Some(held_out), held_out_by_source: by_source, tests, ..self.card.clone() };
        self.sha256 = sha256(&self.card.json()?);
        Ok(())
    }

    /// Reads a folder that [`Self::save`] wrote.
    ///
    /// # Errors
    /// A file is missing, damaged, of another format, or not of the other file; the message names it.
    pub fn load(dir: &Path) -> Result<Self, LearnError> {
        let read = |name: &str| std::fs::read(dir.join(name)).map_err(LearnError::io(dir.join(name)));
        Self::from_bytes(&read(CARD)?, &read(WEIGHTS)?)
            .map_err(|reason| LearnError::BadClassifier { path: dir.to_path_buf(), reason })
    }

    /// From the bytes of both files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_bytes(card: &[u8], weights: &[u8]) -> Result<Self, String> {
        let sha256_card = sha256(card);
        let card: Card = serde_json::from_slice(card).map_err(|e| format!("{CARD}: {e}"))?;
        if card.format != FORMAT {
            return Err(format!("{CARD} has the format {}, this version of hone reads {FORMAT}", card.format));
        }
        card.config.features.check().map_err(|e| format!("{CARD}: {e}"))?;
        let places = 1usize << card.config.features.bits;
        if weights.len() != places {
            return Err(format!("{WEIGHTS} has {} bytes instead of {places}", weights.len()));
        }
        let found = sha256(weights);
        if found != card.weights_sha256 {
            return Err(format!("{WEIGHTS} is not the one that {CARD} names: its SHA-256 is {found}"));
        }
        if !(card.bias.is_finite() && card.step.is_finite()) {
            return Err(format!("{CARD}: bias and step must be finite"));
        }
        Ok(Self { card, table: bytemuck::cast_slice(weights).to_vec(), sha256: sha256_card })
    }

    /// Writes both files into a folder of their own; an older one of that name is replaced.
    ///
    /// # Errors
    /// When the disk refuses; the old folder is then still whole.
    pub fn save(&self, dir: &Path) -> Result<(), LearnError> {
        let json = self.card.json()?;
        write_folder_atomic(dir, |dir| {
            write_atomic(&dir.join(CARD), &json)?;
            write_atomic(&dir.join(WEIGHTS), bytemuck::cast_slice(&self.table))
        })
    }

    /// How likely people would call the text toxic, 0..1.
    #[must_use]
    pub fn score(&self, text: &str) -> f64 {
        let features: &Features = &self.card.config.features;
        let weight = |place: u32| self.card.step * f32::from(self.table[place as usize]);
        let sum: f32 = features.vector(text).iter().map(|&(place, x)| weight(place) * x).sum();
        sigmoid(f64::from(self.card.bias + sum))
    }

    /// What it is.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Its identity: the SHA-256 of `classifier.json`.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl Card {
    fn json(&self) -> Result<Vec<u8>, LearnError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(|e| LearnError::BadData { reason: e.to_string() })?;
        json.push(b'\n');
        Ok(json)
    }
}

/// The nearest multiples of the step that takes the largest weight to 127.
fn rounded(table: &[f32]) -> (f32, Vec<i8>) {
    let largest = table.iter().fold(0f32, |most, w| most.max(w.abs()));
    let step = if largest > 0.0 { largest / LARGEST } else { 1.0 };
    (step, table.iter().map(|w| (w / step).round() as i8).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Example, train};
    use super::*;

    fn classifier() -> Classifier {
        let text = |i: usize| format!("{} number {i}", if i.is_multiple_of(2) { "you gronk" } else { "dear friend" });
        let examples: Vec<Example> =
            (0..200).map(|i| Example { text: text(i), toxic: f64::from(u8::from(i.is_multiple_of(2))) }).collect();
        let source = Source { name: "made-up".into(), sha256: "ab".into(), texts: 200, toxic: 100 };
        let data = [Labeled { source, examples }];
        let config = TrainConfig { features: Features { bits: 12, ..Features::default() }, ..TrainConfig::default() };
        train(&Recipe { version: "test-1", about: "", config: &config, data: &data, tests: &data }).expect("trains")
    }

    #[test]
    fn what_is_saved_is_read_again_and_scores_the_same() {
        let made = classifier();
        let home = tempfile::tempdir().expect("temp dir");
        let dir = home.path().join("mine");
        made.save(&dir).expect("saves");
        let read = Classifier::load(&dir).expect("loads");
        assert_eq!(read, made);
        assert!(read.score("such a gronk") > 0.7 && read.score("friend") < 0.3);
        assert_eq!(read.card().held_out.as_ref().and_then(|m| m.auc).map(|a| a.mean), Some(1.0));
        assert_eq!(read.card().tests[0].measure.n, 200);
        assert_eq!(classifier().sha256(), made.sha256(), "the same recipe, the same bytes");
    }

    #[test]
    fn damage_is_found() {
        let home = tempfile::tempdir().expect("temp dir");
        let dir = home.path().join("mine");
        classifier().save(&dir).expect("saves");
        let refused = || Classifier::load(&dir).expect_err("damaged").to_string();
        let weights = std::fs::read(dir.join(WEIGHTS)).expect("there");
        std::fs::write(dir.join(WEIGHTS), &weights[1..]).expect("writes");
        assert!(refused().contains("4095 bytes instead of 4096"), "{}", refused());
        let mut other = weights.clone();
        other[7] ^= 1;
        std::fs::write(dir.join(WEIGHTS), &other).expect("writes");
        assert!(refused().contains("is not the one"), "{}", refused());
        std::fs::remove_file(dir.join(WEIGHTS)).expect("removes");
        assert!(refused().contains(WEIGHTS));
        let card = std::fs::read_to_string(dir.join(CARD)).expect("there");
        std::fs::write(dir.join(CARD), card.replace("\"format\": 1", "\"format\": 9")).expect("writes");
        std::fs::write(dir.join(WEIGHTS), &weights).expect("writes");
        assert!(refused().contains("format 9"), "{}", refused());
    }
}
