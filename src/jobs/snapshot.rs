//! A snapshot: the data that a run may see, frozen in a file that is named by its hash. The same data gives the same hash.
//!
//! People are split, not rows (Ouyang et al. 2022, section 3.2): whose prompts are held out is decided by a hash of their id,
//! so it stays so in every later snapshot. With fewer than five people, or when one side would be empty, prompts are split
//! instead, by a hash too; so are imports that don't say who sent the prompt. Either way no prompt is on both sides; chats
//! that open with the same message count as one prompt, because a later turn contains the earlier ones.

mod judge;
#[cfg(test)]
mod tests;

pub use judge::JudgeBy;

use super::JobError;
use crate::store::training_data::{self, Origin, Stored};
use crate::store::{Store, StoreError, policies, snapshots};
use hone_domain::{DataSet, Demonstration, Message, PromptItem, RankedPrompt};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Distinct prompts that one person may give to a snapshot, the newest first (Ouyang et al. 2022, section 3.2).
const PROMPTS_PER_USER_MAX: usize = 200;
/// Fewer people than this can't be split.
const USERS_MIN: usize = 5;
/// One in this many people (or prompts) is held out.
const HELD_OUT_ONE_IN: u64 = 5;
/// Part of the hash, so that the split isn't the order of anything else that hashes ids. Never change it: who was
/// trained on would come to be held out.
const SALT: &str = "hone split 1";

/// What the split went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Whole people are held out.
    User,
    /// Too few people: prompts are held out.
    Prompt,
}

/// How much is in a snapshot, and what was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// What the split went by.
    pub split_by: SplitBy,
    /// People who sent prompts, as far as known.
    pub users: usize,
    /// For SFT.
    pub demonstrations: usize,
    /// For SFT's validation.
    pub held_out_demonstrations: usize,
    /// For the reward model.
    pub rankings: usize,
    /// For the reward model's accuracy.
    pub held_out_rankings: usize,
    /// For the judge.
    pub judge_rankings: usize,
    /// What the judge has that the reward model never saw.
    pub judge_by: JudgeBy,
    /// For PPO.
    pub prompts: usize,
    /// For the gate.
    pub held_out_prompts: usize,
    /// Left out: beyond the newest 200 prompts of their person.
    pub over_the_cap: usize,
    /// Left out: held-out items whose prompt is also trained on.
    pub on_both_sides: usize,
    /// Left out: rankings of the judge's labelers about prompts of the reward model's people.
    pub of_neither: usize,
    /// Left out: rankings whose candidates are all tied, which teach nothing.
    pub all_tied: usize,
    /// Left out: rankings from before the champion's snapshot, beyond what is kept for each new one.
    #[serde(default)]
    pub too_old: usize,
}

/// A snapshot that is on disk and in the database.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Its name.
    pub sha256: String,
    /// What is in it.
    pub counts: Counts,
    /// The data.
    pub data: DataSet,
}

/// All feedback as stored.
struct Feedback {
    rankings: Vec<Stored<RankedPrompt>>,
    demonstrations: Vec<Stored<Demonstration>>,
    prompts: Vec<Stored<Vec<Message>>>,
    /// Who stands for labelers that imports don't name.
    nobody: Option<String>,
    /// Rankings that were left out already.
    too_old: usize,
}

/// Freezes what the database holds now. `old_per_new`: how many rankings from before the champion's own snapshot are kept for each newer one,
/// the newest of them; without it all are.
///
/// # Errors
/// When it can't be read, or the file can't be written.
pub fn take(store: &Store, old_per_new: Option<f64>) -> Result<Taken, JobError> {
    let feedback = store.read_blocking(move |c| read_feedback(c, old_per_new))?;
    let (data, counts) = build(feedback);
    let bytes = serde_json::to_vec(&data).map_err(StoreError::from)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let path = path_of(store.data_dir(), &sha256);
    write_once(&path, &bytes)?;
    let (name, relative) = (sha256.clone(), format!("snapshots/{sha256}.json"));
    let counts_json = serde_json::to_value(&counts).map_err(StoreError::from)?;
    store.write_blocking(move |tx| snapshots::record(tx, &name, &relative, &counts_json))?;
    Ok(Taken { sha256, counts, data })
}

/// What a snapshot would hold now.
///
/// # Errors
/// When the database can't be read.
pub fn preview(store: &Store, old_per_new: Option<f64>) -> Result<Counts, JobError> {
    Ok(build(store.read_blocking(move |c| read_feedback(c, old_per_new))?).1)
}

/// Where the snapshot of this hash is.
#[must_use]
pub fn path_of(data_dir: &Path, sha256: &str) -> PathBuf {
    data_dir.join("snapshots").join(format!("{sha256}.json"))
}

/// Reads a snapshot and checks that it is still what its name says.
///
/// # Errors
/// When the file is gone, or was changed.
pub fn load(data_dir: &Path, sha256: &str) -> Result<DataSet, JobError> {
    let path = path_of(data_dir, sha256);
    let bytes = std::fs::read(&path).map_err(JobError::file(&path))?;
    if hex::encode(Sha256::digest(&bytes)) != sha256 {
        let reason = "the file was changed: its content no longer has the hash that it is named by".into();
        return Err(JobError::File { path, reason });
    }
    serde_json::from_slice(&bytes).map_err(JobError::json(&path))
}

/// One consistent view of all three tables: the caller's connection reads them in one go.
fn read_feedback(c: &Connection, old_per_new: Option<f64>) -> Result<Feedback, StoreError> {
    let tx = c.unchecked_transaction()?;
    let mut rankings = training_data::rankings(&tx)?;
    let too_old = match old_per_new {
        Some(old_per_new) => too_old(rankings.len(), new_rankings(&tx)?, old_per_new),
        None => 0,
    };
    rankings.drain(..too_old);
    Ok(Feedback {
        rankings,
        too_old,
        demonstrations: training_data::demonstrations(&tx)?,
        prompts: training_data::prompts(&tx)?,
        nobody: training_data::nobody(&tx)?,
    })
}

/// How many rankings came after the data that the champion learned from.
fn new_rankings(c: &Connection) -> Result<usize, StoreError> {
    let learned_from = policies::champion(c)?.and_then(|champion| champion.snapshot_sha256);
    let since = learned_from.map(|sha256| snapshots::get(c, &sha256)).transpose()?;
    let new = training_data::rankings_since(c, since.as_ref().map(|snapshot| snapshot.created_at.as_str()))?;
    Ok(usize::try_from(new).unwrap_or(usize::MAX))
}

/// Refuses what `old_rankings_per_new` can't be, wherever it is set: `at` is the settings it stands in.
///
/// # Errors
/// When it is no number, or below 0.
pub(super) fn check_old_per_new(old_per_new: Option<f64>, at: &str) -> Result<(), JobError> {
    match old_per_new {
        Some(n) if n.is_nan() || n < 0.0 => {
            Err(JobError::Invalid(format!("{at}.old_rankings_per_new must be 0 or more")))
        }
        _ => Ok(()),
    }
}

/// How many of the oldest rankings are left out. Where none is new, all are kept: there is nothing that they could stand in the way of.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counts, and a share of them
fn too_old(all: usize, new: usize, old_per_new: f64) -> usize {
    if new == 0 {
        return 0;
    }
    let kept = (new as f64 * old_per_new).ceil() as usize;
    all.saturating_sub(new).saturating_sub(kept)
}

/// Written under a temporary name, flushed and renamed: whoever sees the name sees the whole file.
fn write_once(path: &Path, bytes: &[u8]) -> Result<(), JobError> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(JobError::file(folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(JobError::file(folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(JobError::file(path))?;
    file.persist(path).map_err(|e| JobError::file(path)(e.error))?;
    std::fs::File::open(folder).and_then(|dir| dir.sync_all()).map_err(JobError::file(folder))
}

/// What two prompts have in common when they are the same for the split: the opening message, whatever its case and spacing.
fn prompt_key(messages: &[Message]) -> String {
    let opening = messages.iter().find(|m| m.role == hone_domain::Role::User);
    let text = opening.map(|m| m.content.to_lowercase()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_held_out(name: &str) -> bool {
    let hash = Sha256::digest(format!("{SALT}\n{name}"));
    let number = hash.iter().take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    number % HELD_OUT_ONE_IN == 0
}

/// One piece of feedback of any kind.
struct Item<T> {
    origin: Origin,
    /// Its prompt, for the split and the cap.
    key: String,
    value: T,
}

impl<T> Item<T> {
    fn new(stored: Stored<T>, messages: impl Fn(&T) -> &[Message]) -> Self {
        Self { origin: stored.origin, key: prompt_key(messages(&stored.item)), value: stored.item }
    }

    /// The name whose hash decides the side.
    fn split_name(&self, by: SplitBy) -> &str {
        match (by, &self.origin.sender) {
            (SplitBy::User, Some(user)) => user,
            _ => &self.key,
        }
    }

    fn is_held_out(&self, by: SplitBy) -> bool {
        is_held_out(self.split_name(by))
    }

    /// The same prompt, as one to be answered.
    fn prompt(&self, messages: impl Fn(&T) -> &[Message]) -> Item<PromptItem> {
        let value = PromptItem { messages: messages(&self.value).to_vec() };
        Item { origin: self.origin.clone(), key: self.key.clone(), value }
    }
}

/// Splits, caps and removes doubles. Pure, and in the order of its input.
fn build(feedback: Feedback) -> (DataSet, Counts) {
    let Feedback { rankings, demonstrations, prompts, nobody, too_old } = feedback;
    let ranked: Vec<_> = rankings.into_iter().map(|r| Item::new(r, |r| &r.messages)).collect();
    let mut demonstrations: Vec<_> = demonstrations.into_iter().map(|d| Item::new(d, |d| &d.messages)).collect();
    let mut prompts: Vec<_> = prompts.into_iter().map(|p| Item::new(p, |m| m)).map(|item| item.prompt(|m| m)).collect();
    prompts.extend(demonstrations.iter().map(|d| d.prompt(|d| &d.messages)));

    let (mut rankings, tied): (Vec<_>, Vec<_>) = ranked.into_iter().partition(|r| !r.value.ranking.pairs().is_empty());
    let newest = newest_prompts(&prompts);
    let over_the_cap = cap(&mut rankings, &newest) + cap(&mut demonstrations, &newest);
    cap(&mut prompts, &newest);

    let split_by = choose_split(&prompts);
    let trained = trained_on(&prompts, split_by);
    let users = prompts.iter().filter_map(|p| p.origin.sender.as_ref()).collect::<BTreeSet<_>>().len();
    let mut on_both_sides = 0;
    let (demonstrations, held_out_demonstrations) = split(demonstrations, split_by, &trained, &mut on_both_sides);
    let parts = judge::part(rankings, split_by, &trained, nobody.as_deref());
    on_both_sides += parts.on_both_sides;
    let (prompts, held_out_prompts) = split(prompts, split_by, &trained, &mut 0);
    let (prompts, held_out_prompts) = (once_each(prompts), once_each(held_out_prompts));
    let counts = Counts {
        split_by,
        users,
        demonstrations: demonstrations.len(),
        held_out_demonstrations: held_out_demonstrations.len(),
        rankings: parts.train.len(),
        held_out_rankings: parts.held_out.len(),
        judge_rankings: parts.judge.len(),
        judge_by: parts.judge_by,
        prompts: prompts.len(),
        held_out_prompts: held_out_prompts.len(),
        over_the_cap,
        on_both_sides,
        of_neither: parts.of_neither,
        all_tied: tied.len(),
        too_old,
    };
    let data = DataSet {
        demonstrations,
        held_out_demonstrations,
        rankings: parts.train,
        held_out_rankings: parts.held_out,
        judge_rankings: parts.judge,
        prompts,
        held_out_prompts,
    };
    (data, counts)
}

/// For each person who has a cap, the prompts that count: their newest.
fn newest_prompts(prompts: &[Item<PromptItem>]) -> HashMap<String, HashSet<String>> {
    let mut newest: HashMap<String, HashSet<String>> = HashMap::new();
    for Item { origin, key, .. } in prompts.iter().rev() {
        if let (Some(sender), false) = (&origin.sender, origin.vouched) {
            let of_sender = newest.entry(sender.clone()).or_default();
            if of_sender.len() < PROMPTS_PER_USER_MAX {
                of_sender.insert(key.clone());
            }
        }
    }
    newest
}

/// Leaves out what is beyond its sender's cap. Answers how much that was.
fn cap<T>(items: &mut Vec<Item<T>>, newest: &HashMap<String, HashSet<String>>) -> usize {
    let before = items.len();
    items.retain(|Item { origin, key, .. }| {
        let of_sender = origin.sender.as_ref().and_then(|sender| newest.get(sender));
        origin.vouched || of_sender.is_some_and(|keys| keys.contains(key))
    });
    before - items.len()
}

fn choose_split(prompts: &[Item<PromptItem>]) -> SplitBy {
    let users: BTreeSet<_> = prompts.iter().filter_map(|p| p.origin.sender.as_ref()).collect();
    let trained = trained_on(prompts, SplitBy::User);
    let some_held_out = prompts.iter().any(|p| !trained.contains(&p.key));
    if users.len() >= USERS_MIN && some_held_out && !trained.is_empty() { SplitBy::User } else { SplitBy::Prompt }
}

/// The prompts of the training side.
fn trained_on(prompts: &[Item<PromptItem>], by: SplitBy) -> HashSet<String> {
    prompts.iter().filter(|p| !p.is_held_out(by)).map(|p| p.key.clone()).collect()
}

/// Training part and held-out part. What is to be held out but has a prompt of the training side is left out and counted.
fn split<T>(
    items: Vec<Item<T>>,
    by: SplitBy,
    trained: &HashSet<String>,
    on_both_sides: &mut usize,
) -> (Vec<T>, Vec<T>) {
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for item in items {
        if !item.is_held_out(by) {
            train.push(item.value);
        } else if trained.contains(&item.key) {
            *on_both_sides += 1;
        } else {
            held_out.push(item.value);
        }
    }
    (train, held_out)
}

/// Every prompt once, where it first stood.
fn once_each(prompts: Vec<PromptItem>) -> Vec<PromptItem> {
    let mut seen = HashSet::new();
    prompts.into_iter().filter(|p| seen.insert(p.messages.clone())).collect()
}
