//! The composition root of a server: data folder, store, base model, engine, jobs and HTTP, in the order in which they need each
//! other. `hone serve` and the tests start the same server here.

use crate::chat::Chat;
use crate::config::Config;
use crate::http::limits::RateLimit;
use crate::http::metrics::{self, RequestMeters};
use crate::http::{App, error::ApiError, presence, routes};
use crate::jobs::champions::{self, Champions};
use crate::jobs::triggers::Triggers;
use crate::jobs::{Background, JobError, Jobs, Scheduler, scheduler};
use crate::labeling::{Labeling, LabelingError};
use crate::models::{self, ModelsError};
use crate::serving::Serving;
use crate::store::credentials::{self, Kind};
use crate::store::users::{self, Role};
use crate::store::{Store, StoreError, audit, policies};
use actix_web::middleware::from_fn;
use actix_web::{HttpServer, web};
use hone_domain::{Engine, EngineError, PolicyFiles};
use serde_json::json;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Held by the server of a data folder; says where it listens.
const LOCK: &str = "hone.lock";

/// Why the server can't start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another server is at work there.
    #[error("another hone is serving {0}: stop it first, or give this one its own folder with --data")]
    Locked(PathBuf),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {reason}; choose another one with --listen HOST:PORT")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: std::io::Error,
    },
    /// It isn't clear which base model to serve.
    #[error("{0}")]
    NoBase(&'static str),
    /// The base model can't be had.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// A file can't be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The champion's files aren't there.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The champion can't be loaded.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The labeling queue isn't set up right.
    #[error(transparent)]
    Labeling(#[from] LabelingError),
}

/// A server before it serves: everything that blocks has been done. Holds the data folder's lock.
pub struct Prepared {
    config: Config,
    engine: Arc<dyn Engine>,
    store: Store,
    champion: PolicyFiles,
    options: scheduler::Options,
    listener: TcpListener,
    address: SocketAddr,
    sign_in_token: String,
    lock: File,
}

/// Takes the data folder, opens what is in it, and listens. For plain threads, not for async code.
///
/// # Errors
/// What is missing, and what to do.
pub fn prepare(data: &Path, config: Config, engine: Arc<dyn Engine>) -> Result<Prepared, StartError> {
    let mut lock = lock(data)?;
    let store = Store::open(data)?;
    let base = base_name(&store, config.base.as_deref(), engine.as_ref())?;
    let champion = champions::starting_files(&store, &base, engine.as_ref())?;
    let triggers = Triggers::new(&config.retrain)?;
    config.labeling.clone().checked()?;
    let options = scheduler::Options::new(triggers, config.gate.clone(), config.canary.clone(), &config.evaluate)?;
    let sign_in_token = store.write_blocking(sign_in_token)?;
    let address = config.listen;
    let listen = |reason| StartError::Listen { address, reason };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let note = |file: &mut File| file.set_len(0).and_then(|()| write!(file, "{address}"));
    note(&mut lock).map_err(|reason| StartError::File { path: data.join(LOCK), reason })?;
    Ok(Prepared { config, engine, store, champion, options, listener, address, sign_in_token, lock })
}

/// Where the server of this data folder listens, while there is one.
#[must_use]
pub fn serving_at(data: &Path) -> Option<SocketAddr> {
    let mut file = File::open(data.join(LOCK)).ok()?;
    let Err(TryLockError::WouldBlock) = file.try_lock_shared() else { return None };
    let mut address = String::new();
    file.read_to_string(&mut address).ok()?;
    address.parse().ok()
}

/// One server per data folder: the lock is the operating system's, so it goes with the process however that ends.
fn lock(data: &Path) -> Result<File, StartError> {
    let path = data.join(LOCK);
    let file = std::fs::create_dir_all(data)
        .and_then(|()| File::options().create(true).append(true).open(&path))
        .map_err(|reason| StartError::File { path: path.clone(), reason })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked(data.to_owned())),
        Err(TryLockError::Error(reason)) => Err(StartError::File { path, reason }),
    }
}

/// A fresh sign-in token for the first admin, who is made if there is none.
fn sign_in_token(tx: &rusqlite::Connection) -> Result<String, StoreError> {
    let admin = match users::first_admin(tx)? {
        Some(admin) => admin,
        None => {
            let admin = users::create(tx, "admin", Role::Admin)?;
            audit::note(tx, "first start", "user.add", admin.id.as_str(), &json!({"role": Role::Admin}))?;
            admin
        }
    };
    credentials::issue(tx, &admin.id, Kind::SignIn)
}

impl Prepared {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin signs in, once.
    #[must_use]
    pub fn sign_in_url(&self) -> String {
        sign_in_url(self.address, &self.sign_in_token)
    }

    /// Loads the champion, then serves until `stop` is ready; open answers may go on for `limits.drain_seconds` after that.
    /// `ready` is called when requests are answered.
    ///
    /// # Errors
    /// When the champion can't be loaded.
    pub async fn serve(self, ready: impl FnOnce(), stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { config, engine, store, champion, options, listener, address, sign_in_token: _, lock } = self;
        let serving = Serving::start(engine, &champion, &config.serving).await?;
        let champions = Arc::new(Champions::new(store.clone(), Arc::clone(&serving)));
        champions.start().await?;
        let jobs = Jobs::new(store.clone(), options.triggers.clone());
        let scheduler = Scheduler::new(store.clone(), Arc::clone(&champions), options);
        let background = Background::start(scheduler, jobs.wake());
        let (stopping, stopped) = watch::channel(false);
        let drain_seconds = config.limits.drain_seconds;
        let chat = Chat::new(store.clone(), Arc::clone(&serving));
        let app = web::Data::new(App {
            labeling: Labeling::new(store.clone(), chat.clone(), &config.labeling)?,
            chat,
            rate_limit: RateLimit::new(config.limits.requests_per_minute_max),
            requests: RequestMeters::default(),
            stopping: stopped,
            config,
            store,
            serving,
            champions,
            jobs,
        });
        let query = || web::QueryConfig::default().error_handler(|e, _| ApiError::value("query", e.to_string()).into());
        let factory = move || {
            let watched = actix_web::App::new().wrap(from_fn(metrics::watch));
            watched.app_data(app.clone()).app_data(query()).configure(routes::table)
        };
        let server = HttpServer::new(factory)
            .on_connect(presence::on_connect)
            .disable_signals()
            .shutdown_timeout(drain_seconds)
            .listen(listener)
            .map_err(|reason| StartError::Listen { address, reason })?
            .run();
        let handle = server.handle();
        let serving = actix_web::rt::spawn(server);
        ready();
        stop.await;
        tracing::info!("stopping: open answers may go on for {drain_seconds} s");
        stopping.send_replace(true);
        tokio::join!(handle.stop(true), background.shut_down());
        if let Ok(Err(e)) = serving.await {
            tracing::error!(error = %e, "the HTTP server broke");
        }
        drop(lock);
        Ok(())
    }
}

/// Where a person signs in with a token.
#[must_use]
pub fn sign_in_url(listen: SocketAddr, token: &str) -> String {
    let port = listen.port();
    match listen {
        _ if listen.ip().is_unspecified() => format!("http://127.0.0.1:{port}/#/sign-in?token={token}"),
        _ => format!("http://{listen}/#/sign-in?token={token}"),
    }
}

/// Which base to serve: the one that was named (imported now if need be), else the champion's, else the only one there is.
fn base_name(store: &Store, named: Option<&str>, engine: &dyn Engine) -> Result<String, StartError> {
    if engine.name() == "echo" {
        return Ok(named.unwrap_or("echo").to_owned());
    }
    if let Some(named) = named {
        let folder = models::ensure(store.data_dir(), named)?;
        return Ok(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    if let Some(champion) = store.read_blocking(policies::champion)? {
        return Ok(champion.base_name);
    }
    let there = models::list(store.data_dir())?.into_iter().filter(|model| model.path.is_some());
    let mut names = there.map(|model| model.name);
    match (names.next(), names.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(StartError::NoBase(
            "there is no base model yet: `hone model pull smollm2-135m-instruct` gets a small one, or name one with --base",
        )),
        (Some(_), Some(_)) => Err(StartError::NoBase(
            "there are several base models: choose one with --base; `hone model list` shows them",
        )),
    }
}
