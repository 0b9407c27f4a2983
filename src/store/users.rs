//! People: who there is and what each may do. SQL of the table `users`.

use super::{StoreError, now};
use hone_domain::ids::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

/// What a person may do; each role may do all that the ones before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = UserRole)]
pub enum Role {
    /// Chats and compares.
    User,
    /// Also ranks the queue and writes demonstrations.
    Labeler,
    /// Also runs jobs and promotes policies.
    Operator,
    /// Also manages people and keys.
    Admin,
}

impl Role {
    /// The name in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Labeler => "labeler",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub(super) fn from_column(text: &str) -> Result<Self, StoreError> {
        Ok(serde_json::from_value(serde_json::Value::String(text.to_owned()))?)
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// A unique name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When they came.
    pub created_at: String,
    /// When they were shut out, if they were.
    pub revoked_at: Option<String>,
}

type Columns = (String, String, String, String, Option<String>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn user((id, name, role, created_at, revoked_at): Columns) -> Result<User, StoreError> {
    Ok(User { id: UserId::from_raw(id), name, role: Role::from_column(&role)?, created_at, revoked_at })
}

/// Adds a person.
///
/// # Errors
/// `Conflict` when the name is taken or unusable.
pub fn create(tx: &Connection, name: &str, role: Role) -> Result<User, StoreError> {
    if name.trim().is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(StoreError::Conflict("a user's name has 1 to 100 visible characters".into()));
    }
    if by_name(tx, name)?.is_some() {
        return Err(StoreError::Conflict(format!("there is a user named {name:?} already: take another name")));
    }
    let user = User { id: UserId::new(), name: name.to_owned(), role, created_at: now(), revoked_at: None };
    tx.execute(
        "insert into users(id, name, role, created_at) values (?1, ?2, ?3, ?4)",
        params![user.id.as_str(), user.name, role.as_str(), user.created_at],
    )?;
    Ok(user)
}

/// The person of this name, created with `role` if there is none (imports name labelers hone has never seen).
///
/// # Errors
/// As [`create`].
pub fn ensure(tx: &Connection, name: &str, role: Role) -> Result<User, StoreError> {
    match by_name(tx, name)? {
        Some(user) => Ok(user),
        None => create(tx, name, role),
    }
}

/// The person of this name, if there is one.
///
/// # Errors
/// When the database fails.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<User>, StoreError> {
    let sql = "select id, name, role, created_at, revoked_at from users where name = ?1";
    connection.query_row(sql, [name], columns).optional()?.map(user).transpose()
}

/// The person with this id.
///
/// # Errors
/// `NotFound` when there is none.
pub fn get(connection: &Connection, id: &UserId) -> Result<User, StoreError> {
    let sql = "select id, name, role, created_at, revoked_at from users where id = ?1";
    let found = connection.query_row(sql, [id.as_str()], columns).optional()?;
    user(found.ok_or_else(|| StoreError::NotFound { what: "user", id: id.to_string() })?)
}

/// Everybody, in the order they came.
///
/// # Errors
/// When the database fails.
pub fn list(connection: &Connection) -> Result<Vec<User>, StoreError> {
    let sql = "select id, name, role, created_at, revoked_at from users order by created_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows: Vec<Columns> = statement.query_map([], columns)?.collect::<Result<_, _>>()?;
    rows.into_iter().map(user).collect()
}

/// Shuts a person out, by name or id: their keys and sessions stop working at once. Their feedback stays.
///
/// # Errors
/// `NotFound` when there is no such person, `Conflict` when it is the last admin.
pub fn revoke(tx: &Connection, name_or_id: &str) -> Result<User, StoreError> {
    let mut found = match by_name(tx, name_or_id)? {
        Some(user) => user,
        None => get(tx, &UserId::from_raw(name_or_id))?,
    };
    require_another_admin(tx, &found)?;
    let at = now();
    tx.execute(
        "update users set revoked_at = ?2 where id = ?1 and revoked_at is null",
        params![found.id.as_str(), at],
    )?;
    tx.execute(
        "update credentials set revoked_at = ?2 where user_id = ?1 and revoked_at is null",
        params![found.id.as_str(), at],
    )?;
    found.revoked_at.get_or_insert(at);
    Ok(found)
}

/// Checks that the house isn't left without an admin when this person is none any more.
fn require_another_admin(c: &Connection, user: &User) -> Result<(), StoreError> {
    let admins: i64 =
        c.query_row("select count(*) from users where role = 'admin' and revoked_at is null", [], |r| r.get(0))?;
    if user.role == Role::Admin && user.revoked_at.is_none() && admins == 1 {
        return Err(StoreError::Conflict(format!("{} is the last admin: add another one first", user.name)));
    }
    Ok(())
}

/// Gives a person another role.
///
/// # Errors
/// `NotFound` when there is no such person, `Conflict` when it is the last admin.
pub fn set_role(tx: &Connection, id: &UserId, role: Role) -> Result<User, StoreError> {
    let user = get(tx, id)?;
    if role != Role::Admin {
        require_another_admin(tx, &user)?;
    }
    tx.execute("update users set role = ?2 where id = ?1", [id.as_str(), role.as_str()])?;
    Ok(User { role, ..user })
}

/// Lets a person in again who was shut out. Their old keys stay dead.
///
/// # Errors
/// `NotFound` when there is no such person.
pub fn restore(tx: &Connection, id: &UserId) -> Result<User, StoreError> {
    tx.execute("update users set revoked_at = null where id = ?1", [id.as_str()])?;
    get(tx, id)
}

/// The first admin who may still sign in.
///
/// # Errors
/// When the database fails.
pub fn first_admin(connection: &Connection) -> Result<Option<User>, StoreError> {
    Ok(list(connection)?.into_iter().find(|u| u.role == Role::Admin && u.revoked_at.is_none()))
}

/// Writes to the database without changing anything: whether it still takes writes.
///
/// # Errors
/// `DiskFull`, or whatever else keeps it from writing.
pub fn touch(tx: &Connection) -> Result<(), StoreError> {
    tx.execute("update users set name = name where id = (select id from users limit 1)", [])?;
    Ok(())
}
