//! Everything with tensors: the Llama block forward and backward, LoRA, SFT, reward model, PPO.

pub mod gae;
pub mod losses;
pub mod schedule;
pub mod train;
