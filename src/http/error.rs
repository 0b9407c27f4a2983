//! THE table of errors: every layer's error becomes a status and OpenAI's error body here, and nowhere else.

use crate::chat::ChatError;
use crate::interchange::export::ExportError;
use crate::interchange::import::ImportError;
use crate::jobs::JobError;
use crate::labeling::LabelingError;
use crate::serving::AdmissionError;
use crate::store::StoreError;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use hone_domain::{EngineError, MessageError, RankingError, SamplingError};
use serde::Serialize;
use std::fmt;

/// What kind of thing went wrong. One row of the table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The body isn't JSON, or not UTF-8.
    InvalidBody,
    /// A field is missing or wrong.
    InvalidValue,
    /// The prompt doesn't fit.
    ContextLengthExceeded,
    /// Nobody is signed in.
    Unauthenticated,
    /// The role isn't enough, or another site's page asks.
    Forbidden,
    /// There is no such thing, or it is somebody else's.
    NotFound,
    /// No such model is served.
    ModelNotFound,
    /// The path takes other methods.
    MethodNotAllowed,
    /// It doesn't fit with what has happened meanwhile.
    Conflict,
    /// Nobody waits for the answer any more.
    ClientGone,
    /// The body is too large.
    BodyTooLarge,
    /// The body is understood and makes no sense.
    Unprocessable,
    /// Too many requests of one person.
    RateLimited,
    /// Too many requests of all.
    Busy,
    /// Nothing more can be written.
    DiskFull,
    /// hone's own fault.
    Internal,
}

impl Code {
    /// Status, OpenAI's `type`, and `code`.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::InvalidBody => (400, "invalid_request_error", "invalid_body"),
            Self::InvalidValue => (400, "invalid_request_error", "invalid_value"),
            Self::ContextLengthExceeded => (400, "invalid_request_error", "context_length_exceeded"),
            Self::Unauthenticated => (401, "authentication_error", "invalid_api_key"),
            Self::Forbidden => (403, "permission_error", "insufficient_role"),
            Self::NotFound => (404, "invalid_request_error", "not_found"),
            Self::ModelNotFound => (404, "invalid_request_error", "model_not_found"),
            Self::MethodNotAllowed => (405, "invalid_request_error", "method_not_allowed"),
            Self::Conflict => (409, "invalid_request_error", "conflict"),
            // No standard status; the usual one in logs.
            Self::ClientGone => (499, "invalid_request_error", "client_gone"),
            Self::BodyTooLarge => (413, "invalid_request_error", "body_too_large"),
            Self::Unprocessable => (422, "invalid_request_error", "unprocessable"),
            Self::RateLimited => (429, "rate_limit_error", "rate_limit_exceeded"),
            Self::Busy => (503, "server_error", "overloaded"),
            Self::DiskFull => (507, "server_error", "disk_full"),
            Self::Internal => (500, "server_error", "internal_error"),
        }
    }
}

/// An error on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    code: Code,
    message: String,
    param: Option<String>,
    retry_after_seconds: Option<u64>,
}

/// OpenAI's error body.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorDetail {
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// OpenAI's class of error.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    /// For programs: stable.
    pub code: &'static str,
}

impl ApiError {
    /// An error without a field.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retry_after_seconds = (code == Code::Busy).then_some(1);
        Self { code, message: message.into(), param: None, retry_after_seconds }
    }

    /// A field that is wrong.
    #[must_use]
    pub fn value(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(Code::InvalidValue, message) }
    }

    /// Names the field.
    #[must_use]
    pub fn with_param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// Too many requests; one more may come after so many seconds.
    #[must_use]
    pub fn rate_limited(seconds: u64) -> Self {
        let message = format!("too many requests: try again in {seconds} s");
        Self { retry_after_seconds: Some(seconds), ..Self::new(Code::RateLimited, message) }
    }

    /// The body; also the last event of a stream that breaks.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let (_, kind, code) = self.code.row();
        ErrorBody { error: ErrorDetail { message: self.message.clone(), kind, param: self.param.clone(), code } }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((RETRY_AFTER, seconds));
        }
        response.json(self.body())
    }
}

/// The cause goes to the log, once, here; the client learns that it isn't to blame.
fn internal(cause: &dyn fmt::Display) -> ApiError {
    tracing::error!(error = %cause, "a request failed");
    ApiError::new(Code::Internal, "hone failed; the server's log says why. Trying again may help")
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        match &e {
            StoreError::NotFound { .. } => Self::new(Code::NotFound, e.to_string()),
            StoreError::Conflict(_) => Self::new(Code::Conflict, e.to_string()),
            StoreError::DiskFull(_) => {
                tracing::error!(error = %e, "a request failed");
                Self::new(Code::DiskFull, e.to_string())
            }
            StoreError::Closed => Self::new(Code::Busy, e.to_string()),
            StoreError::Migration(_) | StoreError::Sqlite(_) | StoreError::Json(_) => internal(&e),
        }
    }
}

impl From<AdmissionError> for ApiError {
    fn from(e: AdmissionError) -> Self {
        match e {
            AdmissionError::Full => Self::new(Code::Busy, e.to_string()),
            AdmissionError::PersonFull(_) => {
                Self { retry_after_seconds: Some(1), ..Self::new(Code::RateLimited, e.to_string()) }
            }
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(e: EngineError) -> Self {
        match &e {
            EngineError::PromptTooLong { .. } => {
                Self::new(Code::ContextLengthExceeded, e.to_string()).with_param("messages")
            }
            EngineError::BadRequest(_) => Self::new(Code::InvalidValue, e.to_string()),
            EngineError::BadFormat(_) => Self::new(Code::InvalidValue, e.to_string()).with_param("response_format"),
            EngineError::BadTools(_) => Self::new(Code::InvalidValue, e.to_string()).with_param("tools"),
            EngineError::Busy => Self::new(Code::Busy, e.to_string()),
            EngineError::Load(_) | EngineError::Failed(_) => internal(&e),
        }
    }
}

impl From<MessageError> for ApiError {
    fn from(e: MessageError) -> Self {
        let too_long = matches!(e, MessageError::TooLong { .. });
        let code = if too_long { Code::ContextLengthExceeded } else { Code::InvalidValue };
        Self::new(code, e.to_string()).with_param("messages")
    }
}

impl From<SamplingError> for ApiError {
    fn from(e: SamplingError) -> Self {
        Self::value(e.param, e.to_string())
    }
}

impl From<RankingError> for ApiError {
    fn from(e: RankingError) -> Self {
        Self::new(Code::Unprocessable, e.to_string()).with_param("ranking")
    }
}

impl From<ChatError> for ApiError {
    fn from(e: ChatError) -> Self {
        match e {
            ChatError::Engine(e) => e.into(),
            ChatError::Admission(e) => e.into(),
            ChatError::Store(e) => e.into(),
            ChatError::Messages(e) => e.into(),
            ChatError::Ranking(e) => e.into(),
            ChatError::Feedback { param: "k", message } => Self::value("k", message),
            ChatError::Feedback { param, message } => Self::new(Code::Unprocessable, message).with_param(param),
            ChatError::UnknownModel(_) => Self::new(Code::ModelNotFound, e.to_string()).with_param("model"),
        }
    }
}

impl From<LabelingError> for ApiError {
    fn from(e: LabelingError) -> Self {
        match e {
            LabelingError::Chat(e) => e.into(),
            LabelingError::Store(e) => e.into(),
            LabelingError::Answer { param, message } => Self::new(Code::Unprocessable, message).with_param(param),
            LabelingError::Config(_) | LabelingError::Guidelines { .. } => internal(&e),
        }
    }
}

impl From<ImportError> for ApiError {
    fn from(e: ImportError) -> Self {
        match e {
            ImportError::Store(e) => e.into(),
            ImportError::File { .. } => internal(&e),
            ImportError::BadLines(bad) => {
                const SHOWN_MAX: usize = 20;
                let shown = bad.iter().take(SHOWN_MAX).map(|bad| format!("line {}: {}", bad.line, bad.reason));
                let mut lines: Vec<String> = shown.collect();
                if bad.len() > SHOWN_MAX {
                    lines.push(format!("... and {} more", bad.len() - SHOWN_MAX));
                }
                let message = format!(
                    "nothing was imported: mend or remove these lines, or pass over them with skip_bad=true\n{}",
                    lines.join("\n")
                );
                Self::new(Code::Unprocessable, message)
            }
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(e: ExportError) -> Self {
        match e {
            ExportError::Store(e) => e.into(),
            ExportError::Io(_) => internal(&e),
        }
    }
}

impl From<JobError> for ApiError {
    fn from(e: JobError) -> Self {
        match e {
            JobError::Invalid(_) => Self::new(Code::InvalidValue, e.to_string()).with_param("params"),
            JobError::NotEnoughData(_) => Self::new(Code::Unprocessable, e.to_string()),
            JobError::Conflict(_) => Self::new(Code::Conflict, e.to_string()),
            JobError::Store(e) => e.into(),
            JobError::Engine(e) => e.into(),
            other => internal(&other),
        }
    }
}
