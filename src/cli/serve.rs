//! `hone serve`: the server and everything that lives in its process.

use super::{CliError, Context, EngineFactory};
use crate::config::{EngineName, resolve};
use crate::startup;
use clap::ValueEnum;
use serde_json::json;
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};

/// Flags of `hone serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT", value_parser = resolve)]
    listen: Option<SocketAddr>,
    /// Base model: one that is here, one that `hone model list` knows (pulled now), or a path to import
    #[arg(long, value_name = "NAME|PATH")]
    base: Option<String>,
    /// What computes answers [default: auto]
    #[arg(long, value_enum)]
    engine: Option<EngineName>,
    /// How the native engine keeps the base in memory [default: as published, bf16 or f32]
    #[arg(long, value_name = "FORMAT", value_parser = ["f32", "bf16", "q8_0"])]
    base_format: Option<String>,
}

/// Serves until told to stop.
///
/// # Errors
/// When another server holds the data folder, the base can't be loaded or the address is taken.
pub fn run(args: Args, context: &Context, engine: EngineFactory) -> Result<(), CliError> {
    let Args { listen, base, engine: engine_name, base_format } = args;
    let engine_name = engine_name.and_then(|name| name.to_possible_value()).map(|name| name.get_name().to_owned());
    let listen = listen.map(|l| l.to_string());
    let flags = [("listen", listen), ("base", base), ("engine", engine_name), ("base_format", base_format)];
    let config = context.settings(&flags.into_iter().filter_map(|(key, text)| Some((key, text?))).collect())?.config;
    let _sends_the_last = crate::telemetry::start(context.json, &config.telemetry).map_err(CliError::Usage)?;
    let engine = engine(&config, context.data()).map_err(CliError::Usage)?;
    let failed = |e: startup::StartError| CliError::Failed(e.to_string());
    let prepared = startup::prepare(context.data(), config, engine).map_err(failed)?;
    let (address, url) = (prepared.address(), prepared.sign_in_url());
    let json = context.json;
    let ready = move || match json {
        true => println!("{}", json!({"listen": address, "sign_in_url": url})),
        false => println!("hone is ready. Sign in (this link works once): {url}"),
    };
    actix_web::rt::System::new().block_on(prepared.serve(ready, stop_signal())).map_err(failed)
}

/// SIGTERM and SIGINT both stop the server gently; a second one ends it at once.
async fn stop_signal() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("this system has no signals: stop the server by ending its process");
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::warn!("told to stop twice: open answers are cut off");
        std::process::exit(1);
    });
}
