//! Which adapters a run starts from.
//!
//! A round of the loop begins at the champion (or, when there are new demonstrations, at what SFT makes of it): the reward model and
//! the policy start there, and the KL is measured from there. So each round has its own trust region around answers that
//! its rankings were about, as in the iterated rounds of Llama 2 (Touvron et al. 2023, section 3.2).

use super::JobError;
use super::plan::Work;
use crate::store::policies::{self, Policy, PolicyState};
use crate::store::runs::{self, Run, RunKind};
use hone_domain::ids::{PolicyId, RunId};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Adapter folders by role, relative to the data folder or absolute. None is the base model itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inputs {
    /// SFT, reward: what training starts from. PPO: the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// PPO, evaluation: what the KL is measured from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
    /// PPO, evaluation: the reward model. SFT: the one that chooses the epoch, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<PathBuf>,
    /// Evaluation: the judge, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<PathBuf>,
    /// Evaluation: the policy that is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<PathBuf>,
    /// Evaluation: the policy that is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<PathBuf>,
    /// Evaluation: policies of earlier rounds that might be better than the one that is judged.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<PolicyId, PathBuf>,
}

impl Inputs {
    /// The same with all paths absolute.
    #[must_use]
    pub fn under(self, data_dir: &Path) -> Self {
        // `join` leaves an absolute path as it is.
        let full = |path: Option<PathBuf>| path.map(|p| data_dir.join(p));
        let Self { init, reference, reward, judge, old, new, earlier } = self;
        Self {
            init: full(init),
            reference: full(reference),
            reward: full(reward),
            judge: full(judge),
            old: full(old),
            new: full(new),
            earlier: earlier.into_iter().map(|(id, path)| (id, data_dir.join(path))).collect(),
        }
    }
}

/// The inputs of a run that is a phase of a job.
///
/// # Errors
/// When there is no reward model, or nothing to judge.
pub fn of_phase(c: &Connection, kind: RunKind, work: &Work, base_name: &str) -> Result<Inputs, JobError> {
    let start = match work.runs.get(&RunKind::Sft) {
        Some(sft) => Some(artifact(&runs::get(c, sft)?)?),
        None => champion(c, base_name)?,
    };
    match kind {
        RunKind::Sft => {
            let reward = newest_reward(c, base_name)?;
            Ok(Inputs { init: champion(c, base_name)?, reward, ..Inputs::default() })
        }
        // Both from the same start: what they share is the model that they look at, not what people said.
        RunKind::Reward | RunKind::Judge => Ok(Inputs { init: start, ..Inputs::default() }),
        RunKind::Ppo => {
            let reward = Some(reward_of(c, work, base_name)?);
            Ok(Inputs { init: start.clone(), reference: start, reward, ..Inputs::default() })
        }
        RunKind::Evaluate => of_evaluation(c, work, base_name),
    }
}

fn of_evaluation(c: &Connection, work: &Work, base_name: &str) -> Result<Inputs, JobError> {
    let judged =
        work.judged().ok_or_else(|| JobError::Invalid("there is no run to judge: run a PPO job first".into()))?;
    let judged = runs::get(c, judged)?;
    let from: Inputs = serde_json::from_value(judged.inputs.clone()).unwrap_or_default();
    // An SFT run's only chose the epoch, and an earlier round's knows less than this one's: the newest judges.
    let reward = match from.reward.filter(|_| judged.kind == RunKind::Ppo && work.elected.is_none()) {
        Some(reward) => reward,
        None => reward_of(c, work, base_name)?,
    };
    let earlier = match work.elected {
        Some(_) => BTreeMap::new(),
        None => earlier(c, work.earlier_max, base_name)?,
    };
    Ok(Inputs {
        init: None,
        reference: from.reference.or(from.init),
        reward: Some(reward),
        judge: work.runs.get(&RunKind::Judge).map(|judge| artifact(&runs::get(c, judge)?)).transpose()?,
        old: champion(c, base_name)?,
        new: Some(adapter_judged(c, work, &judged)?),
        earlier,
    })
}

/// The adapter that is judged: what the run has made, or the elected policy's own copy of it, since runs may be cleared away.
///
/// # Errors
/// When the run hasn't made anything yet, or the policy is gone.
pub fn adapter_judged(c: &Connection, work: &Work, judged: &Run) -> Result<PathBuf, JobError> {
    let Some(id) = &work.elected else { return artifact(judged) };
    let adapter = policies::get(c, id)?.adapter_dir.map(PathBuf::from);
    adapter.ok_or_else(|| JobError::Conflict(format!("policy {id} is the base model: there is no adapter to judge")))
}

/// The newest policies of this base, beside the champion, that people may be given: the gate has let them pass, and no trial was lost.
fn earlier(c: &Connection, most: usize, base_name: &str) -> Result<BTreeMap<PolicyId, PathBuf>, JobError> {
    let all = policies::list(c)?.into_iter();
    let fit = all.filter(|policy| policy.base_name == base_name && is_proven(policy));
    Ok(fit.filter_map(|policy| Some((policy.id, PathBuf::from(policy.adapter_dir?)))).take(most).collect())
}

fn is_proven(policy: &Policy) -> bool {
    let passed = policy.gate_report.as_ref().is_some_and(|report| report["passed"] == true);
    passed && matches!(policy.state, PolicyState::Retired | PolicyState::Candidate)
}

/// The job's own reward model, or else the newest.
fn reward_of(c: &Connection, work: &Work, base_name: &str) -> Result<PathBuf, JobError> {
    let reward = match work.runs.get(&RunKind::Reward) {
        Some(own) => Some(artifact(&runs::get(c, own)?)?),
        None => newest_reward(c, base_name)?,
    };
    reward.ok_or_else(|| {
        JobError::NotEnoughData("there is no reward model yet: run a job of kind \"reward\" (hone train reward)".into())
    })
}

/// The newest reward model, where there is one.
fn newest_reward(c: &Connection, base_name: &str) -> Result<Option<PathBuf>, JobError> {
    runs::newest_succeeded(c, RunKind::Reward, base_name)?.as_ref().map(artifact).transpose()
}

/// The champion's adapter, where it is of this base and has one.
fn champion(c: &Connection, base_name: &str) -> Result<Option<PathBuf>, JobError> {
    let champion = policies::champion(c)?.filter(|p| p.base_name == base_name);
    Ok(champion.and_then(|p| p.adapter_dir).map(PathBuf::from))
}

/// What a run has made.
///
/// # Errors
/// When it hasn't made anything yet.
pub fn artifact(run: &Run) -> Result<PathBuf, JobError> {
    let none = || JobError::Conflict(format!("run {} has no artifact: it is {}", run.id, run.state));
    run.artifact_dir.as_ref().map(PathBuf::from).ok_or_else(none)
}

/// An adapter that was named on the command line: a run's id, a policy's id, or a folder.
///
/// # Errors
/// When it is none of them.
pub fn named(c: &Connection, name: &str) -> Result<PathBuf, JobError> {
    if name.starts_with("run_") {
        return artifact(&runs::get(c, &RunId::from_raw(name))?);
    }
    if name.starts_with("pol_") {
        let policy = policies::get(c, &PolicyId::from_raw(name))?;
        let dir = policy.adapter_dir.map(PathBuf::from);
        return dir.ok_or_else(|| JobError::Invalid(format!("policy {name} is the base model: leave it out")));
    }
    let path = Path::new(name);
    if path.join("adapter_config.json").exists() {
        return std::path::absolute(path).map_err(JobError::file(path));
    }
    Err(JobError::Invalid(format!("{name} is neither a run, nor a policy, nor a folder with an adapter_config.json")))
}

/// The inputs of a run that a person starts by itself. `init` and `reward` are as in [`named`]; `init` may also be `base`.
///
/// Left out, a run starts from the newest of: the last SFT run, the champion. PPO takes the newest reward model; SFT takes it too, to
/// choose the epoch by, if there is one and `reward` isn't `none`.
///
/// # Errors
/// When something named doesn't exist, or there is no reward model.
pub fn of_command(
    c: &Connection,
    kind: RunKind,
    init: Option<&str>,
    reward: Option<&str>,
    base_name: &str,
) -> Result<Inputs, JobError> {
    let init = match init {
        Some("base") => None,
        Some(name) => Some(named(c, name)?),
        None if kind == RunKind::Sft => champion(c, base_name)?,
        None => newest_start(c, base_name)?,
    };
    match kind {
        RunKind::Ppo => {
            let reward = match reward {
                Some(name) => named(c, name)?,
                None => reward_of(c, &Work::default(), base_name)?,
            };
            Ok(Inputs { init: init.clone(), reference: init, reward: Some(reward), ..Inputs::default() })
        }
        RunKind::Sft => {
            let reward = match reward {
                Some("none") => None,
                Some(name) => Some(named(c, name)?),
                None => newest_reward(c, base_name)?,
            };
            Ok(Inputs { init, reward, ..Inputs::default() })
        }
        _ => Ok(Inputs { init, ..Inputs::default() }),
    }
}

fn newest_start(c: &Connection, base_name: &str) -> Result<Option<PathBuf>, JobError> {
    let promoted_at = policies::champion(c)?.filter(|p| p.base_name == base_name).and_then(|p| p.promoted_at);
    match runs::newest_succeeded(c, RunKind::Sft, base_name)? {
        Some(sft) if sft.finished_at > promoted_at => Ok(Some(artifact(&sft)?)),
        _ => champion(c, base_name),
    }
}
