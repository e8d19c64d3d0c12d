//! The languages that a trigger's `valueLocation` is written in, and the formats of answers that it points into.
//!
//! Pure, and below everything that asks: [`path`] (GJSON paths into JSON), `yaml`, [`xml`], [`exposition`] (Prometheus' text
//! format) and [`url`]. What a server answers is never trusted: it is bounded in size and depth, no bytes break it, and no
//! tree is made of it: a value is found where it lies.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod exposition;
mod glob;
pub mod json;
pub mod path;
mod tree;
pub mod url;
pub mod xml;
pub(crate) mod yaml;
