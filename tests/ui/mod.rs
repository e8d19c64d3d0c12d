//! The user's views of the history: the page in a real browser, its JSON, and the plot in a terminal.

mod ages;
mod api;
mod browser;
mod command;
mod scene;
