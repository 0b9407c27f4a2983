//! Which phases a job goes through, and what it has to show so far. Pure.

use crate::store::jobs::JobKind;
use crate::store::runs::RunKind;
use hone_domain::ids::{PolicyId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Freeze the data.
    Snapshot,
    /// Train on demonstrations.
    Sft,
    /// Train the reward model on rankings.
    Reward,
    /// Train the judge on rankings that the reward model never sees.
    Judge,
    /// Train the policy against the reward model.
    Ppo,
    /// Old policy against new on held-out prompts.
    Evaluate,
    /// Load the new policy beside the live one, check it, decide.
    Gate,
    /// Swap it in.
    Promote,
    /// Let people decide: it becomes the challenger.
    Canary,
}

impl Phase {
    /// Its name in the database and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Sft => "sft",
            Self::Reward => "reward",
            Self::Judge => "judge",
            Self::Ppo => "ppo",
            Self::Evaluate => "evaluate",
            Self::Gate => "gate",
            Self::Promote => "promote",
            Self::Canary => "canary",
        }
    }

    /// The run that does it, in a process of its own.
    #[must_use]
    pub fn run_kind(self) -> Option<RunKind> {
        match self {
            Self::Sft => Some(RunKind::Sft),
            Self::Reward => Some(RunKind::Reward),
            Self::Judge => Some(RunKind::Judge),
            Self::Ppo => Some(RunKind::Ppo),
            Self::Evaluate => Some(RunKind::Evaluate),
            Self::Snapshot | Self::Gate | Self::Promote | Self::Canary => None,
        }
    }
}

impl From<RunKind> for Phase {
    fn from(kind: RunKind) -> Self {
        match kind {
            RunKind::Sft => Self::Sft,
            RunKind::Reward => Self::Reward,
            RunKind::Judge => Self::Judge,
            RunKind::Ppo => Self::Ppo,
            RunKind::Evaluate => Self::Evaluate,
        }
    }
}

/// What a job has produced so far: all that the next scheduler needs to go on after a crash.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// All randomness of the job's runs comes from it.
    pub seed: u64,
    /// The data.
    pub snapshot: Option<String>,
    /// Name of the base model.
    pub base_name: String,
    /// The champion that the new policy is trained from and judged against.
    pub parent: Option<PolicyId>,
    /// There are demonstrations that the champion hasn't seen.
    pub needs_sft: bool,
    /// There are enough rankings for a judge.
    pub has_judge: bool,
    /// The run of each phase, from the moment it is made.
    pub runs: BTreeMap<RunKind, RunId>,
    /// The new policy, from the moment its id is chosen.
    pub policy: Option<PolicyId>,
    /// How many policies of earlier rounds are judged beside the new one.
    pub earlier_max: usize,
    /// The policy of an earlier round that is judged instead of the new one, because it is surely better.
    pub elected: Option<PolicyId>,
    /// Finished phases.
    pub done: Vec<Phase>,
    /// Processes that the current phase has lost.
    pub lost_processes: u32,
}

impl Work {
    /// The run whose policy is judged.
    #[must_use]
    pub fn judged(&self) -> Option<&RunId> {
        self.runs.get(&RunKind::Ppo).or_else(|| self.runs.get(&RunKind::Sft))
    }

    /// Goes back to the evaluation, of a policy of an earlier round. `run` made it.
    pub fn elect(&mut self, policy: PolicyId, run: RunId, kind: RunKind) {
        self.runs.retain(|made, _| !matches!(made, RunKind::Sft | RunKind::Ppo | RunKind::Evaluate));
        self.runs.insert(kind, run);
        self.policy = None;
        self.done.retain(|phase| !matches!(phase, Phase::Evaluate | Phase::Gate));
        self.elected = Some(policy);
    }
}

/// The phases of a job. `last`: what a cycle does with what passes the gate.
#[must_use]
pub fn phases(kind: JobKind, work: &Work, last: Option<Phase>) -> Vec<Phase> {
    let judge = work.has_judge.then_some(Phase::Judge);
    match kind {
        JobKind::Sft => vec![Phase::Snapshot, Phase::Sft],
        JobKind::Reward => vec![Phase::Snapshot, Phase::Reward],
        JobKind::Ppo => vec![Phase::Snapshot, Phase::Ppo],
        JobKind::Evaluate => [Phase::Snapshot].into_iter().chain(judge).chain([Phase::Evaluate, Phase::Gate]).collect(),
        JobKind::Cycle => {
            let mut all = vec![Phase::Snapshot];
            all.extend(work.needs_sft.then_some(Phase::Sft));
            all.push(Phase::Reward);
            all.extend(judge);
            all.extend([Phase::Ppo, Phase::Evaluate, Phase::Gate]);
            all.extend(last);
            all
        }
    }
}

/// The phase that is to be done next; none when all are done.
#[must_use]
pub fn next(kind: JobKind, work: &Work, last: Option<Phase>) -> Option<Phase> {
    phases(kind, work, last).into_iter().find(|phase| !work.done.contains(phase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_names(kind: JobKind, (needs_sft, has_judge): (bool, bool), last: Option<Phase>) -> String {
        let mut work = Work { needs_sft, has_judge, ..Work::default() };
        let mut names = Vec::new();
        while let Some(phase) = next(kind, &work, last) {
            names.push(phase.as_str());
            work.done.push(phase);
        }
        names.join(" ")
    }

    #[test]
    fn a_cycle_is_the_whole_loop() {
        let all = "snapshot sft reward judge ppo evaluate gate promote";
        let promote = Some(Phase::Promote);
        assert_eq!(all_names(JobKind::Cycle, (true, true), promote), all);
        assert_eq!(all_names(JobKind::Cycle, (false, false), None), "snapshot reward ppo evaluate gate");
        let canary = "snapshot reward ppo evaluate gate canary";
        assert_eq!(all_names(JobKind::Cycle, (false, false), Some(Phase::Canary)), canary);
        assert_eq!(all_names(JobKind::Reward, (true, true), promote), "snapshot reward");
        assert_eq!(all_names(JobKind::Evaluate, (true, true), promote), "snapshot judge evaluate gate");
    }

    #[test]
    fn work_survives_the_database() {
        let mut work = Work { seed: u64::MAX, done: vec![Phase::Snapshot], ..Work::default() };
        work.runs.insert(RunKind::Ppo, RunId::from_raw("run_1"));
        let text = serde_json::to_string(&work).expect("writes");
        assert_eq!(serde_json::from_str::<Work>(&text).expect("reads"), work);
        assert_eq!(serde_json::from_str::<Work>("{}").expect("a fresh job"), Work::default());
    }
}
