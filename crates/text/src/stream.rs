//! Tokens to text while they come: nothing is shown before its characters are complete.

use crate::ChatTokenizer;

/// A character is at most four tokens (one per UTF-8 byte). When more than this many are pending they are no text, and
/// are shown as they are, so that a model that talks rubbish can't make each step slower than the last.
const PENDING_MAX: usize = 16;

/// Decodes one answer token by token. The pieces together are exactly what decoding all tokens at once gives (but for
/// a run of more than 16 invalid bytes, which shows up as replacement characters).
pub struct TextStream {
    tokenizer: ChatTokenizer,
    tokens: Vec<u32>,
    /// Tokens before this are out of the window; they were needed only for the spaces between words.
    window: usize,
    /// Text up to here was sent.
    sent: usize,
}

impl TextStream {
    pub(crate) fn new(tokenizer: ChatTokenizer) -> Self {
        Self { tokenizer, tokens: Vec::new(), window: 0, sent: 0 }
    }

    /// Takes a token, gives the text that is complete now; empty while a character is incomplete, and for special
    /// tokens.
    pub fn push(&mut self, token: u32) -> String {
        self.tokens.push(token);
        let text = self.unsent();
        let pending = self.tokens.len() - self.sent > PENDING_MAX;
        if text.is_empty() || (text.ends_with(char::REPLACEMENT_CHARACTER) && !pending) {
            return String::new();
        }
        self.window = self.sent;
        self.sent = self.tokens.len();
        text
    }

    /// The end of the answer: what was held back.
    pub fn finish(&mut self) -> String {
        let text = self.unsent();
        self.window = self.tokens.len();
        self.sent = self.tokens.len();
        text
    }

    /// What the tokens since `sent` add to the window's text.
    fn unsent(&self) -> String {
        let before = self.tokenizer.decode(&self.tokens[self.window..self.sent]);
        let now = self.tokenizer.decode(&self.tokens[self.window..]);
        now.get(before.len()..).unwrap_or_default().to_owned()
    }
}
