//! The HTTP surface: one table of routes, one file per resource, one table of errors. Wire types and status codes live here and
//! nowhere else. May use: chat, jobs, serving, store. Never touches `learn`.

pub mod audit_log;
pub mod auth;
pub mod body;
pub mod chat;
pub mod comparisons;
pub mod conversations;
pub mod data;
pub mod diff;
pub mod error;
pub mod feedback;
pub mod freeze;
pub mod health;
pub mod jobs;
pub mod labeling;
pub mod limits;
pub mod lineage;
pub mod me;
pub mod messages;
pub mod metrics;
pub mod models;
pub mod openapi;
pub mod pairs;
pub mod people;
pub mod policies;
pub mod presence;
pub mod routes;
pub mod runs;
pub mod session;
pub mod sse;
pub mod stats;
pub mod ui;

use crate::chat::Chat;
use crate::config::Config;
use crate::jobs::{Champions, Jobs};
use crate::labeling::Labeling;
use crate::serving::Serving;
use crate::store::{Store, audit};
use auth::Caller;
use limits::RateLimit;
use metrics::RequestMeters;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::watch;

/// What every request may use.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// Answers people.
    pub chat: Chat,
    /// The labeling queue.
    pub labeling: Labeling,
    /// The live policy.
    pub serving: Arc<Serving>,
    /// Changes who the live policy is.
    pub champions: Arc<Champions>,
    /// Asks for jobs and looks at them.
    pub jobs: Jobs,
    /// What is counted of requests.
    pub requests: RequestMeters,
    /// Requests per person.
    pub rate_limit: RateLimit,
    /// True from the moment on that the server was told to stop: streams without an end of their own end then.
    pub stopping: watch::Receiver<bool>,
}

impl App {
    /// Notes in the audit log what somebody did. It has happened, so failing here is no answer for them.
    async fn audit(&self, Caller(user): Caller, action: &'static str, about: &str, detail: Value) {
        let about = about.to_owned();
        let written = self.store.write(move |tx| audit::note(tx, &user.name, action, &about, &detail)).await;
        if let Err(e) = written {
            tracing::error!(error = %e, action, "can't write the audit log");
        }
    }
}
