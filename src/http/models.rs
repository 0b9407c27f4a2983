//! `GET /v1/models`: what can be named as `model`.

use super::App;
use super::error::{ApiError, Code, ErrorBody};
use actix_web::web;
use serde::Serialize;
use utoipa::ToSchema;

/// OpenAI's list.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// Something that can be named as `model`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// The name: `champion`, `challenger`, or a policy's id.
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Seconds since 1970; 0, as a policy's own record has its time.
    created: i64,
    /// Always `hone`.
    owned_by: &'static str,
    /// The policy that answers under this name.
    policy: String,
}

fn served(app: &App) -> Vec<Model> {
    let model = |id: &str, policy: &str| Model {
        id: id.to_owned(),
        object: "model",
        created: 0,
        owned_by: "hone",
        policy: policy.to_owned(),
    };
    let live = app.serving.live();
    let previous = app.serving.previous();
    let challenger = app.serving.challenger();
    let mut models = vec![model("champion", live.id().as_str()), model(live.id().as_str(), live.id().as_str())];
    let by_id = |id: &str| model(id, id);
    models.extend(previous.map(|p| by_id(p.id().as_str())));
    if let Some(challenger) = challenger {
        let id = challenger.policy.id().as_str();
        models.push(model("challenger", id));
        if models.iter().all(|model| model.id != id) {
            models.push(by_id(id));
        }
    }
    models
}

/// The served policies and their aliases.
#[utoipa::path(get, path = "/v1/models", tag = "chat", responses((status = 200, body = ModelList)))]
pub async fn list(app: web::Data<App>) -> web::Json<ModelList> {
    web::Json(ModelList { object: "list", data: served(&app) })
}

/// One of them.
///
/// # Errors
/// 404 when nothing is served under this name.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "chat", params(("id" = String, Path)),
    responses((status = 200, body = Model), (status = 404, body = ErrorBody)))]
pub async fn get(app: web::Data<App>, id: web::Path<String>) -> Result<web::Json<Model>, ApiError> {
    let found = served(&app).into_iter().find(|m| m.id == *id);
    let missing = || {
        ApiError::new(Code::ModelNotFound, format!("the model `{id}` isn't served here; GET /v1/models lists what is"))
    };
    found.map(web::Json).ok_or_else(missing)
}
