//! What a trained reward model is worth: accuracy by labeler beside the labelers' own agreement, calibration, disagreement of an
//! ensemble, and what is rewarded in words. Goes into the run's metrics and, in full, into `reward_report.json` of the artifact.

use super::agreement::{Agreement, Share};
use super::calibration::{Calibration, calibration};
use super::reward::Group;
use super::reward_model::Normalisation;
use super::rewarded::{Judged, Rewarded, rewarded};
use crate::LearnError;
use crate::checkpoint::sha256;
use crate::files::write_atomic;
use crate::losses::pairs_correct;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Its file beside the adapter's.
pub const REPORT: &str = "reward_report.json";

/// Labelers in the metrics, those with the most pairs; the file has all.
const LABELERS_MAX: usize = 20;

/// One labeler's rankings.
#[derive(Debug, Default, Serialize)]
struct LabelerReport {
    /// Rankings that were trained on.
    rankings: usize,
    /// Rankings that were held out.
    held_out_rankings: usize,
    /// On pairs that were trained on.
    train: Share,
    /// On held-out pairs.
    held_out: Share,
    /// With other labelers who ordered the same two answers.
    agreement: Share,
}

/// How far the heads are apart, and what their combined score is worth.
#[derive(Debug, Serialize)]
struct EnsembleReport {
    heads: usize,
    /// Mean deviation over the heads, on held-out texts or, without any, on those trained on.
    disagreement: f64,
    /// Held-out pairs that the combined score orders as the labeler did.
    accuracy: Share,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub(crate) struct RewardReport {
    /// Labelers with each other.
    agreement: Share,
    train: Share,
    held_out: Share,
    /// Held-out pairs of labelers who ranked nothing that was trained on.
    held_out_new_labelers: Share,
    /// By [`pseudonym`].
    labelers: BTreeMap<String, LabelerReport>,
    calibration: Option<Calibration>,
    ensemble: Option<EnsembleReport>,
    /// Of held-out answers or, without any, of those trained on.
    rewarded: Rewarded,
}

/// The name of a labeler in reports: they are passed around, and who wants to know a person's figures knows the id to hash.
#[must_use]
pub fn pseudonym(labeler: &str) -> String {
    if labeler.is_empty() { "unnamed".to_owned() } else { sha256(labeler.as_bytes())[..8].to_owned() }
}

/// Groups and the raw scores of their completions, `(completions, heads)`.
pub(crate) struct Scored<'a> {
    pub(crate) groups: &'a [Group],
    pub(crate) raw: Vec<Vec<f64>>,
}

impl Scored<'_> {
    /// Each group with its scores, made by `score` of the heads' raw ones.
    pub(crate) fn each(&self, score: impl Fn(&[f64]) -> f64) -> Vec<(&Group, Vec<f64>)> {
        let mut rest = self.raw.iter();
        let of = |g: &Group, rest: &mut std::slice::Iter<'_, Vec<f64>>| {
            rest.by_ref().take(g.sequences.len()).map(|r| score(r)).collect()
        };
        self.groups.iter().map(|g| (g, of(g, &mut rest))).collect()
    }
}

/// The mean over heads.
pub(crate) fn mean_score(raw: &[f64]) -> f64 {
    raw.iter().sum::<f64>() / raw.len().max(1) as f64
}

/// r_w - r_l of all pairs.
pub(crate) fn differences(scored: &Scored<'_>) -> Vec<f64> {
    let of = |(g, s): (&Group, Vec<f64>)| g.pairs.iter().map(|&(w, l)| s[w] - s[l]).collect::<Vec<f64>>();
    scored.each(mean_score).into_iter().flat_map(of).collect()
}

/// Makes the report. Accuracy and calibration are those of the mean head, which the loss is about.
pub(crate) fn report(
    train: &Scored<'_>,
    held_out: &Scored<'_>,
    agreement: &Agreement,
    normalisation: &Normalisation,
) -> RewardReport {
    let mut labelers: BTreeMap<String, LabelerReport> = BTreeMap::new();
    let (mut of_train, mut of_held_out, mut of_new) = (Share::default(), Share::default(), Share::default());
    for (g, scores) in train.each(mean_score) {
        let (correct, pairs) = (pairs_correct(&scores, &g.pairs), g.pairs.len() as f64);
        of_train.add(correct, pairs);
        let labeler = labelers.entry(pseudonym(&g.labeler)).or_default();
        labeler.rankings += 1;
        labeler.train.add(correct, pairs);
    }
    let trained_on: BTreeSet<&str> = train.groups.iter().map(|g| g.labeler.as_str()).collect();
    for (g, scores) in held_out.each(mean_score) {
        let (correct, pairs) = (pairs_correct(&scores, &g.pairs), g.pairs.len() as f64);
        of_held_out.add(correct, pairs);
        let labeler = labelers.entry(pseudonym(&g.labeler)).or_default();
        labeler.held_out_rankings += 1;
        labeler.held_out.add(correct, pairs);
        if !trained_on.contains(g.labeler.as_str()) {
            of_new.add(correct, pairs);
        }
    }
    for (labeler, share) in &agreement.by_labeler {
        labelers.entry(pseudonym(labeler)).or_default().agreement = *share;
    }
    RewardReport {
        agreement: agreement.overall,
        train: of_train,
        held_out: of_held_out,
        held_out_new_labelers: of_new,
        labelers,
        calibration: calibration(&differences(held_out)),
        ensemble: ensemble(train, held_out, normalisation),
        rewarded: in_words(train, held_out, normalisation),
    }
}

/// Answers that several people ranked count once, with the first one's flags.
fn in_words(train: &Scored<'_>, held_out: &Scored<'_>, normalisation: &Normalisation) -> Rewarded {
    let of_training = held_out.groups.is_empty();
    let scored = if of_training { train } else { held_out };
    let mut seen = BTreeSet::new();
    let mut each = scored.each(|raw| normalisation.reward(raw));
    each.retain(|(g, _)| seen.insert((g.prompt.as_str(), g.answers.as_slice())));
    let judged = |(group, (g, rewards)): (usize, &'_ (&'_ Group, Vec<f64>))| {
        let one = |i: usize| Judged {
            group,
            prompt: g.prompt.clone(),
            answer: g.answers[i].clone(),
            reward: rewards[i],
            tokens: g.sequences[i].response_len() as f64,
            flags: g.flags.get(i).cloned().unwrap_or_default(),
        };
        (0..g.answers.len()).map(one).collect::<Vec<_>>()
    };
    rewarded(&each.iter().enumerate().flat_map(judged).collect::<Vec<_>>(), of_training)
}

fn ensemble(train: &Scored<'_>, held_out: &Scored<'_>, normalisation: &Normalisation) -> Option<EnsembleReport> {
    let texts = if held_out.raw.is_empty() { &train.raw } else { &held_out.raw };
    let heads = texts.first().map(Vec::len).filter(|&n| n > 1)?;
    let disagreement = texts.iter().map(|r| normalisation.disagreement(r)).sum::<f64>() / texts.len() as f64;
    let mut accuracy = Share::default();
    for (g, scores) in held_out.each(|raw| normalisation.reward(raw)) {
        accuracy.add(pairs_correct(&scores, &g.pairs), g.pairs.len() as f64);
    }
    Some(EnsembleReport { heads, disagreement, accuracy })
}

impl RewardReport {
    /// Its figures by name. What no pair tells is left out.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let mut all: BTreeMap<String, f64> = [("labelers/agreement_pairs".to_owned(), self.agreement.pairs)].into();
        let mut put = |name: &str, value: Option<f64>| all.extend(value.map(|x| (name.to_owned(), x)));
        put("labelers/agreement", self.agreement.value());
        put("train/accuracy", self.train.value());
        put("evaluate/accuracy_new_labelers", self.held_out_new_labelers.value());
        if let Some(c) = &self.calibration {
            put("evaluate/calibration_error", Some(c.error));
            put("evaluate/temperature", Some(c.temperature));
        }
        if let Some(e) = &self.ensemble {
            put("ensemble/disagreement", Some(e.disagreement));
            put("ensemble/accuracy", e.accuracy.value());
        }
        let mut by_pairs: Vec<_> = self.labelers.iter().collect();
        by_pairs.sort_by(|(_, a), (_, b)| {
            let pairs = |l: &LabelerReport| l.held_out.pairs + l.train.pairs;
            pairs(b).total_cmp(&pairs(a))
        });
        for (name, labeler) in by_pairs.into_iter().take(LABELERS_MAX) {
            put(&format!("train/accuracy/{name}"), labeler.train.value());
            put(&format!("evaluate/accuracy/{name}"), labeler.held_out.value());
            put(&format!("labelers/agreement/{name}"), labeler.agreement.value());
        }
        all
    }

    pub(crate) fn save(&self, dir: &Path) -> Result<(), LearnError> {
        let path = dir.join(REPORT);
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| LearnError::BadAdapter { path: path.clone(), reason: e.to_string() })?;
        write_atomic(&path, &json)
    }
}
