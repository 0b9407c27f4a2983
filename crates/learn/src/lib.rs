//! Everything with tensors: the Llama block forward and backward, LoRA, SFT, reward model, PPO.
//!
//! No async, no SQL, no HTTP: this crate can be used alone as a library. There is no autograd; every op is a pair of pure
//! functions, forward and backward, with its equation above it.

mod backend;
pub mod checkpoint;
pub mod classify;
mod error;
pub mod evaluate;
pub mod files;
pub mod gae;
pub mod generate;
pub mod head;
pub mod import;
mod kernels;
pub mod lora;
pub mod losses;
pub mod merge;
pub mod metrics;
pub mod model;
pub mod optim;
mod params;
mod peft;
pub mod samples;
pub mod schedule;
pub mod tensorboard;
pub mod tiny;
pub mod train;

pub use error::LearnError;
pub use lora::{Adapter, LoraConfig};
pub use model::{Base, Batch, Device, Keep, ModelConfig, Served, Workspace, backward, forward};
pub use params::{Param, Params};
