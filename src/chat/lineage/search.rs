//! Looks for a piece of feedback in snapshots, by its words, and for what came of these. May use: store, the snapshots' files.

use crate::store::StoreError;
use crate::store::lineage::{Kind, Subject};
use crate::store::policies::Policy;
use crate::store::runs::{Run, RunKind};
use crate::store::snapshots::Snapshot;
use hone_domain::{DataSet, Demonstration, Message, PromptItem, RankedPrompt};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::io::BufReader;
use std::path::Path;

/// What a run or a policy has to do with a piece of feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It learned from it, or started from something that did.
    Trained,
    /// It is the judge that learned from it, or what that judge judged.
    Judge,
    /// It was only tested on it.
    HeldOut,
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
    /// As so many rankings to test the reward model on. Some are the judge's, too.
    pub held_out_rankings: usize,
    /// As so many demonstrations to test SFT on.
    pub held_out_demonstrations: usize,
    /// As so many prompts to test policies on.
    pub held_out_prompts: usize,
}

impl Used {
    /// Whether anything of it is in a part that policies learn from.
    pub(super) fn is_trained_on(&self) -> bool {
        self.rankings + self.demonstrations + self.prompts > 0
    }

    /// Whether anything of it is in a part that is only tested on.
    pub(super) fn is_held_out(&self) -> bool {
        self.held_out_rankings + self.held_out_demonstrations + self.held_out_prompts > 0
    }

    /// What a run of this kind on the snapshot makes of it. Demonstrations set the zero of a reward model.
    pub(super) fn part_in(&self, kind: RunKind) -> Option<Part> {
        let (learned, tested) = match kind {
            RunKind::Sft => (self.demonstrations, self.held_out_demonstrations),
            RunKind::Reward => (self.rankings + self.demonstrations, self.held_out_rankings),
            RunKind::Judge => (self.judge_rankings + self.demonstrations, 0),
            RunKind::Ppo => (self.prompts, 0),
            RunKind::Evaluate => (0, self.held_out_prompts),
        };
        match (learned, tested) {
            (1.., _) if kind == RunKind::Judge => Some(Part::Judge),
            (1.., _) => Some(Part::Trained),
            (0, 1..) => Some(Part::HeldOut),
            (0, 0) => None,
        }
    }
}

/// What is looked for in snapshots.
pub(in crate::chat) enum Wanted {
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
    /// What is looked for where this subject is asked about; `prompts`: a person's.
    pub(super) fn of(id: &str, subject: Subject, prompts: HashSet<Vec<Message>>) -> Option<Self> {
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
pub(in crate::chat) fn holding(data: &Path, all: Vec<Snapshot>, wanted: &Wanted) -> Result<Vec<Used>, StoreError> {
    let mut found = Vec::new();
    for snapshot in all {
        let Some(set) = read(data, &snapshot)? else { continue };
        let rankings = |all: &[RankedPrompt]| all.iter().filter(|r| wanted.is_ranking(r)).count();
        let demonstrations = |all: &[Demonstration]| all.iter().filter(|d| wanted.is_demonstration(d)).count();
        let prompts = |all: &[PromptItem]| all.iter().filter(|p| wanted.is_prompt(&p.messages)).count();
        let used = Used {
            sha256: snapshot.sha256,
            created_at: snapshot.created_at,
            rankings: rankings(&set.rankings),
            demonstrations: demonstrations(&set.demonstrations),
            prompts: prompts(&set.prompts),
            judge_rankings: rankings(&set.judge_rankings),
            held_out_rankings: rankings(&set.held_out_rankings),
            held_out_demonstrations: demonstrations(&set.held_out_demonstrations),
            held_out_prompts: prompts(&set.held_out_prompts),
        };
        if used.is_trained_on() || used.judge_rankings > 0 || used.is_held_out() {
            found.push(used);
        }
    }
    Ok(found)
}

/// The snapshot's data; none when its file was removed.
pub(super) fn read(data: &Path, snapshot: &Snapshot) -> Result<Option<DataSet>, StoreError> {
    match std::fs::File::open(data.join(&snapshot.path)) {
        Ok(file) => Ok(Some(serde_json::from_reader(BufReader::new(file))?)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::Json(serde_json::Error::io(e))),
    }
}

/// Everything that has to do with these snapshots, in whichever part they hold it: the runs and policies on them, and what came of those.
pub(in crate::chat) fn descendants(
    snapshots: &BTreeSet<String>,
    runs: &[Run],
    policies: &[Policy],
) -> (BTreeSet<String>, BTreeSet<String>) {
    reached_from(
        |run| snapshots.contains(&run.snapshot_sha256),
        |policy| policy.snapshot_sha256.as_ref().is_some_and(|sha256| snapshots.contains(sha256)),
        runs,
        policies,
    )
}

/// The runs and policies that a search begins with, and those that come from them, at once or through another run or policy.
pub(super) fn reached_from(
    begins_run: impl Fn(&Run) -> bool,
    begins_policy: impl Fn(&Policy) -> bool,
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
            if begins_run(run) || from(&reached_runs) || from(&reached_policies) {
                reached_runs.insert(run.id.to_string());
            }
        }
        for policy in policies {
            let reached = |ids: &BTreeSet<String>, id: Option<&str>| id.is_some_and(|id| ids.contains(id));
            if begins_policy(policy)
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
