//! The Llama family: its shape, its frozen weights, its explicit forward and backward over packed sequences.

mod adapted;
mod batch;
mod block;
mod config;
mod device;
mod dropout;
mod pass;
mod weights;
mod workspace;

pub use crate::kernels::stored::Format;
pub use adapted::Served;
pub use batch::Batch;
pub use config::{ModelConfig, RopeScaling};
pub use device::Device;
pub use dropout::Dropout;
pub use pass::{How, Keep, backward, forward, forward_with, trunk};
pub use weights::Base;
pub use workspace::Workspace;

pub(crate) use adapted::{ModelAdapters, each_for_its_rows, resolve};
pub(crate) use block::Block;
pub(crate) use pass::{check, embed};
#[cfg(feature = "cuda")]
pub(crate) use weights::Layer;
pub(crate) use weights::{Model, WeightFiles, Weights, to_f32};
pub(crate) use workspace::Pool;
