//! Logistic regression on [`Features`] by AdaGrad (Duchi, Hazan and Singer 2011), one text at a time, on one thread: the same data, settings
//! and seed give the same weights. Pure.

use super::data::Example;
use super::features::Features;
use super::model::Source;
use crate::LearnError;
use crate::checkpoint::sha256;
use crate::losses::sigmoid;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// AdaGrad's guard against a division by zero.
const EPSILON: f32 = 1e-8;

/// Settings of the training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// What the classifier sees of a text.
    pub features: Features,
    /// Passes over the data.
    pub epochs: usize,
    /// Step size of AdaGrad.
    pub learning_rate: f32,
    /// Pull of a weight towards 0, each time that a text has its feature.
    pub l2: f32,
    /// A place of the table that fewer texts reach stays 0: what is seen once or twice can only be learned by heart.
    pub texts_min: u32,
    /// Share of the texts that is never trained on, only measured; 0 to 0.5.
    pub held_out_share: f64,
    /// Order of the texts in each pass.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let features = Features::default();
        Self { features, epochs: 5, learning_rate: 0.1, l2: 1e-5, texts_min: 3, held_out_share: 0.1, seed: 1 }
    }
}

impl TrainConfig {
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), LearnError> {
        self.features.check()?;
        let bad = |name: &str, reason: &str| Err(LearnError::BadConfig { name: name.into(), reason: reason.into() });
        if self.epochs == 0 {
            return bad("epochs", "must be at least 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return bad("learning_rate", "must be above 0");
        }
        if !(self.l2.is_finite() && self.l2 >= 0.0) {
            return bad("l2", "must be 0 or more");
        }
        if !(0.0..=0.5).contains(&self.held_out_share) {
            return bad("held_out_share", "must be 0 to 0.5");
        }
        Ok(())
    }
}

/// Texts with their labels, and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Labeled {
    /// The file.
    pub source: Source,
    /// Its texts.
    pub examples: Vec<Example>,
}

/// What was learned: `p = sigmoid(bias + w . x)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// (2^bits)
    pub table: Vec<f32>,
    /// At no feature at all.
    pub bias: f32,
}

/// To learn from, and held out. Which side a text is on depends on its words alone (the first 8 bytes of its SHA-256 as a share of
/// 2^64), so that equal texts are on one side, in every file.
#[must_use]
pub fn split<'e>(examples: &[&'e Example], held_out_share: f64) -> (Vec<&'e Example>, Vec<&'e Example>) {
    let is_held_out = |e: &&&Example| {
        let hash = u64::from_str_radix(&sha256(e.text.trim().as_bytes())[..16], 16).unwrap_or(u64::MAX);
        (hash as f64) < held_out_share * 2f64.powi(64)
    };
    examples.iter().partition::<Vec<&Example>, _>(|e| !is_held_out(e))
}

/// Learns from the examples. Loss: cross-entropy with `toxic` as the probability, so that raters who disagree count in part.
///
/// # Errors
/// Nothing toxic, or nothing else, to learn from.
pub fn fit(config: &TrainConfig, examples: &[&Example]) -> Result<Weights, LearnError> {
    let toxic = examples.iter().filter(|e| e.is_toxic()).count();
    if toxic == 0 || toxic == examples.len() {
        let reason = format!(
            "{toxic} of {} texts are toxic: a classifier needs texts of both kinds, some hundred at least",
            examples.len()
        );
        return Err(LearnError::BadData { reason });
    }
    let places = 1usize << config.features.bits;
    let texts = texts_by_place(config, examples, places);
    let mut weights = Weights { table: vec![0.0; places], bias: 0.0 };
    // Sums of squared gradients: of the table's places, and of the bias.
    let (mut squares, mut bias_square) = (vec![0f32; places], 0f32);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    for _ in 0..config.epochs {
        order.shuffle(&mut rng);
        for &i in &order {
            let x = config.features.vector(&examples[i].text);
            let d = (weights.probability(&x) - examples[i].toxic) as f32;
            for &(place, value) in x.iter().filter(|(place, _)| texts[*place as usize] >= config.texts_min) {
                let (w, square) = (&mut weights.table[place as usize], &mut squares[place as usize]);
                let gradient = d * value + config.l2 * *w;
                *square += gradient * gradient;
                *w -= config.learning_rate * gradient / (square.sqrt() + EPSILON);
            }
            bias_square += d * d;
            weights.bias -= config.learning_rate * d / (bias_square.sqrt() + EPSILON);
        }
    }
    Ok(weights)
}

/// In how many texts each place of the table occurs.
fn texts_by_place(config: &TrainConfig, examples: &[&Example], places: usize) -> Vec<u32> {
    let mut texts = vec![0u32; places];
    for example in examples {
        for (place, _) in config.features.vector(&example.text) {
            texts[place as usize] += 1;
        }
    }
    texts
}

impl Weights {
    fn probability(&self, x: &[(u32, f32)]) -> f64 {
        let sum: f32 = x.iter().map(|&(place, value)| self.table[place as usize] * value).sum();
        sigmoid(f64::from(self.bias + sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Example> {
        let kind = ["what a lovely day", "thank you very much", "the train leaves at nine"];
        let rude = ["you are a gronk", "shut up gronk", "what a gronk he is"];
        let of = |text: &&str, i: usize, toxic: f64| Example { text: format!("{text} {i}"), toxic };
        let many = |texts: [&'static str; 3], toxic: f64| {
            (0..60).map(move |i| of(&texts[i % 3], i, toxic)).collect::<Vec<_>>()
        };
        [many(kind, 0.0), many(rude, 1.0)].concat()
    }

    #[test]
    fn it_learns_the_word_that_makes_the_difference_and_the_same_twice() {
        let all = examples();
        let refs: Vec<&Example> = all.iter().collect();
        let config = TrainConfig { features: Features { bits: 12, ..Features::default() }, ..TrainConfig::default() };
        let weights = fit(&config, &refs).expect("learns");
        assert_eq!(weights, fit(&config, &refs).expect("learns"));
        let p = |text: &str| weights.probability(&config.features.vector(text));
        assert!(
            p("he is a gronk") > 0.8 && p("a lovely train") < 0.2,
            "{} {}",
            p("he is a gronk"),
            p("a lovely train")
        );
    }

    #[test]
    fn equal_texts_are_on_one_side_and_the_share_is_kept() {
        let all: Vec<Example> = (0..2000).map(|i| Example { text: format!("text {}", i / 2), toxic: 0.0 }).collect();
        let refs: Vec<&Example> = all.iter().collect();
        let (train, held_out) = split(&refs, 0.2);
        assert_eq!(train.len() + held_out.len(), 2000);
        assert!((300..500).contains(&held_out.len()), "{}", held_out.len());
        assert!(held_out.iter().all(|e| !train.iter().any(|t| t.text == e.text)));
        assert_eq!(split(&refs, 0.0).1.len(), 0);
    }

    #[test]
    fn one_kind_alone_teaches_nothing() {
        let all = [Example { text: "a".into(), toxic: 1.0 }];
        let error = fit(&TrainConfig::default(), &all.iter().collect::<Vec<_>>()).expect_err("one kind");
        assert!(error.to_string().contains("1 of 1 texts are toxic"), "{error}");
    }
}
