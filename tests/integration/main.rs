//! The integration tests: one binary, one file per surface. Each starts the real server on a free port with its own data folder.

mod access;
mod bad_input;
mod binary;
mod challenger;
mod chat;
mod conversations;
mod data_room;
mod diff;
mod durability;
mod engine_death;
mod feedback;
mod jobs;
mod labeling;
mod learning_loop;
mod native;
mod never_lost;
mod openapi;
mod page;
mod pairs;
mod people;
mod stalled;
mod support;
mod swaps;
mod traces;
mod train_command;
