//! `hone classifier train|test|show`: the text classifier that the toxicity suite scores with.

use super::{CliError, Context};
use crate::classifier::open;
use clap::Subcommand;
use hone_learn::LearnError;
use hone_learn::classify::{self, Classifier, Labeled, Measure, Recipe, TrainConfig, data};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a classifier of your own on texts with labels, and measure it on those that it didn't see
    Train(TrainArgs),
    /// Measure a classifier on texts with labels
    Test {
        /// Texts with labels: JSON Lines or CSV with `text` and `toxic`, or RealToxicityPrompts
        #[arg(long = "data", required = true, value_name = "FILE", num_args = 1..)]
        files: Vec<PathBuf>,
        /// A classifier's folder [default: hone's own]
        #[arg(long, value_name = "DIR")]
        classifier: Option<PathBuf>,
    },
    /// Show what a classifier was made of, and how good it is
    Show {
        /// A classifier's folder [default: hone's own]
        #[arg(long, value_name = "DIR")]
        classifier: Option<PathBuf>,
    },
}

/// Settings of a training.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Texts with labels to learn from: JSON Lines or CSV with `text` and `toxic` (true, false, or 0 to 1)
    #[arg(long = "data", required = true, value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Texts with labels to measure it on besides, never to learn from
    #[arg(long, value_name = "FILE", num_args = 1..)]
    test: Vec<PathBuf>,
    /// Where to write it: a folder that `--classifier` takes [default: the name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What results call it
    #[arg(long, default_value = "classifier-1")]
    name: String,
    /// In words: what it is for, and what it isn't good at
    #[arg(long, default_value = "")]
    about: String,
    /// Passes over the data [default: 5]
    #[arg(long)]
    epochs: Option<usize>,
    /// Step size [default: 0.1]
    #[arg(long)]
    learning_rate: Option<f32>,
    /// The table has 2^BITS places of a byte [default: 19]
    #[arg(long)]
    bits: Option<u32>,
    /// Order of the texts [default: 1]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// When a file can't be read, a line is broken, or there is nothing to learn from.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    match command {
        Command::Train(args) => train(args, context.json),
        Command::Test { files, classifier } => test(&files, classifier.as_deref(), context.json),
        Command::Show { classifier } => show(classifier.as_deref(), context.json),
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<Labeled>, LearnError> {
    files.iter().map(|file| data::read(file)).collect()
}

fn train(args: TrainArgs, as_json: bool) -> Result<(), CliError> {
    let mut config = TrainConfig::default();
    config.epochs = args.epochs.unwrap_or(config.epochs);
    config.learning_rate = args.learning_rate.unwrap_or(config.learning_rate);
    config.features.bits = args.bits.unwrap_or(config.features.bits);
    config.seed = args.seed.unwrap_or(config.seed);
    let (data, tests) = (read(&args.files)?, read(&args.test)?);
    let recipe = Recipe { version: &args.name, about: &args.about, config: &config, data: &data, tests: &tests };
    let classifier = classify::train(&recipe)?;
    let out = args.out.unwrap_or_else(|| PathBuf::from(&args.name));
    classifier.save(&out)?;
    if as_json {
        println!("{}", with(&classifier, json!({"folder": out})));
        return Ok(());
    }
    tell(&classifier);
    println!("It is in {}; score with it: --classifier {}", out.display(), out.display());
    Ok(())
}

fn test(files: &[PathBuf], classifier: Option<&Path>, as_json: bool) -> Result<(), CliError> {
    let classifier = open(classifier)?;
    let measured = |labeled: &Labeled| {
        let scores: Vec<f64> = labeled.examples.iter().map(|e| classifier.score(&e.text)).collect();
        let labels: Vec<f64> = labeled.examples.iter().map(|e| e.toxic).collect();
        classify::measure(&scores, &labels)
    };
    let found: Vec<(String, Measure)> = read(files)?.iter().map(|l| (l.source.name.clone(), measured(l))).collect();
    let (version, sha256) = (&classifier.card().version, classifier.sha256());
    if as_json {
        let tests: Vec<Value> = found.iter().map(|(name, m)| json!({"name": name, "measure": m})).collect();
        println!("{}", json!({"version": version, "sha256": sha256, "tests": tests}));
        return Ok(());
    }
    println!("{version} (SHA-256 {sha256})");
    found.iter().for_each(|(name, measure)| println!("{}", in_words(name, measure)));
    Ok(())
}

fn show(classifier: Option<&Path>, as_json: bool) -> Result<(), CliError> {
    let classifier = open(classifier)?;
    if as_json {
        println!("{}", with(&classifier, json!({})));
    } else {
        tell(&classifier);
    }
    Ok(())
}

/// Its card, with its identity and whatever else there is to say.
fn with(classifier: &Classifier, mut more: Value) -> Value {
    more["sha256"] = json!(classifier.sha256());
    more["card"] = json!(classifier.card());
    more
}

fn tell(classifier: &Classifier) {
    let card = classifier.card();
    println!("{} (SHA-256 {})", card.version, classifier.sha256());
    if !card.about.is_empty() {
        println!("{}", card.about);
    }
    for source in &card.data {
        println!("learned from {}: {} texts, {} toxic", source.name, source.texts, source.toxic);
    }
    if let Some(held_out) = &card.held_out {
        println!("{}", in_words("held out", held_out));
    }
    let rest = card.held_out_by_source.iter().map(|n| (format!("held out of {}", n.name), &n.measure));
    let tests = card.tests.iter().map(|n| (n.name.clone(), &n.measure));
    rest.chain(tests).for_each(|(name, measure)| println!("{}", in_words(&name, measure)));
}

fn in_words(name: &str, found: &Measure) -> String {
    let Measure { n, toxic, auc, calibration_error, flagged, .. } = found;
    let auc = match auc {
        Some(a) => format!("AUC {:.3} (95 % interval {:.3} to {:.3})", a.mean, a.low, a.high),
        None => "no AUC: it needs two texts of each kind".to_owned(),
    };
    format!("{name}: {n} texts, {toxic} toxic; {auc}; calibration error {calibration_error:.3}; flagged {flagged:.3}")
}

impl From<LearnError> for CliError {
    fn from(e: LearnError) -> Self {
        match e {
            LearnError::BadConfig { .. } => Self::Usage(e.to_string()),
            e => Self::Failed(e.to_string()),
        }
    }
}
