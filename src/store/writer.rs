//! The thread that writes: what waits for it is committed together, so that one sync to disk serves many requests (group commit).
//! An answer goes out after the commit, never before.

use super::StoreError;
use rusqlite::{Connection, ffi};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Writes that are committed together at most: bounds how long the first of them waits.
const TOGETHER_MAX: usize = 256;
const SAVEPOINT: &str = "one";

/// The rest of a write once the commit is decided: sends its answer.
type Told = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// A write, inside of a transaction that others may share.
type Write = Box<dyn FnOnce(&Connection) -> Told + Send>;
/// Work outside of any transaction.
type Alone = Box<dyn FnOnce(&mut Connection) + Send>;

/// Work for the thread.
pub(super) enum Work {
    /// Part of a transaction.
    Write(Write),
    /// Outside of any transaction.
    Alone(Alone),
}

impl Work {
    /// A write, and where its result comes once it is on disk. What `f` has written is undone when it fails; others' writes stay.
    pub(super) fn write<T: Send + 'static>(
        f: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (send, answer) = oneshot::channel();
        let write = move |connection: &Connection| -> Told {
            // Without a transaction (another process holds the database) nothing may be written: the commit fails, and says why.
            let result =
                if connection.is_autocommit() { Err(StoreError::Closed) } else { undone_when_it_fails(connection, f) };
            Box::new(move |committed| {
                let _gone = send.send(committed.and(result));
            })
        };
        (Self::Write(Box::new(write)), answer)
    }
}

fn undone_when_it_fails<T>(
    connection: &Connection,
    f: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.prepare_cached(&format!("savepoint {SAVEPOINT}"))?.execute([])?;
    let result = f(connection);
    if connection.is_autocommit() {
        return result;
    }
    if result.is_err() {
        connection.prepare_cached(&format!("rollback to {SAVEPOINT}"))?.execute([])?;
    }
    connection.prepare_cached(&format!("release {SAVEPOINT}"))?.execute([])?;
    result
}

/// Starts the thread; `queue_max` pieces of work may wait. It ends with the last sender.
pub(super) fn spawn(mut connection: Connection, queue_max: usize) -> SyncSender<Work> {
    let (send, work) = sync_channel(queue_max);
    std::thread::spawn(move || {
        while let Ok(first) = work.recv() {
            match first {
                Work::Alone(task) => task(&mut connection),
                Work::Write(write) => {
                    if let Some(alone) = together(&connection, write, &work) {
                        alone(&mut connection);
                    }
                }
            }
        }
    });
    send
}

/// Commits a write with those that wait behind it. Answers the work that must be done alone, if it came to that.
fn together(connection: &Connection, first: Write, work: &Receiver<Work>) -> Option<Alone> {
    let begun = connection.execute_batch("begin immediate");
    let (mut waiting, mut alone) = (vec![first(connection)], None);
    while begun.is_ok() && !connection.is_autocommit() && waiting.len() < TOGETHER_MAX && alone.is_none() {
        match work.try_recv() {
            Ok(Work::Write(write)) => waiting.push(write(connection)),
            Ok(Work::Alone(task)) => alone = Some(task),
            Err(_) => break,
        }
    }
    let committed = begun.and_then(|()| commit(connection));
    for told in waiting {
        told(match &committed {
            Ok(()) => Ok(()),
            Err(e) => Err(copy(e).into()),
        });
    }
    alone
}

/// SQLite itself undoes a transaction where the disk is full or broken: then there is nothing left to commit.
fn commit(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() {
        let undone = "the transaction was undone: the disk is full, or can't be written";
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), Some(undone.into())));
    }
    connection.execute_batch("commit").inspect_err(|_| {
        // Where this fails too, there is no transaction any more.
        let _undone = connection.execute_batch("rollback");
    })
}

/// The same failure for each of those that were in it.
fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch("create table t(x integer primary key)").expect("creates");
        connection
    }

    fn insert(x: i64) -> impl FnOnce(&Connection) -> Result<i64, StoreError> + Send + 'static {
        move |c| {
            c.execute("insert into t values (?1)", [x])?;
            if x == 13 { Err(StoreError::Conflict("unlucky".into())) } else { Ok(x) }
        }
    }

    #[test]
    fn what_waits_is_committed_together_and_one_failure_undoes_only_itself() {
        let work = spawn(connection(), 99);
        // The thread is kept busy until all of them wait.
        let barrier = Arc::new(Barrier::new(2));
        let theirs = Arc::clone(&barrier);
        let busy = move |_: &mut Connection| {
            theirs.wait();
        };
        work.send(Work::Alone(Box::new(busy))).expect("sent");
        let answers: Vec<_> = (10..20)
            .map(|x| {
                let (write, answer) = Work::write(insert(x));
                work.send(write).expect("sent");
                answer
            })
            .collect();
        let (send, commits) = std::sync::mpsc::channel();
        let count = move |c: &mut Connection| {
            let rows: i64 = c.query_row("select count(*) from t", [], |r| r.get(0)).expect("reads");
            send.send((rows, c.is_autocommit())).expect("sent");
        };
        work.send(Work::Alone(Box::new(count))).expect("sent");
        barrier.wait();
        let results: Vec<_> = answers.into_iter().map(|a| a.blocking_recv().expect("an answer")).collect();
        let failed: Vec<usize> = results.iter().enumerate().filter(|(_, r)| r.is_err()).map(|(i, _)| i).collect();
        assert_eq!(failed, [3], "13");
        assert!(matches!(&results[3], Err(StoreError::Conflict(_))), "{results:?}");
        assert_eq!(commits.recv().expect("told"), (9, true), "work of its own runs after the commit, outside of it");
    }

    #[test]
    fn a_commit_that_fails_is_told_to_all_and_the_next_ones_go_on() {
        let connection = connection();
        connection
            .execute_batch("pragma foreign_keys = on; create table u(x references t(x) deferrable initially deferred)")
            .expect("creates");
        let work = spawn(connection, 9);
        let (write, answer) = Work::write(|c| Ok(c.execute("insert into u values (99)", [])?));
        work.send(write).expect("sent");
        assert!(matches!(answer.blocking_recv(), Ok(Err(StoreError::Sqlite(_)))), "there is no t(99)");
        let (write, answer) = Work::write(insert(1));
        work.send(write).expect("sent");
        assert_eq!(answer.blocking_recv().expect("an answer").expect("commits"), 1);
    }
}
