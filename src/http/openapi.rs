//! `GET /openapi.json`: the machine-readable contract, made from the handlers and their types. The web's types are generated from
//! its snapshot, `web/openapi.json`, which a test compares.

use super::{
    audit_log, chat, comparisons, conversations, data, diff, feedback, freeze, health, jobs, labeling, lineage, me,
    models, pairs, people, policies, runs, session, stats,
};
use actix_web::HttpResponse;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, PathItem, Ref, ResponseBuilder, SecurityRequirement};

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
        comparisons::unrank,
        pairs::pair,
        conversations::list,
        conversations::get,
        conversations::put,
        conversations::rename,
        conversations::delete,
        conversations::export,
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
        jobs::log,
        jobs::outlook,
        runs::report,
        runs::decision,
        runs::preferences,
        freeze::get,
        freeze::freeze,
        freeze::thaw,
        policies::list,
        policies::get,
        policies::promote,
        policies::roll_back,
        policies::challenge,
        policies::end_challenge,
        policies::shadows,
        diff::diff,
        stats::get,
        people::list,
        people::add,
        people::set_role,
        people::revoke,
        people::restore,
        people::keys,
        people::make_key,
        people::revoke_key,
        people::link,
        audit_log::list,
        data::list,
        data::get,
        data::exclude,
        data::restore,
        data::import,
        data::export,
        lineage::get,
        labeling::next,
        labeling::rank,
        labeling::demonstrate,
        labeling::skip,
        labeling::undo,
        labeling::add_prompt,
        labeling::progress,
        labeling::guidelines,
        labeling::write_guidelines,
        labeling::gold,
        labeling::set_gold,
        labeling::unset_gold,
        health::healthz,
        super::metrics::metrics,
        health::readyz,
    ),
    components(schemas(
        comparisons::ComparisonEvent,
        conversations::ExportFormat,
        crate::store::labeling::Kind,
        crate::store::data_room::Source,
        crate::interchange::export::Format,
        crate::interchange::export::What,
    ))
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
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            if OPEN.contains(&(method, path.as_str())) {
                operation.security = Some(Vec::new());
            }
            if path.starts_with("/v1/") {
                tell_common_errors(operation);
            }
        }
    }
    document
}

/// What needs no key.
const OPEN: [(&str, &str); 4] = [("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"), ("post", "/v1/session")];

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [("get", &mut item.get), ("post", &mut item.post), ("put", &mut item.put), ("delete", &mut item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// What every path under `/v1` may answer, whatever it does.
fn tell_common_errors(operation: &mut Operation) {
    let takes_something = operation.request_body.is_some() || operation.parameters.is_some();
    let errors = [
        ("400", takes_something, "A parameter or the body is wrong."),
        ("401", true, "Nobody is signed in."),
        ("413", operation.request_body.is_some(), "The body is larger than `limits.body_bytes_max`."),
        ("429", true, "More requests than one person may make; `Retry-After` says when to come back."),
    ];
    for (status, _, about) in errors.into_iter().filter(|(_, may, _)| *may) {
        let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
        let response = ResponseBuilder::new().description(about).content("application/json", body).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(response.into());
    }
}

/// Serves the document.
pub async fn get() -> HttpResponse {
    HttpResponse::Ok().json(document())
}
