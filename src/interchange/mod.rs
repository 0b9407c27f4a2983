//! Feedback as JSONL files: what `hone data import` reads and `hone data export` writes. May use: store, domain.

pub mod export;
pub mod import;
mod shapes;
