//! What the process tells about itself while it runs: lines for people on stderr, or JSON for machines (`HONE_LOG` sets what is shown: "info",
//! "hone=debug"), and spans for a tracing collector, where `telemetry.otlp_endpoint` names one. May use: the tracing and OpenTelemetry crates.
//!
//! A request is one trace: `POST /v1/chat/completions` holds `queue`, an `answer` per answer (until its last token, which may be after the
//! response began) and `keep`. No span holds a word of what people write.

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// What is shown unless `HONE_LOG` says otherwise: the libraries speak up only when something is wrong.
const SHOWN: &str = "info,actix_server=warn,mistralrs_core=warn,mistralrs_quant=warn";
/// The target of spans for the collector. The log never shows them; without a collector they cost nothing.
pub const TRACE: &str = "hone::trace";

/// The `[telemetry]` part of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// An OpenTelemetry collector that takes OTLP over HTTP ("http://127.0.0.1:4318"); none: no traces. `OTEL_EXPORTER_OTLP_ENDPOINT` sets it too.
    pub otlp_endpoint: Option<String>,
}

/// Sends what is left when it is dropped.
#[derive(Debug)]
#[must_use = "spans that wait to be sent are lost with it"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(e)) = self.0.take().map(|provider| provider.shutdown()) {
            tracing::warn!(error = %e, "the last traces couldn't be sent");
        }
    }
}

/// Starts logging, and tracing where there is a collector, for the process. For plain threads; a second call does nothing.
///
/// # Errors
/// When the collector's address is none. That nothing listens there is no error: spans are dropped until something does.
pub fn start(json: bool, config: &TelemetryConfig) -> Result<Telemetry, String> {
    let filter = EnvFilter::try_from_env("HONE_LOG").unwrap_or_else(|_| EnvFilter::new(SHOWN));
    let off = format!("{TRACE}=off").parse().map_err(|e| format!("{e}"))?;
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = if json { lines.json().boxed() } else { lines.with_target(false).boxed() };
    let provider = config.otlp_endpoint.as_deref().map(provider).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("hone"))
            .with_location(false)
            .with_threads(false);
        layer.with_filter(Targets::new().with_target(TRACE, LevelFilter::INFO))
    });
    let started =
        tracing_subscriber::registry().with(lines.with_filter(filter.add_directive(off))).with(spans).try_init();
    // Already started by the embedding program: its choice stands.
    drop(started);
    Ok(Telemetry(provider))
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider, String> {
    let wrong = |reason: &dyn std::fmt::Display| format!("setting `telemetry.otlp_endpoint`: {endpoint}: {reason}");
    if !endpoint.starts_with("http://") {
        return Err(wrong(
            &"name a collector by http://HOST:PORT, its port for OTLP over HTTP (4318 as a rule); for TLS put a collector on this machine",
        ));
    }
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(url).build().map_err(|e| wrong(&e))?;
    let resource = Resource::builder().with_service_name("hone");
    let resource = resource.with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
}

/// The span of a request, in the caller's trace where the header `traceparent` names one (W3C Trace Context).
#[must_use]
pub fn request_span(method: &str, route: &str, traceparent: Option<&str>) -> Span {
    let span = tracing::info_span!(
        target: TRACE, "request", otel.name = format!("{method} {route}"), otel.kind = "server", http.request.method = method, http.route = route,
        http.response.status_code = tracing::field::Empty, gen_ai.response.model = tracing::field::Empty,
    );
    if let (false, Some(header)) = (span.is_disabled(), traceparent) {
        let context = TraceContextPropagator::new().extract(&Traceparent(header));
        // Only a span without the layer has no place for a parent.
        drop(span.set_parent(context));
    }
    span
}

struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}
