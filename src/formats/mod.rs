//! The languages of a trigger's `valueLocation`, and the formats of answers that it points into.
//!
//! Pure, and below all modules that send queries: [`path`] (GJSON paths into JSON), [`json_path`] (JSONPath), `yaml`,
//! [`xml`], [`exposition`] (Prometheus' text format), [`kafka`] and [`url`]. Answers are never trusted: size and depth
//! are bounded, any bytes are safe, and no tree is built, since values are read in place.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod exposition;
mod glob;
pub mod json;
pub mod json_path;
pub mod kafka;
pub mod path;
pub mod pattern;
mod tree;
pub mod url;
pub mod xml;
pub(crate) mod yaml;
