//! A tiny random base, made-up people's data, and a context around a trainer.

use hone_domain::{DataSet, Demonstration, Message, PromptItem, RankedPrompt, Ranking};
use hone_learn::tiny::{self, TinySpec};
use hone_learn::train::{Context, Outcome, Progress};
use hone_learn::{Base, LearnError};
use hone_text::ChatTokenizer;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

pub(crate) struct World {
    home: TempDir,
    pub(crate) base: Base,
    pub(crate) tokenizer: ChatTokenizer,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("temp dir");
        let dir = home.path().join("base");
        tiny::write(&dir, &TinySpec::default()).expect("a tiny base");
        let base = Base::open(&dir).expect("opens");
        Self { tokenizer: ChatTokenizer::open(&dir).expect("opens"), base, home }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs `work` with a context whose run folder is `name`; the run is stopped when `stop_at` progress reports have come.
    pub(crate) fn run(
        &self,
        name: &str,
        resume: bool,
        stop_at: Option<usize>,
        work: impl FnOnce(&mut Context<'_>) -> Result<Outcome, LearnError>,
    ) -> (Result<Outcome, LearnError>, Vec<Progress>) {
        let stop = AtomicBool::new(stop_at == Some(0));
        let mut reports = Vec::new();
        let mut report = |p: &Progress| {
            reports.push(p.clone());
            if stop_at.is_some_and(|n| reports.len() >= n) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let run_dir = self.path(name);
        let mut ctx = Context {
            base: &self.base,
            tokenizer: &self.tokenizer,
            base_name: "tiny",
            run_dir: &run_dir,
            seed: 5,
            resume,
            report: &mut report,
            stop: &stop,
        };
        let outcome = work(&mut ctx);
        (outcome, reports)
    }
}

pub(crate) fn metrics(run_dir: &Path) -> Vec<hone_learn::metrics::MetricsLine> {
    hone_learn::metrics::read(&run_dir.join("metrics.jsonl")).expect("reads")
}

fn letters(rng: &mut ChaCha8Rng, n: std::ops::Range<usize>) -> String {
    let n = rng.random_range(n);
    (0..n).map(|_| char::from(b'a' + rng.random_range(0..26u8))).collect()
}

/// The preference that people here have: more of this letter.
pub(crate) const LIKED: char = 'e';

fn liked(text: &str) -> usize {
    text.chars().filter(|&c| c == LIKED).count()
}

fn answer(rng: &mut ChaCha8Rng) -> String {
    let (eagerness, text) = (rng.random_range(0..3), letters(rng, 4..12));
    text.chars().map(|c| if rng.random_range(0..6) < eagerness { LIKED } else { c }).collect()
}

fn prompt(rng: &mut ChaCha8Rng) -> Vec<Message> {
    vec![Message::user(letters(rng, 3..8))]
}

fn ranked(rng: &mut ChaCha8Rng) -> RankedPrompt {
    let candidates: Vec<String> = (0..4).map(|_| answer(rng)).collect();
    let most = candidates.iter().map(|c| liked(c)).max().unwrap_or_default();
    let ranks: Vec<u32> = candidates.iter().map(|c| (most - liked(c)) as u32).collect();
    let ranking = Ranking::from_ranks(&ranks).expect("four candidates");
    let (quality, flags) = Default::default();
    RankedPrompt { messages: prompt(rng), candidates, ranking, quality, flags, labeler: "ann".into() }
}

/// Rankings by [`LIKED`], demonstrations that say the same word to everything, and prompts.
pub(crate) fn data(rankings: usize) -> DataSet {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let rng = &mut rng;
    let demonstration =
        |rng: &mut ChaCha8Rng| Demonstration { messages: prompt(rng), ideal: "hello".into(), labeler: "bob".into() };
    DataSet {
        judge_rankings: Vec::new(),
        demonstrations: (0..16).map(|_| demonstration(rng)).collect(),
        held_out_demonstrations: (0..4).map(|_| demonstration(rng)).collect(),
        rankings: (0..rankings).map(|_| ranked(rng)).collect(),
        held_out_rankings: (0..40).map(|_| ranked(rng)).collect(),
        prompts: (0..64).map(|_| PromptItem { messages: prompt(rng) }).collect(),
        held_out_prompts: (0..64).map(|_| PromptItem { messages: prompt(rng) }).collect(),
    }
}
