//! Writes a complete base model of random weights, small enough to be trained in seconds: `cargo run --example tiny_base --
//! FOLDER [CONTEXT_TOKENS]`. What a test of the whole loop runs on; its answers mean nothing.

use hone_learn::LearnError;
use hone_learn::tiny::{self, TinySpec};

fn main() -> Result<(), LearnError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "tiny".to_owned());
    let context = std::env::args().nth(2).and_then(|tokens| tokens.parse().ok()).unwrap_or(TinySpec::default().context);
    tiny::write(folder.as_ref(), &TinySpec { context, ..TinySpec::default() })
}
