//! Signing in and out, and who one is. The browser's session is a cookie that scripts can't read.

use super::App;
use super::auth::{COOKIE, Caller, refuse_other_sites};
use super::body::Body;
use super::error::{ApiError, Code, ErrorBody};
use crate::store::credentials::{self, Kind};
use crate::store::users::{Role, User};
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One of the two.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SignIn {
    /// The token of a sign-in URL. It works once.
    token: Option<String>,
    /// An API key.
    api_key: Option<String>,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionAnswer {
    user: Me,
}

/// A person, to themselves.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    id: String,
    name: String,
    role: Role,
}

impl From<User> for Me {
    fn from(user: User) -> Self {
        Self { id: user.id.to_string(), name: user.name, role: user.role }
    }
}

/// Signs a browser in: answers with the session's cookie.
///
/// # Errors
/// 401 when the token or key isn't good (any more).
#[utoipa::path(post, path = "/v1/session", tag = "session", request_body = SignIn,
    responses((status = 200, body = SessionAnswer), (status = 401, body = ErrorBody)))]
pub async fn sign_in(
    app: web::Data<App>,
    request: HttpRequest,
    Body(SignIn { token, api_key }): Body<SignIn>,
) -> Result<HttpResponse, ApiError> {
    refuse_other_sites(request.method(), request.headers())?;
    let signed_in = app.store.write(move |tx| {
        let user = match (token, api_key) {
            (Some(token), _) => credentials::redeem(tx, &token)?,
            (None, Some(key)) => credentials::owner(tx, &key, Kind::ApiKey)?,
            (None, None) => None,
        };
        user.map(|user| Ok((credentials::issue(tx, &user.id, Kind::Session)?, user))).transpose()
    });
    let Some((secret, user)) = signed_in.await? else {
        let message = "this sign-in token or API key isn't good: a sign-in URL works once and for a day. \
                       `hone user link NAME` prints a new one, and so does every start of the server";
        return Err(ApiError::new(Code::Unauthenticated, message));
    };
    let answer = SessionAnswer { user: user.into() };
    Ok(HttpResponse::Ok().cookie(cookie(&request, secret, Kind::Session.lifetime())).json(answer))
}

fn cookie(request: &HttpRequest, value: String, lifetime: Option<std::time::Duration>) -> Cookie<'static> {
    let seconds = lifetime.map_or(0, |life| i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
    Cookie::build(COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(request.connection_info().scheme() == "https")
        .max_age(Duration::seconds(seconds))
        .finish()
}

/// Who is signed in.
///
/// # Errors
/// 401.
#[utoipa::path(get, path = "/v1/session", tag = "session",
    responses((status = 200, body = SessionAnswer), (status = 401, body = ErrorBody)))]
pub async fn current(Caller(user): Caller) -> web::Json<SessionAnswer> {
    web::Json(SessionAnswer { user: user.into() })
}

/// Signs the browser out.
///
/// # Errors
/// 401.
#[utoipa::path(delete, path = "/v1/session", tag = "session", responses((status = 204), (status = 401, body = ErrorBody)))]
pub async fn sign_out(app: web::Data<App>, _: Caller, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    if let Some(session) = request.cookie(COOKIE) {
        app.store.write(move |tx| credentials::revoke(tx, session.value())).await?;
    }
    Ok(HttpResponse::NoContent().cookie(cookie(&request, String::new(), None)).finish())
}
