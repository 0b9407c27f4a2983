//! What two policies answer to the same prompt, side by side. Nothing of it is kept.

use super::{Chat, ChatError};
use crate::serving::SharedPolicy;
use hone_domain::ids::UserId;
use hone_domain::{Conversation, EngineError, GenerateRequest, Sampling, StreamEvent};

impl Chat {
    /// Each policy's answer to a prompt, drawn with the same seed. It waits for its turn as any request of this person does.
    ///
    /// # Errors
    /// When the queue is full or a policy can't answer.
    pub async fn beside(
        &self,
        person: &UserId,
        prompt: &Conversation,
        sampling: &Sampling,
        policies: [&SharedPolicy; 2],
    ) -> Result<[String; 2], ChatError> {
        let _permit = self.serving.admit(person, policies.len()).await?;
        let [a, b] = policies.map(|policy| answer(policy, prompt, sampling));
        let (a, b) = futures_util::future::try_join(a, b).await?;
        Ok([a, b])
    }
}

async fn answer(policy: &SharedPolicy, prompt: &Conversation, sampling: &Sampling) -> Result<String, ChatError> {
    let sampling = Sampling { max_tokens: sampling.max_tokens.min(policy.context_tokens()), ..sampling.clone() };
    let request = GenerateRequest::new(prompt.messages().to_vec(), sampling);
    let mut events = policy.generate(request).await?;
    let mut text = String::new();
    while let Some(event) = events.recv().await {
        match event {
            StreamEvent::Token(token) => text.push_str(&token.text),
            // It was offered none.
            StreamEvent::ToolCall(_) => {}
            StreamEvent::Done { .. } => return Ok(text),
            StreamEvent::Failed(e) => return Err(e.into()),
        }
    }
    Err(EngineError::Failed("it stopped in the middle of an answer".into()).into())
}
