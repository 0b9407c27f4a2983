//! Base models on this machine: pulled by name from a manifest's sources, imported from a path, listed.
//! May use: the network and files. Reading and converting models is `learn`'s.
//!
//! ```text
//! <data>/models/<name>/     imported models, whole or not there
//! <data>/downloads/<name>/  what is being downloaded; kept when a download breaks, so that it goes on from there
//! ```

mod download;
mod manifest;
mod pull;
mod show;

pub use download::DownloadError;
pub use manifest::{Manifest, ManifestError};
pub use pull::pull;

use hone_learn::import::{Imported, Source};
use hone_learn::{LearnError, ModelConfig};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Why a base model can't be had. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A name that can't be a folder's.
    #[error("\"{0}\" can't be a model's name: use letters, digits, `-`, `_` and `.`")]
    BadName(String),
    /// Neither imported nor known.
    #[error(
        "no model \"{name}\" here, and `hone model pull` knows only: {known}; for your own: hone model import PATH"
    )]
    Unknown {
        /// As asked for.
        name: String,
        /// The manifests' names.
        known: String,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Every source failed.
    #[error(
        "none of the sources of {name} answers:{reasons}\n\
         Download it elsewhere (a Hugging Face folder or a GGUF file), then: hone model import PATH --name {name}"
    )]
    NoSource {
        /// The model.
        name: String,
        /// One line per source.
        reasons: String,
    },
    /// The disk is too full.
    #[error("{} needs {needed_mb} MB free, but there are {free_mb} MB: free some, or choose another place with --data", path.display())]
    DiskFull {
        /// Where it was to be written.
        path: PathBuf,
        /// Megabytes needed.
        needed_mb: u64,
        /// Megabytes free.
        free_mb: u64,
    },
    /// A path was named whose model would get the name of another one.
    #[error(
        "a base model {name} is here already, and came from {came_from}: give this one a name with `hone model import {} --name NAME`, and \
         serve that name", path.display()
    )]
    Taken {
        /// The name.
        name: String,
        /// Where the one of this name came from.
        came_from: String,
        /// What was named.
        path: PathBuf,
    },
    /// The model can't be imported.
    #[error(transparent)]
    Import(#[from] LearnError),
    /// The system refuses.
    #[error("can't use {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl ModelsError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Where the model of this name is, or would be.
///
/// # Errors
/// When the name can't be a folder's.
pub fn folder(data: &Path, name: &str) -> Result<PathBuf, ModelsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(ModelsError::BadName(name.to_owned()));
    }
    Ok(data.join("models").join(name))
}

/// The manifest of a model that can be pulled.
///
/// # Errors
/// When there is none of this name.
pub fn known(name: &str) -> Result<Manifest, ModelsError> {
    let unknown = || ModelsError::Unknown { name: name.to_owned(), known: manifest::names().join(", ") };
    manifest::builtin(name)?.ok_or_else(unknown)
}

/// The folder of the base model that somebody named: one that is imported, one that a manifest knows (pulled now), or a
/// path to a model (imported now, under its file's name).
///
/// # Errors
/// When it is none of these, or can't be pulled or imported.
pub fn ensure(data: &Path, name_or_path: &str) -> Result<PathBuf, ModelsError> {
    if let Ok(dir) = folder(data, name_or_path)
        && dir.is_dir()
    {
        return Ok(dir);
    }
    let path = Path::new(name_or_path);
    if !path.exists() {
        return pull(data, &known(name_or_path)?);
    }
    let name = name_of(path);
    let target = folder(data, &name)?;
    if !target.is_dir() {
        import(path, &target)?;
    }
    let came_from = std::fs::read_to_string(target.join(SOURCE)).unwrap_or_default();
    if !came_from.is_empty() && came_from != source_text(path) {
        return Err(ModelsError::Taken { name, came_from, path: path.to_owned() });
    }
    Ok(target)
}

/// The file in an imported model's folder that says where it came from.
const SOURCE: &str = "hone-source.txt";

fn source_text(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The name that a model at this path gets when none is given: its folder's or file's, in small letters.
#[must_use]
pub fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let name = if is_gguf { path.file_stem() } else { path.file_name() };
    let small = name.unwrap_or_default().to_string_lossy().to_lowercase();
    small.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

/// Imports the model at `path` into the folder `target`, with a progress bar on stderr.
///
/// # Errors
/// When it isn't a usable model, the disk hasn't the room, or `target` is taken.
pub fn import(path: &Path, target: &Path) -> Result<Imported, ModelsError> {
    let source = Source::open(path)?;
    let parent = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(ModelsError::io(parent))?;
    check_space(parent, source.bytes())?;
    let bar = show::bytes_bar("importing", source.bytes());
    let imported = source.write(target, &mut |done, _| bar.set_position(done))?;
    bar.finish_and_clear();
    let note = target.join(SOURCE);
    std::fs::write(&note, source_text(path)).map_err(ModelsError::io(&note))?;
    Ok(imported)
}

/// Room that stays free for logs and the database, in bytes.
const SPARE_BYTES: u64 = 64 << 20;

fn check_space(dir: &Path, bytes: u64) -> Result<(), ModelsError> {
    let free = fs4::available_space(dir).map_err(ModelsError::io(dir))?;
    let needed = bytes + SPARE_BYTES;
    if free >= needed {
        return Ok(());
    }
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    Err(ModelsError::DiskFull { path: dir.to_owned(), needed_mb: megabytes(needed), free_mb: megabytes(free) })
}

/// A model that is here or can be.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its folder, if it is imported.
    pub path: Option<PathBuf>,
    /// As config.json names its kind, if it is imported.
    pub model_type: Option<String>,
    /// Longest sequence in tokens, if it is imported.
    pub context_tokens: Option<usize>,
    /// What a manifest says of it.
    pub about: Option<String>,
}

/// The imported models, then those that can be pulled.
///
/// # Errors
/// When the folder can't be read.
pub fn list(data: &Path) -> Result<Vec<Listed>, ModelsError> {
    let dir = data.join("models");
    let mut names: Vec<String> = match std::fs::read_dir(&dir) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(ModelsError::io(&dir)(e)),
    };
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let about = |name: &str| Ok::<_, ModelsError>(manifest::builtin(name)?.map(|m| m.about));
    let mut all = Vec::new();
    for name in names {
        let path = dir.join(&name);
        let config = ModelConfig::open(&path).ok();
        let (model_type, context_tokens) = (config.as_ref().map(|c| c.model_type.clone()), config.map(|c| c.context));
        all.push(Listed { about: about(&name)?, name, path: Some(path), model_type, context_tokens });
    }
    for name in manifest::names() {
        if !all.iter().any(|model| model.name == name) {
            all.push(Listed { about: about(&name)?, name, path: None, model_type: None, context_tokens: None });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
