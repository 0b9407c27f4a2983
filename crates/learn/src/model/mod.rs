//! The Llama family: its shape, its frozen weights, its explicit forward and backward over packed sequences.

mod batch;
mod config;
mod rope;
mod weights;

pub use batch::Batch;
pub use config::{ModelConfig, RopeScaling};
pub use weights::Base;
pub(crate) use weights::{WeightFiles, to_f32};
