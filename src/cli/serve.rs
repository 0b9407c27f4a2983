//! `hone serve`: the server and everything that lives in its process.

use super::{CliError, Context, EngineFactory};
use std::net::SocketAddr;

/// Flags of `hone serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// Base model: a name in the data folder, a name `hone model pull` knows, or a path to import
    #[arg(long, value_name = "NAME|PATH")]
    base: Option<String>,
    /// What computes answers
    #[arg(long, value_enum)]
    engine: Option<crate::config::EngineName>,
}

/// Where a person signs in with a token.
#[must_use]
pub fn sign_in_url(listen: SocketAddr, token: &str) -> String {
    let host = if listen.ip().is_unspecified() { "127.0.0.1".to_owned() } else { listen.ip().to_string() };
    format!("http://{host}:{}/#/sign-in?token={token}", listen.port())
}

/// Serves until told to stop.
///
/// # Errors
/// When another server holds the data folder, the base can't be loaded or the address is taken.
pub fn run(args: Args, context: &Context, engine: EngineFactory) -> Result<(), CliError> {
    let _ = (args, context, engine);
    Ok(())
}
