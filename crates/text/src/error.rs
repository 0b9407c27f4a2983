//! What can go wrong between text and tokens.

use std::path::PathBuf;

/// Why a model folder's tokenizer can't be used, or a text can't be encoded. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file that every base model needs isn't there.
    #[error("{} is missing: a base model needs it; get it from where the model came from and put it there", .0.display())]
    Missing(PathBuf),
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file isn't what its name says.
    #[error("{} can't be understood ({reason}): download the model again", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        reason: String,
    },
    /// Without an end-of-text token no answer would ever end.
    #[error(
        "no end-of-text token is named in {}: add \"eos_token\" to its tokenizer_config.json or \"eos_token_id\" to its config.json",
        .0.display()
    )]
    NoEos(PathBuf),
    /// The chat template isn't valid, or refuses these messages.
    #[error("the model's chat template refuses these messages: {0}")]
    Template(String),
    /// The tokenizer failed.
    #[error("the tokenizer failed on this text: {0}")]
    Encode(String),
    /// An answer can't be held to the format that is asked for.
    #[error("answers can't be held to this format: {0}")]
    Format(String),
}
