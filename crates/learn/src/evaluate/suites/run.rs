//! One suite on one policy, group of items by group, with the finished ones on disk: a second call with the same key goes on where the
//! first one stopped, and ends with the same bytes. Uses the file system and `figures`.

use super::figures::{Item, ScoredBy, SuiteResult, figures};
use super::{About, Scorer, Suite};
use crate::LearnError;
use crate::checkpoint::{sha256, sha256_json};
use crate::files::write_atomic;
use crate::model::Base;
use crate::train::data::epoch_order;
use crate::train::{adapter_sha256, fingerprint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Items that are scored together. A group is done as a whole or not at all, so that what is packed into a pass, and with it the last bit
/// of a value, doesn't depend on where a run was stopped.
const GROUP: usize = 8;

/// What values depend on: the first line of the file of finished items. Another key starts the file anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The suite's name.
    pub suite: String,
    /// Its version.
    pub version: u32,
    /// Hash of its data.
    pub data_sha256: String,
    /// What the base's weights are.
    pub base: String,
    /// Hash of the policy's adapter, or "none".
    pub adapter: String,
    /// What items are drawn with, and answers where there are any.
    pub seed: u64,
    /// Most items, drawn with the seed; all where there is none.
    pub limit: Option<usize>,
    /// The classifier that values come from, where they come from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scored_by: Option<ScoredBy>,
}

impl Key {
    /// Of a suite with this data on a base and an adapter's folder.
    ///
    /// # Errors
    /// When the adapter can't be read.
    pub fn new(
        suite: &dyn Suite,
        data: &[u8],
        base: &Base,
        adapter: Option<&Path>,
        seed: u64,
        limit: Option<usize>,
    ) -> Result<Self, LearnError> {
        let About { name, version, .. } = *suite.about();
        Ok(Self {
            suite: name.to_owned(),
            version,
            data_sha256: sha256(data),
            base: fingerprint(base),
            adapter: adapter.map_or(Ok("none".to_owned()), adapter_sha256)?,
            seed,
            limit,
            scored_by: suite.scored_by(),
        })
    }

    /// Its hash, short enough for a file's name.
    ///
    /// # Errors
    /// None that can happen: a key is plain JSON.
    pub fn id(&self) -> Result<String, LearnError> {
        Ok(sha256_json(self)?[..16].to_owned())
    }
}

/// Told after each group: items done, items in all.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Scores a suite's items, those in `file` excepted, and keeps them there.
///
/// # Errors
/// Those of the suite and of the file; [`LearnError::Stopped`] after the group during which `stop` was set.
pub fn run(
    suite: &dyn Suite,
    key: &Key,
    scorer: &mut Scorer<'_>,
    file: &Path,
    progress: Progress<'_>,
    stop: &AtomicBool,
) -> Result<SuiteResult, LearnError> {
    let chosen = chosen(suite.items(), key.limit, key.seed);
    let mut done = read(file, key)?;
    // Written whole once, without what a crash cut or of which a group isn't complete.
    let complete = |group: &&[usize]| group.iter().all(|i| done.contains_key(i));
    let kept: Vec<usize> = chosen.chunks(GROUP).filter(complete).flatten().copied().collect();
    done.retain(|i, _| kept.binary_search(i).is_ok());
    let mut text = line(key)?;
    for item in done.values() {
        text.extend(line(item)?);
    }
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(LearnError::io(parent))?;
    }
    write_atomic(file, &text)?;
    let mut log = OpenOptions::new().append(true).open(file).map_err(LearnError::io(file))?;
    for group in chosen.chunks(GROUP) {
        if !done.contains_key(&group[0]) {
            if stop.load(Ordering::Relaxed) {
                return Err(LearnError::Stopped);
            }
            let items = suite.score(group, scorer)?;
            let lines = items.iter().map(line).collect::<Result<Vec<_>, _>>()?.concat();
            log.write_all(&lines).map_err(LearnError::io(file))?;
            done.extend(items.into_iter().map(|item| (item.item, item)));
        }
        progress(done.len(), chosen.len());
    }
    let items: Vec<Item> = done.into_values().collect();
    let Key { suite: name, version, data_sha256, seed, limit, scored_by, .. } = key.clone();
    let figures = figures(suite.about().figures, &items);
    Ok(SuiteResult { suite: name, version, data_sha256, seed, limit, scored_by, figures, items })
}

/// The items that are asked, in their order: all, or `limit` drawn with the seed, since the first ones of a file are often of one kind.
fn chosen(items: usize, limit: Option<usize>, seed: u64) -> Vec<usize> {
    let mut order = match limit {
        Some(limit) if limit < items => epoch_order(items, seed, 0)[..limit].to_vec(),
        _ => (0..items).collect(),
    };
    order.sort_unstable();
    order
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, LearnError> {
    let mut text = serde_json::to_vec(value)
        .map_err(|e| LearnError::BadSuite { suite: "results".to_owned(), reason: format!("not JSON: {e}") })?;
    text.push(b'\n');
    Ok(text)
}

/// The finished items under this key. A last line that was cut by a crash is left out.
fn read(file: &Path, key: &Key) -> Result<BTreeMap<usize, Item>, LearnError> {
    let text = match fs::read_to_string(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(LearnError::io(file))?,
    };
    let mut lines = text.lines();
    if lines.next().and_then(|l| serde_json::from_str::<Key>(l).ok()).as_ref() != Some(key) {
        return Ok(BTreeMap::new());
    }
    let items = lines.filter_map(|l| serde_json::from_str::<Item>(l).ok());
    Ok(items.map(|item| (item.item, item)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::suites;
    use crate::tiny::{self, TinySpec};
    use hone_text::ChatTokenizer;

    #[test]
    fn a_stopped_run_goes_on_to_the_same_result() {
        let home = tempfile::tempdir().expect("temp dir");
        tiny::write(home.path(), &TinySpec::default()).expect("a base");
        let (base, tokenizer) =
            (Base::open(home.path()).expect("opens"), ChatTokenizer::open(home.path()).expect("opens"));
        let pair = |i: usize| format!("{{\"sent_more\": \"some say {i}\", \"sent_less\": \"none says {i}\"}}\n");
        let data: String = (0..30).map(pair).collect();
        let suite =
            suites::open("crows_pairs", data.as_bytes(), &tokenizer, 256, || Err(LearnError::Stopped)).expect("opens");
        let key = |limit| Key::new(suite.as_ref(), data.as_bytes(), &base, None, 5, limit).expect("a key");
        assert_ne!(key(None).id().expect("hashes"), key(Some(20)).id().expect("hashes"));
        let (never, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut scorer = Scorer::new(&base, None, &tokenizer, 5);
        let mut go = |file: &str, limit, told: Progress<'_>, stop: &AtomicBool| {
            run(suite.as_ref(), &key(limit), &mut scorer, &home.path().join(file), told, stop)
        };
        let whole = go("whole", Some(20), &mut |_, _| (), &never).expect("runs");
        assert_eq!((whole.items.len(), whole.figures[0].n), (20, 20));
        let stopped = go("cut", Some(20), &mut |_, _| stop.store(true, Ordering::Relaxed), &stop);
        assert!(matches!(stopped, Err(LearnError::Stopped)));
        // A crash in the middle of the second group.
        let cut = home.path().join("cut");
        let mut text = fs::read_to_string(&cut).expect("reads");
        assert_eq!(text.lines().count(), 1 + GROUP);
        text.push_str("{\"item\": 29, \"wei");
        fs::write(&cut, text).expect("writes");
        let mut told = Vec::new();
        let resumed = go("cut", Some(20), &mut |done, _| told.push(done), &never).expect("goes on");
        assert_eq!((resumed, told), (whole, vec![8, 16, 20]));
        assert_eq!(fs::read(&cut).expect("reads"), fs::read(home.path().join("whole")).expect("reads"));
        assert_eq!(go("cut", None, &mut |_, _| (), &never).expect("starts anew").items.len(), 30);
    }

    #[test]
    fn a_limit_draws_the_same_items_for_a_seed() {
        assert_eq!(chosen(5, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(5, Some(9), 1), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(100, Some(10), 1), chosen(100, Some(10), 1));
        assert_ne!(chosen(100, Some(10), 1), chosen(100, Some(10), 2));
    }
}
