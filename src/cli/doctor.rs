//! Arguments of `hpalite doctor`.

use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::{Command, Problems, is_label, one, take};
use crate::doctor::Subject;

#[derive(Debug, PartialEq)]
pub struct DoctorArguments {
    pub kubeconfig: Option<PathBuf>,
    pub subject: Subject,
    pub json: bool,
}

pub(super) fn parse(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let mut kubeconfig = env("KUBECONFIG");
    let mut service = env("HPALITE_SERVICE").unwrap_or_else(|| "hpalite.hpalite".to_owned());
    let mut apiservice = env("HPALITE_APISERVICE").unwrap_or_else(|| "v1beta1.external.metrics.k8s.io".to_owned());
    let (mut namespace, mut json, mut problems) = (None, false, Vec::new());
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("kubeconfig") => take(parser, "--kubeconfig", &mut problems, |value| kubeconfig = Some(value)),
            Arg::Long("service") => take(parser, "--service", &mut problems, |value| service = value),
            Arg::Long("apiservice") => take(parser, "--apiservice", &mut problems, |value| apiservice = value),
            Arg::Long("namespace") => take(parser, "--namespace", &mut problems, |value| namespace = Some(value)),
            Arg::Long("json") => json = true,
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    if !apiservice.split('.').all(is_label) {
        problems.push(format!("--apiservice: \"{apiservice}\" is not the name of an APIService"));
    }
    if let Some(name) = namespace.as_ref().filter(|name| !is_label(name)) {
        problems.push(format!("--namespace: \"{name}\" is not the name of a namespace"));
    }
    match super::service(&service, &mut problems) {
        Some(service) if problems.is_empty() => {
            let subject = Subject { service, apiservice, namespace };
            Ok(Command::Doctor(DoctorArguments { kubeconfig: kubeconfig.map(PathBuf::from), subject, json }))
        }
        _ => Err(Problems(problems)),
    }
}
