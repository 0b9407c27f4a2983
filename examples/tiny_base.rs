//! Writes a complete base model of random weights, small enough to be trained in seconds: `cargo run --example tiny_base --
//! FOLDER`. What a test of the whole loop runs on; its answers mean nothing.

use hone_learn::LearnError;
use hone_learn::tiny::{self, TinySpec};

fn main() -> Result<(), LearnError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "tiny".to_owned());
    tiny::write(folder.as_ref(), &TinySpec::default())
}
