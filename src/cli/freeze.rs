//! `hone loop freeze|thaw|show`: the switch that stops everything that happens by itself. A running server obeys within a second.

use super::{CliError, Context};
use crate::store::frozen::{self, Frozen};
use crate::store::{Store, audit};
use clap::Subcommand;
use serde_json::json;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// No job begins, training waits at its checkpoint, nothing is promoted or decided by itself
    Freeze {
        /// Why, for those who wonder later
        reason: String,
    },
    /// Go on where it stood
    Thaw,
    /// Whether it is frozen, and why
    Show,
}

const ACTOR: &str = "command line";

/// Runs it.
///
/// # Errors
/// When the database can't.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    let said = match command {
        Command::Freeze { reason } => {
            let write = move |tx: &rusqlite::Connection| {
                if frozen::set(tx, &reason, ACTOR)? {
                    audit::note(tx, ACTOR, "loop.freeze", "loop", &json!({"reason": reason}))?;
                }
                Ok(())
            };
            store.write_blocking(write)?;
            "frozen: what is served stays, and nothing happens by itself until `hone loop thaw`".to_owned()
        }
        Command::Thaw => {
            let was = store.write_blocking(|tx| {
                let was = frozen::end(tx)?;
                if was {
                    audit::note(tx, ACTOR, "loop.thaw", "loop", &json!({}))?;
                }
                Ok(was)
            })?;
            if was { "the loop goes on" } else { "it wasn't frozen" }.to_owned()
        }
        Command::Show => in_words(state(&store)?.as_ref()),
    };
    println!("{}", if context.json { json!({"frozen": state(&store)?}).to_string() } else { said });
    Ok(())
}

fn state(store: &Store) -> Result<Option<Frozen>, CliError> {
    Ok(store.read_blocking(frozen::get)?)
}

fn in_words(frozen: Option<&Frozen>) -> String {
    match frozen {
        Some(Frozen { reason, actor, at }) => format!("frozen since {at} by {actor}: {reason}"),
        None => "the loop isn't frozen".to_owned(),
    }
}
