//! The labeling queue: tasks, who holds them until when, and how they ended. SQL of the table `labeling_tasks`. Which item comes next
//! is in `pick`, the prompts that items are made of in `prompts`.

pub mod pick;
pub mod prompts;

use super::columns::{json, text_enum};
use super::{StoreError, now};
use hone_domain::Message;
use hone_domain::ids::{ComparisonId, DemonstrationId, TaskId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

text_enum! {
    /// What is asked of a labeler.
    #[schema(as = TaskKind)]
    Kind {
        /// To put answers in order.
        Rank = "rank",
        /// To write the ideal answer.
        Demonstrate = "demonstrate",
    }
}

text_enum! {
    /// Why an item is handed out. Labelers aren't told.
    Purpose {
        /// To learn from.
        New = "new",
        /// Its ranking is known: it measures the labeler.
        Gold = "gold",
        /// They have ranked it before: it measures their consistency.
        Repeat = "repeat",
        /// Somebody else has ranked it: it measures agreement.
        Overlap = "overlap",
    }
}

text_enum! {
    /// Where a task stands.
    State {
        /// Somebody works on it.
        Leased = "leased",
        /// Its answer is kept.
        Done = "done",
        /// Its labeler passed it over.
        Skipped = "skipped",
        /// Its labeler went away.
        Expired = "expired",
    }
}

/// What a task asks of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Who works on it.
    pub user: UserId,
    /// What is asked.
    pub kind: Kind,
    /// Why.
    pub purpose: Purpose,
    /// The comparison that is to be ranked.
    pub comparison: Option<ComparisonId>,
    /// Whose prompt it is.
    pub prompt_from: UserId,
    /// The prompt.
    pub messages: Vec<Message>,
    /// The candidates' places in the order shown: the first one shown is the one at `order[0]`.
    pub order: Vec<usize>,
}

/// A task that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// What is asked.
    pub asked: NewTask,
    /// Where it stands.
    pub state: State,
    /// Until when it is its labeler's alone.
    pub lease_until: String,
    /// The demonstration that it ended with.
    pub demonstration: Option<DemonstrationId>,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Task> {
    let asked = NewTask {
        user: UserId::from_raw(row.get::<_, String>("user_id")?),
        kind: row.get("kind")?,
        purpose: row.get("purpose")?,
        comparison: row.get::<_, Option<String>>("comparison_id")?.map(ComparisonId::from_raw),
        prompt_from: UserId::from_raw(row.get::<_, String>("prompt_from")?),
        messages: json(row, "messages_json")?,
        order: json(row, "order_json")?,
    };
    Ok(Task {
        id: TaskId::from_raw(row.get::<_, String>("id")?),
        asked,
        state: row.get("state")?,
        lease_until: row.get("lease_until")?,
        demonstration: row.get::<_, Option<String>>("demonstration_id")?.map(DemonstrationId::from_raw),
    })
}

/// Ends the leases that have run out, so that their items can go to others, and those on what has been ranked or excluded meanwhile.
///
/// # Errors
/// When the database can't.
pub fn expire(tx: &Connection) -> Result<(), StoreError> {
    let sql = "update labeling_tasks as t set state = 'expired' where state = 'leased' and (
                 lease_until <= ?1
                 or (purpose = 'new' and exists (select 1 from rankings where comparison_id = t.comparison_id))
                 or exists (select 1 from exclusions where item_id in (t.comparison_id, t.prompt_from)))";
    tx.prepare_cached(sql)?.execute([now()])?;
    Ok(())
}

/// The task that a person holds, its lease prolonged.
///
/// # Errors
/// When the database can't.
pub fn held(tx: &Connection, user: &UserId, kind: Kind, lease_until: &str) -> Result<Option<Task>, StoreError> {
    let sql = "update labeling_tasks set lease_until = ?3 where id =
                 (select id from labeling_tasks where user_id = ?1 and kind = ?2 and state = 'leased'
                  order by created_at desc, id desc limit 1)
               returning *";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![user.as_str(), kind, lease_until])?;
    let task = rows.next()?.map(from_row).transpose()?;
    Ok(task)
}

/// Hands a task out.
///
/// # Errors
/// When the database can't.
pub fn lease(tx: &Connection, new: &NewTask, lease_until: &str) -> Result<Task, StoreError> {
    let NewTask { user, kind, purpose, comparison, prompt_from, messages, order } = new;
    let id = TaskId::new();
    tx.execute(
        "insert into labeling_tasks(id, user_id, kind, purpose, comparison_id, prompt_from, messages_json, order_json, state,
           lease_until, created_at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'leased', ?9, ?10)",
        params![
            id.as_str(),
            user.as_str(),
            kind,
            purpose,
            comparison.as_ref().map(ComparisonId::as_str),
            prompt_from.as_str(),
            serde_json::to_string(messages)?,
            serde_json::to_string(order)?,
            lease_until,
            now()
        ],
    )?;
    owned(tx, &id, user)
}

/// A person's task.
///
/// # Errors
/// `NotFound` when it isn't theirs or doesn't exist.
pub fn owned(c: &Connection, id: &TaskId, user: &UserId) -> Result<Task, StoreError> {
    let sql = "select * from labeling_tasks where id = ?1 and user_id = ?2";
    let found = c.query_row(sql, [id.as_str(), user.as_str()], from_row).optional()?;
    found.ok_or_else(|| StoreError::NotFound { what: "task", id: id.to_string() })
}

/// Checks that a person may still end a task: it is open, or its lease ran out and nobody else has taken its item.
///
/// # Errors
/// `NotFound` when it isn't theirs, `Conflict` when it has ended or is somebody else's by now.
pub fn to_be_ended(c: &Connection, id: &TaskId, user: &UserId) -> Result<Task, StoreError> {
    let task = owned(c, id, user)?;
    let ended = |how: &str| Err(StoreError::Conflict(format!("this task {how}: ask for the next one")));
    match task.state {
        State::Done => return ended("is done already"),
        State::Skipped => return ended("was skipped"),
        State::Leased => return Ok(task),
        State::Expired => {}
    }
    let sql = "select count(*) from labeling_tasks
               where comparison_id = ?1 and user_id <> ?2 and purpose = 'new' and state in ('leased', 'done')";
    let comparison = task.asked.comparison.as_ref().map(ComparisonId::as_str);
    let others: i64 = c.query_row(sql, params![comparison, user.as_str()], |row| row.get(0))?;
    if task.asked.purpose == Purpose::New && others > 0 {
        return ended("had to be answered sooner, somebody else has it now");
    }
    Ok(task)
}

/// Notes that a task is done, and with which demonstration.
///
/// # Errors
/// When the database can't.
pub fn done(tx: &Connection, id: &TaskId, demonstration: Option<&DemonstrationId>) -> Result<(), StoreError> {
    let sql = "update labeling_tasks set state = 'done', finished_at = ?2, demonstration_id = ?3 where id = ?1";
    tx.execute(sql, params![id.as_str(), now(), demonstration.map(DemonstrationId::as_str)])?;
    Ok(())
}

/// Passes a task over, for this person for good.
///
/// # Errors
/// `NotFound` when it isn't theirs, `Conflict` when it has ended.
pub fn skip(tx: &Connection, id: &TaskId, user: &UserId, reason: &str) -> Result<(), StoreError> {
    to_be_ended(tx, id, user)?;
    let sql = "update labeling_tasks set state = 'skipped', finished_at = ?2, skip_reason = ?3 where id = ?1";
    tx.execute(sql, params![id.as_str(), now(), reason])?;
    Ok(())
}

/// The task that a person has done last, if that was after `since`.
///
/// # Errors
/// When the database can't.
pub fn last_done(c: &Connection, user: &UserId, since: &str) -> Result<Option<Task>, StoreError> {
    let sql = "select * from labeling_tasks where user_id = ?1 and state = 'done' and finished_at >= ?2
               order by finished_at desc, id desc limit 1";
    Ok(c.query_row(sql, [user.as_str(), since], from_row).optional()?)
}

/// Opens a task that was done once more.
///
/// # Errors
/// When the database can't.
pub fn reopen(tx: &Connection, id: &TaskId, lease_until: &str) -> Result<(), StoreError> {
    // As the newest one, so that it is this one that its labeler is given again.
    let sql =
        "update labeling_tasks set state = 'leased', finished_at = null, demonstration_id = null, lease_until = ?2,
                 created_at = ?3 where id = ?1";
    tx.execute(sql, params![id.as_str(), lease_until, now()])?;
    Ok(())
}

/// How much a person has done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Done {
    /// Since midnight, UTC.
    pub today: u64,
    /// In the last hour.
    pub last_hour: u64,
    /// Ever.
    pub total: u64,
    /// Passed over, ever.
    pub skipped: u64,
    /// What the last twenty took on average, in seconds.
    pub seconds_per_task: Option<f64>,
}

/// How much a person has done by `now`.
///
/// # Errors
/// When the database can't.
pub fn done_by(c: &Connection, user: &UserId, now: jiff::Timestamp) -> Result<Done, StoreError> {
    let hour_ago = super::timestamp(now - jiff::SignedDuration::from_hours(1));
    let midnight = format!("{}T00:00:00.000000Z", now.strftime("%Y-%m-%d"));
    let since = |state: &str, since: &str| -> Result<u64, StoreError> {
        let sql = "select count(*) from labeling_tasks where user_id = ?1 and state = ?2 and finished_at >= ?3";
        let n: i64 = c.prepare_cached(sql)?.query_row(params![user.as_str(), state, since], |row| row.get(0))?;
        Ok(n.unsigned_abs())
    };
    let sql = "select avg((julianday(finished_at) - julianday(created_at)) * 86400.0) from
                 (select finished_at, created_at from labeling_tasks where user_id = ?1 and state = 'done'
                  order by finished_at desc limit 20)";
    Ok(Done {
        today: since("done", &midnight)?,
        last_hour: since("done", &hour_ago)?,
        total: since("done", "")?,
        skipped: since("skipped", "")?,
        seconds_per_task: c.query_row(sql, [user.as_str()], |row| row.get(0))?,
    })
}
