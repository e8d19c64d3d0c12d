//! Reads a Namespace: its name, and the pause that its annotations ask for.

use litemap::LiteMap;

use serde::Deserialize;

use super::fields::Diagnostics;
use super::metadata::{Unreadable, or_default};
use super::scaled_object::annotations::pause;
use crate::scaling::model::Pause;

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    annotations: LiteMap<String, String>,
}

/// Reads a Namespace from the API server's JSON.
///
/// # Errors
/// If the bytes are not an object with a `metadata.name`.
pub fn from_slice(json: &[u8]) -> Result<(String, Pause), Unreadable> {
    let Namespace { metadata } = serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
    let pause = pause(&metadata.annotations, &mut Diagnostics::default());
    Ok((metadata.name, Pause { is_of_namespace: true, ..pause }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_its_name_and_its_pause() {
        let plain = br#"{"metadata":{"name":"shop","annotations":null},"spec":{"finalizers":["kubernetes"]}}"#;
        let (name, pause) = from_slice(plain).expect("has a name");
        assert!(name == "shop" && !pause.is_any() && pause.is_of_namespace);
        let paused = br#"{"metadata":{"name":"shop","annotations":{"autoscaling.keda.sh/paused-replicas":"2"}}}"#;
        assert_eq!(from_slice(paused).expect("has a name").1.replicas, Some(Ok(2)));
        assert!(from_slice(b"{}").is_err());
    }
}
