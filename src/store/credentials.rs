//! API keys, sign-in links and browser sessions. Only a SHA-256 of each secret is stored. SQL of the table `credentials`.

use super::users::{Role, User};
use super::{StoreError, now};
use hone_domain::ids::UserId;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// What a secret is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Authorization: Bearer hone_...`, until revoked.
    ApiKey,
    /// The token of a sign-in link: once, for a day.
    SignIn,
    /// The cookie of a browser: for thirty days.
    Session,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::SignIn => "sign_in",
            Self::Session => "session",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "hone_",
            Self::SignIn => "signin_",
            Self::Session => "session_",
        }
    }

    /// How long a fresh secret works.
    #[must_use]
    pub fn lifetime(self) -> Option<Duration> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        match self {
            Self::ApiKey => None,
            Self::SignIn => Some(DAY),
            Self::Session => Some(DAY * 30),
        }
    }
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// Makes a secret (32 random bytes) for a person and stores its hash. The secret itself is only ever in the answer.
///
/// # Errors
/// When the database fails.
pub fn issue(tx: &Connection, user: &UserId, kind: Kind) -> Result<String, StoreError> {
    let secret = format!("{}{}", kind.prefix(), hex::encode(rand::random::<[u8; 32]>()));
    let expires = kind.lifetime().map(|life| super::timestamp(jiff::Timestamp::now() + life));
    tx.execute(
        "insert into credentials(secret_sha256, user_id, kind, created_at, expires_at) values (?1, ?2, ?3, ?4, ?5)",
        params![hash(&secret), user.as_str(), kind.as_str(), now(), expires],
    )?;
    Ok(secret)
}

/// Who owns this secret, if it is of this kind and still good.
///
/// # Errors
/// When the database fails.
pub fn owner(connection: &Connection, secret: &str, kind: Kind) -> Result<Option<User>, StoreError> {
    let sql = "select u.id, u.name, u.role, u.created_at from credentials c join users u on u.id = c.user_id
               where c.secret_sha256 = ?1 and c.kind = ?2 and c.revoked_at is null and u.revoked_at is null
                 and (c.expires_at is null or c.expires_at > ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    let columns = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?));
    let found: Option<(String, String, String, String)> =
        statement.query_row(params![hash(secret), kind.as_str(), now()], columns).optional()?;
    let user = |(id, name, role, created_at): (String, String, String, String)| {
        Ok(User { id: UserId::from_raw(id), name, role: Role::from_column(&role)?, created_at, revoked_at: None })
    };
    found.map(user).transpose()
}

/// Ends a secret.
///
/// # Errors
/// When the database fails.
pub fn revoke(tx: &Connection, secret: &str) -> Result<(), StoreError> {
    let sql = "update credentials set revoked_at = ?2 where secret_sha256 = ?1 and revoked_at is null";
    tx.execute(sql, params![hash(secret), now()])?;
    Ok(())
}

/// A secret that works, without the secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Credential {
    /// What it is called: the first sixteen digits of its hash.
    pub id: String,
    /// `api_key`, `session` or `sign_in` (a link that wasn't used yet).
    pub kind: String,
    /// When it was made.
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: Option<String>,
}

/// What a secret is called in lists.
#[must_use]
pub fn short_id(secret: &str) -> String {
    hash(secret)[..16].to_owned()
}

/// A person's secrets that work, the newest first.
///
/// # Errors
/// When the database fails.
pub fn list(c: &Connection, user: &UserId) -> Result<Vec<Credential>, StoreError> {
    let sql = "select substr(secret_sha256, 1, 16), kind, created_at, expires_at from credentials
               where user_id = ?1 and revoked_at is null and (expires_at is null or expires_at > ?2) order by created_at desc";
    let mut rows = c.prepare_cached(sql)?;
    let rows = rows.query_map([user.as_str(), &now()], |row| {
        Ok(Credential { id: row.get(0)?, kind: row.get(1)?, created_at: row.get(2)?, expires_at: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Ends a secret by what it is called in lists.
///
/// # Errors
/// `NotFound` when it isn't this person's, or has ended.
pub fn revoke_listed(tx: &Connection, user: &UserId, id: &str) -> Result<(), StoreError> {
    let sql = "update credentials set revoked_at = ?3
               where user_id = ?1 and substr(secret_sha256, 1, 16) = ?2 and revoked_at is null";
    match tx.execute(sql, [user.as_str(), id, &now()])? {
        0 => Err(StoreError::NotFound { what: "key", id: id.to_owned() }),
        _ => Ok(()),
    }
}

/// Uses up a sign-in token: answers its owner once, `None` ever after.
///
/// # Errors
/// When the database fails.
pub fn redeem(tx: &Connection, token: &str) -> Result<Option<User>, StoreError> {
    let user = owner(tx, token, Kind::SignIn)?;
    revoke(tx, token)?;
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, users};

    #[test]
    fn secrets_work_for_their_kind_until_revoked() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let checked = store.write_blocking(|tx| {
            let ann = users::create(tx, "ann", Role::Labeler)?;
            users::create(tx, "root", Role::Admin)?;
            let key = issue(tx, &ann.id, Kind::ApiKey)?;
            assert_eq!(owner(tx, &key, Kind::ApiKey)?, Some(ann.clone()));
            assert_eq!(owner(tx, &key, Kind::Session)?, None, "a key is no cookie");
            assert_eq!(owner(tx, "hone_guess", Kind::ApiKey)?, None);

            let link = issue(tx, &ann.id, Kind::SignIn)?;
            assert_eq!(redeem(tx, &link)?.map(|u| u.name), Some("ann".into()));
            assert_eq!(redeem(tx, &link)?, None, "a link works once");

            users::revoke(tx, "ann")?;
            assert_eq!(owner(tx, &key, Kind::ApiKey)?, None, "revoking a person ends their keys");
            assert!(users::revoke(tx, "root").is_err(), "the last admin stays");
            Ok(())
        });
        checked.expect("store works");
    }

    #[test]
    fn an_expired_secret_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let checked = store.write_blocking(|tx| {
            let ann = users::create(tx, "ann", Role::User)?;
            let cookie = issue(tx, &ann.id, Kind::Session)?;
            tx.execute("update credentials set expires_at = '2020-01-01T00:00:00.000000Z'", [])?;
            assert_eq!(owner(tx, &cookie, Kind::Session)?, None);
            Ok(())
        });
        checked.expect("store works");
    }
}
