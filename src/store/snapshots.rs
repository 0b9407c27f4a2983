//! The frozen data sets that training runs saw. The file is named by its hash and never changes.

use super::columns::json;
use super::{StoreError, now};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

/// A frozen data set.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Snapshot {
    /// Hash of the file, and its name.
    pub sha256: String,
    /// Where the file is, relative to the data folder.
    pub path: String,
    /// How many of what is in it, and how it was split.
    #[schema(value_type = Object)]
    pub counts: Value,
    /// When it was first made.
    pub created_at: String,
}

/// Records a snapshot; the same data again is the same snapshot.
///
/// # Errors
/// When the database can't.
pub fn record(c: &Connection, sha256: &str, path: &str, counts: &Value) -> Result<(), StoreError> {
    c.execute(
        "insert into snapshots(sha256, path, counts_json, created_at) values (?1, ?2, ?3, ?4) on conflict do nothing",
        params![sha256, path, counts.to_string(), now()],
    )?;
    Ok(())
}

/// One snapshot.
///
/// # Errors
/// When there is none of this hash.
pub fn get(c: &Connection, sha256: &str) -> Result<Snapshot, StoreError> {
    let found = c.query_row("select * from snapshots where sha256 = ?1", [sha256], from_row).optional()?;
    found.ok_or_else(|| StoreError::NotFound { what: "snapshot", id: sha256.into() })
}

/// The newest snapshots first.
///
/// # Errors
/// When the database can't.
pub fn list(c: &Connection, limit: usize) -> Result<Vec<Snapshot>, StoreError> {
    let mut rows = c.prepare_cached("select * from snapshots order by created_at desc limit ?1")?;
    let rows = rows.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot {
        sha256: row.get("sha256")?,
        path: row.get("path")?,
        counts: json(row, "counts_json")?,
        created_at: row.get("created_at")?,
    })
}
