//! Messages to tokens and back: the one tokenizer and chat template that trainer and engines share.
//! May use: tokenizers, minijinja, hone-domain. Knows nothing of tensors, HTTP or the database.
//!
//! A model folder says everything that is read here: `tokenizer.json` (needed), and where there are any
//! `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and `config.json`.

mod error;
mod folder;
mod stop;
mod stream;
mod template;
mod tokenizer;

pub use error::TextError;
pub use stop::StopFilter;
pub use stream::TextStream;
pub use template::plain_template;
pub use tokenizer::ChatTokenizer;
