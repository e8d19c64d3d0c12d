//! The history as people look at it: the page in a real browser, its JSON, and the plot in a terminal.

mod api;
mod browser;
mod command;
mod scene;
