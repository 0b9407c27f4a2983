//! `/v1/conversations`: chats kept for the person who has them. Nobody else reads them, operators included.

use super::App;
use super::auth::Caller;
use super::body::{Body, or_default};
use super::error::{ApiError, ErrorBody};
use super::messages::{listed, skipped};
use crate::chat::conversations::markdown;
use crate::store::Page;
use crate::store::conversations::{Conversation, Document, Entry, NewState, Turn};
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use hone_domain::ids::ConversationId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

/// A conversation to be kept. What is left out is emptied: it is the whole of it.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ConversationIn {
    /// The revision that this is a change to; 0 for a new conversation.
    revision: u64,
    /// 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// `false`: nothing of it is learned from, what was said before included. (Send `store: false` with each chat request as well: then
    /// nothing is kept beside this document.) Default true.
    record: Option<bool>,
    /// Instructions to the model.
    system: Option<String>,
    /// Sampling settings as chat requests name them; hone doesn't look at them.
    #[schema(value_type = Option<Object>)]
    sampling: Option<Map<String, Value>>,
    /// The last turn of the branch that is shown; null: the newest turn.
    shown: Option<String>,
    /// All turns, each after its parent.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Vec<Turn>>, max_items = 10000)]
    turns: Vec<Turn>,
}

/// A conversation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationBody {
    #[serde(flatten)]
    entry: Entry,
    /// Instructions to the model.
    system: Option<String>,
    /// Sampling settings.
    #[schema(value_type = Option<Object>)]
    sampling: Option<Map<String, Value>>,
    /// The last turn of the branch that is shown; null: the newest turn.
    shown: Option<String>,
    /// All turns, each after its parent. Turns with the same parent are siblings.
    turns: Vec<Turn>,
}

impl From<Conversation> for ConversationBody {
    fn from(Conversation { entry, document }: Conversation) -> Self {
        let Document { system, sampling, shown, turns } = document;
        Self { entry, system, sampling, shown, turns }
    }
}

/// Which conversations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConversationQuery {
    /// Only those with this text in their title or turns, in any case.
    q: Option<String>,
    /// At most so many, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// Leave out so many at the beginning. Default 0.
    #[param(minimum = 0)]
    offset: Option<usize>,
}

/// A person's conversations.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationList {
    /// The last changed first.
    conversations: Vec<Entry>,
    /// How many there are.
    total: u64,
}

/// The caller's conversations.
///
/// # Errors
/// 401.
#[utoipa::path(get, path = "/v1/conversations", tag = "conversations", params(ConversationQuery),
    responses((status = 200, body = ConversationList)))]
pub async fn list(
    app: web::Data<App>,
    Caller(user): Caller,
    web::Query(query): web::Query<ConversationQuery>,
) -> Result<web::Json<ConversationList>, ApiError> {
    let (limit, offset) = (listed(query.limit)?, skipped(query.offset)?);
    let Page { items, total } = app.chat.conversations(user.id, query.q.unwrap_or_default(), limit, offset).await?;
    Ok(web::Json(ConversationList { conversations: items, total }))
}

/// One of the caller's conversations.
///
/// # Errors
/// 404 when it isn't theirs.
#[utoipa::path(get, path = "/v1/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, body = ConversationBody), (status = 404, body = ErrorBody)))]
pub async fn get(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
) -> Result<web::Json<ConversationBody>, ApiError> {
    let conversation = app.chat.conversation(ConversationId::from_raw(id.into_inner()), user.id).await?;
    Ok(web::Json(conversation.into()))
}

/// Keeps a conversation under an id that the client has chosen (1 to 64 letters, digits, `-` and `_`), or the next revision of it. It is
/// on disk when the response is sent.
///
/// # Errors
/// 404 when the id is somebody else's or the conversation was deleted, 409 when it was changed elsewhere meanwhile, 422 when the turns
/// make no tree.
#[utoipa::path(put, path = "/v1/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    request_body = ConversationIn, responses((status = 200, body = Entry), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn put(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
    Body(request): Body<ConversationIn>,
) -> Result<web::Json<Entry>, ApiError> {
    let ConversationIn { revision, title, record, system, sampling, shown, turns } = request;
    let document = Document { system, sampling, shown, turns };
    let new = NewState { revision, title, record: record.unwrap_or(true), document };
    Ok(web::Json(app.chat.keep_conversation(ConversationId::from_raw(id.into_inner()), user.id, new).await?))
}

/// Another title.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TitleIn {
    /// 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
}

/// Renames a conversation, whatever its revision is; it gets the next one.
///
/// # Errors
/// 404 when it isn't the caller's, 422 when the title is empty or too long.
#[utoipa::path(put, path = "/v1/conversations/{id}/title", tag = "conversations", params(("id" = String, Path)),
    request_body = TitleIn, responses((status = 200, body = Entry), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub async fn rename(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
    Body(TitleIn { title }): Body<TitleIn>,
) -> Result<web::Json<Entry>, ApiError> {
    let id = ConversationId::from_raw(id.into_inner());
    Ok(web::Json(app.chat.rename_conversation(id, user.id, &title).await?))
}

/// Removes a conversation with its logged answers and their thumbs, which are learned from no more. Rankings stay.
///
/// # Errors
/// 404 when it isn't the caller's.
#[utoipa::path(delete, path = "/v1/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub async fn delete(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    app.chat.delete_conversation(ConversationId::from_raw(id.into_inner()), user.id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The shape of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// The whole document, all branches.
    Json,
    /// The branch that is shown, to read.
    Markdown,
}

/// How to export.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Default `json`.
    format: Option<ExportFormat>,
}

/// A conversation as a file.
///
/// # Errors
/// 404 when it isn't the caller's.
#[utoipa::path(get, path = "/v1/conversations/{id}/export", tag = "conversations", params(("id" = String, Path), ExportQuery),
    responses((status = 200, content((ConversationBody = "application/json"), (String = "text/markdown"))), (status = 404, body = ErrorBody)))]
pub async fn export(
    app: web::Data<App>,
    Caller(user): Caller,
    id: web::Path<String>,
    web::Query(ExportQuery { format }): web::Query<ExportQuery>,
) -> Result<HttpResponse, ApiError> {
    let conversation = app.chat.conversation(ConversationId::from_raw(id.into_inner()), user.id).await?;
    let mut answer = HttpResponse::Ok();
    let attached = |name: &str| (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\""));
    Ok(match format.unwrap_or(ExportFormat::Json) {
        ExportFormat::Json => {
            answer.insert_header(attached("conversation.json")).json(ConversationBody::from(conversation))
        }
        ExportFormat::Markdown => answer
            .insert_header(attached("conversation.md"))
            .insert_header((CONTENT_TYPE, "text/markdown; charset=utf-8"))
            .body(markdown(&conversation)),
    })
}
