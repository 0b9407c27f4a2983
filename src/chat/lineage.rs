//! Where an answer came from, and what learned from a piece of feedback: from an answer to its policy and the rankings that this one
//! learned from; from a piece or a person to every snapshot, run and policy that used it.
//!
//! A snapshot holds words and who judged them, no ids: a piece is found in it by its content. May use: store, the snapshots' files.

mod search;

pub use search::{Part, Used};
pub(super) use search::{Wanted, descendants, holding};

use super::{Chat, ChatError};
use crate::store::lineage::{self, Given, Kind, Subject};
use crate::store::policies::{Policy, PolicyState};
use crate::store::runs::{Run, RunKind, RunState};
use crate::store::{Store, StoreError, personal, policies, runs, snapshots};
use hone_domain::ids::{PolicyId, UserId};
use hone_domain::{DataSet, Message};
use rusqlite::Connection;
use search::reached_from;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

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
    /// The runs that learned from it or were tested on it, newest first. Only for operators.
    pub runs: Vec<RunRef>,
    /// The policies that learned from it, were tested on it, or had a judge that learned from it, newest first. Only for operators.
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
    /// Of those rankings, still in the database.
    pub rankings_known: usize,
    /// The newest of these, at most fifty.
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

/// A run that used it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RunRef {
    /// Its id.
    pub id: String,
    /// What it did.
    pub kind: RunKind,
    /// How far it is.
    pub state: RunState,
    /// What it did with it.
    pub part: Part,
    /// Its own snapshot holds it; else it started from something that learned from it.
    pub direct: bool,
    /// When it was made.
    pub created_at: String,
}

/// A policy that has to do with it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PolicyRef {
    /// Its id.
    pub id: String,
    /// What it is now.
    pub state: PolicyState,
    /// In which way.
    pub part: Part,
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
    let (runs, policies) = concerned(&snapshots, all_runs, all_policies);
    Ok(Lineage { id: id.to_owned(), kind, policy, snapshots, runs, policies })
}

/// The runs and policies that have to do with what these snapshots hold. Learning goes on from each to what starts from it; being tested
/// doesn't.
fn concerned(snapshots: &[Used], runs: Vec<Run>, policies: Vec<Policy>) -> (Vec<RunRef>, Vec<PolicyRef>) {
    let by_name: HashMap<&str, &Used> = snapshots.iter().map(|used| (used.sha256.as_str(), used)).collect();
    let of_run = |run: &Run| by_name.get(run.snapshot_sha256.as_str())?.part_in(run.kind);
    let of_policy = |policy: &Policy| by_name.get(policy.snapshot_sha256.as_deref()?).copied();
    let learns = |run: &Run| of_run(run) == Some(Part::Trained);
    // One that no run made is known by its snapshot alone.
    let learned = |policy: &Policy| policy.run_id.is_none() && of_policy(policy).is_some_and(Used::is_trained_on);
    let (trained_runs, trained_policies) = reached_from(learns, learned, &runs, &policies);
    let judged: HashSet<&str> =
        runs.iter().filter(|run| of_run(run) == Some(Part::Judge)).map(|run| run.snapshot_sha256.as_str()).collect();
    let part_of_policy = |policy: &Policy| {
        let is_trained = trained_policies.contains(policy.id.as_str());
        let is_judged = policy.snapshot_sha256.as_deref().is_some_and(|sha256| judged.contains(sha256));
        match of_policy(policy) {
            _ if is_trained => Some(Part::Trained),
            Some(_) if is_judged => Some(Part::Judge),
            Some(used) if used.is_held_out() => Some(Part::HeldOut),
            _ => None,
        }
    };
    let run_ref = |run: &Run| {
        let is_trained = trained_runs.contains(run.id.as_str());
        let part = if is_trained { Part::Trained } else { of_run(run)? };
        let (direct, created_at) = (of_run(run) == Some(part), run.created_at.clone());
        Some(RunRef { id: run.id.to_string(), kind: run.kind, state: run.state, part, direct, created_at })
    };
    let policy_ref = |policy: &Policy| {
        let part = part_of_policy(policy)?;
        let direct = of_policy(policy).is_some_and(|used| part != Part::Trained || used.is_trained_on());
        Some(PolicyRef {
            id: policy.id.to_string(),
            state: policy.state,
            part,
            direct,
            created_at: policy.created_at.clone(),
        })
    };
    let mut found: Vec<PolicyRef> = policies.iter().filter_map(policy_ref).collect();
    found.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    (runs.iter().filter_map(run_ref).collect(), found)
}

fn origin(policy: Policy, training: Option<Training>) -> Origin {
    let Policy { id, base_name, state, created_at, promoted_at, .. } = policy;
    Origin { id: id.to_string(), base_name, state, created_at, promoted_at, training }
}

fn training(store: &Store, policy: &Policy, all_runs: &[Run]) -> Result<Option<Training>, StoreError> {
    let Some(sha256) = policy.snapshot_sha256.clone() else { return Ok(None) };
    let named = sha256.clone();
    let (snapshot, given) = store.read_blocking(move |c| Ok((snapshots::get(c, &named)?, lineage::rankings(c)?)))?;
    let set = search::read(store.data_dir(), &snapshot)?;
    let job = all_runs.iter().find(|run| Some(&run.id) == policy.run_id.as_ref()).and_then(|run| run.job_id.as_ref());
    let (rankings_known, newest_rankings) = set.as_ref().map(|set| known_rankings(set, given)).unwrap_or_default();
    Ok(Some(Training {
        parent: policy.parent_id.as_ref().map(PolicyId::to_string),
        artifact: policy.adapter_dir.clone(),
        run: policy.run_id.as_ref().map(ToString::to_string),
        job: job.map(ToString::to_string),
        snapshot: sha256,
        rankings: set.as_ref().map(|set| set.rankings.len()),
        demonstrations: set.as_ref().map(|set| set.demonstrations.len()),
        prompts: set.as_ref().map(|set| set.prompts.len()),
        rankings_known,
        newest_rankings,
    }))
}

/// How many of the given rankings the set trains on, and the first of them.
fn known_rankings(set: &DataSet, given: Vec<Given>) -> (usize, Vec<LearnedRanking>) {
    let learned: HashSet<(&[Message], &[String], &str)> =
        set.rankings.iter().map(|r| (r.messages.as_slice(), r.candidates.as_slice(), r.labeler.as_str())).collect();
    let is_learned = |g: &Given| learned.contains(&(&g.messages, &g.candidates, g.labeler.as_str()));
    let known: Vec<Given> = given.into_iter().filter(is_learned).collect();
    let named = |g: Given| LearnedRanking {
        comparison: g.comparison,
        prompt: g.messages.last().map(|m| m.content.clone()).unwrap_or_default(),
        by: g.by,
        at: g.created_at,
    };
    (known.len(), known.into_iter().take(NAMED_MAX).map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::{RankedPrompt, Ranking};

    #[test]
    fn all_rankings_are_counted_and_the_newest_are_named() {
        let prompt = |n: usize| vec![Message::user(format!("question {n}"))];
        let candidates = vec!["a".to_owned(), "b".to_owned()];
        let ranked = |n: usize| RankedPrompt {
            messages: prompt(n),
            candidates: candidates.clone(),
            ranking: Ranking::from_ranks(&[0, 1]).expect("ranks"),
            quality: Vec::new(),
            flags: Vec::new(),
            labeler: "user_ann".into(),
        };
        let given = |n: usize| Given {
            comparison: format!("cmp_{n}"),
            messages: prompt(n),
            candidates: candidates.clone(),
            labeler: "user_ann".into(),
            by: "ann".into(),
            created_at: format!("2026-01-01T00:{n:02}:00.000000Z"),
        };
        // The newest first; the last two were given after the set was frozen, and one of the set's is gone from the database.
        let set = DataSet { rankings: (0..58).map(ranked).collect(), ..DataSet::default() };
        let (known, named) = known_rankings(&set, (1..60).rev().map(given).collect());
        assert_eq!((known, named.len(), named[0].comparison.as_str()), (57, NAMED_MAX, "cmp_57"));
    }
}
