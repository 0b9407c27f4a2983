//! `hone data import|export|stats`: feedback as files, in and out, whether the server runs or not.

use super::{CliError, Context};
use crate::interchange::export::{self, ExportError, Format, What};
use crate::interchange::import::{self, ImportError};
use crate::jobs::snapshot::{self, Counts};
use clap::Subcommand;
use serde_json::json;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read rankings, pairs and demonstrations from JSONL files: all lines or none
    Import {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Pass over broken lines and report them, instead of importing nothing
        #[arg(long)]
        skip_bad: bool,
    },
    /// Write rankings and demonstrations as JSONL
    Export {
        /// The shape of the lines
        #[arg(long, value_enum, default_value = "hone")]
        format: Format,
        /// What to write
        #[arg(long, value_enum, default_value = "all")]
        what: What,
        /// Where to [default: the standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show how much there is to learn from
    Stats,
}

/// Runs it.
///
/// # Errors
/// When a file can't be read or written, or a line is broken.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    match command {
        Command::Import { files, skip_bad } => import(&files, skip_bad, context),
        Command::Export { format, what, out } => export(format, what, out.as_deref(), context),
        Command::Stats => stats(context),
    }
}

fn import(files: &[PathBuf], skip_bad: bool, context: &Context) -> Result<(), CliError> {
    let report = import::import(&context.store()?, files, skip_bad)?;
    if context.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    for bad in &report.skipped {
        eprintln!("passed over {bad}");
    }
    println!(
        "imported {} rankings and {} demonstrations; {} were there already, {} were passed over",
        report.rankings,
        report.demonstrations,
        report.duplicates,
        report.skipped.len()
    );
    Ok(())
}

fn export(format: Format, what: What, out: Option<&Path>, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    let Some(path) = out else {
        export::export(&store, format, what, &mut BufWriter::new(std::io::stdout().lock()))?;
        return Ok(());
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(folder)?);
    let lines = export::export(&store, format, what, &mut file)?;
    file.flush()?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    let text = format!("wrote {lines} lines to {}", path.display());
    println!("{}", if context.json { json!({"lines": lines, "file": path}).to_string() } else { text });
    Ok(())
}

fn stats(context: &Context) -> Result<(), CliError> {
    let old_per_new = context.settings(&Vec::new())?.config.retrain.old_rankings_per_new;
    let counts = snapshot::preview(&context.store()?, old_per_new)?;
    if context.json {
        println!("{}", serde_json::to_string(&counts)?);
        return Ok(());
    }
    let Counts { split_by, users, over_the_cap, on_both_sides, of_neither, all_tied, too_old, .. } = &counts;
    println!("                   to learn from   held out");
    println!("rankings         {:>15} {:>10}", counts.rankings, counts.held_out_rankings);
    println!("demonstrations   {:>15} {:>10}", counts.demonstrations, counts.held_out_demonstrations);
    println!("prompts          {:>15} {:>10}", counts.prompts, counts.held_out_prompts);
    println!("judge            {:>15}            by {}", counts.judge_rankings, counts.judge_by.in_words());
    let split = match split_by {
        snapshot::SplitBy::User => "people",
        snapshot::SplitBy::Prompt => "prompts (too few people, or too little from those held out)",
    };
    println!("from {users} people; split by {split}");
    println!(
        "left out: {over_the_cap} over a person's cap, {on_both_sides} held-out ones whose prompt is trained on, {of_neither} of the \
         judge's labelers about the reward model's people, {all_tied} all tied, {too_old} too old"
    );
    Ok(())
}

impl From<ImportError> for CliError {
    fn from(e: ImportError) -> Self {
        match e {
            ImportError::Store(e) => Self::Store(e),
            e => Self::Failed(e.to_string()),
        }
    }
}

impl From<ExportError> for CliError {
    fn from(e: ExportError) -> Self {
        match e {
            ExportError::Store(e) => Self::Store(e),
            ExportError::Io(e) => Self::Io(e),
        }
    }
}
