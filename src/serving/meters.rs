//! What is counted and timed of answers, under the names that users of other servers know (vLLM's, with `hone_` before them), by policy.
//! May use: prometheus-client, spans. Knows nothing of HTTP.

use crate::telemetry::TRACE;
use hone_domain::StreamEvent;
use hone_domain::ids::PolicyId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Instant;
use tracing::Span;
use tracing::field::Empty;

/// Which policy; `model_name`, as other servers call it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    model_name: String,
}

/// Which policy, and how the answer ended: stop, length, tool_calls, failed, or cancelled by the client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    model_name: String,
    finished_reason: &'static str,
}

type Timed = Family<Of, Histogram, fn() -> Histogram>;

/// Everything that is measured of answers.
#[derive(Debug)]
pub struct Meters {
    first_token: Timed,
    between_tokens: Timed,
    whole: Timed,
    prompt_tokens: Family<Of, Counter>,
    generation_tokens: Family<Of, Counter>,
    ended: Family<Ended, Counter>,
}

/// From a fast answer's first token to a long answer on a slow machine, seconds.
fn long_buckets() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0])
}

/// A token on a GPU to a token in a crowd on a small CPU, seconds.
fn short_buckets() -> Histogram {
    Histogram::new([0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5])
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            first_token: Family::new_with_constructor(long_buckets),
            between_tokens: Family::new_with_constructor(short_buckets),
            whole: Family::new_with_constructor(long_buckets),
            prompt_tokens: Family::default(),
            generation_tokens: Family::default(),
            ended: Family::default(),
        }
    }
}

impl Meters {
    /// Puts them into a registry, which then tells what they show.
    pub fn register(&self, registry: &mut Registry) {
        let timed = [
            ("time_to_first_token", "From the request to its answer's first token", &self.first_token),
            ("inter_token_latency", "From a token to the next one", &self.between_tokens),
            ("e2e_request_latency", "From the request to its answer's last token", &self.whole),
        ];
        for (name, help, metric) in timed {
            registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
        registry.register("prompt_tokens", "Tokens of the prompts that were answered", self.prompt_tokens.clone());
        registry.register("generation_tokens", "Tokens of answers", self.generation_tokens.clone());
        registry.register("request_success", "Answers that ended, by how", self.ended.clone());
    }

    /// Watches one answer of `policy` that was asked for at `begun`.
    #[must_use]
    pub fn watch(&self, policy: &PolicyId, begun: Instant) -> Watch {
        let of = Of { model_name: policy.to_string() };
        Watch {
            begun,
            last: None,
            tokens: 0,
            first_token: self.first_token.get_or_create_owned(&of),
            between_tokens: self.between_tokens.get_or_create_owned(&of),
            whole: self.whole.get_or_create_owned(&of),
            prompt_tokens: self.prompt_tokens.get_or_create_owned(&of),
            generation_tokens: self.generation_tokens.get_or_create_owned(&of),
            ended: self.ended.clone(),
            policy: of.model_name,
            end: "cancelled",
        }
    }
}

/// One answer on its way. Dropped before its end it counts as cancelled.
#[derive(Debug)]
pub struct Watch {
    begun: Instant,
    last: Option<Instant>,
    /// How many came one by one.
    tokens: usize,
    first_token: Histogram,
    between_tokens: Histogram,
    whole: Histogram,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    ended: Family<Ended, Counter>,
    policy: String,
    end: &'static str,
}

impl Watch {
    /// The answer's part of the request's trace; what this watch sees is recorded in it while it is entered.
    #[must_use]
    pub fn span(&self) -> Span {
        tracing::info_span!(
            target: TRACE, "answer", gen_ai.response.model = self.policy, gen_ai.usage.input_tokens = Empty, gen_ai.usage.output_tokens = Empty,
            gen_ai.response.finish_reasons = Empty,
        )
    }

    /// The engine has sent this, now.
    pub fn saw(&mut self, event: &StreamEvent, now: Instant) {
        match event {
            StreamEvent::Token(_) => {
                if let Some(last) = self.came(now) {
                    self.between_tokens.observe(now.duration_since(last).as_secs_f64());
                }
                self.generation_tokens.inc();
                self.tokens += 1;
            }
            // Its tokens came before it, or come with the end.
            StreamEvent::ToolCall(_) => _ = self.came(now),
            StreamEvent::Done { finish, prompt_tokens, completion_tokens } => {
                let span = Span::current();
                span.record("gen_ai.usage.input_tokens", prompt_tokens)
                    .record("gen_ai.usage.output_tokens", completion_tokens);
                self.prompt_tokens.inc_by(*prompt_tokens as u64);
                self.generation_tokens.inc_by(completion_tokens.saturating_sub(self.tokens) as u64);
                self.whole.observe(now.duration_since(self.begun).as_secs_f64());
                self.end = finish.as_str();
            }
            StreamEvent::Failed(_) => self.end = "failed",
        }
    }

    /// Something of the answer is there. Answers when something was before; the first time is observed.
    fn came(&mut self, now: Instant) -> Option<Instant> {
        let last = self.last.replace(now);
        if last.is_none() {
            tracing::info!(target: TRACE, "first token");
            self.first_token.observe(now.duration_since(self.begun).as_secs_f64());
        }
        last
    }

    /// Whether the engine has said how the answer ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end != "cancelled"
    }

    /// The engine closed the answer's channel; without an end before that, it has failed.
    pub fn closed(&mut self) {
        if !self.has_ended() {
            self.end = "failed";
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        Span::current().record("gen_ai.response.finish_reasons", self.end);
        let ended = Ended { model_name: std::mem::take(&mut self.policy), finished_reason: self.end };
        self.ended.get_or_create(&ended).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::{FinishReason, TokenEvent, ToolCallDelta};
    use std::time::Duration;

    #[test]
    fn an_answer_is_timed_and_one_that_nobody_waited_for_is_cancelled() {
        let (meters, begun) = (Meters::default(), Instant::now());
        let policy = PolicyId::from_raw("pol_1");
        let token = || StreamEvent::Token(TokenEvent { text: "a".into(), logprob: None, top: Vec::new() });
        let mut watch = meters.watch(&policy, begun);
        watch.saw(&token(), begun + Duration::from_millis(40));
        watch.saw(&token(), begun + Duration::from_millis(43));
        let done = StreamEvent::Done { finish: FinishReason::Length, prompt_tokens: 7, completion_tokens: 2 };
        watch.saw(&done, begun + Duration::from_millis(44));
        drop(watch);
        let mut calling = meters.watch(&policy, begun);
        let call = ToolCallDelta { index: 0, id: None, name: None, arguments: String::new() };
        calling.saw(&StreamEvent::ToolCall(call), begun + Duration::from_millis(45));
        let done = StreamEvent::Done { finish: FinishReason::ToolCalls, prompt_tokens: 0, completion_tokens: 9 };
        calling.saw(&done, begun + Duration::from_millis(46));
        drop(calling);
        drop(meters.watch(&policy, begun));
        meters.watch(&policy, begun).closed();
        let mut registry = Registry::with_prefix("hone");
        meters.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        for line in [
            "hone_time_to_first_token_seconds_bucket{le=\"0.025\",model_name=\"pol_1\"} 0",
            "hone_time_to_first_token_seconds_bucket{le=\"0.05\",model_name=\"pol_1\"} 2",
            "hone_inter_token_latency_seconds_bucket{le=\"0.005\",model_name=\"pol_1\"} 1",
            "hone_e2e_request_latency_seconds_count{model_name=\"pol_1\"} 2",
            "hone_prompt_tokens_total{model_name=\"pol_1\"} 7",
            "hone_generation_tokens_total{model_name=\"pol_1\"} 11",
            "hone_request_success_total{model_name=\"pol_1\",finished_reason=\"length\"} 1",
            "hone_request_success_total{model_name=\"pol_1\",finished_reason=\"tool_calls\"} 1",
            "hone_request_success_total{model_name=\"pol_1\",finished_reason=\"cancelled\"} 1",
            "hone_request_success_total{model_name=\"pol_1\",finished_reason=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
