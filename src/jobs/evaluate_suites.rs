//! The evaluation suites on a policy: one for the command line, old and new for a job, whose gate looks at the paired differences.
//! Finished items are kept in files, so that doing it again goes on.

use super::JobError;
use crate::classifier;
use hone_domain::Demonstration;
use hone_learn::evaluate::EvaluateConfig;
use hone_learn::evaluate::suites::{self, Change, Figure, Key, NAMES, ScoredBy, Scorer, Suite, SuiteResult, compare};
use hone_learn::train::{Context, Progress};
use hone_learn::{Adapter, Base, LearnError};
use hone_text::ChatTokenizer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// `[evaluate]`: what the evaluation of a job asks both policies beside the held-out prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuiteSettings {
    /// The data file of each suite, from the server's working folder on. A suite without one isn't asked.
    pub suites: BTreeMap<String, Option<PathBuf>>,
    /// The folder of the classifier that scores the suite "toxicity", as `hone classifier train` wrote it; hone's own where none is set.
    pub classifier: Option<PathBuf>,
    /// Most items of each, drawn with the job's seed; 0 asks none.
    pub suite_items_max: usize,
}

impl Default for SuiteSettings {
    fn default() -> Self {
        let suites = NAMES.iter().map(|name| ((*name).to_owned(), None)).collect();
        let suite_items_max = EvaluateConfig::default().suite_items_max.unwrap_or_default();
        Self { suites, classifier: None, suite_items_max }
    }
}

impl SuiteSettings {
    /// As settings of an evaluation.
    ///
    /// # Errors
    /// A suite that doesn't exist, a file that isn't there, a classifier that can't be used: said when the server starts, not hours into a job.
    pub fn settings(&self) -> Result<Map<String, Value>, JobError> {
        let most = ("suite_items_max".to_owned(), json!(self.suite_items_max));
        let mut settings = Map::from_iter([("suites".to_owned(), json!(self.files()?)), most]);
        if let Some(folder) = &self.classifier {
            classifier::open(Some(folder)).map_err(|e| JobError::Invalid(format!("evaluate.classifier: {e}")))?;
            let folder = std::path::absolute(folder).map_err(JobError::file(folder))?;
            settings.insert("classifier".to_owned(), json!(folder));
        }
        Ok(settings)
    }

    /// The files, absolute.
    fn files(&self) -> Result<BTreeMap<String, PathBuf>, JobError> {
        let named = self.suites.iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
        let file = |(name, path): (&String, &PathBuf)| {
            let setting = format!("evaluate.suites.{name}");
            if !NAMES.contains(&name.as_str()) {
                return Err(JobError::Invalid(format!("{setting}: the suites are {}", NAMES.join(", "))));
            }
            if !path.is_file() {
                return Err(JobError::Invalid(format!("{setting}: there is no file {}", path.display())));
            }
            Ok((name.clone(), std::path::absolute(path).map_err(JobError::file(path))?))
        };
        named.map(file).collect()
    }
}

/// Opens a suite by its name: the one place for the command line and jobs. `classifier` is the folder of one; none is hone's own.
///
/// # Errors
/// There is no such suite, or its data is wrong, or the classifier can't be used.
pub fn open(
    name: &str,
    data: &[u8],
    tokenizer: &ChatTokenizer,
    context: usize,
    classifier: Option<&Path>,
) -> Result<Box<dyn Suite>, LearnError> {
    suites::open(name, data, tokenizer, context, || classifier::open(classifier))
}

/// What a suite found of both policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteReport {
    /// The suite's name.
    pub suite: String,
    /// Its version.
    pub version: u32,
    /// Hash of its data.
    pub data_sha256: String,
    /// Most items that were asked.
    pub limit: Option<usize>,
    /// The classifier that scored, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scored_by: Option<ScoredBy>,
    /// The old policy's figures.
    pub old: Vec<Figure>,
    /// The new policy's.
    pub new: Vec<Figure>,
    /// New against old, item by item.
    pub changes: Vec<Change>,
}

/// What a policy is asked with.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The base.
    pub base: &'a Base,
    /// Its tokenizer.
    pub tokenizer: &'a ChatTokenizer,
    /// What items are drawn with, and answers where there are any.
    pub seed: u64,
    /// Most items.
    pub limit: Option<usize>,
    /// Where finished items are kept.
    pub folder: &'a Path,
}

/// Asks one policy. Finished items are in `folder/SUITE-KEY.jsonl`.
///
/// # Errors
/// Data or an adapter that can't be used, a stop.
pub fn ask(
    suite: &dyn Suite,
    data: &[u8],
    adapter: Option<&Path>,
    asked: Asked<'_>,
    report: &mut dyn FnMut(&Progress),
    stop: &AtomicBool,
) -> Result<SuiteResult, JobError> {
    let Asked { base, tokenizer, seed, limit, folder } = asked;
    let key = Key::new(suite, data, base, adapter, seed, limit)?;
    let file = folder.join(format!("{}-{}.jsonl", key.suite, key.id()?));
    let adapter = adapter.map(|dir| Adapter::load(dir, base.config())).transpose()?;
    let mut scorer = Scorer::new(base, adapter.as_ref(), tokenizer, seed);
    let (began, mut first) = (Instant::now(), None);
    let mut tell = |done: usize, total: usize| {
        let before = *first.get_or_insert(done);
        let (items, seconds) = ((done - before) as f64, began.elapsed().as_secs_f64().max(1e-9));
        report(&Progress {
            phase: key.suite.clone(),
            step: done,
            steps_total: total,
            rate: items / seconds,
            rate_unit: "items/s",
            seconds_left: if items > 0.0 { seconds / items * (total - done) as f64 } else { 0.0 },
            metrics: BTreeMap::new(),
        });
    };
    Ok(suites::run(suite, &key, &mut scorer, &file, &mut tell, stop)?)
}

/// Asks both policies of a job every suite that is set, and how well they predict the held-out demonstrations.
///
/// # Errors
/// As [`ask`]; a file that can't be read.
pub fn of_job(
    config: &EvaluateConfig,
    demonstrations: &[Demonstration],
    (old, new): (Option<&Path>, Option<&Path>),
    context: &mut Context<'_>,
) -> Result<Vec<SuiteReport>, JobError> {
    if config.suite_items_max == Some(0) {
        return Ok(Vec::new());
    }
    let (tokenizer, length) = (context.tokenizer, context.base.config().context);
    let mut all: Vec<(Box<dyn Suite>, Vec<u8>)> = Vec::new();
    if !demonstrations.is_empty() {
        let data = serde_json::to_vec(demonstrations).map_err(crate::store::StoreError::from)?;
        match suites::demonstrations(demonstrations, tokenizer, length) {
            Ok(suite) => all.push((suite, data)),
            // What the run can't use is no reason not to judge the policy by the rest.
            Err(e) => tracing::warn!(error = %e, "the held-out demonstrations aren't looked at"),
        }
    }
    for (name, path) in &config.suites {
        let data = std::fs::read(path).map_err(JobError::file(path))?;
        all.push((open(name, &data, tokenizer, length, config.classifier.as_deref())?, data));
    }
    let folder = context.run_dir.join("suites");
    let asked =
        Asked { base: context.base, tokenizer, seed: context.seed, limit: config.suite_items_max, folder: &folder };
    let mut reports = Vec::new();
    for (suite, data) in &all {
        let mut found = |adapter| ask(suite.as_ref(), data, adapter, asked, context.report, context.stop);
        let (old, new) = (found(old)?, found(new)?);
        let changes = compare(suite.about().figures, &old, &new)?;
        let SuiteResult { suite, version, data_sha256, limit, scored_by, figures, .. } = new;
        let old = old.figures;
        reports.push(SuiteReport { suite, version, data_sha256, limit, scored_by, old, new: figures, changes });
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_at_when_the_server_starts() {
        let home = tempfile::tempdir().expect("temp dir");
        let file = home.path().join("pairs.csv");
        let mut settings = SuiteSettings::default();
        assert_eq!(settings.files().expect("none is set"), BTreeMap::new());
        settings.suites.insert("crows_pairs".into(), Some(file.clone()));
        let missing = settings.files().expect_err("no file").to_string();
        assert!(missing.contains("evaluate.suites.crows_pairs") && missing.contains("pairs.csv"), "{missing}");
        std::fs::write(&file, "x").expect("writes");
        assert_eq!(settings.files().expect("there"), [("crows_pairs".to_owned(), file.clone())].into());
        settings.suites.insert("nonsense".into(), Some(file));
        assert!(settings.files().expect_err("unknown").to_string().contains("truthfulqa"));
        let settings = SuiteSettings { classifier: Some(home.path().join("none")), ..SuiteSettings::default() };
        assert!(settings.settings().expect_err("no folder").to_string().contains("evaluate.classifier"));
    }
}
