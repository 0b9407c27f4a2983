//! Spans for a collector: the real binary sends one request's trace to one that listens here, over OTLP.

use crate::binary::{hone, run, serve_with};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use reqwest::Client;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use tempfile::TempDir;

/// Takes spans as a collector does, and passes them on.
fn collector() -> (String, mpsc::Receiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (send, spans) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            let mut head = String::new();
            while reader.read_line(&mut head).expect("a line") > 2 {}
            assert!(head.starts_with("POST /v1/traces "), "{head}");
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.expect("a length")];
            reader.read_exact(&mut body).expect("the body");
            let sent = ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP");
            let spans = sent.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
            spans.for_each(|span| drop(send.send(span)));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            reader.get_mut().write_all(answer).expect("writes");
        }
    });
    (format!("http://{address}"), spans)
}

#[actix_web::test]
async fn a_request_is_one_trace_that_continues_the_callers() {
    let (endpoint, spans) = collector();
    let data = TempDir::new().expect("temp dir");
    let (_, ann, _) = run(data.path(), &["--json", "user", "add", "ann"]);
    let mut server = serve_with(data.path(), &[("HONE_TELEMETRY_OTLP_ENDPOINT", &endpoint)]);
    let (trace, caller) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let asked = Client::new()
        .post(format!("{}/v1/chat/completions", server.url))
        .bearer_auth(ann["key"].as_str().expect("a key"));
    let asked = asked.header("traceparent", format!("00-{trace}-{caller}-01"));
    let said = "a secret of mine";
    let answer = asked.json(&json!({"messages": [{"role": "user", "content": said}]})).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(server.terminate(), Some(0));

    let spans: Vec<Span> = spans.try_iter().filter(|span| hex(&span.trace_id) == trace).collect();
    let named = |name: &str| spans.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} in {spans:#?}"));
    let request = named("POST /v1/chat/completions");
    assert_eq!(hex(&request.parent_span_id), caller);
    let answer = named("answer");
    for part in [named("queue"), answer, named("keep")] {
        assert_eq!(part.parent_span_id, request.span_id, "{part:#?}");
    }
    assert!(answer.events.iter().any(|event| event.name == "first token"), "{answer:#?}");
    for key in [
        "gen_ai.response.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.response.finish_reasons",
    ] {
        assert!(answer.attributes.iter().any(|attribute| attribute.key == key), "{key} in {answer:#?}");
    }
    assert!(!format!("{spans:?}").contains(said), "no word of what people write");
}

#[test]
fn an_address_that_is_none_is_told_at_once() {
    let data = TempDir::new().expect("temp dir");
    let mut command = hone(data.path(), &["serve", "--engine", "echo", "--listen", "127.0.0.1:0"]);
    let output = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318").output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("telemetry.otlp_endpoint") && said.contains("http://HOST:PORT"), "{said}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
