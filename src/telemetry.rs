//! Logging: lines for people on stderr, or JSON for machines. `HONE_LOG` sets what is shown ("info", "hone=debug").

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// What is shown unless `HONE_LOG` says otherwise: the libraries speak up only when something is wrong.
const SHOWN: &str = "info,actix_server=warn,mistralrs_core=warn,mistralrs_quant=warn";

/// Starts logging for the process. A second call does nothing.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_env("HONE_LOG").unwrap_or_else(|_| EnvFilter::new(SHOWN));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    let started = if json { lines.json().try_init() } else { lines.with_target(false).try_init() };
    // Already started by the embedding program: its choice stands.
    drop(started);
}
