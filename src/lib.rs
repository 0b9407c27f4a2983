//! hone, the app: serves a chat model, collects rankings, trains on them in the background, swaps the better policy in.
//! One direction: cli -> http, jobs -> chat, labeling -> serving -> store -> domain; jobs -> learn.

pub mod chat;
pub mod classifier;
pub mod cli;
pub mod config;
pub mod http;
pub mod interchange;
pub mod jobs;
pub mod labeling;
pub mod models;
pub mod report;
pub mod serving;
pub mod startup;
pub mod store;
pub mod telemetry;
