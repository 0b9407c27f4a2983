//! The trainers on a tiny random base, through the crate's public face: what they learn, what they leave behind, how they go on
//! after a stop.

mod exact;
mod own_answers;
mod ppo;
mod recipe;
mod reward;
mod sft;
mod world;
