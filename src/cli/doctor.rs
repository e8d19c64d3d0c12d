//! Arguments of `hpalite doctor`.

use std::path::PathBuf;

use super::installation::Installation;
use super::typed::Typed;
use super::{Command, forward, is_label, run, wants_json};
use crate::doctor::Subject;
use crate::kube::Kubeconfig;

#[derive(Debug, PartialEq)]
pub struct DoctorArguments {
    pub kubeconfig: Option<Kubeconfig>,
    pub subject: Box<Subject>,
    pub json: bool,
}

pub(super) fn parse(
    typed: &Typed<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) -> Option<Command> {
    // The environment is the same as the daemon's in this pod; the daemon's flags are not known here.
    let config = run::from_environment(env, problems);
    let namespace = typed.flag("namespace").map(str::to_owned);
    if let Some(name) = namespace.as_ref().filter(|name| !is_label(name)) {
        problems.push(format!("--namespace: \"{name}\" is not the name of a namespace"));
    }
    let networks = typed.is_set("allow-network").then(|| run::networks(typed, problems));
    let listen = typed.flag("listen").and_then(|listen| run::address("--listen", listen, problems));
    let servers = super::servers(typed, problems)?;
    let Installation { kubeconfig, service, apiservice } = Installation::of(typed, problems)?;
    let mut config = config?;
    (config.service, config.apiservice) = (service, apiservice);
    config.servers = servers;
    config.allow_networks = networks.unwrap_or(config.allow_networks);
    config.forward = forward::parse(typed, &config.service, problems);
    config.ca_dirs = run::ca_dirs(typed);
    let db = typed.flag("db").map(PathBuf::from);
    let adapter_config = typed.given("adapter-config").map(PathBuf::from);
    let subject = Box::new(Subject { config, namespace, listen, adapter_config, db });
    Some(Command::Doctor(DoctorArguments { kubeconfig, subject, json: wants_json(typed) }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_env;
    use super::*;

    #[test]
    fn the_installation_is_named_by_flags_or_the_environment() {
        let env = [("HPALITE_SERVICE", "a.b"), ("HPALITE_DB", "/x.db"), ("KUBECONFIG", "k")];
        let found = |arguments: &[&str]| match with_env(arguments, &env) {
            Ok(Command::Doctor(arguments)) => arguments,
            other => panic!("{other:?}"),
        };
        let plain = found(&["doctor"]);
        assert_eq!(plain.subject.config.service, ("a".to_owned(), "b".to_owned()));
        assert_eq!((plain.kubeconfig, plain.subject.db, plain.json), (Some("k".into()), None, false));
        let parsed =
            found(&["doctor", "--service=c.d", "--listen=127.0.0.1:1", "--db=/y.db", "--json", "--kubeconfig=l"]);
        assert_eq!(parsed.subject.config.service, ("c".to_owned(), "d".to_owned()));
        assert_eq!(
            (parsed.kubeconfig, parsed.subject.db.clone(), parsed.json),
            (Some("l".into()), Some("/y.db".into()), true)
        );
        assert_eq!(parsed.subject.listen.map(|listen| listen.port()), Some(1));
        let allowed = found(&["doctor", "--allow-network=127.0.0.0/8", "--allow-network", "::1"]);
        assert_eq!(allowed.subject.config.allow_networks.len(), 2);
        let more = found(&[
            "doctor",
            "--adapter-config=/etc/a.yaml",
            "--forward-external-metrics=https://x.y",
            "--forward-external-metrics=https://c.d",
            "--ca-dir=/ca",
        ]);
        assert_eq!(more.subject.adapter_config, Some("/etc/a.yaml".into()));
        assert_eq!(more.subject.config.forward.as_ref().map(|forward| forward.targets.len()), Some(2));
        assert_eq!(more.subject.config.ca_dirs, [PathBuf::from("/ca")]);
        let bad = with_env(&["doctor", "--service=c", "--listen=x", "--namespace=A", "--apiservice=_", "--what"], &env);
        assert_eq!(bad.expect_err("five problems").0.len(), 5);
    }
}
