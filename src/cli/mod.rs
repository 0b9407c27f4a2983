//! The command line: one file per command, each with its `clap` arguments and a `run`. Exit codes: 0 done, 1 failed, 2 wrong use.

pub mod backup;
mod baselines;
pub mod classifier;
pub mod config;
pub mod data;
pub mod evaluate;
pub mod freeze;
pub mod model;
pub mod policy;
mod progress;
pub mod serve;
pub mod train;
pub mod user;

use crate::config::{Config, ConfigError, Flags, Loaded};
use crate::store::{Store, StoreError};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use hone_domain::Engine;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Makes the engine that the settings name; `main` knows how, and nobody else does. The error says what to do.
pub type EngineFactory = fn(&Config, &Path) -> Result<Arc<dyn Engine>, String>;

/// Serves a chat model and keeps making it better from its users' rankings.
#[derive(Debug, Parser)]
#[command(name = "hone", version, propagate_version = true)]
pub struct Cli {
    /// Where hone keeps everything
    // Not `global`: `everywhere` gives it to the commands below, of which one has a `--data` of its own.
    #[arg(long, env = "HONE_DATA", default_value = "hone-data", value_name = "DIR")]
    data: PathBuf,
    /// Settings file [default: hone.toml, if there is one]
    #[arg(long, global = true, env = "HONE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and the web page
    Serve(serve::Args),
    /// Add, list and revoke people
    #[command(subcommand)]
    User(user::Command),
    /// Base models: pull, import, list
    #[command(subcommand)]
    Model(model::Command),
    /// Write a consistent copy of the database
    Backup(backup::Args),
    /// Train by hand, and list and resume runs
    #[command(subcommand)]
    Train(train::Command),
    /// Ask a policy the items of a benchmark
    Evaluate(evaluate::Args),
    /// Import, export and count feedback
    #[command(subcommand)]
    Data(data::Command),
    /// The classifier of the toxicity suite: show it, test it, train one of your own
    #[command(subcommand)]
    Classifier(classifier::Command),
    /// List, promote and roll back policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Freeze everything that happens by itself, and let it go on
    #[command(subcommand)]
    Loop(freeze::Command),
    /// Show every setting and where its value came from
    Config,
}

/// What every command gets.
#[derive(Debug)]
pub struct Context {
    /// The data folder.
    pub data: PathBuf,
    /// The settings file, where one was named.
    pub config_file: Option<PathBuf>,
    /// Whether to answer in JSON.
    pub json: bool,
}

impl Context {
    /// The settings, with this command's own flags on top.
    ///
    /// # Errors
    /// What is wrong in which layer.
    pub fn settings(&self, flags: &Flags) -> Result<Loaded, CliError> {
        Ok(crate::config::load(self.config_file.as_deref(), &std::env::vars().collect(), flags)?)
    }

    /// Opens the store in the data folder.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn store(&self) -> Result<Store, CliError> {
        Ok(Store::open(&self.data)?)
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }
}

/// Why a command didn't do it.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It was asked for something that makes no sense: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The settings are wrong: exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store says no: exit code 1.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading or writing failed: exit code 1.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Something can't be written as JSON: exit code 1.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Config(_) => ExitCode::from(2),
            Self::Failed(_) | Self::Store(_) | Self::Io(_) | Self::Json(_) => ExitCode::FAILURE,
        }
    }
}

/// The id of `--data` below the first command.
const FOLDER_BELOW: &str = "data_folder";

/// Lets `--data DIR` stand after every command, however deep, that has no `--data` of its own (`hone evaluate` has: the suite's file).
fn everywhere(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let folder = || {
        let about = "Where hone keeps everything [default: hone-data, or HONE_DATA]";
        let parser = clap::value_parser!(PathBuf);
        clap::Arg::new(FOLDER_BELOW).long("data").value_name("DIR").value_parser(parser).help(about)
    };
    let has_own = |command: &clap::Command| command.get_arguments().any(|arg| arg.get_long() == Some("data"));
    let with = |below: clap::Command| everywhere(if has_own(&below) { below } else { below.arg(folder()) });
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with))
}

/// The data folder that was named after a command; the deepest counts.
fn folder_below(matches: &clap::ArgMatches) -> Option<PathBuf> {
    let (_, below) = matches.subcommand()?;
    folder_below(below).or_else(|| below.try_get_one::<PathBuf>(FOLDER_BELOW).ok()?.cloned())
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main(engine: EngineFactory) -> ExitCode {
    let matches = everywhere(Cli::command()).get_matches();
    let Cli { data, config, json, command } = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
    let context = Context { data: folder_below(&matches).unwrap_or(data), config_file: config, json };
    let result = match command {
        Command::Serve(args) => serve::run(args, &context, engine),
        Command::User(command) => user::run(command, &context),
        Command::Model(command) => model::run(command, &context),
        Command::Backup(args) => backup::run(args, &context),
        Command::Train(command) => train::run(command, &context),
        Command::Evaluate(args) => evaluate::run(args, &context),
        Command::Data(command) => data::run(command, &context),
        Command::Classifier(command) => classifier::run(command, &context),
        Command::Policy(command) => policy::run(command, &context),
        Command::Loop(command) => freeze::run(command, &context),
        Command::Config => config::run(&context),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let text =
                if json { serde_json::json!({"error": e.to_string()}).to_string() } else { format!("hone: {e}") };
            eprintln!("{text}");
            e.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> (PathBuf, Command) {
        let matches = everywhere(Cli::command()).try_get_matches_from(args).expect("parses");
        let Cli { data, command, .. } = Cli::from_arg_matches(&matches).expect("fits");
        (folder_below(&matches).unwrap_or(data), command)
    }

    #[test]
    fn the_data_folder_may_stand_anywhere_but_after_evaluate() {
        everywhere(Cli::command()).debug_assert();
        let folder = |args: &[&str]| parsed(args).0;
        assert_eq!(folder(&["hone", "--data", "d", "config"]), Path::new("d"));
        assert_eq!(folder(&["hone", "train", "--data", "d", "list"]), Path::new("d"));
        assert_eq!(folder(&["hone", "--data", "d", "train", "list", "--data", "e"]), Path::new("e"));
        let (data, command) = parsed(&["hone", "--data", "d", "evaluate", "--suite", "truthfulqa", "--data", "f"]);
        assert_eq!(data, Path::new("d"));
        assert!(format!("{command:?}").contains("file: \"f\""), "{command:?}");
        let (data, command) =
            parsed(&["hone", "evaluate", "--data", "f", "--suite", "toxicity", "--limit", "3", "--json"]);
        assert_ne!(data, Path::new("f"));
        assert!(format!("{command:?}").contains("limit: Some(3)"), "{command:?}");
    }
}
