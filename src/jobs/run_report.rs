//! The report of a run, from its row and its folder: `report.html` for people, and the samples in it. Drawing the page is `report`'s.

use super::evaluate_policy::Evaluation;
use super::inputs::Inputs;
use super::{JobError, curves, execute_run, params};
use crate::report::decision::{self, Decision};
use crate::report::preferences::Preferences;
use crate::report::{Report, page};
use crate::store::StoreError;
use crate::store::policies::Policy;
use crate::store::runs::{Run, RunKind};
use hone_domain::{DataSet, PromptItem};
use hone_learn::metrics;
use hone_learn::samples::{self, BeforeAfter, Sample, SampleConfig};
use hone_learn::train::{Context, Outcome};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Prompts that are answered before and after.
const SAMPLES: usize = 5;
/// Longer answers would cost more time than the page is worth.
const SAMPLE_TOKENS_MAX: usize = 64;
/// Points that a curve is thinned out to: about two for each pixel of a printed chart.
const POINTS_MAX: usize = 600;

/// Writes `report.html` in the run's folder.
///
/// # Errors
/// When the disk refuses.
pub fn write(data_dir: &Path, run: &Run) -> Result<PathBuf, JobError> {
    let path = path_of(data_dir, run);
    hone_learn::files::write_atomic(&path, html(data_dir, run).as_bytes())?;
    Ok(path)
}

/// Where a run's report is.
#[must_use]
pub fn path_of(data_dir: &Path, run: &Run) -> PathBuf {
    execute_run::folder(data_dir, &run.id).join("report.html")
}

/// The page as things stand now. What is missing from the run's folder is missing from the page.
#[must_use]
pub fn html(data_dir: &Path, run: &Run) -> String {
    let folder = execute_run::folder(data_dir, &run.id);
    let lines = metrics::read(&folder.join("metrics.jsonl")).unwrap_or_default();
    let mut last: BTreeMap<String, f64> = lines.iter().flat_map(|line| line.metrics.clone()).collect();
    let made = run.metrics.as_ref().and_then(Value::as_object).into_iter().flatten();
    last.extend(made.filter_map(|(name, x)| Some((name.clone(), x.as_f64()?))));
    let report = Report {
        run: run.clone(),
        defaults: params::settings(run.kind, &Map::new()).unwrap_or_default(),
        figures: figures(run, &lines, &last),
        curves: curves::read(&folder, POINTS_MAX),
        last,
        samples: read_samples(data_dir, run),
        preferences: run.artifact_dir.as_ref().and_then(|dir| preferences(&data_dir.join(dir))),
    };
    page(&report)
}

/// What it took.
fn figures(run: &Run, lines: &[metrics::MetricsLine], last: &BTreeMap<String, f64>) -> Vec<(&'static str, String)> {
    let mut figures = Vec::new();
    let sum = |name: &str| lines.iter().filter_map(|line| line.metrics.get(name)).sum::<f64>();
    let steps = lines.iter().filter(|line| line.phase == "train").count();
    if let Some(newest) = lines.last() {
        let episodes = run.config["settings"]["batch_episodes"].as_f64().unwrap_or_default();
        let (unit, tokens) = match run.kind {
            RunKind::Ppo => ("Answer tokens", sum("response_tokens") * episodes),
            _ => ("Tokens", sum("tokens")),
        };
        figures.push((if run.kind == RunKind::Ppo { "Iterations" } else { "Steps" }, whole(steps as f64)));
        figures.push((unit, whole(tokens)));
        figures.push(("Wall time", duration(newest.wall_seconds)));
        figures.push(("Rate", format!("{:.0} tokens/s", tokens / newest.wall_seconds.max(1e-9))));
    }
    if let Some(mib) = last.get("process/peak_memory_mib") {
        figures.push(("Peak memory", format!("{} MiB", whole(*mib))));
    }
    figures
}

/// With thin spaces between thousands.
fn whole(x: f64) -> String {
    let digits = format!("{:.0}", x.max(0.0));
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn duration(seconds: f64) -> String {
    let (total, rest) = (seconds.max(0.0) as u64, seconds.max(0.0) % 60.0);
    match (total / 3600, total / 60 % 60) {
        (0, 0) => format!("{rest:.1} s"),
        (0, minutes) => format!("{minutes} min {:.0} s", rest.floor()),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn read_samples(data_dir: &Path, run: &Run) -> Vec<Sample> {
    if run.kind == RunKind::Evaluate {
        return judged_samples(data_dir, run);
    }
    let path = execute_run::folder(data_dir, &run.id).join("samples.json");
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The answers that an evaluation compared; none where its report is gone.
fn judged_samples(data_dir: &Path, evaluation: &Run) -> Vec<Sample> {
    let artifact = evaluation.artifact_dir.as_ref().map(|dir| data_dir.join(dir));
    let judged = artifact.and_then(|dir| Evaluation::load(&dir).ok());
    let sample = |s: hone_learn::evaluate::Sample| Sample {
        messages: s.messages,
        before: s.old,
        after: s.new,
        reward_before: Some(s.reward_old),
        reward_after: Some(s.reward_new),
    };
    judged.into_iter().flat_map(|e| e.report.samples).map(sample).collect()
}

/// What a reward run said of itself; nothing where the folder is another's.
fn preferences(artifact: &Path) -> Option<Preferences> {
    let bytes = std::fs::read(artifact.join(hone_learn::train::REWARD_REPORT)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The page about the decision on a policy. `runs`: all of them, the newest first; the evaluation that judged it is among them. `people`:
/// everybody's id, and what they are here.
#[must_use]
pub fn decision(data_dir: &Path, policy: Policy, runs: &[Run], people: &[(String, &str)]) -> String {
    // An evaluation's inputs name the artifact's folder, which carries the id of the run that made the policy.
    let made_by = policy.run_id.as_ref().map(|id| id.as_str());
    let judges = |run: &&Run| {
        let new = run.inputs["new"].as_str().unwrap_or_default();
        run.kind == RunKind::Evaluate && made_by.is_some_and(|id| new.contains(id))
    };
    let samples = runs.iter().find(judges).map(|run| judged_samples(data_dir, run)).unwrap_or_default();
    let preferences = behind(data_dir, &policy, runs, people);
    decision::page(&Decision { policy, samples, preferences })
}

/// Whose preferences the reward model holds that a policy was optimised against, and what it rewards; none where PPO didn't make it, or
/// the reward model is gone. Parameters as of [`decision`].
#[must_use]
pub fn behind(data_dir: &Path, policy: &Policy, runs: &[Run], people: &[(String, &str)]) -> Option<Preferences> {
    let optimised = runs.iter().find(|run| run.kind == RunKind::Ppo && policy.run_id.as_ref() == Some(&run.id));
    let reward = data_dir.join(optimised?.inputs["reward"].as_str()?);
    Some(preferences(&reward)?.with_roles(people))
}

/// The prompts that may be shown, in the seed's order: held-out ones where there are any.
pub(super) fn prompts(kind: RunKind, data: &DataSet, seed: u64) -> Vec<PromptItem> {
    let of = |d: &hone_domain::Demonstration| PromptItem { messages: d.messages.clone() };
    let demonstrated = |all: &[hone_domain::Demonstration]| all.iter().map(of).collect::<Vec<_>>();
    let choices = match kind {
        RunKind::Sft => [demonstrated(&data.held_out_demonstrations), demonstrated(&data.demonstrations)],
        RunKind::Ppo => [data.held_out_prompts.clone(), data.prompts.clone()],
        RunKind::Reward | RunKind::Judge | RunKind::Evaluate => return Vec::new(),
    };
    let mut chosen = choices.into_iter().find(|prompts| !prompts.is_empty()).unwrap_or_default();
    chosen.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
    chosen
}

/// Answers `prompts` before and after the run, into `samples.json`.
pub(super) fn write_samples(
    prompts: &[PromptItem],
    settings: &Value,
    inputs: &Inputs,
    outcome: &Outcome,
    context: &Context<'_>,
) -> Result<(), JobError> {
    if prompts.is_empty() {
        return Ok(());
    }
    let tokens = [&settings["max_new_tokens"], &settings["answer_tokens_max"]].into_iter().find_map(Value::as_u64);
    let config = SampleConfig {
        prompts: SAMPLES,
        max_new_tokens: tokens.map_or(SAMPLE_TOKENS_MAX, |n| SAMPLE_TOKENS_MAX.min(n as usize)),
        temperature: settings["temperature"].as_f64().unwrap_or(1.0),
        seed: context.seed,
    };
    let adapters = BeforeAfter {
        before: inputs.init.as_deref(),
        after: Some(&outcome.artifact_dir),
        reward: inputs.reward.as_deref(),
    };
    let drawn = samples::draw(context.base, context.tokenizer, prompts, adapters, &config)?;
    let text = serde_json::to_vec_pretty(&drawn).map_err(StoreError::from)?;
    Ok(hone_learn::files::write_atomic(&context.run_dir.join("samples.json"), &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_said_as_people_say_them() {
        assert_eq!(whole(1_234_567.4), "1\u{202f}234\u{202f}567");
        assert_eq!(whole(999.0), "999");
        assert_eq!([0.54, 61.0, 3_725.0].map(duration), ["0.5 s", "1 min 1 s", "1 h 2 min"]);
    }
}
