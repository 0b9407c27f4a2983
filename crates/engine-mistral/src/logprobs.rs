//! Log-probabilities of a given text from mistralrs's whole logits, for the serve check.

use hone_domain::EngineError;
use hone_text::logprob_of;
use mistralrs::{DType, Response, Tensor};
use tokio::sync::mpsc::Receiver;

/// Reads the logits from mistralrs's channel, to its end: its engine thread breaks when it can't send.
///
/// # Shapes
/// The tensors have T rows of (vocabulary) together.
pub(crate) async fn receive(mut responses: Receiver<Response>) -> Result<Vec<Tensor>, EngineError> {
    let mut logits = Err(EngineError::Failed("mistralrs stopped before it had the logits: try again".into()));
    while let Some(response) = responses.recv().await {
        match response {
            Response::Raw { logits_chunks, .. } => logits = Ok(logits_chunks),
            Response::InternalError(e) | Response::ValidationError(e) => {
                logits = Err(EngineError::Failed(e.to_string()));
            }
            Response::CompletionModelError(why, _) => logits = Err(EngineError::Failed(why)),
            _ => {}
        }
    }
    logits
}

/// log p(tokens[t] | tokens[..t]) for t = 1..T.
///
/// # Shapes
/// `logits` T rows of (vocabulary) in one or several tensors, `tokens` (T), answer (T - 1).
pub(crate) fn score(logits: &[Tensor], tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
    let mut scores = Vec::with_capacity(tokens.len().saturating_sub(1));
    let mut targets = tokens.iter().skip(1);
    for chunk in logits {
        let rows = chunk.to_dtype(DType::F32).and_then(|chunk| chunk.to_vec2::<f32>());
        for row in rows.map_err(|e| EngineError::Failed(e.to_string()))? {
            let Some(&target) = targets.next() else { return Ok(scores) };
            let broken = || EngineError::Failed("the model computed no finite logits; its weights are damaged".into());
            scores.push(logprob_of(&row, target).ok_or_else(broken)?);
        }
    }
    match targets.next() {
        None => Ok(scores),
        Some(_) => Err(EngineError::Failed("mistralrs answered with logits for a part of the text only".into())),
    }
}
