//! How an answer is drawn: the sampling parameters of a request, checked once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sampling parameters. Only a checked value reaches an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token. 0..=2.
    pub temperature: f64,
    /// Nucleus: the smallest set of tokens with this probability mass. 0 < p <= 1.
    pub top_p: f64,
    /// Most tokens in the answer (the end token counts). At least 1.
    pub max_tokens: usize,
    /// The answer ends before any of these texts. At most 4.
    pub stop: Vec<String>,
    /// Same seed, policy and prompt: same answer, where the engine can.
    pub seed: Option<u64>,
    /// -2..=2, subtracted from the logits of tokens that have occurred.
    pub presence_penalty: f64,
    /// -2..=2, times a token's count, subtracted from its logit.
    pub frequency_penalty: f64,
    /// Report the log-probability of each token, and of this many likeliest alternatives (0..=20).
    pub logprobs: Option<usize>,
    /// What the answer's text must be; `None`: anything. An answer that reaches `max_tokens` is the beginning of such a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<AnswerFormat>,
}

/// A form that an answer's text must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// Any JSON object.
    JsonObject,
    /// JSON that this JSON Schema describes.
    JsonSchema(Value),
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 512,
            stop: Vec::new(),
            seed: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logprobs: None,
            format: None,
        }
    }
}

/// A sampling parameter outside its range: its name and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{param}` must be {must}")]
pub struct SamplingError {
    /// The field's name in the request.
    pub param: &'static str,
    /// The allowed range, in words.
    pub must: &'static str,
}

impl Sampling {
    /// Checks every range.
    ///
    /// # Errors
    /// The first parameter outside its range.
    pub fn checked(self) -> Result<Self, SamplingError> {
        let bad = |param, must| Err(SamplingError { param, must });
        if !(0.0..=2.0).contains(&self.temperature) {
            return bad("temperature", "between 0 and 2");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", "above 0 and at most 1");
        }
        if self.max_tokens == 0 {
            return bad("max_tokens", "at least 1");
        }
        if self.stop.len() > 4 || self.stop.iter().any(String::is_empty) {
            return bad("stop", "at most 4 texts, none of them empty");
        }
        if !(-2.0..=2.0).contains(&self.presence_penalty) {
            return bad("presence_penalty", "between -2 and 2");
        }
        if !(-2.0..=2.0).contains(&self.frequency_penalty) {
            return bad("frequency_penalty", "between -2 and 2");
        }
        if self.logprobs.is_some_and(|n| n > 20) {
            return bad("top_logprobs", "between 0 and 20");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_nan_is_refused() {
        let with = |f: fn(&mut Sampling)| {
            let mut s = Sampling::default();
            f(&mut s);
            s.checked().map_err(|e| e.param)
        };
        assert!(with(|_| {}).is_ok());
        assert_eq!(with(|s| s.temperature = f64::NAN), Err("temperature"));
        assert_eq!(with(|s| s.top_p = 0.0), Err("top_p"));
        assert_eq!(with(|s| s.max_tokens = 0), Err("max_tokens"));
        assert_eq!(with(|s| s.stop = vec![String::new()]), Err("stop"));
        assert_eq!(with(|s| s.presence_penalty = 3.0), Err("presence_penalty"));
    }
}
