//! The web page: `web/dist`, built into the binary. Every path that isn't the API's and names no file is the page itself.

use super::error::{ApiError, Code};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use rust_embed::{Embed, EmbeddedFile};

#[derive(Embed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Dist;

/// Nothing but the page's own files; no inline scripts or styles, no frames around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>hone</title>\
     <h1>hone is running without its web page</h1>\
     <p>This binary was built without it. Run <code>make web</code>, then build again. The API under /v1 works without it.</p>";

/// Serves a file of the page, or the page.
pub async fn serve(request: HttpRequest) -> HttpResponse {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return ApiError::new(Code::MethodNotAllowed, "this path takes GET; the API is under /v1").error_response();
    }
    let path = request.path().trim_start_matches('/');
    match Dist::get(path) {
        Some(file) => respond(&request, path, file),
        // A page that is gone with an older build: the page itself would be read as a script.
        None if path.starts_with("assets/") => {
            ApiError::new(Code::NotFound, "there is no such file: reload the page").error_response()
        }
        None => match Dist::get("index.html") {
            Some(page) => respond(&request, "index.html", page),
            None => headers(HttpResponse::Ok()).content_type("text/html; charset=utf-8").body(NOT_BUILT),
        },
    }
}

fn respond(request: &HttpRequest, path: &str, file: EmbeddedFile) -> HttpResponse {
    let tag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    // The build puts a hash into the names of all files in assets/.
    let forever = path.starts_with("assets/");
    let cache = if forever { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = request.headers().get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(&tag));
    let mut response = headers(if known { HttpResponse::NotModified() } else { HttpResponse::Ok() });
    response.insert_header((CACHE_CONTROL, cache)).insert_header((ETAG, tag));
    if known {
        return response.finish();
    }
    let mime = mime_guess::from_path(path).first_or_octet_stream();
    let text = mime.type_() == mime_guess::mime::TEXT || mime.subtype() == mime_guess::mime::JAVASCRIPT;
    let content_type = if text { format!("{mime}; charset=utf-8") } else { mime.to_string() };
    response.insert_header((CONTENT_TYPE, content_type)).body(file.data.into_owned())
}

fn headers(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response
        .insert_header(("content-security-policy", CONTENT_SECURITY_POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"));
    response
}
