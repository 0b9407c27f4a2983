//! An answer as a server streams it: chunks of server-sent events become tokens, calls of functions, and an end. May use: domain, reqwest.

use futures_util::StreamExt;
use hone_domain::{EngineError, FinishReason, StreamEvent, TokenEvent, ToolCall, ToolCallDelta};
use reqwest::Response;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

/// Passes a stream on, to its end or until nobody reads it any more. Calls of functions count only where it `may_call`.
pub(super) async fn pass_on(response: Response, may_call: bool, events: &UnboundedSender<StreamEvent>) {
    let mut answer = Answer { may_call, ..Answer::default() };
    let (mut stream, mut buffer) = (response.bytes_stream(), Vec::new());
    loop {
        let chunk = tokio::select! {
            chunk = stream.next() => chunk,
            () = events.closed() => return,
        };
        let Some(Ok(chunk)) = chunk else { break };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            answer.take(data, events);
        }
    }
    let _gone = events.send(answer.end());
}

/// What has come of an answer.
#[derive(Default)]
struct Answer {
    may_call: bool,
    pieces: usize,
    /// How many functions it has called.
    calls: usize,
    finish: Option<FinishReason>,
    usage: Option<(usize, usize)>,
    failed: Option<String>,
}

impl Answer {
    fn take(&mut self, data: &[u8], events: &UnboundedSender<StreamEvent>) {
        let Ok(chunk) = serde_json::from_slice::<Value>(data) else { return };
        if let Some(message) = chunk["error"]["message"].as_str() {
            self.failed = Some(message.to_owned());
        }
        if let (Some(prompt), Some(completion)) =
            (chunk["usage"]["prompt_tokens"].as_u64(), chunk["usage"]["completion_tokens"].as_u64())
        {
            self.usage = usize::try_from(prompt).ok().zip(usize::try_from(completion).ok());
        }
        let choice = &chunk["choices"][0];
        if let Some(token) = token(choice) {
            self.pieces += 1;
            let _gone = events.send(StreamEvent::Token(token));
        }
        for piece in choice["delta"]["tool_calls"].as_array().into_iter().flatten().filter(|_| self.may_call) {
            self.pieces += 1;
            match call(piece, self.calls) {
                Ok(delta) => {
                    self.calls = self.calls.max(delta.index + 1);
                    let _gone = events.send(StreamEvent::ToolCall(delta));
                }
                Err(why) => self.failed = Some(format!("the remote server {why}")),
            }
        }
        self.finish = match choice["finish_reason"].as_str() {
            Some("length") => Some(FinishReason::Length),
            Some("tool_calls") if self.calls > 0 => Some(FinishReason::ToolCalls),
            Some(_) => Some(FinishReason::Stop),
            None => self.finish,
        };
    }

    /// The last event. A stream that breaks off before its end has failed, whatever came before.
    fn end(self) -> StreamEvent {
        let Self { pieces, finish, usage, failed, .. } = self;
        match (failed, finish) {
            (Some(why), _) => StreamEvent::Failed(EngineError::Failed(why)),
            (None, None) => StreamEvent::Failed(EngineError::Failed("the remote server broke off its answer".into())),
            (None, Some(finish)) => {
                let (prompt_tokens, completion_tokens) = usage.unwrap_or((0, pieces));
                StreamEvent::Done { finish, prompt_tokens, completion_tokens }
            }
        }
    }
}

/// A piece of one of an answer's calls, of which `begun` have begun. What begins one has a name; a missing id is made up for it.
fn call(piece: &Value, begun: usize) -> Result<ToolCallDelta, String> {
    let function = &piece["function"];
    let some = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let name = some(&function["name"]);
    // Some servers don't number their calls.
    let unnumbered = if name.is_some() { begun } else { begun.saturating_sub(1) };
    let index = piece["index"].as_u64().map_or(Some(unnumbered), |index| usize::try_from(index).ok());
    let index = index.filter(|&index| index <= begun).ok_or("skipped one of its calls of functions")?;
    let arguments = match &function["arguments"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        // Not what the API says, but what it means is clear.
        object => object.to_string(),
    };
    if index < begun {
        return Ok(ToolCallDelta { index, id: None, name: None, arguments });
    }
    let name = name.ok_or("called a function without a name")?;
    let id = some(&piece["id"]).unwrap_or_else(ToolCall::new_id);
    Ok(ToolCallDelta { index, id: Some(id), name: Some(name), arguments })
}

fn token(choice: &Value) -> Option<TokenEvent> {
    let text = choice["delta"]["content"].as_str().unwrap_or_default().to_owned();
    let told = &choice["logprobs"]["content"][0];
    let number = |value: &Value| value["logprob"].as_f64().map(|x| x as f32);
    let top = told["top_logprobs"].as_array().into_iter().flatten();
    let top = top.filter_map(|t| Some((t["token"].as_str()?.to_owned(), number(t)?))).collect();
    let logprob = number(told);
    (!text.is_empty() || logprob.is_some()).then_some(TokenEvent { text, logprob, top })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::sync::mpsc::unbounded_channel;

    /// What an answer of these deltas, which then ends as `finish` says, passes on.
    fn passed_on(may_call: bool, deltas: &[Value], finish: &str) -> Vec<StreamEvent> {
        let (send, mut events) = unbounded_channel();
        let mut answer = Answer { may_call, ..Answer::default() };
        for delta in deltas {
            let chunk = json!({"choices": [{"index": 0, "delta": {"tool_calls": [delta]}, "finish_reason": null}]});
            answer.take(chunk.to_string().as_bytes(), &send);
        }
        let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]});
        answer.take(end.to_string().as_bytes(), &send);
        let _read = send.send(answer.end());
        drop(send);
        std::iter::from_fn(|| events.try_recv().ok()).collect()
    }

    fn calls(events: &[StreamEvent]) -> Vec<(String, String, String)> {
        let mut calls = Vec::new();
        for event in events {
            if let StreamEvent::ToolCall(delta) = event {
                delta.grow(&mut calls);
            }
        }
        calls.into_iter().map(|call| (call.id, call.function.name, call.function.arguments)).collect()
    }

    #[test]
    fn calls_come_together_numbered_or_not() {
        let begin = |index: Value, id: &str| json!({"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}});
        let more = |index: Value, text: &str| json!({"index": index, "function": {"arguments": text}});
        for numbers in [[json!(0), json!(1)], [Value::Null, Value::Null]] {
            let [first, second] = numbers;
            let deltas = [
                begin(first.clone(), "a"),
                more(first.clone(), "{\"x\""),
                more(first, ":1}"),
                begin(second.clone(), "b"),
                more(second, "{}"),
            ];
            let events = passed_on(true, &deltas, "tool_calls");
            let told = calls(&events);
            let told: Vec<_> =
                told.iter().map(|(id, name, text)| (id.as_str(), name.as_str(), text.as_str())).collect();
            assert_eq!(told, [("a", "f", "{\"x\":1}"), ("b", "f", "{}")]);
            assert!(matches!(events.last(), Some(StreamEvent::Done { finish: FinishReason::ToolCalls, .. })));
        }
    }

    #[test]
    fn what_is_no_call_fails_and_what_wasnt_offered_is_no_call() {
        let odd = json!({"function": {"name": "f", "arguments": {"x": 1}}});
        let told = calls(&passed_on(true, std::slice::from_ref(&odd), "stop"));
        assert!(told[0].0.starts_with("call_") && told[0].2 == "{\"x\":1}", "{told:?}");
        for (delta, why) in [
            (json!({"index": 7, "id": "a", "function": {"name": "f"}}), "skipped"),
            (json!({"index": 0, "id": "a", "function": {"arguments": "{}"}}), "without a name"),
        ] {
            let events = passed_on(true, &[delta], "tool_calls");
            let Some(StreamEvent::Failed(EngineError::Failed(told))) = events.last() else { panic!("{events:?}") };
            assert!(told.contains(why), "{told}");
        }
        let events = passed_on(false, &[odd], "tool_calls");
        assert!(matches!(events.as_slice(), [StreamEvent::Done { finish: FinishReason::Stop, .. }]), "{events:?}");
    }
}
