//! The API client against a scripted server.

mod client;
mod config;
mod watcher;
