//! A real server on a free port with its own data folder, and a client for each role.

use hone::config::Config;
use hone::jobs::snapshot;
use hone::serving::echo::EchoEngine;
use hone::startup;
use hone::store::credentials::{self, Kind};
use hone::store::policies::{self, NewPolicy};
use hone::store::users::{self, Role};
use hone::store::{Store, StoreError};
use hone_domain::ids::PolicyId;
use hone_domain::{DataSet, Engine};
use hone_learn::tiny::{self, TinySpec};
use reqwest::{Client, Method, RequestBuilder, Response};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A running server. Dropping it stops it.
pub(crate) struct TestApp {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// The admin's sign-in URL.
    pub(crate) sign_in_url: String,
    /// The data folder.
    pub(crate) data: TempDir,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
}

/// What a test may change.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) engine: Arc<dyn Engine>,
    /// A base model to be made in the data folder.
    pub(crate) base: Option<TinySpec>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        config.listen.set_port(0);
        config.limits.drain_seconds = 5;
        Self { config, engine: Arc::new(EchoEngine::default()), base: None }
    }
}

impl TestApp {
    /// With the echo engine.
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(Setup { config, engine, base }: Setup) -> Self {
        let data = TempDir::new().expect("temp dir");
        if let Some(base) = base {
            tiny::write(&data.path().join("models/tiny"), &base).expect("writes the base");
        }
        let path = data.path().to_owned();
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let prepared = startup::prepare(&path, config, engine).expect("prepares");
            let addresses = (format!("http://{}", prepared.address()), prepared.sign_in_url());
            let ready = move || drop(ready.send(addresses));
            let stop = async { drop(stopped.await) };
            actix_web::rt::System::new().block_on(prepared.serve(ready, stop)).expect("serves");
        });
        let (url, sign_in_url) = started.await.expect("the server starts");
        Self { url, sign_in_url, data, client: Client::new(), stop: Some(stop) }
    }

    /// Adds a person, as the command line does, and answers with their key.
    pub(crate) fn person(&self, name: &str, role: Role) -> String {
        let name = name.to_owned();
        self.write(move |tx| {
            let user = users::create(tx, &name, role)?;
            credentials::issue(tx, &user.id, Kind::ApiKey)
        })
    }

    /// Adds a policy that has passed the gate; `adapter_dir` lies in the data folder.
    pub(crate) fn policy(&self, id: &str, base_name: &str, adapter_dir: &str) {
        let id = PolicyId::from_raw(id);
        let new = NewPolicy {
            id: id.clone(),
            base_name: base_name.into(),
            adapter_dir: adapter_dir.into(),
            parent_id: None,
            run_id: None,
            snapshot_sha256: None,
            config: json!({}),
            metrics: json!({}),
        };
        self.write(move |tx| {
            policies::create(tx, &new)?;
            policies::keep_gate_report(tx, &id, &json!({"rules": []}), true)
        });
    }

    /// Writes into the database as another process does.
    pub(crate) fn write<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let path = self.data.path().to_owned();
        let write = move || Store::open(&path).expect("opens").write_blocking(f);
        std::thread::spawn(write).join().expect("joins").expect("writes")
    }

    /// What a snapshot taken now holds.
    pub(crate) fn snapshot(&self) -> DataSet {
        let path = self.data.path().to_owned();
        let take = move || snapshot::take(&Store::open(&path).expect("opens"), None).expect("takes").data;
        std::thread::spawn(take).join().expect("joins")
    }

    pub(crate) fn request(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(key)
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path, key).json(&body).send().await.expect("an answer")).await
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        Answer::of(self.request(Method::GET, path, key).send().await.expect("an answer")).await
    }
}

impl TestApp {
    /// Tells the server to stop, as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ended_already = stop.send(());
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// OpenAI's error: (status, code, param).
    pub(crate) fn error(&self) -> (u16, &str, Option<&str>) {
        let error = &self.body["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "OpenAI's error body: {self:?}");
        (self.status, error["code"].as_str().unwrap_or_default(), error["param"].as_str())
    }
}

/// The `data:` lines of an event stream.
pub(crate) fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.headers["content-type"], "text/event-stream", "{answer:?}");
    let text = answer.body.as_str().expect("a stream");
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|data| serde_json::from_str(data).unwrap_or(Value::String(data.to_owned()))).collect()
}
