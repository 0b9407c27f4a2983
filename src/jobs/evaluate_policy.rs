//! Judges a trained policy on held-out prompts, and computes what the serve check compares with. Leaves `report.json`.

use super::JobError;
use super::evaluate_suites::{self, SuiteReport};
use super::inputs::Inputs;
use super::task::Task;
use crate::serving::{CheckText, ServeCheck};
use crate::store::StoreError;
use hone_learn::Adapter;
use hone_learn::evaluate::{self, Contenders, EvaluateReport, Sample};
use hone_learn::train::{Context, Outcome};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Texts of the serve check: some of the new policy's own answers, so that it is checked where it will be used.
const CHECK_TEXTS: usize = 6;
/// Longer texts are cut: an engine computes them in one piece.
const CHECK_TOKENS_MAX: usize = 256;

/// What an evaluation leaves in `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The figures and some pairs of answers.
    pub report: EvaluateReport,
    /// What the trainer says of fixed texts under the new policy.
    pub serve_check: ServeCheck,
    /// What the suites found of both policies; none in reports from before there were any.
    #[serde(default)]
    pub suites: Vec<SuiteReport>,
}

impl Evaluation {
    /// Reads what an evaluation left in `dir`.
    ///
    /// # Errors
    /// When the file is gone or damaged.
    pub fn load(dir: &Path) -> Result<Self, JobError> {
        let path = dir.join("report.json");
        let bytes = std::fs::read(&path).map_err(JobError::file(&path))?;
        serde_json::from_slice(&bytes).map_err(JobError::json(&path))
    }
}

pub(super) fn evaluate_policy(task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    let config = task.settings()?;
    let Inputs { old, new, reference, reward, judge, earlier, .. } = &task.inputs;
    let reward = reward.as_ref().ok_or_else(|| JobError::Invalid("an evaluation needs a reward model".into()))?;
    let contenders = Contenders {
        old: old.as_deref(),
        new: new.as_deref(),
        reference: reference.as_deref(),
        reward,
        judge: judge.as_deref(),
        earlier,
    };
    // First, because they go on where they were stopped.
    let policies = (old.as_deref(), new.as_deref());
    let suites = evaluate_suites::of_job(&config, &task.data.held_out_demonstrations, policies, context)?;
    let report = evaluate::policies(&config, &task.data.held_out_prompts, &contenders, context)?;
    let serve_check = check_texts(&report.samples, new.as_deref(), context)?;
    let mut metrics = figures(&report);
    metrics.extend(suite_figures(&suites));
    let text = serde_json::to_vec_pretty(&Evaluation { report, serve_check, suites }).map_err(StoreError::from)?;
    let artifact_dir = context.run_dir.join("artifact");
    std::fs::create_dir_all(&artifact_dir).map_err(JobError::file(&artifact_dir))?;
    hone_learn::files::write_atomic(&artifact_dir.join("report.json"), &text)?;
    Ok(Outcome { artifact_dir, sha256: hex::encode(Sha256::digest(&text)), metrics })
}

fn check_texts(samples: &[Sample], new: Option<&Path>, context: &Context<'_>) -> Result<ServeCheck, JobError> {
    let config = context.base.config();
    let adapter = new.map(|dir| Adapter::load(dir, config)).transpose()?;
    let refused = |e: hone_text::TextError| JobError::Invalid(e.to_string());
    let mut texts = Vec::new();
    for sample in samples.iter().take(CHECK_TEXTS) {
        let mut tokens = context.tokenizer.encode_prompt(&sample.messages).map_err(refused)?;
        tokens.extend(context.tokenizer.encode_answer(&sample.new).map_err(refused)?);
        tokens.truncate(CHECK_TOKENS_MAX.min(config.context));
        let logprobs = evaluate::logprobs(context.base, adapter.as_ref(), &tokens)?;
        texts.push(CheckText { tokens, logprobs });
    }
    Ok(ServeCheck { texts })
}

#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
fn figures(report: &EvaluateReport) -> BTreeMap<String, f64> {
    let EvaluateReport { reward_old_mean, reward_new_mean, reward_gain, win_rate, kl_nats, .. } = report;
    let judged = report.judge.iter().flat_map(|judge| {
        let best = judge.best_of_n.map(|best| ("eval/judge_win_rate_best_of_n", best.win_rate.mean));
        let own = [
            ("eval/judge_win_rate", judge.win_rate.mean),
            ("eval/judge_win_rate_low", judge.win_rate.low),
            ("eval/judge_win_rate_high", judge.win_rate.high),
            ("eval/judge_reward_gain", judge.reward_gain.mean),
        ];
        own.into_iter().chain(best)
    });
    let figures = [
        ("eval/reward_old", reward_old_mean.mean),
        ("eval/reward_new", reward_new_mean.mean),
        ("eval/reward_gain", reward_gain.mean),
        ("eval/reward_gain_low", reward_gain.low),
        ("eval/reward_gain_high", reward_gain.high),
        ("eval/win_rate", win_rate.mean),
        ("eval/win_rate_low", win_rate.low),
        ("eval/win_rate_high", win_rate.high),
        ("eval/kl_nats", kl_nats.mean),
        ("eval/response_tokens_old", report.response_tokens_old),
        ("eval/response_tokens_new", report.response_tokens_new),
        ("eval/ended_new", report.ended_new),
        ("eval/n", report.n as f64),
    ];
    figures.into_iter().chain(judged).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `eval/truthfulqa_mc1` and `eval/truthfulqa_mc1_old`, and so on.
fn suite_figures(suites: &[SuiteReport]) -> impl Iterator<Item = (String, f64)> {
    suites.iter().flat_map(|suite| {
        let old = suite.old.iter().map(|figure| (format!("eval/{}_old", figure.name), figure.estimate.mean));
        suite.new.iter().map(|figure| (format!("eval/{}", figure.name), figure.estimate.mean)).chain(old)
    })
}
