//! The phases that are done here and not in a process of their own: freezing the data, judging the new policy, and making the run of
//! a training phase. Every one can be done again after a crash: what it wrote before is found and kept. None changes a job's state.

use super::evaluate_policy::Evaluation;
use super::execute_run::RunConfig;
use super::gate::{self, Accuracies, Accuracy, GateConfig, GateInputs, GateReport};
use super::inputs;
use super::params::{JobParams, settings};
use super::plan::Work;
use super::snapshot::{self, Counts};
use super::{Champions, JobError};
use crate::serving::SharedPolicy;
use crate::store::jobs::JobKind;
use crate::store::policies::{self, NewPolicy, Policy};
use crate::store::runs::{self, NewRun, Run, RunKind};
use crate::store::{Store, StoreError};
use hone_domain::ids::{JobId, PolicyId, RunId};
use hone_learn::Device;
use rusqlite::Connection;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

/// Policies of earlier rounds that answer the held-out prompts beside a new one, where nothing else is set: each costs as much time as
/// the new one's own answers.
pub(super) const EARLIER_POLICIES: usize = 2;

/// Freezes the data (or, for an evaluation, takes the judged run's) and notes where the round begins.
pub(super) fn take_snapshot(
    store: &Store,
    kind: JobKind,
    params: &JobParams,
    gate: &GateConfig,
    work: &mut Work,
) -> Result<(), JobError> {
    let champion = store.read_blocking(policies::champion)?;
    let champion = champion.ok_or_else(|| JobError::Conflict("no policy is served: start the server first".into()))?;
    work.parent = Some(champion.id.clone());
    work.base_name.clone_from(&champion.base_name);
    if kind == JobKind::Evaluate {
        let judged = judged_run(store, params, &champion.base_name)?;
        let data = snapshot::load(store.data_dir(), &judged.snapshot_sha256)?;
        work.has_judge = data.judge_rankings.len() >= gate.judge_rankings_min.max(1);
        work.snapshot = Some(judged.snapshot_sha256);
        work.runs.insert(judged.kind, judged.id);
        return Ok(());
    }
    let taken = snapshot::take(store, params.old_rankings_per_new)?;
    enough(kind, &taken.counts, gate)?;
    work.has_judge = taken.counts.judge_rankings >= gate.judge_rankings_min.max(1);
    if kind == JobKind::Cycle {
        work.earlier_max = params.earlier_policies_max.unwrap_or(EARLIER_POLICIES);
        let seen = match &champion.snapshot_sha256 {
            // An operator may have removed it, because a person in it wanted to be erased: then all of today's are new.
            Some(sha256) if snapshot::path_of(store.data_dir(), sha256).exists() => {
                snapshot::load(store.data_dir(), sha256)?.demonstrations
            }
            _ => Vec::new(),
        };
        let seen: HashSet<_> = seen.iter().map(|d| (&d.messages, &d.ideal)).collect();
        work.needs_sft = taken.data.demonstrations.iter().any(|d| !seen.contains(&(&d.messages, &d.ideal)));
    }
    work.snapshot = Some(taken.sha256);
    Ok(())
}

fn judged_run(store: &Store, params: &JobParams, base_name: &str) -> Result<Run, JobError> {
    let (named, base_name) = (params.run.clone(), base_name.to_owned());
    let found = store.read_blocking(move |c| match named {
        Some(id) => runs::get(c, &RunId::from_raw(id)).map(Some),
        None => runs::newest_succeeded(c, RunKind::Ppo, &base_name),
    })?;
    let run = found.ok_or_else(|| JobError::NotEnoughData("there is no PPO run to judge: run one first".into()))?;
    match run.kind {
        RunKind::Ppo | RunKind::Sft => Ok(run),
        kind => Err(JobError::Invalid(format!("run {} is a {kind} run: only PPO and SFT runs make policies", run.id))),
    }
}

/// Says at once what would stop the job hours later.
fn enough(kind: JobKind, counts: &Counts, gate: &GateConfig) -> Result<(), JobError> {
    let refuse = |text: String| Err(JobError::NotEnoughData(text));
    let needs = |kinds: &[JobKind]| kinds.contains(&kind);
    if needs(&[JobKind::Sft]) && counts.demonstrations == 0 {
        return refuse(
            "there are no demonstrations to learn from: write some, or import some with `hone data import`".into(),
        );
    }
    if needs(&[JobKind::Reward, JobKind::Cycle]) && counts.rankings == 0 {
        return refuse("there are no rankings to learn from: compare and rank some answers, or import some".into());
    }
    if needs(&[JobKind::Ppo, JobKind::Cycle]) && counts.prompts == 0 {
        return refuse("there are no prompts to practise on: chat, compare, or import some".into());
    }
    if needs(&[JobKind::Cycle]) && counts.held_out_prompts < gate.prompts_min {
        return refuse(format!(
            "only {} prompts are held out to judge the new policy on, the gate needs {} (about a fifth of all prompts is \
             held out): collect more prompts, or lower gate.prompts_min",
            counts.held_out_prompts, gate.prompts_min
        ));
    }
    Ok(())
}

/// Makes the run of a training phase. `suites` are the server's settings of the evaluation, where the job doesn't have its own.
pub(super) fn create_run(
    c: &Connection,
    kind: RunKind,
    job: &JobId,
    params: &JobParams,
    work: &Work,
    suites: &Map<String, Value>,
) -> Result<RunId, JobError> {
    let mut overrides = params.settings_of(kind);
    if kind == RunKind::Evaluate {
        overrides = suites.clone().into_iter().chain(overrides).collect();
    }
    if kind == RunKind::Evaluate
        && let Some(tokens) = params.ppo.get("max_new_tokens")
    {
        // Judged at the length it was trained at, unless said otherwise.
        overrides.entry("max_new_tokens").or_insert_with(|| tokens.clone());
    }
    let (deterministic, base_format) = (params.deterministic, params.base_format);
    let device = params.device.unwrap_or_else(Device::best);
    let config = RunConfig { settings: settings(kind, &overrides)?, deterministic, base_format, device };
    let inputs = inputs::of_phase(c, kind, work, &work.base_name)?;
    let new = NewRun {
        kind,
        job_id: Some(job.clone()),
        base_name: work.base_name.clone(),
        snapshot_sha256: work.snapshot.clone().unwrap_or_default(),
        inputs: serde_json::to_value(inputs).map_err(StoreError::from)?,
        config: serde_json::to_value(config).map_err(StoreError::from)?,
        seed: work.seed,
    };
    Ok(runs::create(c, &new)?)
}

/// What the gate says of the new policy, with the policy loaded beside the live one.
pub(super) struct Judged {
    pub(super) policy: Policy,
    pub(super) loaded: SharedPolicy,
    pub(super) report: GateReport,
}

/// Makes the policy's folder and row, loads it beside the live one, runs the serve check and decides.
pub(super) async fn judge(
    store: &Store,
    champions: &Champions,
    gate: GateConfig,
    work: &Work,
    id: PolicyId,
) -> Result<Judged, JobError> {
    let (policy, evaluation, accuracy) = make_candidate(store, work, id).await?;
    let loaded = champions.load(&policy).await?;
    let served = champions.serving().serve_check(&loaded, &evaluation.serve_check).await?;
    let report = gate::decide(GateInputs::of(&evaluation, &served, accuracy, work.elected.clone()), gate);
    Ok(Judged { policy, loaded, report })
}

type Made = (Policy, Evaluation, Accuracies);

async fn make_candidate(store: &Store, work: &Work, id: PolicyId) -> Result<Made, JobError> {
    let (store, work) = (store.clone(), work.clone());
    let made = tokio::task::spawn_blocking(move || {
        let run = |kind: RunKind| work.runs.get(&kind).cloned();
        let (Some(judged), Some(evaluation)) = (work.judged().cloned(), run(RunKind::Evaluate)) else {
            return Err(JobError::Conflict("the job's runs are missing from its record".into()));
        };
        let judge = run(RunKind::Judge);
        let read = move |c: &Connection| {
            let judge = judge.map(|judge| runs::get(c, &judge)).transpose()?;
            let evaluation = runs::get(c, &evaluation)?;
            // An evaluation by itself takes a reward model that another job has made.
            let reward = evaluation.inputs["reward"].as_str().map(|dir| runs::that_made(c, dir)).transpose()?;
            Ok((runs::get(c, &judged)?, evaluation, judge, reward.flatten()))
        };
        let (judged, evaluation, judge, reward) = store.read_blocking(read)?;
        let accuracy = |run: Option<Run>| Accuracy::of(&run?.metrics?);
        let accuracies = Accuracies { judge: accuracy(judge), reward: accuracy(reward) };
        let evaluation = Evaluation::load(&store.data_dir().join(inputs::artifact(&evaluation)?))?;
        let policy = create_policy(&store, &work, id, judged)?;
        Ok((policy, evaluation, accuracies))
    });
    made.await.map_err(|_| JobError::Process("the server is shutting down".into()))?
}

fn create_policy(store: &Store, work: &Work, id: PolicyId, judged: Run) -> Result<Policy, JobError> {
    let (owned, run) = (work.clone(), judged.clone());
    let from = store.read_blocking(move |c| Ok(inputs::adapter_judged(c, &owned, &run)))??;
    let adapter_dir = format!("policies/{id}/adapter");
    copy_adapter(&store.data_dir().join(from), &store.data_dir().join(&adapter_dir))?;
    let new = NewPolicy {
        id: id.clone(),
        base_name: judged.base_name,
        adapter_dir,
        parent_id: work.elected.clone().or_else(|| work.parent.clone()),
        run_id: Some(judged.id),
        snapshot_sha256: Some(judged.snapshot_sha256),
        config: judged.config,
        metrics: judged.metrics.unwrap_or_default(),
    };
    Ok(store.write_blocking(move |tx| {
        policies::create(tx, &new)?;
        policies::get(tx, &id)
    })?)
}

/// What a job goes on with where a policy of an earlier round is surely better than the one that it has made: that one's evaluation.
pub(super) fn elect(c: &Connection, report: &GateReport, work: &mut Work) -> Result<bool, StoreError> {
    let Some(better) = &report.inputs.better else { return Ok(false) };
    let Some(run) = policies::get(c, &better.policy)?.run_id else { return Ok(false) };
    let kind = runs::get(c, &run)?.kind;
    work.elect(better.policy.clone(), run, kind);
    Ok(true)
}

/// The policy keeps its own copy: runs may be cleared away, policies stay.
fn copy_adapter(from: &Path, to: &Path) -> Result<(), JobError> {
    if to.exists() {
        return Ok(());
    }
    let parent = to.parent().unwrap_or(to);
    std::fs::create_dir_all(parent).map_err(JobError::file(parent))?;
    let copy = |dir: &Path| {
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            std::fs::copy(from.join(name), dir.join(name)).map_err(hone_learn::LearnError::io(from.join(name)))?;
        }
        Ok(())
    };
    Ok(hone_learn::files::write_folder_atomic(to, copy)?)
}
