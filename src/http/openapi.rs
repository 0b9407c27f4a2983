//! `GET /openapi.json`: the machine-readable contract, made from the handlers and their types. The web's types are generated from
//! its snapshot, `web/openapi.json`, which a test compares.

use super::{chat, comparisons, feedback, health, jobs, me, models, policies, runs, session, stats};
use actix_web::HttpResponse;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, SecurityRequirement};

#[derive(OpenApi)]
#[openapi(
    info(title = "hone", description = "Serves a chat model and keeps making it better from its users' rankings."),
    paths(
        chat::complete,
        models::list,
        models::get,
        comparisons::create,
        comparisons::list,
        comparisons::get,
        comparisons::rank,
        feedback::rate,
        feedback::demonstrate,
        session::sign_in,
        session::current,
        session::sign_out,
        me::get,
        me::export,
        me::erase,
        jobs::create,
        jobs::list,
        jobs::get,
        jobs::events,
        jobs::cancel,
        runs::report,
        policies::list,
        policies::get,
        policies::promote,
        policies::roll_back,
        policies::challenge,
        policies::end_challenge,
        policies::shadows,
        stats::get,
        health::healthz,
        super::metrics::metrics,
        health::readyz,
    ),
    components(schemas(comparisons::ComparisonEvent))
)]
struct Contract;

/// The document.
#[must_use]
pub fn document() -> Document {
    let mut document = Contract::openapi();
    let components = document.components.get_or_insert_default();
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("hone_...").build();
    components.add_security_scheme("api_key", SecurityScheme::Http(key));
    let cookie = ApiKey::Cookie(ApiKeyValue::new(super::auth::COOKIE));
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    let either = ["api_key", "session"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
    document.security = Some(either.to_vec());
    document
}

/// Serves the document.
pub async fn get() -> HttpResponse {
    HttpResponse::Ok().json(document())
}
