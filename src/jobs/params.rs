//! What can be asked of a job, checked when it is asked for. `hone train --set` and `POST /v1/jobs` share it.

use super::JobError;
use super::gate::GateConfig;
use super::snapshot;
use crate::store::jobs::JobKind;
use crate::store::runs::RunKind;
use hone_learn::evaluate::EvaluateConfig;
use hone_learn::model::{Device, Format};
use hone_learn::train::{PpoConfig, RewardConfig, SftConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The `params` of a job. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobParams {
    /// All randomness comes from it; drawn when left out.
    pub seed: Option<u64>,
    /// Bit-identical on every run, at the price of speed.
    pub deterministic: bool,
    /// How the base's matrices are kept in memory while training: f32, bf16 or q8_0.
    pub base_format: Format,
    /// Where to train: cpu or cuda; a GPU where there is one when left out.
    pub device: Option<Device>,
    /// `cycle`: promote a policy that passes the gate. Without it the policy stays a candidate.
    pub promote: Option<bool>,
    /// `evaluate`: the PPO or SFT run to judge; the newest PPO run when left out.
    pub run: Option<String>,
    /// How many rankings from before the champion's snapshot are kept for each newer one, the newest of them; the server's
    /// `retrain.old_rankings_per_new` when left out.
    pub old_rankings_per_new: Option<f64>,
    /// `cycle`: how many policies of earlier rounds are judged beside the new one; the server's `retrain.earlier_policies_max` when left out.
    pub earlier_policies_max: Option<usize>,
    /// Settings of SFT that differ from the defaults.
    pub sft: Map<String, Value>,
    /// Settings of the reward model that differ from the defaults.
    pub reward: Map<String, Value>,
    /// Settings of the judge that differ from the reward model's.
    pub judge: Map<String, Value>,
    /// Settings of PPO that differ from the defaults.
    pub ppo: Map<String, Value>,
    /// Settings of the evaluation that differ from the defaults.
    pub evaluate: Map<String, Value>,
    /// Bounds of the gate that differ from the server's.
    pub gate: Map<String, Value>,
}

impl JobParams {
    /// Checks what was sent, down to each setting. Null is no parameters.
    ///
    /// # Errors
    /// Which field is unknown or wrong.
    pub fn parse(kind: JobKind, params: &Value) -> Result<Self, JobError> {
        let empty = Value::Object(Map::new());
        let params = if params.is_null() { &empty } else { params };
        let parsed: Self = serde_json::from_value(params.clone()).map_err(|e| invalid("params", &e))?;
        for kind in RunKind::ALL {
            settings(*kind, &parsed.settings_of(*kind))?;
        }
        with_overrides(&GateConfig::default(), &parsed.gate, "params.gate")?;
        snapshot::check_old_per_new(parsed.old_rankings_per_new, "params")?;
        // A path of the server's machine is for whoever sets the server up; a job may leave the suites out.
        if parsed.evaluate.get("suites").is_some_and(|suites| suites != &Value::Object(Map::new())) {
            return Err(JobError::Invalid(
                "params.evaluate.suites: a job can only leave them out, with {}; their files are set in [evaluate.suites]"
                    .into(),
            ));
        }
        if parsed.evaluate.get("classifier").is_some_and(|folder| !folder.is_null()) {
            let text = "params.evaluate.classifier: a job can't choose a folder; it is set in [evaluate]";
            return Err(JobError::Invalid(text.into()));
        }
        if parsed.run.is_some() && kind != JobKind::Evaluate {
            return Err(JobError::Invalid("params.run is for jobs of kind \"evaluate\"".into()));
        }
        Ok(parsed)
    }

    /// What differs from the defaults for runs of this kind.
    #[must_use]
    pub fn settings_of(&self, kind: RunKind) -> Map<String, Value> {
        match kind {
            RunKind::Sft => self.sft.clone(),
            RunKind::Reward => self.reward.clone(),
            RunKind::Judge => self.reward.clone().into_iter().chain(self.judge.clone()).collect(),
            RunKind::Ppo => self.ppo.clone(),
            RunKind::Evaluate => self.evaluate.clone(),
        }
    }
}

/// The complete settings of a run: the defaults with `overrides` on top.
///
/// # Errors
/// Which setting is unknown or has a value that it can't have.
pub fn settings(kind: RunKind, overrides: &Map<String, Value>) -> Result<Value, JobError> {
    let name = format!("params.{kind}");
    match kind {
        RunKind::Sft => as_json(with_overrides(&SftConfig::default(), overrides, &name)?),
        RunKind::Reward | RunKind::Judge => as_json(with_overrides(&RewardConfig::default(), overrides, &name)?),
        RunKind::Ppo => as_json(with_overrides(&PpoConfig::default(), overrides, &name)?),
        RunKind::Evaluate => as_json(with_overrides(&EvaluateConfig::default(), overrides, &name)?),
    }
}

/// `KEY=VALUE` of the command line. The value is JSON where it can be read as such, else text.
///
/// # Errors
/// When there is no `=`.
pub fn parse_set(pairs: &[String]) -> Result<Map<String, Value>, JobError> {
    let parse = |pair: &String| {
        let (key, text) = pair
            .split_once('=')
            .ok_or_else(|| JobError::Invalid(format!("--set {pair}: write KEY=VALUE, as in --set epochs=2")))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        Ok((key.trim().to_owned(), value))
    };
    pairs.iter().map(parse).collect()
}

/// A settings type with some of its fields replaced.
///
/// # Errors
/// Which field is unknown or wrong; `what` is how the user names the whole.
pub fn with_overrides<T>(defaults: &T, overrides: &Map<String, Value>, what: &str) -> Result<T, JobError>
where
    T: Serialize + for<'a> Deserialize<'a>,
{
    let mut all = serde_json::to_value(defaults).map_err(|e| invalid(what, &e))?;
    if let Value::Object(fields) = &mut all {
        fields.extend(overrides.clone());
    }
    serde_json::from_value(all).map_err(|e| invalid(what, &e))
}

fn as_json<T: Serialize>(value: T) -> Result<Value, JobError> {
    serde_json::to_value(value).map_err(|e| invalid("settings", &e))
}

fn invalid(what: &str, e: &serde_json::Error) -> JobError {
    JobError::Invalid(format!("{what}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_setting_is_refused_when_it_is_asked_for() {
        let parse = |params: Value| JobParams::parse(JobKind::Cycle, &params);
        assert!(parse(Value::Null).is_ok());
        assert!(parse(json!({"ppo": {"kl_coef": 0.1}, "seed": 7})).is_ok());
        let unknown = parse(json!({"ppo": {"kl_coeff": 0.1}})).expect_err("unknown setting").to_string();
        assert!(unknown.contains("params.ppo") && unknown.contains("kl_coeff"), "{unknown}");
        assert!(parse(json!({"reward": {"epochs": "many"}})).is_err());
        assert!(parse(json!({"gate": {"nothing": 1}})).is_err());
        assert!(parse(json!({"speed": 9})).is_err());
        assert!(parse(json!({"evaluate": {"suites": {}, "suite_items_max": 50}})).is_ok());
        assert!(
            parse(json!({"evaluate": {"suites": {"perplexity": "/etc/passwd"}}})).is_err(),
            "no paths from outside"
        );
        assert!(parse(json!({"evaluate": {"classifier": "/etc"}})).is_err());
        assert!(parse(json!({"run": "run_1"})).is_err(), "only evaluate takes a run");
    }

    #[test]
    fn settings_are_complete_and_carry_the_overrides() {
        let set = parse_set(&["learning_rate=0.5".into(), "lora_targets=[\"q_proj\"]".into()]).expect("parses");
        let all = settings(RunKind::Sft, &set).expect("fits");
        assert_eq!(all["learning_rate"], 0.5);
        assert_eq!(all["lora_targets"], json!(["q_proj"]));
        assert_eq!(all["epochs"], SftConfig::default().epochs);
        assert!(parse_set(&["epochs".into()]).is_err());
    }
}
