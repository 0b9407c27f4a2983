//! The labeling queue: tasks handed out under a lease, answered, passed over, taken back; and what they say of the people who answer.
//! May use: chat, store. Knows nothing of HTTP.
//!
//! Items come from prompts that people chatted with (never from what isn't recorded or is excluded) and that labelers wrote. One ranking
//! of an item is learned from, the first; gold questions, repeats and others' opinions are kept apart (`store::judgements`), where no
//! snapshot looks.

pub mod agreement;
pub mod config;
mod finish;
mod generate;
mod gold;
mod guidelines;
pub mod progress;
pub mod trust;

pub use config::LabelingConfig;
pub use gold::{GoldQuestion, GoldResult};
pub use guidelines::Guidelines;

use crate::chat::{Chat, ChatError};
use crate::store::comparisons;
use crate::store::labeling::{self, Kind, NewTask, Purpose, Task, pick, prompts};
use crate::store::{Store, StoreError, timestamp};
use hone_domain::Message;
use hone_domain::ids::{ComparisonId, TaskId, UserId};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rand::seq::SliceRandom;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Why it can't be done. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LabelingError {
    /// A setting is out of its bounds.
    #[error("{0}")]
    Config(String),
    /// The guidelines can't be read.
    #[error("{path}: {reason}; labeling.guidelines names a text file", path = path.display())]
    Guidelines {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// An answer that doesn't fit its task.
    #[error("{message}")]
    Answer {
        /// The field.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Answers can't be made, or a verdict doesn't fit.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A task as its labeler sees it: nothing on it says why it was chosen, who wrote what, or whether they had it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its id.
    pub id: TaskId,
    /// What is asked.
    pub kind: Kind,
    /// The prompt.
    pub messages: Vec<Message>,
    /// The answers in the order shown; none for a demonstration. Each is called by its place: [`place_name`].
    pub answers: Vec<String>,
    /// Until when it is this labeler's alone.
    pub lease_until: String,
}

/// What an answer is called in its task: "c1" is the first one shown. Its real id would tell whether it was seen before.
#[must_use]
pub fn place_name(place: usize) -> String {
    format!("c{}", place + 1)
}

/// The queue. Cheap to clone.
#[derive(Clone)]
pub struct Labeling {
    store: Store,
    chat: Chat,
    config: Arc<LabelingConfig>,
    guidelines_file: Option<Arc<str>>,
    /// Whether comparisons are being made ahead.
    refilling: Arc<AtomicBool>,
}

impl Labeling {
    /// Over the store, with answers from `chat`.
    ///
    /// # Errors
    /// When a setting is out of bounds, or the guidelines can't be read.
    pub fn new(store: Store, chat: Chat, config: &LabelingConfig) -> Result<Self, LabelingError> {
        let config = config.clone().checked()?;
        let read = |path: &PathBuf| {
            let failed = |reason| LabelingError::Guidelines { path: path.clone(), reason };
            std::fs::read_to_string(path).map(Arc::from).map_err(failed)
        };
        let guidelines_file = config.guidelines.as_ref().map(read).transpose()?;
        Ok(Self { store, chat, config: Arc::new(config), guidelines_file, refilling: Arc::default() })
    }

    /// The person's task: the one they hold, or the next one; `None` when the queue has nothing for them.
    ///
    /// # Errors
    /// When answers can't be made, or the database fails.
    pub async fn next(&self, user: &UserId, kind: Kind) -> Result<Option<Shown>, LabelingError> {
        let mut task = self.lease(user, kind).await?;
        if task.is_none() && kind == Kind::Rank && self.make_item(user).await? {
            task = self.lease(user, kind).await?;
        }
        if kind == Kind::Rank {
            self.refill(user);
        }
        Ok(task)
    }

    async fn lease(&self, user: &UserId, kind: Kind) -> Result<Option<Shown>, LabelingError> {
        let (user, config) = (user.clone(), Arc::clone(&self.config));
        let lease = move |tx: &Connection| {
            labeling::expire(tx)?;
            let until = lease_until(&config);
            let task = match (labeling::held(tx, &user, kind, &until)?, kind) {
                (Some(held), _) => Some(held),
                (None, Kind::Rank) => lease_ranking(tx, &user, &config, &until)?,
                (None, Kind::Demonstrate) => lease_demonstration(tx, &user, &until)?,
            };
            task.map(|task| shown(tx, task)).transpose()
        };
        Ok(self.store.write(lease).await?)
    }

    /// Keeps a labeler's own prompt for the queue.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_prompt(&self, user: UserId, prompt: hone_domain::Conversation) -> Result<String, LabelingError> {
        Ok(self.store.write(move |tx| prompts::insert(tx, &user, prompt.messages())).await?)
    }
}

fn lease_until(config: &LabelingConfig) -> String {
    timestamp(Timestamp::now() + minutes(config.lease_minutes))
}

fn minutes(n: u64) -> SignedDuration {
    SignedDuration::from_mins(i64::try_from(n).unwrap_or(i64::MAX / 60))
}

fn hours_ago(n: u64) -> String {
    timestamp(Timestamp::now() - SignedDuration::from_hours(i64::try_from(n).unwrap_or(0)))
}

/// Measures the labeler now and then, in the configured shares; else something new.
fn lease_ranking(
    tx: &Connection,
    user: &UserId,
    config: &LabelingConfig,
    until: &str,
) -> Result<Option<Task>, StoreError> {
    let draw: f64 = rand::rng().random();
    let (gold, repeat) = (config.gold_share, config.gold_share + config.repeat_share);
    let measured = if draw < gold {
        pick::gold(tx, user)?.map(|id| (id, Purpose::Gold))
    } else if draw < repeat {
        pick::repeat(tx, user, config.repeat_gap)?.map(|id| (id, Purpose::Repeat))
    } else if draw < repeat + config.overlap_share {
        pick::overlap(tx, user, config.overlap_people_max)?.map(|id| (id, Purpose::Overlap))
    } else {
        None
    };
    let picked = match measured {
        Some(picked) => Some(picked),
        None => pick::fresh(tx, user, &hours_ago(config.left_unranked_hours))?.map(|id| (id, Purpose::New)),
    };
    picked.map(|(id, purpose)| lease_comparison(tx, user, id, purpose, until)).transpose()
}

fn lease_comparison(
    tx: &Connection,
    user: &UserId,
    id: ComparisonId,
    purpose: Purpose,
    until: &str,
) -> Result<Task, StoreError> {
    let (comparison, prompt_from) = comparisons::any(tx, &id)?;
    let mut order: Vec<usize> = (0..comparison.candidates.len()).collect();
    order.shuffle(&mut rand::rng());
    let messages = comparison.messages;
    let new =
        NewTask { user: user.clone(), kind: Kind::Rank, purpose, comparison: Some(id), prompt_from, messages, order };
    labeling::lease(tx, &new, until)
}

fn lease_demonstration(tx: &Connection, user: &UserId, until: &str) -> Result<Option<Task>, StoreError> {
    let Some(prompt) = prompts::draw(tx, Kind::Demonstrate, user)? else { return Ok(None) };
    let new = NewTask {
        user: user.clone(),
        kind: Kind::Demonstrate,
        purpose: Purpose::New,
        comparison: None,
        prompt_from: prompt.from,
        messages: prompt.messages,
        order: Vec::new(),
    };
    labeling::lease(tx, &new, until).map(Some)
}

fn shown(c: &Connection, task: Task) -> Result<Shown, StoreError> {
    let Task { id, asked: NewTask { kind, comparison, messages, order, .. }, lease_until, .. } = task;
    let answers = match &comparison {
        Some(comparison) => {
            let candidates = comparisons::any(c, comparison)?.0.candidates;
            order.iter().filter_map(|place| Some(candidates.get(*place)?.content.clone())).collect()
        }
        None => Vec::new(),
    };
    Ok(Shown { id, kind, messages, answers, lease_until })
}
