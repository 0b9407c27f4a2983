//! A consistent copy of the database, while others read and write it.

use super::StoreError;
use rusqlite::Connection;
use std::path::Path;

/// Writes the copy, which must not exist yet. It is on disk when this returns, and never half-written under its name.
///
/// # Errors
/// `Conflict` when `target` is there already or can't be written.
pub fn write(c: &Connection, target: &Path) -> Result<(), StoreError> {
    let refuse = |why: &dyn std::fmt::Display| StoreError::Conflict(format!("can't write {}: {why}", target.display()));
    if target.exists() {
        return Err(refuse(&"it is there already"));
    }
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".hone-backup").tempdir_in(folder).map_err(|e| refuse(&e))?;
    let copy = temporary.path().join("hone.db");
    c.execute("vacuum into ?1", [copy.to_string_lossy()])?;
    let sync = |path: &Path| std::fs::File::open(path).and_then(|file| file.sync_all());
    sync(&copy).and_then(|()| std::fs::rename(&copy, target)).and_then(|()| sync(folder)).map_err(|e| refuse(&e))
}

#[cfg(test)]
mod tests {
    use crate::store::users::{self, Role};
    use crate::store::{Store, StoreError};

    #[test]
    fn the_copy_opens_and_holds_everything() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (data, target) = (dir.path().join("data"), dir.path().join("copy/hone.db"));
        std::fs::create_dir(dir.path().join("copy")).expect("folder");
        let store = Store::open(&data).expect("opens");
        store.write_blocking(|tx| users::create(tx, "ann", Role::User)).expect("adds");
        let path = target.clone();
        store.read_blocking(move |c| super::write(c, &path)).expect("copies");
        let copy = Store::open(&dir.path().join("copy")).expect("opens the copy");
        assert_eq!(copy.read_blocking(users::list).expect("reads").len(), 1);
        let again = store.read_blocking(move |c| super::write(c, &target));
        assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    }
}
