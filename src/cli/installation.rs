//! Which installation `doctor`, `takeover` and `uninstall` are about: the same flags and variables for all of them.

use std::path::PathBuf;

use lexopt::Parser;

use super::{Problems, is_label, service, take};

/// As typed.
pub(super) struct Installation {
    kubeconfig: Option<String>,
    service: String,
    apiservice: String,
}

/// As it is valid.
pub(super) struct Named {
    pub(super) kubeconfig: Option<PathBuf>,
    /// Name and namespace.
    pub(super) service: (String, String),
    pub(super) apiservice: String,
}

impl Installation {
    pub(super) fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        Self {
            kubeconfig: env("KUBECONFIG"),
            service: env("HPALITE_SERVICE").unwrap_or_else(|| "hpalite.hpalite".to_owned()),
            apiservice: env("HPALITE_APISERVICE").unwrap_or_else(|| "v1beta1.external.metrics.k8s.io".to_owned()),
        }
    }

    /// Takes the value of `--kubeconfig`, `--service` or `--apiservice`, named without its dashes.
    pub(super) fn take(&mut self, flag: &str, parser: &mut Parser, problems: &mut Vec<String>) {
        let slot = match flag {
            "service" => &mut self.service,
            "apiservice" => &mut self.apiservice,
            _ => self.kubeconfig.get_or_insert_default(),
        };
        take(parser, &format!("--{flag}"), problems, |value| *slot = value);
    }

    /// What was typed, if all of it is valid.
    pub(super) fn finish(self, mut problems: Vec<String>) -> Result<Named, Problems> {
        if !self.apiservice.split('.').all(is_label) {
            problems.push(format!("--apiservice: \"{}\" is not the name of an APIService", self.apiservice));
        }
        match service(&self.service, &mut problems) {
            Some(service) if problems.is_empty() => {
                let kubeconfig = self.kubeconfig.map(PathBuf::from);
                Ok(Named { kubeconfig, service, apiservice: self.apiservice })
            }
            _ => Err(Problems(problems)),
        }
    }
}
