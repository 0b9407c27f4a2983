//! `POST /v1/policies/diff`: what two policies answer to the same prompts.

use super::App;
use super::auth::Caller;
use super::body::{Body, or_default};
use super::error::{ApiError, Code, ErrorBody};
use super::messages::{MessageIn, MessageOut, conversation};
use super::presence;
use crate::serving::SwapMode;
use crate::store::training_data;
use crate::store::users::Role;
use actix_web::{HttpRequest, web};
use hone_domain::ids::PolicyId;
use hone_domain::{Conversation, Sampling};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What to compare.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DiffRequest {
    /// A policy's id.
    a: String,
    /// Another one's, on the same base model.
    b: String,
    /// Up to eight prompts, each a list of messages; left out: the newest three that people sent.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Vec<Vec<MessageIn>>>, max_items = 8)]
    prompts: Vec<Vec<MessageIn>>,
    /// Both policies draw with it. Default 1.
    seed: Option<i64>,
    /// 0 (always the likeliest token) to 2. Default 0: what differs then differs because of the policies.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Most tokens of an answer. Default 256.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
}

/// What two policies answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiffBody {
    /// The one policy.
    a: String,
    /// The other.
    b: String,
    /// Prompt by prompt.
    answers: Vec<DiffAnswers>,
}

/// Two answers to a prompt.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiffAnswers {
    /// The prompt.
    messages: Vec<MessageOut>,
    /// The one policy's answer.
    a: String,
    /// The other's.
    b: String,
    /// Whether they are the same, to the letter.
    same: bool,
}

const PROMPTS_MAX: usize = 8;
const PROMPTS_DEFAULT: usize = 3;

/// Has two policies answer the same prompts. They are loaded beside the live one for it; nothing is kept.
///
/// # Errors
/// 403 below the role `operator`, 404, 409 where memory holds one policy (`serving.swap = "drain"`) or there is no prompt, 503 when the
/// queue is full.
#[utoipa::path(post, path = "/v1/policies/diff", tag = "operators", request_body = DiffRequest,
    responses((status = 200, body = DiffBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn diff(
    app: web::Data<App>,
    http: HttpRequest,
    caller: Caller,
    Body(request): Body<DiffRequest>,
) -> Result<web::Json<DiffBody>, ApiError> {
    caller.require(Role::Operator)?;
    if app.config.serving.swap == SwapMode::Drain {
        let message = "memory holds one policy here (serving.swap = \"drain\"): another one would have to take the place of the one that people talk to";
        return Err(ApiError::new(Code::Conflict, message));
    }
    let DiffRequest { a, b, prompts, seed, temperature, max_tokens } = request;
    if prompts.len() > PROMPTS_MAX {
        return Err(ApiError::value("prompts", format!("send at most {PROMPTS_MAX} prompts, not {}", prompts.len())));
    }
    let sampling = Sampling {
        temperature: temperature.unwrap_or(0.0),
        max_tokens: max_tokens.unwrap_or(256),
        seed: Some(seed.unwrap_or(1).cast_unsigned()),
        ..Sampling::default()
    };
    let sampling = sampling.checked()?;
    let prompts: Vec<Conversation> = match prompts.is_empty() {
        false => prompts.into_iter().map(conversation).collect::<Result<_, _>>()?,
        true => newest_prompts(&app).await?,
    };
    let (of_a, of_b) = (PolicyId::from_raw(&a), PolicyId::from_raw(&b));
    let all = async {
        let (of_a, of_b) = (app.champions.beside(&of_a).await?, app.champions.beside(&of_b).await?);
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let [a, b] = app.chat.beside(&caller.0.id, &prompt, &sampling, [&of_a, &of_b]).await?;
            let messages = prompt.into_messages().into_iter().map(MessageOut::from).collect();
            answers.push(DiffAnswers { messages, same: a == b, a, b });
        }
        Ok::<_, ApiError>(answers)
    };
    let answers = presence::while_here(&http, all).await?;
    Ok(web::Json(DiffBody { a, b, answers }))
}

async fn newest_prompts(app: &App) -> Result<Vec<Conversation>, ApiError> {
    let newest = app.store.read(|c| training_data::newest_prompts(c, PROMPTS_DEFAULT)).await?;
    if newest.is_empty() {
        return Err(ApiError::new(Code::Conflict, "nobody has asked anything yet: send `prompts`"));
    }
    Ok(newest.into_iter().filter_map(|messages| Conversation::parse(messages).ok()).collect())
}
