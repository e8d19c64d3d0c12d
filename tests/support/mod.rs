//! Helpers that several test modules share.

pub(crate) mod fake_kube;
//! Fakes and builders that several test modules share.
pub(crate) mod fake_prometheus;
