//! Writing what matters: temp name, fsync, rename. A half-written file or folder is never visible under its final name.

use crate::LearnError;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a file atomically and durably.
///
/// # Errors
/// When the folder is missing, not writable, or the disk is full; the old file is then still whole.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), LearnError> {
    let temp = sibling(path, "tmp");
    let write = || {
        let mut file = File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)?;
        sync_parent(path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temp); // best effort: the first error is the one to tell
        LearnError::io(path)(e)
    })
}

/// Fills a folder beside its final place with `fill`, fsyncs all files in it, and puts it there by rename. An older folder of
/// that name is replaced.
///
/// # Errors
/// Those of `fill`, and those of the file system; the old folder is then still whole.
pub fn write_folder_atomic(dir: &Path, fill: impl FnOnce(&Path) -> Result<(), LearnError>) -> Result<(), LearnError> {
    let (temp, old) = (sibling(dir, "tmp"), sibling(dir, "old"));
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(LearnError::io(parent))?;
    }
    let _ = fs::remove_dir_all(&temp); // left by a killed process
    fs::create_dir_all(&temp).map_err(LearnError::io(&temp))?;
    let put = || {
        sync_folder(&temp)?;
        if dir.exists() {
            let _ = fs::remove_dir_all(&old);
            fs::rename(dir, &old)?;
        }
        fs::rename(&temp, dir)?;
        sync_parent(dir)?;
        let _ = fs::remove_dir_all(&old); // not needed any more; a leftover does no harm
        Ok(())
    };
    let result = fill(&temp).and_then(|()| put().map_err(LearnError::io(dir)));
    if result.is_err() {
        let _ = fs::remove_dir_all(&temp);
    }
    result
}

/// `.name.suffix` in the same folder, so that a rename stays within one file system.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn sync_folder(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folder(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fill_leaves_the_old_folder_whole() {
        let home = tempfile::tempdir().expect("temp dir");
        let dir = home.path().join("adapter");
        write_folder_atomic(&dir, |d| write_atomic(&d.join("a"), b"1")).expect("first");
        let fail = |d: &Path| {
            write_atomic(&d.join("a"), b"2")?;
            Err(LearnError::Stopped)
        };
        write_folder_atomic(&dir, fail).expect_err("must fail");
        assert_eq!(fs::read(dir.join("a")).expect("old"), b"1");
        write_folder_atomic(&dir, |d| write_atomic(&d.join("b"), b"3")).expect("replaces");
        assert!(!dir.join("a").exists() && dir.join("b").exists());
        assert_eq!(fs::read_dir(home.path()).expect("list").count(), 1, "nothing is left beside it");
    }
}
