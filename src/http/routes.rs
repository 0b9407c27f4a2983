//! All routes, in one table.

use super::error::{ApiError, Code};
use super::{
    audit_log, auth, chat, comparisons, conversations, data, diff, feedback, freeze, health, jobs, labeling, lineage,
    me, metrics, models, openapi, pairs, people, policies, runs, session, stats, ui,
};
use actix_web::http::header::ALLOW;
use actix_web::middleware::{Compress, from_fn};
use actix_web::web::{self, ServiceConfig, delete, get, post, put};
use actix_web::{HttpResponse, Resource, ResponseError};

/// Puts the table into an actix app.
pub fn table(app: &mut ServiceConfig) {
    app.service(at("/healthz", "GET").route(get().to(health::healthz)))
        .service(at("/readyz", "GET").route(get().to(health::readyz)))
        .service(at("/openapi.json", "GET").route(get().to(openapi::get)))
        .service(
            at("/v1/session", "GET, POST, DELETE")
                .route(post().to(session::sign_in))
                .route(get().to(session::current).wrap(from_fn(auth::require_caller)))
                .route(delete().to(session::sign_out).wrap(from_fn(auth::require_caller))),
        )
        .service(
            web::scope("/v1")
                .wrap(from_fn(auth::require_caller))
                .configure(signed_in)
                .default_service(web::to(not_found)),
        )
        .service(at("/metrics", "GET").route(get().to(metrics::metrics)))
        .default_service(web::route().to(ui::serve).wrap(Compress::default()));
}

/// What only people who are signed in reach.
fn signed_in(v1: &mut ServiceConfig) {
    v1.configure(data_room).configure(people_and_keys).configure(labeling_queue);
    v1.service(at("/me", "GET").route(get().to(me::get)))
        .service(at("/me/data", "GET, DELETE").route(get().to(me::export)).route(delete().to(me::erase)))
        .service(at("/chat/completions", "POST").route(post().to(chat::complete)))
        .service(at("/models", "GET").route(get().to(models::list)))
        .service(at("/models/{id}", "GET").route(get().to(models::get)))
        .service(
            at("/comparisons", "GET, POST").route(get().to(comparisons::list)).route(post().to(comparisons::create)),
        )
        .service(at("/comparisons/pair", "POST").route(post().to(pairs::pair)))
        .service(at("/comparisons/{id}", "GET").route(get().to(comparisons::get)))
        .service(
            at("/comparisons/{id}/ranking", "POST, DELETE")
                .route(post().to(comparisons::rank))
                .route(delete().to(comparisons::unrank)),
        )
        .service(at("/conversations", "GET").route(get().to(conversations::list)))
        .service(
            at("/conversations/{id}", "GET, PUT, DELETE")
                .route(get().to(conversations::get))
                .route(put().to(conversations::put))
                .route(delete().to(conversations::delete)),
        )
        .service(at("/conversations/{id}/title", "PUT").route(put().to(conversations::rename)))
        .service(at("/conversations/{id}/export", "GET").route(get().to(conversations::export)))
        .service(at("/completions/{id}/rating", "POST").route(post().to(feedback::rate)))
        .service(at("/demonstrations", "POST").route(post().to(feedback::demonstrate)))
        .service(at("/jobs", "GET, POST").route(get().to(jobs::list)).route(post().to(jobs::create)))
        .service(at("/jobs/{id}", "GET").route(get().to(jobs::get)))
        .service(at("/jobs/{id}/events", "GET").route(get().to(jobs::events)))
        .service(at("/jobs/{id}/cancel", "POST").route(post().to(jobs::cancel)))
        .service(at("/jobs/{id}/log", "GET").route(get().to(jobs::log)))
        .service(at("/loop", "GET").route(get().to(jobs::outlook)))
        .service(at("/runs/{id}/report", "GET").route(get().to(runs::report)))
        .service(
            at("/loop/freeze", "GET, PUT, DELETE")
                .route(get().to(freeze::get))
                .route(put().to(freeze::freeze))
                .route(delete().to(freeze::thaw)),
        )
        .service(at("/policies", "GET").route(get().to(policies::list)))
        .service(at("/policies/rollback", "POST").route(post().to(policies::roll_back)))
        .service(
            at("/policies/challenger", "PUT, DELETE")
                .route(put().to(policies::challenge))
                .route(delete().to(policies::end_challenge)),
        )
        .service(at("/policies/diff", "POST").route(post().to(diff::diff)))
        .service(at("/policies/{id}/shadows", "GET").route(get().to(policies::shadows)))
        .service(at("/policies/{id}/report", "GET").route(get().to(runs::decision)))
        .service(at("/policies/{id}/preferences", "GET").route(get().to(runs::preferences)))
        .service(at("/policies/{id}/promote", "POST").route(post().to(policies::promote)))
        .service(at("/policies/{id}", "GET").route(get().to(policies::get)))
        .service(at("/lineage/{id}", "GET").route(get().to(lineage::get)))
        .service(at("/stats", "GET").route(get().to(stats::get)));
}

/// The labeling queue.
fn labeling_queue(v1: &mut ServiceConfig) {
    v1.service(at("/labeling/next", "GET").route(get().to(labeling::next)))
        .service(at("/labeling/undo", "POST").route(post().to(labeling::undo)))
        .service(at("/labeling/prompts", "POST").route(post().to(labeling::add_prompt)))
        .service(at("/labeling/progress", "GET").route(get().to(labeling::progress)))
        .service(
            at("/labeling/guidelines", "GET, PUT")
                .route(get().to(labeling::guidelines))
                .route(put().to(labeling::write_guidelines)),
        )
        .service(at("/labeling/gold", "GET").route(get().to(labeling::gold)))
        .service(
            at("/labeling/gold/{comparison}", "PUT, DELETE")
                .route(put().to(labeling::set_gold))
                .route(delete().to(labeling::unset_gold)),
        )
        .service(at("/labeling/{task}/ranking", "POST").route(post().to(labeling::rank)))
        .service(at("/labeling/{task}/ideal", "POST").route(post().to(labeling::demonstrate)))
        .service(at("/labeling/{task}/skip", "POST").route(post().to(labeling::skip)));
}

/// What operators look through, leave out, and carry in and out.
fn data_room(v1: &mut ServiceConfig) {
    v1.service(at("/prompts", "GET").route(get().to(data::list)))
        .service(at("/prompts/{id}", "GET").route(get().to(data::get)))
        .service(at("/exclusions", "POST").route(post().to(data::exclude)))
        .service(at("/exclusions/restore", "POST").route(post().to(data::restore)))
        .service(at("/data/import", "POST").route(post().to(data::import)))
        .service(at("/data/export", "GET").route(get().to(data::export)));
}

/// What admins manage, and the audit log.
fn people_and_keys(v1: &mut ServiceConfig) {
    v1.service(at("/users", "GET, POST").route(get().to(people::list)).route(post().to(people::add)))
        .service(at("/users/{id}/role", "PUT").route(put().to(people::set_role)))
        .service(at("/users/{id}/revoke", "POST").route(post().to(people::revoke)))
        .service(at("/users/{id}/restore", "POST").route(post().to(people::restore)))
        .service(at("/users/{id}/link", "POST").route(post().to(people::link)))
        .service(at("/users/{id}/keys", "GET, POST").route(get().to(people::keys)).route(post().to(people::make_key)))
        .service(at("/users/{id}/keys/{key}", "DELETE").route(delete().to(people::revoke_key)))
        .service(at("/audit", "GET").route(get().to(audit_log::list)));
}

/// A path that tells which methods it takes to those who use another.
fn at(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        let error = ApiError::new(Code::MethodNotAllowed, format!("this path takes {methods}"));
        let mut response = error.error_response();
        response.headers_mut().insert(ALLOW, actix_web::http::header::HeaderValue::from_static(methods));
        response
    }))
}

async fn not_found() -> HttpResponse {
    ApiError::new(Code::NotFound, "there is no such path; GET /openapi.json lists all of them").error_response()
}
