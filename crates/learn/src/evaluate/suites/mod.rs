//! Evaluation suites: fixed questions with a known way to count, asked of one policy. docs/EVALUATION.md says what each measures.
//! A suite turns items of a data file into values, item by item; `run` keeps the finished ones on disk, so that a second call goes on;
//! `figures` makes means with intervals of the values and compares two policies on the same items.

mod crows_pairs;
pub mod figures;
mod perplexity;
pub mod run;
mod scorer;
mod sycophancy;
pub(crate) mod table;
mod toxicity;
mod truthfulqa;

pub use figures::{Better, Change, Figure, FigureKind, Item, Of, ScoredBy, SuiteResult, Unit, compare};
pub use run::{Key, Progress, run};
pub use scorer::{Pair, Scorer};

use crate::LearnError;
use crate::classify::Classifier;
use hone_domain::Demonstration;
use hone_text::ChatTokenizer;

/// The suites that can be opened by name.
pub const NAMES: [&str; 5] = ["truthfulqa", "crows_pairs", "toxicity", "sycophancy", "perplexity"];

/// What a suite is, whatever its data.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// As on the command line; names of its figures begin with it.
    pub name: &'static str,
    /// Raised whenever the same data would give other values.
    pub version: u32,
    /// What each item gives a value for, in the order of [`Item::values`].
    pub figures: &'static [FigureKind],
}

/// A suite with its items read.
pub trait Suite {
    /// What it is.
    fn about(&self) -> &'static About;

    /// The classifier that values come from, where they come from one.
    fn scored_by(&self) -> Option<ScoredBy> {
        None
    }

    /// Number of items.
    fn items(&self) -> usize;

    /// The values of these items, one [`Item`] each, in their order.
    ///
    /// # Errors
    /// Those of the forward pass and the tokenizer.
    fn score(&self, items: &[usize], scorer: &mut Scorer<'_>) -> Result<Vec<Item>, LearnError>;
}

/// Reads a suite's data. `context` is the model's, tokens; `classifier` is asked for one by the suite that scores with it, "toxicity".
///
/// # Errors
/// There is no such suite, or its data is wrong: in which line, and how. Those of `classifier`.
pub fn open(
    name: &str,
    data: &[u8],
    tokenizer: &ChatTokenizer,
    context: usize,
    classifier: impl FnOnce() -> Result<Classifier, LearnError>,
) -> Result<Box<dyn Suite>, LearnError> {
    let wrong = |reason: String| LearnError::BadSuite { suite: name.to_owned(), reason };
    Ok(match name {
        "truthfulqa" => Box::new(truthfulqa::TruthfulQa::parse(data).map_err(wrong)?),
        "crows_pairs" => Box::new(crows_pairs::CrowsPairs::parse(data).map_err(wrong)?),
        "toxicity" => Box::new(toxicity::Toxicity::parse(data, classifier()?).map_err(wrong)?),
        "sycophancy" => Box::new(sycophancy::Sycophancy::parse(data).map_err(wrong)?),
        "perplexity" => Box::new(perplexity::Perplexity::parse(data, tokenizer, context).map_err(wrong)?),
        _ => return Err(wrong(format!("there is no such suite; there are {}", NAMES.join(", ")))),
    })
}

/// The suite "demonstrations": perplexity of held-out ideal answers. Its data comes from a snapshot, not from a file.
///
/// # Errors
/// What the tokenizer or the chat template refuses.
pub fn demonstrations(
    all: &[Demonstration],
    tokenizer: &ChatTokenizer,
    context: usize,
) -> Result<Box<dyn Suite>, LearnError> {
    let wrong = |reason: String| LearnError::BadSuite { suite: "demonstrations".to_owned(), reason };
    Ok(Box::new(perplexity::Perplexity::of_demonstrations(all, tokenizer, context).map_err(wrong)?))
}
