//! `GET /metrics` for Prometheus, and one line in the log for each request. Open to everybody who reaches the server, as `/healthz` is: it
//! tells counts, times and the ids of policies, and nothing of what anybody said.

use super::App;
use super::chat::POLICY_HEADER;
use crate::telemetry;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::time::Instant;
use tracing::Instrument;

/// A route, not a path, and a method that there is: whatever a client makes up would be a new series each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

/// A policy that is loaded, and whether it is the champion, the one before it or the challenger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Loaded {
    model_name: String,
    role: &'static str,
}

/// What is counted of requests.
#[derive(Debug, Default)]
pub struct RequestMeters {
    requests: Family<Request, Counter>,
}

/// All figures, in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, content_type = "application/openmetrics-text")))]
pub async fn metrics(app: web::Data<App>) -> HttpResponse {
    let mut registry = Registry::with_prefix("hone");
    let gauge = |value: usize| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    let admission = app.serving.admission();
    registry.register("num_requests_running", "Answers that are being computed", gauge(admission.running()));
    registry.register("num_requests_waiting", "Answers that wait for their turn", gauge(admission.waiting()));
    let loaded = Family::<Loaded, Gauge>::default();
    let challenger = app.serving.challenger().map(|challenger| challenger.policy.clone());
    let policies =
        [(Some(app.serving.live()), "champion"), (app.serving.previous(), "previous"), (challenger, "challenger")];
    for (policy, role) in policies {
        let of = |policy: crate::serving::SharedPolicy| Loaded { model_name: policy.id().to_string(), role };
        policy.into_iter().for_each(|policy| {
            loaded.get_or_create(&of(policy)).set(1);
        });
    }
    registry.register("policy_loaded", "Policies in memory", loaded);
    registry.register("http_requests", "Requests by route and status", app.requests.requests.clone());
    app.serving.meters().register(&mut registry);
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
            .body(body),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// Counts each request and logs it when its response begins. What machines ask all the time, and the page's files, only show with
/// `HONE_LOG=debug`.
///
/// # Errors
/// Those of the request.
pub async fn watch(
    app: web::Data<App>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let (begun, method, path) = (Instant::now(), request.method().to_string(), request.path().to_owned());
    let route = request.match_pattern().unwrap_or_else(|| "page".to_owned());
    let traceparent = request.headers().get("traceparent").and_then(|h| h.to_str().ok());
    let span = telemetry::request_span(&method, &route, traceparent);
    let response = next.call(request).instrument(span.clone()).await?;
    let status = response.status().as_u16();
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    let policy = response.headers().get(POLICY_HEADER).and_then(|h| h.to_str().ok());
    span.record("http.response.status_code", status).record("gen_ai.response.model", policy);
    if route.starts_with("/v1/") {
        tracing::info!(target: "hone::access", method, path, status, ms, policy);
    } else {
        tracing::debug!(target: "hone::access", method, path, status, ms, policy);
    }
    app.requests.requests.get_or_create(&Request { method: known(&method), route, status }).inc();
    Ok(response)
}

fn known(method: &str) -> &'static str {
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"].into_iter().find(|&m| m == method).unwrap_or("other")
}
