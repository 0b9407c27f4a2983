//! `hone model pull|import|list`: base models in the data folder.

use super::{CliError, Context};
use crate::models::{self, ModelsError};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Download a model that hone knows and import it; does nothing if it is there
    Pull {
        /// Its name, see `hone model list`
        name: String,
    },
    /// Import a Hugging Face folder or a GGUF file (Llama, Mistral, Qwen2, SmolLM)
    Import {
        /// The folder or file
        path: PathBuf,
        /// Its name here [default: the folder's or file's]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the models that are here, and those that can be pulled
    List,
}

/// Runs it.
///
/// # Errors
/// When the model can't be had or imported; the message says why and what to do.
pub fn run(command: Command, context: &Context) -> Result<(), CliError> {
    match command {
        Command::Pull { name } => {
            let manifest = models::known(&name)?;
            let path = models::pull(context.data(), &manifest)?;
            tell(context, &name, &path, None);
        }
        Command::Import { path, name } => {
            let name = name.unwrap_or_else(|| models::name_of(&path));
            let target = models::folder(context.data(), &name)?;
            let imported = models::import(&path, &target)?;
            tell(context, &name, &target, Some(&imported));
        }
        Command::List => list(context)?,
    }
    Ok(())
}

fn tell(context: &Context, name: &str, path: &Path, imported: Option<&hone_learn::import::Imported>) {
    if context.json {
        println!("{}", json!({"name": name, "path": path, "imported": imported}));
        return;
    }
    println!("{name} is in {}", path.display());
    if imported.is_some_and(|i| i.plain_template) {
        println!(
            "It brought no chat template and got hone's plain one (User: / Assistant:), in tokenizer_config.json."
        );
    }
    println!("Serve it with: hone serve --base {name}");
}

fn list(context: &Context) -> Result<(), CliError> {
    let all = models::list(context.data())?;
    if context.json {
        println!("{}", serde_json::to_string(&all)?);
        return Ok(());
    }
    for model in all {
        let state = match (&model.path, &model.model_type) {
            (Some(_), Some(kind)) => format!("here ({kind}, {} tokens)", model.context_tokens.unwrap_or(0)),
            (Some(path), None) => format!("unusable, see {}", path.display()),
            (None, _) => "can be pulled".to_owned(),
        };
        println!("{:<28} {state:<28} {}", model.name, model.about.unwrap_or_default());
    }
    Ok(())
}

impl From<ModelsError> for CliError {
    fn from(error: ModelsError) -> Self {
        match error {
            ModelsError::BadName(_) | ModelsError::Unknown { .. } => Self::Usage(error.to_string()),
            ModelsError::Manifest(_)
            | ModelsError::NoSource { .. }
            | ModelsError::DiskFull { .. }
            | ModelsError::Import(_)
            | ModelsError::Taken { .. }
            | ModelsError::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}
