//! Fakes and helpers that several test modules share.

pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod deaf;
pub(crate) mod fake_kube;
pub(crate) mod fake_prometheus;
pub(crate) mod kafka;
pub(crate) mod look_alikes;
pub(crate) mod prometheus;
pub(crate) mod servers;
pub(crate) mod sigv4;
