//! `/v1/users`: admins manage people and their keys. `/v1/audit`: what everybody did.

use super::App;
use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::messages::{listed, skipped};
use crate::labeling::trust::{self, Trust};
use crate::store::credentials::{self, Credential, Kind};
use crate::store::people::{self, Person};
use crate::store::users::{self, Role, User};
use crate::store::{Page, StoreError, audit};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hone_domain::ids::UserId;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use utoipa::{IntoParams, ToSchema};

/// A person, to admins.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonBody {
    id: String,
    name: String,
    role: Role,
    /// When they came.
    created_at: String,
    /// When they were shut out; null: they may sign in.
    revoked_at: Option<String>,
    /// When they last signed in, asked or said something.
    last_seen: Option<String>,
    /// Answers that they were given.
    completions: u64,
    /// Rankings that are learned from.
    rankings: u64,
    /// Ideal answers.
    demonstrations: u64,
    /// From gold questions and repeats; null while there are none.
    trust: Option<Trust>,
    /// What they give isn't learned from.
    excluded: bool,
}

impl PersonBody {
    fn of(person: Person, trust: Option<Trust>) -> Self {
        let Person { user, last_seen, completions, rankings, demonstrations, excluded } = person;
        let User { id, name, role, created_at, revoked_at } = user;
        let id = id.to_string();
        Self {
            id,
            name,
            role,
            created_at,
            revoked_at,
            last_seen,
            completions,
            rankings,
            demonstrations,
            trust,
            excluded,
        }
    }
}

/// Everybody.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonList {
    /// In the order they came.
    users: Vec<PersonBody>,
}

/// Everybody, with what they have given and how far they can be relied on.
///
/// # Errors
/// 403 below the role `admin`.
#[utoipa::path(get, path = "/v1/users", tag = "people", responses((status = 200, body = PersonList), (status = 403, body = ErrorBody)))]
pub async fn list(app: web::Data<App>, caller: Caller) -> Result<web::Json<PersonList>, ApiError> {
    caller.require(Role::Admin)?;
    let read = |c: &Connection| {
        let labelers = trust::report(c)?.labelers.into_iter();
        let mut trust: HashMap<String, Option<Trust>> = labelers.map(|labeler| (labeler.id, labeler.trust)).collect();
        let body = |person: Person| {
            let trust = trust.remove(person.user.id.as_str()).flatten();
            PersonBody::of(person, trust)
        };
        Ok(PersonList { users: people::list(c)?.into_iter().map(body).collect() })
    };
    Ok(web::Json(app.store.read(read).await?))
}

/// Who is to be added.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PersonIn {
    /// A unique name of 1 to 100 visible characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What they may do.
    role: Role,
}

/// A person's name, role and fresh secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonAdded {
    id: String,
    name: String,
    role: Role,
    /// Their API key. It is shown this once.
    key: String,
    /// What to add to this server's address to sign a browser in as them: works once, for a day.
    sign_in: String,
}

/// Adds a person.
///
/// # Errors
/// 403 below the role `admin`, 409 when the name is taken or no name.
#[utoipa::path(post, path = "/v1/users", tag = "people", request_body = PersonIn,
    responses((status = 201, body = PersonAdded), (status = 403, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn add(
    app: web::Data<App>,
    caller: Caller,
    Body(PersonIn { name, role }): Body<PersonIn>,
) -> Result<(web::Json<PersonAdded>, StatusCode), ApiError> {
    let added = manage(&app, caller, move |tx, admin| {
        let user = users::create(tx, &name, role)?;
        let key = credentials::issue(tx, &user.id, Kind::ApiKey)?;
        let sign_in = sign_in_path(&credentials::issue(tx, &user.id, Kind::SignIn)?);
        audit::note(tx, admin, "user.add", user.id.as_str(), &json!({"name": user.name, "role": role}))?;
        Ok(PersonAdded { id: user.id.to_string(), name: user.name, role, key, sign_in })
    });
    Ok((web::Json(added.await?), StatusCode::CREATED))
}

fn sign_in_path(token: &str) -> String {
    format!("/#/sign-in?token={token}")
}

/// Another role.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RoleIn {
    /// What they may do from now on.
    role: Role,
}

/// A person after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonChanged {
    id: String,
    name: String,
    role: Role,
    /// When they were shut out; null: they may sign in.
    revoked_at: Option<String>,
}

impl From<User> for PersonChanged {
    fn from(User { id, name, role, created_at: _, revoked_at }: User) -> Self {
        Self { id: id.to_string(), name, role, revoked_at }
    }
}

/// Gives a person another role, from their next request on.
///
/// # Errors
/// 403 below the role `admin`, 404, 409 when they are the last admin.
#[utoipa::path(put, path = "/v1/users/{id}/role", tag = "people", params(("id" = String, Path)), request_body = RoleIn,
    responses((status = 200, body = PersonChanged), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn set_role(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    Body(RoleIn { role }): Body<RoleIn>,
) -> Result<web::Json<PersonChanged>, ApiError> {
    let id = UserId::from_raw(id.into_inner());
    let changed = manage(&app, caller, move |tx, admin| {
        let before = users::get(tx, &id)?.role;
        let user = users::set_role(tx, &id, role)?;
        audit::note(tx, admin, "user.role", id.as_str(), &json!({"from": before, "to": role}))?;
        Ok(PersonChanged::from(user))
    });
    Ok(web::Json(changed.await?))
}

/// Shuts a person out: their keys and sessions stop at once. Their feedback stays; exclude them to leave it out of training.
///
/// # Errors
/// 403 below the role `admin`, 404, 409 when they are the last admin.
#[utoipa::path(post, path = "/v1/users/{id}/revoke", tag = "people", params(("id" = String, Path)),
    responses((status = 200, body = PersonChanged), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn revoke(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<PersonChanged>, ApiError> {
    let id = UserId::from_raw(id.into_inner());
    let changed = manage(&app, caller, move |tx, admin| {
        users::get(tx, &id)?;
        let user = users::revoke(tx, id.as_str())?;
        audit::note(tx, admin, "user.revoke", id.as_str(), &json!({}))?;
        Ok(PersonChanged::from(user))
    });
    Ok(web::Json(changed.await?))
}

/// Lets a person in again who was shut out. Their old keys stay dead: make them a new one.
///
/// # Errors
/// 403 below the role `admin`, 404.
#[utoipa::path(post, path = "/v1/users/{id}/restore", tag = "people", params(("id" = String, Path)),
    responses((status = 200, body = PersonChanged), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn restore(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<PersonChanged>, ApiError> {
    let id = UserId::from_raw(id.into_inner());
    let changed = manage(&app, caller, move |tx, admin| {
        let user = users::restore(tx, &id)?;
        audit::note(tx, admin, "user.restore", id.as_str(), &json!({}))?;
        Ok(PersonChanged::from(user))
    });
    Ok(web::Json(changed.await?))
}

/// A person's keys and sessions.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList {
    /// Those that work, the newest first. The secrets themselves are shown only when they are made.
    keys: Vec<Credential>,
}

/// The keys and sessions of a person that work.
///
/// # Errors
/// 403 below the role `admin`, 404.
#[utoipa::path(get, path = "/v1/users/{id}/keys", tag = "people", params(("id" = String, Path)),
    responses((status = 200, body = KeyList), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn keys(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<web::Json<KeyList>, ApiError> {
    caller.require(Role::Admin)?;
    let id = UserId::from_raw(id.into_inner());
    let read = move |c: &Connection| {
        users::get(c, &id)?;
        Ok(KeyList { keys: credentials::list(c, &id)? })
    };
    Ok(web::Json(app.store.read(read).await?))
}

/// A fresh key.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyMade {
    /// What it is called in lists.
    id: String,
    /// The key. It is shown this once.
    key: String,
}

/// Makes a person another API key.
///
/// # Errors
/// 403 below the role `admin`, 404, 409 when they are shut out.
#[utoipa::path(post, path = "/v1/users/{id}/keys", tag = "people", params(("id" = String, Path)),
    responses((status = 201, body = KeyMade), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn make_key(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<(web::Json<KeyMade>, StatusCode), ApiError> {
    let id = UserId::from_raw(id.into_inner());
    let made = manage(&app, caller, move |tx, admin| {
        still_here(tx, &id)?;
        let key = credentials::issue(tx, &id, Kind::ApiKey)?;
        let key_id = credentials::short_id(&key);
        audit::note(tx, admin, "key.add", id.as_str(), &json!({"key": key_id}))?;
        Ok(KeyMade { id: key_id, key })
    });
    Ok((web::Json(made.await?), StatusCode::CREATED))
}

/// A way to sign in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignInLink {
    /// What to add to this server's address: works once, for a day.
    sign_in: String,
}

/// Makes a person a sign-in link for a browser.
///
/// # Errors
/// 403 below the role `admin`, 404, 409 when they are shut out.
#[utoipa::path(post, path = "/v1/users/{id}/link", tag = "people", params(("id" = String, Path)),
    responses((status = 201, body = SignInLink), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn link(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<(web::Json<SignInLink>, StatusCode), ApiError> {
    let id = UserId::from_raw(id.into_inner());
    let made = manage(&app, caller, move |tx, admin| {
        still_here(tx, &id)?;
        let sign_in = sign_in_path(&credentials::issue(tx, &id, Kind::SignIn)?);
        audit::note(tx, admin, "user.link", id.as_str(), &json!({}))?;
        Ok(SignInLink { sign_in })
    });
    Ok((web::Json(made.await?), StatusCode::CREATED))
}

fn still_here(c: &Connection, id: &UserId) -> Result<(), StoreError> {
    match users::get(c, id)? {
        User { revoked_at: None, .. } => Ok(()),
        User { name, .. } => Err(StoreError::Conflict(format!("{name} is shut out: let them in again first"))),
    }
}

/// Ends a key or a session.
///
/// # Errors
/// 403 below the role `admin`, 404 when it isn't theirs or has ended.
#[utoipa::path(delete, path = "/v1/users/{id}/keys/{key}", tag = "people", params(("id" = String, Path), ("key" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn revoke_key(
    app: web::Data<App>,
    caller: Caller,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (id, key) = path.into_inner();
    let ended = manage(&app, caller, move |tx, admin| {
        credentials::revoke_listed(tx, &UserId::from_raw(&id), &key)?;
        audit::note(tx, admin, "key.revoke", &id, &json!({"key": key}))
    });
    ended.await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Runs what only an admin may do, in one transaction with its entry in the audit log.
async fn manage<T: Send + 'static>(
    app: &App,
    caller: Caller,
    change: impl FnOnce(&Connection, &str) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    caller.require(Role::Admin)?;
    let admin = caller.0.name;
    Ok(app.store.write(move |tx| change(tx, &admin)).await?)
}

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only what this person (or `schedule`, `command line`) did.
    actor: Option<String>,
    /// Only this action, or those of one kind: `user.revoke`, or `user`.
    action: Option<String>,
    /// Only what was done to this object.
    object: Option<String>,
    /// At most so many, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// Leave out so many at the beginning. Default 0.
    #[param(minimum = 0)]
    offset: Option<usize>,
}

/// Entries of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditList {
    /// Newest first.
    entries: Vec<AuditEntry>,
    /// How many there are.
    total: u64,
}

/// Who did what.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    id: i64,
    at: String,
    /// A person's name or id, `schedule`, or `command line`.
    actor: String,
    action: String,
    /// What it was done to.
    object: String,
    #[schema(value_type = Object)]
    detail: Value,
}

/// The audit log.
///
/// # Errors
/// 403 below the role `operator`.
#[utoipa::path(get, path = "/v1/audit", tag = "people", params(AuditQuery),
    responses((status = 200, body = AuditList), (status = 403, body = ErrorBody)))]
pub async fn audit_log(
    app: web::Data<App>,
    caller: Caller,
    web::Query(query): web::Query<AuditQuery>,
) -> Result<web::Json<AuditList>, ApiError> {
    caller.require(Role::Operator)?;
    let (limit, offset) = (listed(query.limit)?, skipped(query.offset)?);
    let text = Option::unwrap_or_default;
    let filter = audit::Filter { actor: text(query.actor), action: text(query.action), object: text(query.object) };
    let Page { items, total } = app.store.read(move |c| audit::list(c, &filter, limit, offset)).await?;
    let body =
        |audit::Entry { id, at, actor, action, object, detail }| AuditEntry { id, at, actor, action, object, detail };
    Ok(web::Json(AuditList { entries: items.into_iter().map(body).collect(), total }))
}
