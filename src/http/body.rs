//! Request bodies: bounded, UTF-8, JSON, and told which field is wrong.

use super::App;
use super::error::{ApiError, Code};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use std::time::Duration;

/// A JSON body of type `T`. Its content type doesn't matter; an empty body reads as `{}`.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes_max = request.app_data::<web::Data<App>>().map_or(0, |app| app.config.limits.body_bytes_max);
        let payload = payload.take();
        Box::pin(async move { parse(&read(payload, bytes_max, "limits.body_bytes_max").await?).map(Self) })
    }
}

/// A body of lines to import, as it came.
#[derive(Debug)]
pub struct Bytes(pub Vec<u8>);

impl FromRequest for Bytes {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes_max = request.app_data::<web::Data<App>>().map_or(0, |app| app.config.limits.import_bytes_max);
        let payload = payload.take();
        Box::pin(async move { read(payload, bytes_max, "limits.import_bytes_max").await.map(Self) })
    }
}

/// For optional fields: null is the same as leaving the field out.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(field: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(field)?.unwrap_or_default())
}

/// How much of a body that is too large is read and thrown away, so that the client, who sends before it listens, gets the answer.
const DISCARDED_BYTES_MAX: usize = 256 << 20;
const DISCARDING_MAX: Duration = Duration::from_secs(20);

async fn read(mut payload: Payload, bytes_max: usize, setting: &str) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|e| ApiError::new(Code::InvalidBody, format!("the body broke off: {e}")))?;
        if body.len() + chunk.len() > bytes_max {
            drop(tokio::time::timeout(DISCARDING_MAX, discard(payload)).await);
            let message = format!("the body is larger than the limit of {bytes_max} bytes ({setting})");
            return Err(ApiError::new(Code::BodyTooLarge, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn discard(mut payload: Payload) {
    let mut seen = 0;
    while let Some(Ok(chunk)) = payload.next().await {
        seen += chunk.len();
        if seen > DISCARDED_BYTES_MAX {
            return;
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        ApiError::new(Code::InvalidBody, format!("the body isn't UTF-8: byte {} can't be read", e.valid_up_to()))
    })?;
    let text = if text.trim().is_empty() { "{}" } else { text };
    // serde would take a list for a struct.
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::new(Code::InvalidBody, "the body isn't a JSON object: send {...}"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let (path, cause) = (e.path().to_string(), e.inner());
        if cause.is_data() {
            let error = ApiError::new(Code::InvalidValue, format!("{path}: {cause}"));
            return if path == "." {
                ApiError::new(Code::InvalidValue, cause.to_string())
            } else {
                error.with_param(path)
            };
        }
        ApiError::new(Code::InvalidBody, format!("the body isn't JSON: {cause}"))
    })?;
    json.end().map_err(|e| ApiError::new(Code::InvalidBody, format!("the body isn't JSON: {e}")))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Probe {
        #[allow(dead_code, reason = "only its parsing is looked at")]
        items: Vec<u8>,
    }

    #[test]
    fn says_which_field_is_wrong() {
        let body = |bytes: &[u8]| parse::<Probe>(bytes).expect_err("refused");
        assert_eq!(body(br#"{"items": [1, "x"]}"#).body().error.param.as_deref(), Some("items[1]"));
        assert!(body(b"{}").to_string().contains("items"));
        assert_eq!(body(b"{").body().error.code, "invalid_body");
        assert_eq!(body(b"{\"items\": []} x").body().error.code, "invalid_body");
        let invalid = body(b"{\"items\": \"\xff\"}");
        assert_eq!((invalid.status_code().as_u16(), invalid.body().error.code), (400, "invalid_body"));
    }
}
