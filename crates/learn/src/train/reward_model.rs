//! A trained reward model: one adapter, one scalar head or an ensemble of them, and what makes rewards of raw scores. The heads see
//! the same hidden states and differ in their random start and in the prompts that each was trained on.

use super::config::{RewardConfig, Scoring};
use super::data::Sequence;
use super::roles::{head_scores, head_weight};
use crate::LearnError;
use crate::files::write_atomic;
use crate::gae::mean_variance;
use crate::lora::{Adapter, SCORE_WEIGHT};
use crate::model::{Base, Workspace};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A head's raw scores: their mean and their deviation, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scale {
    mean: f64,
    std: f64,
}

impl Scale {
    fn of(mean_over: &[f64], std_over: &[f64]) -> Self {
        Self { mean: mean_variance(mean_over).0, std: mean_variance(std_over).1.sqrt().max(1e-6) }
    }

    fn apply(&self, x: f64) -> f64 {
        (x - self.mean) / self.std
    }

    fn is_usable(&self) -> bool {
        self.std > 0.0 && self.std.is_finite() && self.mean.is_finite()
    }
}

/// Raw scores become rewards of mean 0 and deviation 1. The ranking loss fixes scores only up to a constant, and their spread grows
/// with training; the KL coefficient means something only on a fixed scale. Of several heads each is brought to that scale first (as
/// do Coste et al. 2023, arXiv 2310.02743), then their scores are combined, then the combined score is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Normalisation {
    /// Mean score: of the only head, or of the combined.
    pub(crate) mean: f64,
    /// Its standard deviation, never 0.
    pub(crate) std: f64,
    /// What the mean was taken over: demonstrations (Ouyang et al. 2022: they score mean 0) or candidates.
    mean_over: String,
    /// Each head's own scale; empty where there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heads: Vec<Scale>,
    /// How heads are combined.
    #[serde(default)]
    scoring: Scoring,
    /// The coefficient of `mean_minus_variance`.
    #[serde(default)]
    variance_coef: f64,
}

/// Its file beside the adapter's.
const NORMALISATION: &str = "reward.json";

impl Normalisation {
    /// From raw scores, `(sequences, heads)`: deviation 1 on the candidates, mean 0 on the demonstrations or, where there are
    /// none, on the candidates.
    pub(crate) fn fit(config: &RewardConfig, candidates: &[Vec<f64>], demonstrations: Option<&[Vec<f64>]>) -> Self {
        let mean_over = if demonstrations.is_some() { "demonstrations" } else { "candidates" }.to_owned();
        let demonstrations = demonstrations.unwrap_or(candidates);
        let column = |rows: &[Vec<f64>], k: usize| rows.iter().map(|r| r[k]).collect::<Vec<f64>>();
        let scale = |k| Scale::of(&column(demonstrations, k), &column(candidates, k));
        let heads: Vec<Scale> = match config.ensemble_heads {
            1 => Vec::new(),
            n => (0..n).map(scale).collect(),
        };
        let (scoring, variance_coef) = (config.ensemble_scoring, config.ensemble_variance_coef);
        let mut fitted = Self { mean: 0.0, std: 1.0, mean_over, heads, scoring, variance_coef };
        let combined = |rows: &[Vec<f64>]| rows.iter().map(|r| fitted.combined(r)).collect::<Vec<f64>>();
        let Scale { mean, std } = Scale::of(&combined(demonstrations), &combined(candidates));
        (fitted.mean, fitted.std) = (mean, std);
        fitted
    }

    /// One reward of a text's raw scores, `(heads,)`.
    pub(crate) fn reward(&self, raw: &[f64]) -> f64 {
        (self.combined(raw) - self.mean) / self.std
    }

    /// Each head's score on its own scale.
    fn scaled(&self, raw: &[f64]) -> Vec<f64> {
        raw.iter().zip(&self.heads).map(|(&x, head)| head.apply(x)).collect()
    }

    fn combined(&self, raw: &[f64]) -> f64 {
        if self.heads.is_empty() {
            return raw.first().copied().unwrap_or_default();
        }
        let scores = self.scaled(raw);
        let (mean, variance) = mean_variance(&scores);
        match self.scoring {
            Scoring::Mean => mean,
            Scoring::Worst => scores.into_iter().fold(f64::INFINITY, f64::min),
            Scoring::MeanMinusVariance => mean - self.variance_coef * variance,
        }
    }

    /// How far the heads are apart on a text: the deviation of their scores, each of deviation 1 over texts. 0 with one head.
    pub(crate) fn disagreement(&self, raw: &[f64]) -> f64 {
        if self.heads.is_empty() { 0.0 } else { mean_variance(&self.scaled(raw)).1.sqrt() }
    }

    pub(crate) fn save(&self, dir: &Path) -> Result<(), LearnError> {
        let path = dir.join(NORMALISATION);
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| LearnError::BadAdapter { path: path.clone(), reason: e.to_string() })?;
        write_atomic(&path, &json)
    }

    fn load(dir: &Path, heads: usize) -> Result<Self, LearnError> {
        let path = dir.join(NORMALISATION);
        let text = std::fs::read(&path).map_err(LearnError::io(&path))?;
        let bad = |reason: String| LearnError::BadAdapter { path: path.clone(), reason };
        let it: Self = serde_json::from_slice(&text).map_err(|e| bad(format!("{e}; train the reward model again")))?;
        if it.heads.len().max(1) != heads {
            return Err(bad(format!(
                "it is of {} heads, the adapter has {heads}; copy both again",
                it.heads.len().max(1)
            )));
        }
        if (Scale { mean: it.mean, std: it.std }).is_usable() && it.heads.iter().all(Scale::is_usable) {
            Ok(it)
        } else {
            Err(bad("its means and stds must be finite and stds above 0; train the reward model again".into()))
        }
    }
}

/// What a reward model says of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) reward: f64,
    /// [`Normalisation::disagreement`].
    pub(crate) disagreement: f64,
}

/// A trained reward model.
#[derive(Debug, Clone)]
pub(crate) struct RewardModel {
    /// LoRA and scalar heads.
    pub(crate) adapter: Adapter,
    /// From raw scores to rewards.
    pub(crate) normalisation: Normalisation,
}

impl RewardModel {
    /// Reads the artifact of a reward run; refuses a folder that isn't a reward model of this base.
    pub(crate) fn load(dir: &Path, base: &Base) -> Result<Self, LearnError> {
        let adapter = Adapter::load(dir, base.config())?;
        let heads = head_weight(&adapter)?.len() / base.config().hidden;
        Ok(Self { adapter, normalisation: Normalisation::load(dir, heads)? })
    }

    /// Rewards of whole texts, and how far the heads of an ensemble are apart on each. A response that doesn't end with an end token gets one for the reading: scores are only trained there.
    pub(crate) fn judge(
        &self,
        base: &Base,
        sequences: &[Sequence],
        eos_ids: &[u32],
        budget: usize,
        ws: &mut Workspace,
    ) -> Result<Vec<Judged>, LearnError> {
        let closed = |s: &Sequence| {
            let mut s = s.clone();
            let ended = s.response_len() > 0 && s.tokens.last().is_some_and(|t| eos_ids.contains(t));
            s.tokens.extend(eos_ids.first().filter(|_| !ended));
            s
        };
        let closed: Vec<Sequence> = sequences.iter().map(closed).collect();
        let raw = head_scores(base, &self.adapter, &closed, budget, ws)?;
        let judged = |r: &Vec<f64>| Judged {
            reward: self.normalisation.reward(r),
            disagreement: self.normalisation.disagreement(r),
        };
        Ok(raw.iter().map(judged).collect())
    }

    /// The rewards alone.
    pub(crate) fn rewards(
        &self,
        base: &Base,
        sequences: &[Sequence],
        eos_ids: &[u32],
        budget: usize,
        ws: &mut Workspace,
    ) -> Result<Vec<f64>, LearnError> {
        Ok(self.judge(base, sequences, eos_ids, budget, ws)?.into_iter().map(|j| j.reward).collect())
    }

    /// Where a value function starts: an adapter with one head, and what must be added to its score to be in units of reward. Of an
    /// ensemble it is the mean head, whatever the scoring: a linear head can't be a minimum, and PPO teaches it the rest.
    pub(crate) fn value_function(&self) -> (Adapter, f64) {
        let Normalisation { mean, std, heads, .. } = &self.normalisation;
        let mut adapter = self.adapter.clone();
        let only = [Scale { mean: *mean, std: *std }];
        let (heads, over) = if heads.is_empty() { (&only[..], 1.0) } else { (&heads[..], std * heads.len() as f64) };
        let weights = adapter.score_weight().unwrap_or_default();
        let width = weights.len() / heads.len();
        let mut weight = vec![0.0f32; width];
        for (head, of_head) in heads.iter().zip(weights.chunks_exact(width.max(1))) {
            let scale = (1.0 / (head.std * over)) as f32;
            weight.iter_mut().zip(of_head).for_each(|(w, x)| *w += scale * x);
        }
        adapter.params.push(SCORE_WEIGHT, vec![1, width], weight);
        (adapter, -heads.iter().map(|h| h.mean / (h.std * over)).sum::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::LoraConfig;
    use crate::params::Params;

    fn model(heads: usize, scoring: Scoring) -> RewardModel {
        let raw: Vec<Vec<f64>> = (0..40)
            .map(|i| {
                let x = (i as f64 * 0.7).sin();
                (0..heads)
                    .map(|k| (k + 1) as f64 * (x + 0.3 * ((i * (k + 3)) as f64).cos()) + 10.0 * k as f64)
                    .collect()
            })
            .collect();
        let config = RewardConfig {
            ensemble_heads: heads,
            ensemble_scoring: scoring,
            ensemble_variance_coef: 0.5,
            ..RewardConfig::default()
        };
        let normalisation = Normalisation::fit(&config, &raw, None);
        let rewards: Vec<f64> = raw.iter().map(|r| normalisation.reward(r)).collect();
        let (mean, variance) = mean_variance(&rewards);
        assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-9, "{scoring:?}: {mean}, {variance}");
        let mut params = Params::new();
        let weights = (0..heads * 3).map(|i| 1.0 + i as f32 * 0.5).collect();
        params.push(SCORE_WEIGHT, vec![heads, 3], weights);
        RewardModel { adapter: Adapter { config: LoraConfig::default(), params }, normalisation }
    }

    #[test]
    fn heads_are_brought_to_one_scale_before_they_are_combined() {
        let worst = model(3, Scoring::Worst).normalisation;
        // Raw scores of the third head lie 20 higher: on its own scale it can be the worst all the same.
        let at = |k: usize, x: f64| worst.heads[k].mean + worst.heads[k].std * x;
        assert!((worst.combined(&[at(0, 1.0), at(1, 0.5), at(2, -2.0)]) + 2.0).abs() < 1e-12);
        let spread = worst.disagreement(&[at(0, 1.0), at(1, 1.0), at(2, 1.0)]);
        assert!(spread < 1e-9 && worst.disagreement(&[at(0, 1.0), at(1, 0.0), at(2, -1.0)]) > 0.8);
        let lower = model(3, Scoring::MeanMinusVariance).normalisation;
        let (sure, torn) = ([at(0, 1.0), at(1, 1.0), at(2, 1.0)], [at(0, 3.0), at(1, 1.0), at(2, -1.0)]);
        assert!((lower.combined(&sure) - lower.combined(&torn) - 0.5 * 8.0 / 3.0).abs() < 1e-9);
        assert_eq!(model(1, Scoring::Worst).normalisation.disagreement(&[5.0]), 0.0);
    }

    #[test]
    fn the_value_function_starts_as_the_mean_reward() {
        let hidden = [0.4, -1.0, 2.0];
        for heads in [1, 4] {
            let model = model(heads, Scoring::Mean);
            let dot = |w: &[f32]| w.iter().zip(hidden).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
            let raw: Vec<f64> = model.adapter.score_weight().expect("heads").chunks(3).map(dot).collect();
            let (value, offset) = model.value_function();
            let said = dot(value.score_weight().expect("one head")) + offset;
            assert!((said - model.normalisation.reward(&raw)).abs() < 1e-5, "{heads}: {said}");
        }
    }

    #[test]
    fn its_file_comes_back_and_an_older_one_is_of_one_head() {
        let home = tempfile::tempdir().expect("temp dir");
        let three = model(3, Scoring::Worst).normalisation;
        three.save(home.path()).expect("saves");
        let (back, raw) = (Normalisation::load(home.path(), 3).expect("loads"), [0.3, 11.0, 17.0]);
        assert!((back.reward(&raw) - three.reward(&raw)).abs() < 1e-9 && back.scoring == Scoring::Worst);
        assert!(Normalisation::load(home.path(), 1).expect_err("another adapter").to_string().contains("3 heads"));
        let old = r#"{"mean": 0.5, "std": 2.0, "mean_over": "candidates"}"#;
        std::fs::write(home.path().join(NORMALISATION), old).expect("writes");
        assert_eq!(Normalisation::load(home.path(), 1).expect("loads").reward(&[4.5]), 2.0);
        std::fs::write(home.path().join(NORMALISATION), old.replace("2.0", "0.0")).expect("writes");
        assert!(Normalisation::load(home.path(), 1).is_err());
    }
}
