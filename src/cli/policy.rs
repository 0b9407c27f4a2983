//! `hone policy list|show|promote|rollback|export`: works on the data folder. A running server notices a change of champion within a
//! second and swaps without dropping a request.

use super::{CliError, Context};
use crate::jobs::JobError;
use crate::jobs::champions::refuse_ungated;
use crate::store::policies::{self, Policy};
use crate::store::{Store, audit};
use clap::Subcommand;
use hone_domain::ids::PolicyId;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all policies, the newest first
    List,
    /// Show one policy with its gate report
    Show {
        /// Its id
        id: String,
    },
    /// Make a policy the champion
    Promote {
        /// Its id
        id: String,
    },
    /// Go back to the champion before this one
    Rollback,
    /// Write a policy as a folder that other software reads: a PEFT adapter, or merged weights
    Export {
        /// Its id
        id: String,
        /// Where to; must not exist yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The whole model with the adapter merged into it
        #[arg(long)]
        merged: bool,
    },
}

/// Runs it.
///
/// # Errors
/// When there is no such policy, or the gate has rejected it.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    match command {
        Command::List => list(&store, context.json),
        Command::Show { id } => {
            let policy = get(&store, id)?;
            println!("{}", serde_json::to_string_pretty(&policy)?);
            Ok(())
        }
        Command::Promote { id } => {
            refuse_ungated(&get(&store, id.clone())?)?;
            change(&store, context.json, "policy.promote", move |tx| {
                policies::promote(tx, &PolicyId::from_raw(id), ACTOR)
            })
        }
        Command::Rollback => change(&store, context.json, "policy.rollback", |tx| policies::roll_back(tx, ACTOR)),
        Command::Export { id, out, merged } => export(&store, &get(&store, id)?, &out, merged, context.json),
    }
}

const ACTOR: &str = "command line";

fn get(store: &Store, id: String) -> Result<Policy, CliError> {
    Ok(store.read_blocking(move |c| policies::get(c, &PolicyId::from_raw(id)))?)
}

fn change<F>(store: &Store, as_json: bool, action: &'static str, f: F) -> Result<(), CliError>
where
    F: FnOnce(&rusqlite::Connection) -> Result<Policy, crate::store::StoreError> + Send + 'static,
{
    let policy = store.write_blocking(move |tx| {
        let policy = f(tx)?;
        audit::note(tx, ACTOR, action, policy.id.as_str(), &json!({}))?;
        Ok(policy)
    })?;
    let text = format!("{} is the champion; a running server takes it over within a second", policy.id);
    println!("{}", if as_json { serde_json::to_string(&policy)? } else { text });
    Ok(())
}

fn list(store: &Store, as_json: bool) -> Result<(), CliError> {
    let all = store.read_blocking(policies::list)?;
    if as_json {
        let champion = all.iter().find(|p| p.state == policies::PolicyState::Champion).map(|p| &p.id);
        println!("{}", json!({"champion": champion, "challenger": null, "policies": all}));
        return Ok(());
    }
    for policy in all {
        let parent = policy.parent_id.map(|id| format!("from {id}")).unwrap_or_default();
        println!("{:<38} {:<10} {}  {parent}", policy.id.as_str(), policy.state.as_str(), policy.created_at);
    }
    Ok(())
}

fn export(store: &Store, policy: &Policy, out: &Path, merged: bool, as_json: bool) -> Result<(), CliError> {
    if out.exists() {
        return Err(CliError::Usage(format!("{} exists already: name a folder that doesn't", out.display())));
    }
    let base = store.data_dir().join("models").join(&policy.base_name);
    let adapter = policy.adapter_dir.as_ref().map(|dir| store.data_dir().join(dir));
    let adapter = adapter.ok_or_else(|| {
        CliError::Usage(format!("{} is the base model itself: its files are in {}", policy.id, base.display()))
    })?;
    if merged {
        hone_learn::merge::write_merged(&base, &adapter, out).map_err(JobError::from)?;
    } else {
        let names = ["adapter_config.json", "adapter_model.safetensors"];
        let copy = |dir: &Path| {
            for name in names {
                std::fs::copy(adapter.join(name), dir.join(name))
                    .map_err(hone_learn::LearnError::io(dir.join(name)))?;
            }
            Ok(())
        };
        hone_learn::files::write_folder_atomic(out, copy).map_err(JobError::from)?;
    }
    let text = format!("wrote {} to {}", policy.id, out.display());
    println!("{}", if as_json { json!({"policy": policy.id, "folder": out}).to_string() } else { text });
    Ok(())
}
