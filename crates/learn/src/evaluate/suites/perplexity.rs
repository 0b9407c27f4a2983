//! Perplexity: how well a policy still predicts texts that it wasn't optimised for, the tax of its training. Plain text in windows, or
//! conversations of which the last answer counts. Parses, cuts and counts.

use super::table::{self, Row};
use super::{About, Better, FigureKind, Item, Of, Pair, Scorer, Suite, Unit};
use crate::LearnError;
use hone_domain::{Demonstration, Message, Role};
use hone_text::ChatTokenizer;

/// Longest piece of a text that is scored at once, tokens, the one before it included. Shorter where the model's context is.
const WINDOW_TOKENS: usize = 512;

const TEXT: About = About { name: "perplexity", version: 1, figures: &TEXT_FIGURES };

const TEXT_FIGURES: [FigureKind; 2] = [
    FigureKind { name: "perplexity_nats", better: Better::Lower, unit: Unit::Nats, of: Of::Amounts },
    FigureKind { name: "perplexity", better: Better::Lower, unit: Unit::Perplexity, of: Of::Exponent },
];

const DEMONSTRATIONS: About = About { name: "demonstrations", version: 1, figures: &DEMONSTRATION_FIGURES };

const DEMONSTRATION_FIGURES: [FigureKind; 2] = [
    FigureKind { name: "demonstrations_nats", better: Better::Lower, unit: Unit::Nats, of: Of::Amounts },
    FigureKind { name: "demonstrations_perplexity", better: Better::Lower, unit: Unit::Perplexity, of: Of::Exponent },
];

/// Pieces of text, each with what is given before it.
pub(super) struct Perplexity {
    about: &'static About,
    pieces: Vec<Pair>,
}

impl Perplexity {
    /// Reads plain text, or JSON lines with `text`, or with `messages` that end in an answer.
    pub(super) fn parse(data: &[u8], tokenizer: &ChatTokenizer, context: usize) -> Result<Self, String> {
        let text = table::text(data)?;
        let mut pieces = Vec::new();
        if text.trim_start().starts_with('{') {
            for row in table::rows(data)? {
                pieces.extend(row_pieces(&row, tokenizer, context).map_err(|e| format!("{}: {e}", row.place))?);
            }
        } else {
            pieces = windows(text, tokenizer, context)?;
        }
        Self::of(&TEXT, pieces)
    }

    pub(super) fn of_demonstrations(
        all: &[Demonstration],
        tokenizer: &ChatTokenizer,
        context: usize,
    ) -> Result<Self, String> {
        let mut pieces = Vec::new();
        for demonstration in all {
            pieces.extend(answer(&demonstration.messages, &demonstration.ideal, tokenizer, context)?);
        }
        Self::of(&DEMONSTRATIONS, pieces)
    }

    fn of(about: &'static About, pieces: Vec<Pair>) -> Result<Self, String> {
        if pieces.is_empty() {
            return Err("there is no text that fits the model's context".to_owned());
        }
        Ok(Self { about, pieces })
    }
}

impl Suite for Perplexity {
    fn about(&self) -> &'static About {
        self.about
    }

    fn items(&self) -> usize {
        self.pieces.len()
    }

    fn score(&self, items: &[usize], scorer: &mut Scorer<'_>) -> Result<Vec<Item>, LearnError> {
        let pieces: Vec<Pair> = items.iter().map(|&item| self.pieces[item].clone()).collect();
        let said = scorer.log_likelihoods(&pieces)?;
        let value = |((&item, piece), log): ((&usize, &Pair), f64)| {
            let tokens = piece.continuation.len() as f64;
            Item { item, weight: tokens, values: vec![Some(-log / tokens); 2] }
        };
        Ok(items.iter().zip(&pieces).zip(said).map(value).collect())
    }
}

fn row_pieces(row: &Row, tokenizer: &ChatTokenizer, context: usize) -> Result<Vec<Pair>, String> {
    if let Some(text) = row.text("text") {
        return windows(text, tokenizer, context);
    }
    let messages = row.fields.get("messages").cloned().ok_or("there is neither \"text\" nor \"messages\"")?;
    let mut messages: Vec<Message> = serde_json::from_value(messages).map_err(|e| format!("\"messages\": {e}"))?;
    match messages.pop() {
        Some(last) if !last.is_text() || messages.iter().any(|m| !m.is_text()) => {
            Err("\"messages\" have to do with tools, and only texts are read".to_owned())
        }
        Some(Message { role: Role::Assistant, content, .. }) if !messages.is_empty() => {
            Ok(answer(&messages, &content, tokenizer, context)?.into_iter().collect())
        }
        _ => Err("\"messages\" don't end in an answer of the assistant".to_owned()),
    }
}

/// An answer to its prompt; its end is cut where both are longer than the context, and nothing is left of it where the prompt alone is.
fn answer(
    messages: &[Message],
    answer: &str,
    tokenizer: &ChatTokenizer,
    context: usize,
) -> Result<Option<Pair>, String> {
    let prompt = tokenizer.encode_prompt(messages).map_err(|e| e.to_string())?;
    let mut tokens = tokenizer.encode_answer(answer).map_err(|e| e.to_string())?;
    tokens.truncate(context.saturating_sub(prompt.len()));
    Ok((!prompt.is_empty() && !tokens.is_empty()).then_some(Pair { context: prompt, continuation: tokens }))
}

/// A text cut into windows without overlap. Before the first stands what opens a text, before each other one the last token of the one before.
fn windows(text: &str, tokenizer: &ChatTokenizer, context: usize) -> Result<Vec<Pair>, String> {
    let tokens = tokenizer.encode_text(text, false).map_err(|e| e.to_string())?;
    let size = context.min(WINDOW_TOKENS).saturating_sub(1).max(1);
    let mut before = tokenizer.opening_id();
    let mut pieces = Vec::new();
    for window in tokens.chunks(size) {
        pieces.push(Pair { context: vec![before], continuation: window.to_vec() });
        before = window.last().copied().unwrap_or(before);
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny::{self, TinySpec};

    fn tokenizer() -> ChatTokenizer {
        let home = tempfile::tempdir().expect("temp dir");
        tiny::write(home.path(), &TinySpec::default()).expect("a base");
        ChatTokenizer::open(home.path()).expect("opens")
    }

    #[test]
    fn each_token_of_a_text_is_scored_once() {
        let tokenizer = tokenizer();
        let found = Perplexity::parse(b"abcdefghij", &tokenizer, 5).expect("parses").pieces;
        assert_eq!(found.iter().map(|p| p.continuation.len()).collect::<Vec<_>>(), [4, 4, 2]);
        let all: Vec<u32> = found.iter().flat_map(|p| p.continuation.clone()).collect();
        assert_eq!(tokenizer.decode(&all), "abcdefghij");
        assert_eq!((found[0].context[0], tokenizer.decode(&found[1].context).as_str()), (1, "d"));
    }

    #[test]
    fn of_a_conversation_the_last_answer_counts() {
        let tokenizer = tokenizer();
        let line = "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"yes\"}]}\n";
        let parsed = |data: &str| Perplexity::parse(data.as_bytes(), &tokenizer, 256).map(|p| p.pieces);
        let found = parsed(line).expect("parses");
        assert_eq!(tokenizer.decode(&found[0].continuation), "yes");
        assert_eq!(found[0].continuation.len(), 4, "with the token that ends it");
        let other = Demonstration { messages: vec![Message::user("q")], ideal: "yes".into(), labeler: "l".into() };
        let other = Perplexity::of_demonstrations(&[other], &tokenizer, 256).expect("parses");
        assert_eq!((other.pieces, other.about.name), (found, "demonstrations"));
        assert_eq!(parsed("{\"text\": \"ab\"}").expect("parses").len(), 1);
        assert_eq!(
            parsed(&format!("{line}{{\"x\": 1}}")).expect_err("refused"),
            "line 2: there is neither \"text\" nor \"messages\""
        );
        assert!(parsed(&line.replace("assistant", "user")).expect_err("refused").contains("don't end in an answer"));
    }
}
