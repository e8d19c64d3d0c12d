//! Identifies the installation for `doctor`, `takeover` and `uninstall`, which share these flags and variables.

use super::typed::Typed;
use super::{is_label, kubeconfig, service};
use crate::kube::Kubeconfig;

pub(super) struct Installation {
    pub(super) kubeconfig: Option<Kubeconfig>,
    /// Name and namespace.
    pub(super) service: (String, String),
    pub(super) apiservice: String,
}

impl Installation {
    /// Returns `None` after reporting a problem.
    pub(super) fn of(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Self> {
        let apiservice = typed.value("apiservice");
        if !apiservice.split('.').all(is_label) {
            problems.push(format!("--apiservice: \"{apiservice}\" is not the name of an APIService"));
        }
        let kubeconfig = kubeconfig(typed);
        Some(Self { kubeconfig, service: service(&typed.value("service"), problems)?, apiservice })
    }
}
