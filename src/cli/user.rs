//! `hone user add|list|revoke|link`: works on the data folder, whether the server runs or not.

use super::{CliError, Context};
use crate::startup;
use crate::store::StoreError;
use crate::store::audit;
use crate::store::credentials::{self, Kind};
use crate::store::users::{self, Role};
use clap::Subcommand;
use serde_json::json;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a person and print their API key (it is shown this once)
    Add {
        /// A unique name
        name: String,
        /// What they may do
        #[arg(long, value_enum, default_value = "user")]
        role: Role,
    },
    /// List everybody
    List,
    /// Shut a person out: their keys and sessions stop working at once, their feedback stays
    Revoke {
        /// Name or id
        name: String,
    },
    /// Print a fresh sign-in link for a person; it works once, for a day
    Link {
        /// Name
        name: String,
    },
}

/// Runs it.
///
/// # Errors
/// When the name is taken or unknown, or the database fails.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    match command {
        Command::Add { name, role } => {
            let (user, key) = store.write_blocking(move |tx| {
                let user = users::create(tx, &name, role)?;
                let key = credentials::issue(tx, &user.id, Kind::ApiKey)?;
                audit::note(tx, "command line", "user.add", user.id.as_str(), &json!({"role": role}))?;
                Ok((user, key))
            })?;
            if context.json {
                println!("{}", json!({"id": user.id, "name": user.name, "role": user.role, "key": key}));
            } else {
                println!(
                    "{} ({}) may sign in with this key, which is shown only now:\n{key}",
                    user.name,
                    role.as_str()
                );
            }
        }
        Command::List => {
            let everybody = store.read_blocking(users::list)?;
            if context.json {
                println!("{}", serde_json::to_string(&everybody)?);
            } else {
                for u in everybody {
                    let state = u.revoked_at.map_or_else(|| "active".to_owned(), |at| format!("revoked {at}"));
                    println!("{:<24} {:<10} {:<38} {state}", u.name, u.role.as_str(), u.id.as_str());
                }
            }
        }
        Command::Revoke { name } => {
            let user = store.write_blocking(move |tx| {
                let user = users::revoke(tx, &name)?;
                audit::note(tx, "command line", "user.revoke", user.id.as_str(), &json!({}))?;
                Ok(user)
            })?;
            let text = format!("{} is shut out", user.name);
            println!("{}", if context.json { serde_json::to_string(&user)? } else { text });
        }
        Command::Link { name } => link(&name, context)?,
    }
    Ok(())
}

fn link(name: &str, context: &Context) -> Result<(), CliError> {
    // It may have been started with another address than the settings say.
    let listen = match startup::serving_at(&context.data) {
        Some(running) => running,
        None => context.settings(&Vec::new())?.config.listen,
    };
    let name = name.to_owned();
    let token = context.store()?.write_blocking(move |tx| {
        let user = users::by_name(tx, &name)?.filter(|u| u.revoked_at.is_none());
        let user = user.ok_or(StoreError::NotFound { what: "user", id: name })?;
        credentials::issue(tx, &user.id, Kind::SignIn)
    })?;
    let url = startup::sign_in_url(listen, &token);
    println!("{}", if context.json { json!({"url": url}).to_string() } else { url });
    Ok(())
}
