//! Who is asking: an API key in the `Authorization` header, or the browser's session cookie. Runs before anything of `/v1` is read.

use super::App;
use super::error::{ApiError, Code};
use crate::store::credentials::{self, Kind};
use crate::store::users::{Role, User};
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use std::future::{Ready, ready};
use std::time::Instant;

/// The session cookie's name.
pub const COOKIE: &str = "hone_session";

/// The person who asks; only there behind [`require_caller`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub User);

impl Caller {
    /// Refuses a person whose role isn't enough.
    ///
    /// # Errors
    /// 403, naming the role that is needed.
    pub fn require(&self, role: Role) -> Result<(), ApiError> {
        if self.0.role >= role {
            return Ok(());
        }
        let message = format!("this needs the role `{}`, yours is `{}`", role.as_str(), self.0.role.as_str());
        Err(ApiError::new(Code::Forbidden, message))
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(unauthenticated))
    }
}

/// Middleware: finds out who asks, takes the request out of their rate limit, and lets nobody else through.
///
/// # Errors
/// 401, 403 (another site's page), 429.
pub async fn require_caller<B: MessageBody>(
    app: web::Data<App>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let caller = identify(&app, &request).await?;
    app.rate_limit.take(&caller.0.id, Instant::now())?;
    request.extensions_mut().insert(caller);
    next.call(request).await
}

async fn identify(app: &App, request: &ServiceRequest) -> Result<Caller, ApiError> {
    let (secret, kind) = if let Some(header) = request.headers().get(AUTHORIZATION) {
        let key = header.to_str().ok().and_then(|text| text.split_once(' '));
        let key = key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        (key.ok_or_else(unauthenticated)?.1.trim().to_owned(), Kind::ApiKey)
    } else {
        let cookie = request.cookie(COOKIE).ok_or_else(unauthenticated)?;
        refuse_other_sites(request.method(), request.headers())?;
        (cookie.value().to_owned(), Kind::Session)
    };
    let user = app.store.read(move |c| credentials::owner(c, &secret, kind)).await?;
    user.map(Caller).ok_or_else(unauthenticated)
}

fn unauthenticated() -> ApiError {
    let message = "sign in: send `Authorization: Bearer hone_...` with a valid API key (`hone user add NAME` makes one), \
                   or open the sign-in URL that the server prints";
    ApiError::new(Code::Unauthenticated, message)
}

/// A page of another site can't act in the name of who is signed in here. `SameSite=Strict` keeps the cookie from it already;
/// this holds where a browser doesn't know that. Programs send neither header.
///
/// # Errors
/// 403 when the browser says that the request comes from elsewhere.
pub fn refuse_other_sites(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let elsewhere = match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = origin.split_once("://").map_or(origin, |(_, host)| host);
            Some(host) != text(HOST.as_str())
        }
        (None, None) => false,
    };
    if elsewhere {
        return Err(ApiError::new(Code::Forbidden, "another site's page may not act in your name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn allowed(headers: &[(&'static str, &'static str)]) -> bool {
        let request = headers.iter().fold(TestRequest::post(), |r, header| r.insert_header(*header)).to_http_request();
        refuse_other_sites(&Method::POST, request.headers()).is_ok()
    }

    #[test]
    fn another_sites_page_is_refused() {
        assert!(allowed(&[]));
        assert!(allowed(&[("sec-fetch-site", "same-origin")]));
        assert!(!allowed(&[("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("sec-fetch-site", "same-site")]));
        assert!(allowed(&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")]));
        assert!(!allowed(&[("origin", "http://evil.example"), ("host", "127.0.0.1:8080")]));
    }
}
