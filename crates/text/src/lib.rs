//! Messages to tokens and back: the one tokenizer and chat template that trainer and engines share; and what every engine
//! does alike with the logits it computed: draw a token, make text of it, find the functions it calls, see the end of the answer.
//! May use: tokenizers, minijinja, llguidance, hone-domain. Knows nothing of tensors, HTTP or the database.
//!
//! A model folder says everything that is read here: `tokenizer.json` (needed), and where there are any
//! `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and `config.json`.

mod answer;
mod calls;
mod constraint;
mod error;
mod folder;
mod sampler;
mod stop;
mod stream;
mod template;
mod tokenizer;

pub use answer::Answer;
pub use error::TextError;
pub use sampler::{Picked, Sampler, logprob_of};
pub use stop::StopFilter;
pub use stream::TextStream;
pub use template::plain_template;
pub use tokenizer::ChatTokenizer;
