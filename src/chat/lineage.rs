//! Where an answer came from, and what learned from a piece of feedback: from an answer to its policy and the rankings that this one
//! learned from; from a piece or a person to every snapshot, run and policy that used it.
//!
//! A snapshot holds words and who judged them, no ids: a piece is found in it by its content. May use: store, the snapshots' files.

use super::{Chat, ChatError};
use crate::store::lineage::{self, Given, Kind, Subject};
use crate::store::policies::{Policy, PolicyState};
use crate::store::runs::{Run, RunKind, RunState};
use crate::store::snapshots::Snapshot;
use crate::store::{Store, StoreError, personal, policies, runs, snapshots};
use hone_domain::ids::{PolicyId, UserId};
use hone_domain::{DataSet, Demonstration, Message, RankedPrompt};
use rusqlite::Connection;
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::io::BufReader;
use std::path::Path;

/// Rankings of a policy that are named; all of them are counted.
const NAMED_MAX: usize = 50;

/// Where something came from, and what learned from it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Lineage {
    /// What was asked about.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The policy that gave the answer. Null for what no policy gave, and while the answers of a comparison are blind.
    pub policy: Option<Origin>,
    /// The frozen data sets that hold it, newest first. Only for operators.
    pub snapshots: Vec<Used>,
    /// The runs that learned from it or were judged on it, newest first. Only for operators.
    pub runs: Vec<RunRef>,
    /// The policies that come from these, newest first. Only for operators.
    pub policies: Vec<PolicyRef>,
}

/// A policy, as the origin of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Origin {
    /// Its id.
    pub id: String,
    /// The base model under it.
    pub base_name: String,
    /// What it is now.
    pub state: PolicyState,
    /// When it was made.
    pub created_at: String,
    /// When people first got it.
    pub promoted_at: Option<String>,
    /// How it was trained. Null for a base model, and to everybody but operators.
    pub training: Option<Training>,
}

/// What a policy was made from.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Training {
    /// The policy that it was trained from.
    pub parent: Option<String>,
    /// Its artifact, relative to the data folder.
    pub artifact: Option<String>,
    /// The run that made it.
    pub run: Option<String>,
    /// The job that the run is a phase of.
    pub job: Option<String>,
    /// The frozen data set.
    pub snapshot: String,
    /// Rankings in it to train on; null when its file was removed.
    pub rankings: Option<usize>,
    /// Demonstrations in it to train on.
    pub demonstrations: Option<usize>,
    /// Prompts in it to practise on.
    pub prompts: Option<usize>,
    /// The newest of its rankings that are still in the database.
    pub newest_rankings: Vec<LearnedRanking>,
}

/// A ranking that a policy learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LearnedRanking {
    /// Of which comparison.
    pub comparison: String,
    /// The last message of its prompt.
    pub prompt: String,
    /// Who gave it.
    pub by: String,
    /// When.
    pub at: String,
}

/// A snapshot that holds it, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Used {
    /// The snapshot.
    pub sha256: String,
    /// When it was frozen.
    pub created_at: String,
    /// As so many rankings to train on.
    pub rankings: usize,
    /// As so many demonstrations to train on.
    pub demonstrations: usize,
    /// As so many prompts to practise on.
    pub prompts: usize,
    /// As so many rankings that the judge learns from.
    pub judge_rankings: usize,
    /// In the part that isn't trained on, only judged by.
    pub held_out: usize,
}

/// A run that used it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RunRef {
    /// Its id.
    pub id: String,
    /// What it did.
    pub kind: RunKind,
    /// How far it is.
    pub state: RunState,
    /// Its own snapshot holds it; else it started from something that learned from it.
    pub direct: bool,
    /// When it was made.
    pub created_at: String,
}

/// A policy that learned from it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PolicyRef {
    /// Its id.
    pub id: String,
    /// What it is now.
    pub state: PolicyState,
    /// Its own snapshot holds it; else it descends from a policy that learned from it.
    pub direct: bool,
    /// When it was made.
    pub created_at: String,
}

impl Chat {
    /// The lineage of an answer, a comparison, a demonstration, a person or a policy. `only_for`: a person who may ask about their own
    /// answers, and learns their policy's name.
    ///
    /// # Errors
    /// When there is nothing of this id (for them), or a snapshot can't be read.
    pub async fn lineage(&self, id: String, only_for: Option<UserId>) -> Result<Lineage, ChatError> {
        let store = self.store.clone();
        let traced = tokio::task::spawn_blocking(move || match only_for {
            Some(user) => of_own_answer(&store, &id, &user),
            None => of_anything(&store, &id),
        });
        Ok(traced.await.map_err(|_| StoreError::Closed)??)
    }
}

fn of_own_answer(store: &Store, id: &str, user: &UserId) -> Result<Lineage, StoreError> {
    let (wanted, user) = (id.to_owned(), user.clone());
    let read = move |c: &Connection| {
        let Subject { kind, owner, revealed, policy, .. } = lineage::find(c, &wanted)?;
        if kind != Kind::Answer || owner.as_ref() != Some(&user) {
            return Err(StoreError::NotFound { what: "answer", id: wanted });
        }
        policy.filter(|_| revealed).map(|id| policies::get(c, &id)).transpose()
    };
    let policy = store.read_blocking(read)?.map(|policy| origin(policy, None));
    let (snapshots, runs, policies) = Default::default();
    Ok(Lineage { id: id.to_owned(), kind: Kind::Answer, policy, snapshots, runs, policies })
}

fn of_anything(store: &Store, id: &str) -> Result<Lineage, StoreError> {
    let wanted = id.to_owned();
    let read = move |c: &Connection| {
        let subject = lineage::find(c, &wanted)?;
        let prompts = match subject.kind {
            Kind::Person => personal::prompts(c, &UserId::from_raw(wanted.as_str()))?,
            _ => HashSet::new(),
        };
        let policy = subject.policy.as_ref().map(|id| policies::get(c, id)).transpose()?;
        let all = usize::MAX;
        Ok((subject, prompts, policy, snapshots::list(c, all)?, runs::list(c, all)?, policies::list(c)?))
    };
    let (subject, prompts, policy, all_snapshots, all_runs, all_policies) = store.read_blocking(read)?;
    let kind = subject.kind;
    let policy = match policy {
        Some(policy) => {
            let training = training(store, &policy, &all_runs)?;
            Some(origin(policy, training))
        }
        None => None,
    };
    let snapshots = match Wanted::of(id, subject, prompts) {
        Some(wanted) => holding(store.data_dir(), all_snapshots, &wanted)?,
        None => Vec::new(),
    };
    let names: BTreeSet<String> = snapshots.iter().map(|used| used.sha256.clone()).collect();
    let (reached_runs, reached_policies) = descendants(&names, &all_runs, &all_policies);
    let runs = all_runs.into_iter().filter(|run| reached_runs.contains(run.id.as_str())).map(|run| RunRef {
        direct: names.contains(&run.snapshot_sha256),
        id: run.id.to_string(),
        kind: run.kind,
        state: run.state,
        created_at: run.created_at,
    });
    let reached = all_policies.into_iter().filter(|policy| reached_policies.contains(policy.id.as_str()));
    let policies = reached.map(|policy| PolicyRef {
        direct: policy.snapshot_sha256.as_ref().is_some_and(|sha256| names.contains(sha256)),
        id: policy.id.to_string(),
        state: policy.state,
        created_at: policy.created_at,
    });
    let mut policies: Vec<PolicyRef> = policies.collect();
    policies.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    Ok(Lineage { id: id.to_owned(), kind, policy, snapshots, runs: runs.collect(), policies })
}

fn origin(policy: Policy, training: Option<Training>) -> Origin {
    let Policy { id, base_name, state, created_at, promoted_at, .. } = policy;
    Origin { id: id.to_string(), base_name, state, created_at, promoted_at, training }
}

fn training(store: &Store, policy: &Policy, all_runs: &[Run]) -> Result<Option<Training>, StoreError> {
    let Some(sha256) = policy.snapshot_sha256.clone() else { return Ok(None) };
    let named = sha256.clone();
    let (snapshot, given) = store.read_blocking(move |c| Ok((snapshots::get(c, &named)?, lineage::rankings(c)?)))?;
    let set = read(store.data_dir(), &snapshot)?;
    let job = all_runs.iter().find(|run| Some(&run.id) == policy.run_id.as_ref()).and_then(|run| run.job_id.as_ref());
    Ok(Some(Training {
        parent: policy.parent_id.as_ref().map(PolicyId::to_string),
        artifact: policy.adapter_dir.clone(),
        run: policy.run_id.as_ref().map(ToString::to_string),
        job: job.map(ToString::to_string),
        snapshot: sha256,
        rankings: set.as_ref().map(|set| set.rankings.len()),
        demonstrations: set.as_ref().map(|set| set.demonstrations.len()),
        prompts: set.as_ref().map(|set| set.prompts.len()),
        newest_rankings: set.map(|set| named_rankings(&set, given)).unwrap_or_default(),
    }))
}

/// Those of the given rankings that the set trains on.
fn named_rankings(set: &DataSet, given: Vec<Given>) -> Vec<LearnedRanking> {
    let learned: HashSet<(&[Message], &[String], &str)> =
        set.rankings.iter().map(|r| (r.messages.as_slice(), r.candidates.as_slice(), r.labeler.as_str())).collect();
    let held = given.into_iter().filter(|g| learned.contains(&(&g.messages, &g.candidates, g.labeler.as_str())));
    let named = |g: Given| LearnedRanking {
        comparison: g.comparison,
        prompt: g.messages.last().map(|m| m.content.clone()).unwrap_or_default(),
        by: g.by,
        at: g.created_at,
    };
    held.take(NAMED_MAX).map(named).collect()
}

/// What is looked for in snapshots.
pub(super) enum Wanted {
    /// Whatever a person judged or wrote, and all of their prompts.
    Person {
        /// Who.
        id: String,
        /// Every prompt that came from them.
        prompts: HashSet<Vec<Message>>,
    },
    /// A comparison: its ranking by this person, if there is one, and its prompt.
    Comparison { messages: Vec<Message>, candidates: Vec<String>, labeler: Option<String> },
    /// A demonstration, and its prompt.
    Demonstration { messages: Vec<Message>, ideal: String },
    /// A prompt alone.
    Prompt(Vec<Message>),
}

impl Wanted {
    fn of(id: &str, subject: Subject, prompts: HashSet<Vec<Message>>) -> Option<Self> {
        let Subject { kind, messages, candidates, labeler, ideal, .. } = subject;
        match (kind, ideal) {
            (Kind::Policy, _) => None,
            (Kind::Person, _) => Some(Self::Person { id: id.to_owned(), prompts }),
            (Kind::Demonstration, Some(ideal)) => Some(Self::Demonstration { messages, ideal }),
            (Kind::Comparison, _) => Some(Self::Comparison { messages, candidates, labeler }),
            (Kind::Answer, _) if !candidates.is_empty() => Some(Self::Comparison { messages, candidates, labeler }),
            (Kind::Answer | Kind::Demonstration, _) => Some(Self::Prompt(messages)),
        }
    }

    fn is_ranking(&self, ranked: &RankedPrompt) -> bool {
        match self {
            Self::Person { id, prompts } => ranked.labeler == *id || prompts.contains(&ranked.messages),
            Self::Comparison { messages, candidates, labeler } => {
                Some(&ranked.labeler) == labeler.as_ref()
                    && ranked.messages == *messages
                    && ranked.candidates == *candidates
            }
            Self::Demonstration { .. } | Self::Prompt(_) => false,
        }
    }

    fn is_demonstration(&self, shown: &Demonstration) -> bool {
        match self {
            Self::Person { id, prompts } => shown.labeler == *id || prompts.contains(&shown.messages),
            Self::Demonstration { messages, ideal } => shown.messages == *messages && shown.ideal == *ideal,
            Self::Comparison { .. } | Self::Prompt(_) => false,
        }
    }

    fn is_prompt(&self, prompt: &[Message]) -> bool {
        match self {
            Self::Person { prompts, .. } => prompts.contains(prompt),
            Self::Comparison { messages, .. } | Self::Demonstration { messages, .. } | Self::Prompt(messages) => {
                messages == prompt
            }
        }
    }
}

/// The snapshots that hold any of it, in their order. One whose file is gone holds nothing.
pub(super) fn holding(data: &Path, all: Vec<Snapshot>, wanted: &Wanted) -> Result<Vec<Used>, StoreError> {
    let mut found = Vec::new();
    for snapshot in all {
        let Some(set) = read(data, &snapshot)? else { continue };
        let rankings = |all: &[RankedPrompt]| all.iter().filter(|r| wanted.is_ranking(r)).count();
        let demonstrations = |all: &[Demonstration]| all.iter().filter(|d| wanted.is_demonstration(d)).count();
        let held_out_prompts = set.held_out_prompts.iter().filter(|p| wanted.is_prompt(&p.messages)).count();
        let used = Used {
            sha256: snapshot.sha256,
            created_at: snapshot.created_at,
            rankings: rankings(&set.rankings),
            demonstrations: demonstrations(&set.demonstrations),
            prompts: set.prompts.iter().filter(|p| wanted.is_prompt(&p.messages)).count(),
            judge_rankings: rankings(&set.judge_rankings),
            held_out: rankings(&set.held_out_rankings)
                + demonstrations(&set.held_out_demonstrations)
                + held_out_prompts,
        };
        if used.rankings + used.demonstrations + used.prompts + used.judge_rankings + used.held_out > 0 {
            found.push(used);
        }
    }
    Ok(found)
}

fn read(data: &Path, snapshot: &Snapshot) -> Result<Option<DataSet>, StoreError> {
    match std::fs::File::open(data.join(&snapshot.path)) {
        Ok(file) => Ok(Some(serde_json::from_reader(BufReader::new(file))?)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::Json(serde_json::Error::io(e))),
    }
}

/// Runs and policies that come from these snapshots, at once or through another run or policy.
pub(super) fn descendants(
    snapshots: &BTreeSet<String>,
    runs: &[Run],
    policies: &[Policy],
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut reached_runs, mut reached_policies) = (BTreeSet::<String>::new(), BTreeSet::<String>::new());
    loop {
        let before = (reached_runs.len(), reached_policies.len());
        for run in runs {
            // Inputs name folders, which carry the id of the run or policy they belong to.
            let inputs = run.inputs.to_string();
            let from = |ids: &BTreeSet<String>| ids.iter().any(|id| inputs.contains(id));
            if snapshots.contains(&run.snapshot_sha256) || from(&reached_runs) || from(&reached_policies) {
                reached_runs.insert(run.id.to_string());
            }
        }
        for policy in policies {
            let reached = |ids: &BTreeSet<String>, id: Option<&str>| id.is_some_and(|id| ids.contains(id));
            if reached(snapshots, policy.snapshot_sha256.as_deref())
                || reached(&reached_runs, policy.run_id.as_ref().map(|id| id.as_str()))
                || reached(&reached_policies, policy.parent_id.as_ref().map(|id| id.as_str()))
            {
                reached_policies.insert(policy.id.to_string());
            }
        }
        if before == (reached_runs.len(), reached_policies.len()) {
            return (reached_runs, reached_policies);
        }
    }
}
