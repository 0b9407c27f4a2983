//! `hone policy list|show|promote|rollback|challenge|unchallenge|export|import`: works on the data folder. A running server notices a change of champion within a
//! second and swaps without dropping a request.

use super::train::base_name;
use super::{CliError, Context};
use crate::jobs::JobError;
use crate::jobs::champions::{refuse_challenge, refuse_ungated};
use crate::store::challenger::{self, Challenge, Traffic};
use crate::store::policies::{self, NewPolicy, Policy};
use crate::store::{Store, audit};
use clap::Subcommand;
use hone_domain::ids::PolicyId;
use hone_learn::{Adapter, ModelConfig};
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
    /// Give a policy a share of the champion's traffic, or change its share
    Challenge {
        /// Its id
        id: String,
        /// Share of conversations that it answers instead of the champion, 0 to 1
        #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
        canary: f64,
        /// Share of the champion's answers to which it writes its own, shown to nobody, 0 to 1
        #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
        shadow: f64,
        /// Leave it out of comparisons, which draw half of their candidates from it otherwise
        #[arg(long)]
        not_in_comparisons: bool,
        /// Let people's comparisons decide: it is promoted, rejected or kept as a candidate by itself, within the bounds of [canary]
        #[arg(long, conflicts_with = "not_in_comparisons")]
        trial: bool,
    },
    /// End the challenge: all traffic is the champion's
    Unchallenge,
    /// Write a policy as a folder that other software reads: a PEFT adapter, or merged weights
    Export {
        /// Its id
        id: String,
        /// Where to; must not exist yet
        #[arg(value_name = "DIR", required_unless_present = "out")]
        dir: Option<PathBuf>,
        /// The same as DIR
        #[arg(long, value_name = "DIR", conflicts_with = "dir")]
        out: Option<PathBuf>,
        /// The whole model with the adapter merged into it
        #[arg(long)]
        merged: bool,
    },
    /// Take in a PEFT adapter that other software made, as a candidate
    Import {
        /// Its folder: adapter_config.json and adapter_model.safetensors
        dir: PathBuf,
        /// The base model that it was trained on: a name in the data folder [default: the champion's]
        #[arg(long)]
        base: Option<String>,
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
        Command::Challenge { id, canary, shadow, not_in_comparisons, trial } => {
            let in_comparisons = !not_in_comparisons;
            let traffic =
                Traffic { canary_share: canary, shadow_share: shadow, in_comparisons, ..Traffic::default() }.checked();
            let traffic = traffic.map_err(|e| CliError::Usage(e.to_string()))?;
            let bounds =
                || context.settings(&Vec::new())?.config.canary.trial().map_err(|e| CliError::Usage(e.to_string()));
            let trial = trial.then(bounds).transpose()?.map(|(_, bounds)| bounds);
            challenge(&store, context.json, Challenge { policy_id: PolicyId::from_raw(id), traffic, trial })
        }
        Command::Unchallenge => unchallenge(&store, context.json),
        Command::Export { id, dir, out, merged } => {
            let out = dir.or(out).unwrap_or_default(); // clap has seen to it that there is one
            export(&store, &get(&store, id)?, &out, merged, context.json)
        }
        Command::Import { dir, base } => import(&store, &dir, base, context.json),
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

fn challenge(store: &Store, as_json: bool, challenge: Challenge) -> Result<(), CliError> {
    let id = challenge.policy_id.clone();
    let policy = store.read_blocking(move |c| policies::promotable(c, &challenge.policy_id).map(|p| (p, challenge)));
    let (policy, challenge) = policy?;
    refuse_challenge(&policy)?;
    let said = json!({"policy": id, "traffic": challenge.traffic, "trial": challenge.trial});
    store.write_blocking(move |tx| {
        challenger::set(tx, &challenge, ACTOR)?;
        let shares = json!({"traffic": challenge.traffic, "trial": challenge.trial});
        audit::note(tx, ACTOR, "policy.challenge", challenge.policy_id.as_str(), &shares)
    })?;
    let text = format!("{id} is the challenger; a running server gives it its share within a second");
    println!("{}", if as_json { said.to_string() } else { text });
    Ok(())
}

fn unchallenge(store: &Store, as_json: bool) -> Result<(), CliError> {
    let ended = store.write_blocking(|tx| {
        audit::note(tx, ACTOR, "policy.end_challenge", "challenger", &json!({}))?;
        challenger::end(tx)
    })?;
    let text = if ended { "the challenge has ended" } else { "there was no challenger" };
    println!("{}", if as_json { json!({"ended": ended}).to_string() } else { text.to_owned() });
    Ok(())
}

fn list(store: &Store, as_json: bool) -> Result<(), CliError> {
    let (all, challenge) = store.read_blocking(|c| Ok((policies::list(c)?, challenger::get(c)?)))?;
    let challenger = challenge.map(|challenge| challenge.policy_id);
    if as_json {
        let champion = all.iter().find(|p| p.state == policies::PolicyState::Champion).map(|p| &p.id);
        println!("{}", json!({"champion": champion, "challenger": challenger, "policies": all}));
        return Ok(());
    }
    for policy in all {
        let parent = policy.parent_id.map(|id| format!("from {id}")).unwrap_or_default();
        let state = if challenger.as_ref() == Some(&policy.id) { "challenger" } else { policy.state.as_str() };
        println!("{:<38} {state:<10} {}  {parent}", policy.id.as_str(), policy.created_at);
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
        // Read and written again, so that a damaged one isn't passed on, with the base's folder in it, where `peft` looks for it.
        let config = ModelConfig::open(&base).map_err(JobError::from)?;
        let adapter = Adapter::load(&adapter, &config).map_err(JobError::from)?;
        let base = std::path::absolute(&base)?;
        adapter.save(out, &base.display().to_string()).map_err(JobError::from)?;
    }
    let text = format!("wrote {} to {}", policy.id, out.display());
    println!("{}", if as_json { json!({"policy": policy.id, "folder": out}).to_string() } else { text });
    Ok(())
}

/// Checks the adapter against its base, keeps a copy of it, and makes its row.
fn import(store: &Store, dir: &Path, base: Option<String>, as_json: bool) -> Result<(), CliError> {
    if !dir.join("adapter_model.safetensors").exists() {
        return Err(CliError::Usage(format!(
            "{} has no adapter_model.safetensors: name the folder that PEFT's save_pretrained wrote, in the safetensors format",
            dir.display()
        )));
    }
    let base_name = base_name(store, base)?;
    let config = ModelConfig::open(&store.data_dir().join("models").join(&base_name)).map_err(JobError::from)?;
    let adapter = Adapter::load(dir, &config).map_err(JobError::from)?;
    if adapter.score_weight().is_some() {
        return Err(CliError::Usage(format!(
            "{} is a reward model (it has a scalar head), not a policy: use it with `hone train ppo --reward`",
            dir.display()
        )));
    }
    let id = PolicyId::new();
    let adapter_dir = format!("policies/{id}/adapter");
    adapter.save(&store.data_dir().join(&adapter_dir), &base_name).map_err(JobError::from)?;
    let lora = &adapter.config;
    let new = NewPolicy {
        id: id.clone(),
        base_name,
        adapter_dir,
        parent_id: None,
        run_id: None,
        snapshot_sha256: None,
        config: json!({
            "imported_from": std::path::absolute(dir)?,
            "settings": {"lora_r": lora.r, "lora_alpha": lora.alpha, "lora_targets": lora.targets},
        }),
        metrics: json!({}),
    };
    let policy = store.write_blocking(move |tx| {
        policies::create(tx, &new)?;
        audit::note(tx, ACTOR, "policy.import", new.id.as_str(), &new.config)?;
        policies::get(tx, &new.id)
    })?;
    let text = format!("{id} is a candidate on {}: train from it with --init {id}", policy.base_name);
    println!("{}", if as_json { serde_json::to_string(&policy)? } else { text });
    Ok(())
}
