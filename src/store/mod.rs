//! The store: the ONLY folder with SQL. One SQLite file in WAL mode with `synchronous=FULL`: what is acknowledged is on disk.
//! One thread writes, several read; async callers wait on a channel, so no actix worker ever blocks on SQLite.
//! Each file holds the plain functions of one resource over a connection; callers compose them into one transaction:
//! `store.write(move |tx| users::create(tx, &name, role)).await`.

pub mod audit;
pub mod backup;
pub mod challenger;
mod columns;
pub mod comparisons;
pub mod completions;
pub mod conversations;
pub mod credentials;
pub mod data_room;
pub mod demonstrations;
pub mod exclusions;
pub mod frozen;
pub mod gold;
pub mod imports;
pub mod jobs;
pub mod judgements;
pub mod labeling;
pub mod lineage;
#[cfg(test)]
mod migration_tests;
pub mod pairs;
pub mod people;
pub mod personal;
pub mod policies;
pub mod rankings;
pub mod ratings;
pub mod runs;
pub mod snapshots;
pub mod stats;
pub mod texts;
pub mod training_data;
pub mod users;
mod writer;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tokio::sync::oneshot;
use writer::Work;

/// Why the store can't do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row, or it belongs to somebody else.
    #[error("{what} {id} doesn't exist")]
    NotFound {
        /// What was looked for ("comparison").
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The row is already there or already in another state.
    #[error("{0}")]
    Conflict(String),
    /// The disk is full.
    #[error("the disk that holds {0} is full: free some space and try again; nothing was half-written")]
    DiskFull(String),
    /// The database file was written by a newer hone.
    #[error("{0}")]
    Migration(String),
    /// Anything else SQLite says.
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
    /// A column that should hold JSON doesn't.
    #[error("database: a stored value can't be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The process is going down.
    #[error("the database is shutting down")]
    Closed,
}

/// A part of a list, and how long the whole is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The part.
    pub items: Vec<T>,
    /// How many there are.
    pub total: u64,
}

impl StoreError {
    /// Whether the same may work later: the disk is full, or another process holds the database.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        match self {
            Self::DiskFull(_) => true,
            Self::Sqlite(e) => matches!(e.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull("the data folder".into()),
            _ => Self::Sqlite(e),
        }
    }
}

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// Handle on the database: cheap to clone, usable from async code and from plain threads.
#[derive(Clone)]
pub struct Store {
    writer: std_mpsc::SyncSender<Work>,
    readers: Arc<[std_mpsc::SyncSender<Task>]>,
    next_reader: Arc<std::sync::atomic::AtomicUsize>,
    data_dir: Arc<Path>,
}

/// Statements that may wait for one thread. Past it the caller waits for room.
const QUEUE_MAX: usize = 1024;
const READERS: usize = 2;

impl Store {
    /// Opens (and creates or migrates) `hone.db` in the data folder.
    ///
    /// # Errors
    /// When the folder can't be written or the file is from a newer hone.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(data_dir)
            .map_err(|e| StoreError::Migration(format!("can't create {}: {e}", data_dir.display())))?;
        let path = data_dir.join("hone.db");
        let connection = migrated(data_dir, &path)?;
        let readers: Result<Vec<_>, StoreError> = (0..READERS).map(|_| Ok(spawn(connect(&path, true)?))).collect();
        Ok(Self {
            writer: writer::spawn(connection, QUEUE_MAX),
            readers: readers?.into(),
            next_reader: Arc::default(),
            data_dir: data_dir.into(),
        })
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Runs `f` in one durable transaction: committed when it answers `Ok`, rolled back otherwise.
    ///
    /// # Errors
    /// What `f` answers, or that the commit failed.
    pub async fn write<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (work, answer) = Work::write(f);
        hand_over(&self.writer, work).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `f` on a read-only connection.
    ///
    /// # Errors
    /// What `f` answers.
    pub async fn read<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (task, answer) = reading(f);
        hand_over(self.reader(), task).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// [`Store::write`] for plain threads (the command line, jobs). Never call it from async code.
    ///
    /// # Errors
    /// As `write`.
    pub fn write_blocking<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (work, answer) = Work::write(f);
        self.writer.send(work).map_err(|_| StoreError::Closed)?;
        answer.blocking_recv().map_err(|_| StoreError::Closed)?
    }

    /// [`Store::read`] for plain threads. Never call it from async code.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_blocking<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (task, answer) = reading(f);
        self.reader().send(task).map_err(|_| StoreError::Closed)?;
        answer.blocking_recv().map_err(|_| StoreError::Closed)?
    }

    /// Moves everything from the write-ahead log into the database and empties the log, where deleted text would linger. For plain
    /// threads.
    ///
    /// # Errors
    /// When the database can't, or a reader holds on to the log for half a minute.
    pub fn empty_log_blocking(&self) -> Result<(), StoreError> {
        let (task, answer) = reading(|c| {
            let busy: bool = c.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get(0))?;
            if busy { Err(StoreError::Conflict("the database's log is in use: try again".into())) } else { Ok(()) }
        });
        self.writer.send(Work::Alone(task)).map_err(|_| StoreError::Closed)?;
        answer.blocking_recv().map_err(|_| StoreError::Closed)?
    }

    fn reader(&self) -> &std_mpsc::SyncSender<Task> {
        let n = self.next_reader.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        &self.readers[n % self.readers.len()]
    }
}

type Answer<T> = oneshot::Receiver<Result<T, StoreError>>;

fn reading<T: Send + 'static>(
    f: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> (Task, Answer<T>) {
    let (send, answer) = oneshot::channel();
    let task: Task = Box::new(move |connection| {
        let _gone = send.send(f(connection));
    });
    (task, answer)
}

/// Puts a task into a bounded queue without blocking an async worker.
async fn hand_over<W: Send + 'static>(queue: &std_mpsc::SyncSender<W>, task: W) -> Result<(), StoreError> {
    match queue.try_send(task) {
        Ok(()) => Ok(()),
        Err(std_mpsc::TrySendError::Disconnected(_)) => Err(StoreError::Closed),
        Err(std_mpsc::TrySendError::Full(task)) => {
            let queue = queue.clone();
            let sent = tokio::task::spawn_blocking(move || queue.send(task).is_ok()).await;
            if sent.unwrap_or(false) { Ok(()) } else { Err(StoreError::Closed) }
        }
    }
}

fn spawn(mut connection: Connection) -> std_mpsc::SyncSender<Task> {
    let (send, tasks) = std_mpsc::sync_channel::<Task>(QUEUE_MAX);
    std::thread::spawn(move || {
        while let Ok(task) = tasks.recv() {
            task(&mut connection);
        }
    });
    send
}

fn connect(path: &Path, read_only: bool) -> Result<Connection, StoreError> {
    let flags = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::default() };
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    if !read_only {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // NORMAL may lose acknowledged commits on power loss.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Carrying the log over into the database makes one write wait a millisecond or two: one answer in 600 of those that are logged, where
        // SQLite's own 1,000 pages make it one in 144, just what 99 of 100 see. The log takes 16 MB.
        connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // What is deleted is overwritten, so that erasing a person erases them.
        connection.pragma_update(None, "secure_delete", true)?;
    }
    Ok(connection)
}

/// Opens the file and brings its schema up to date. Processes that start together (`hone serve` and `hone user add`) take turns: the
/// migration library reads the version before it locks.
fn migrated(data_dir: &Path, path: &Path) -> Result<Connection, StoreError> {
    let taking_turns = |e: std::io::Error| StoreError::Migration(format!("can't write in {}: {e}", data_dir.display()));
    let turn = std::fs::File::create(data_dir.join("migrate.lock")).map_err(taking_turns)?;
    turn.lock().map_err(taking_turns)?;
    let mut connection = connect(path, false)?;
    migrations().to_latest(&mut connection).map_err(|e| {
        let cause = match e {
            rusqlite_migration::Error::RusqliteError { err, .. } => err.to_string(),
            other => other.to_string(),
        };
        StoreError::Migration(format!("can't bring the database up to date (was it written by a newer hone?): {cause}"))
    })?;
    Ok(connection)
}

/// The schema, step by step. Append-only: what has been released stays as it is.
fn migrations() -> Migrations<'static> {
    let steps = [
        M::up(include_str!("../../migrations/0001_init.sql")),
        M::up(include_str!("../../migrations/0002_challenger.sql")),
        M::up(include_str!("../../migrations/0003_conversations.sql")),
        M::up(include_str!("../../migrations/0004_labeling.sql")),
        M::up(include_str!("../../migrations/0005_data_room.sql")),
        M::up(include_str!("../../migrations/0006_pairs.sql")),
        M::up(include_str!("../../migrations/0007_judge.sql")),
        M::up(include_str!("../../migrations/0008_trial.sql")),
        M::up(include_str!("../../migrations/0009_tools.sql")),
    ];
    Migrations::new(steps.to_vec())
}

/// Now, as stored: RFC 3339, UTC, microseconds.
#[must_use]
pub fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

/// A time, as stored. Such texts sort as the times do.
#[must_use]
pub fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A count as SQLite keeps it.
fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_together_migrate_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::thread::scope(|scope| {
            let opens: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::open(dir.path()).map(drop))).collect();
            for open in opens {
                open.join().expect("no panic").expect("opens");
            }
        });
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let insert = |c: &Connection| -> Result<(), StoreError> {
            c.execute("insert into audit(at, actor, action, object) values ('t', 'a', 'b', 'c')", [])?;
            Ok(())
        };
        let failed = store.write_blocking(move |c| {
            insert(c)?;
            Err::<(), _>(StoreError::Conflict("no".into()))
        });
        assert!(failed.is_err());
        store.write_blocking(insert).expect("commits");
        let n: i64 =
            store.read_blocking(|c| Ok(c.query_row("select count(*) from audit", [], |r| r.get(0))?)).expect("reads");
        assert_eq!(n, 1);
    }
}
