//! Arguments of `hpalite doctor`.

use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::installation::{Installation, Named};
use super::{Command, Problems, is_label, one, output, run, take};
use crate::doctor::Subject;

#[derive(Debug, PartialEq)]
pub struct DoctorArguments {
    pub kubeconfig: Option<PathBuf>,
    pub subject: Box<Subject>,
    pub json: bool,
}

pub(super) fn parse(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    // What the daemon in the same pod has from its environment; its flags are not known here.
    let mut config = run::from_environment(env)?;
    let mut installation = Installation::from_environment(env);
    let (mut namespace, mut listen, mut db) = (None, None::<String>, None);
    let (mut json, mut problems, mut networks) = (false, Vec::new(), Vec::new());
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long(flag @ ("kubeconfig" | "service" | "apiservice")) => {
                let flag = flag.to_owned();
                installation.take(&flag, parser, &mut problems);
            }
            Arg::Short('n') | Arg::Long("namespace") => {
                take(parser, "--namespace", &mut problems, |value| namespace = Some(value))
            }
            Arg::Long("listen") => take(parser, "--listen", &mut problems, |value| listen = Some(value)),
            Arg::Long("db") => take(parser, "--db", &mut problems, |value| db = Some(value.into())),
            Arg::Long("allow-network") => {
                take(parser, "--allow-network", &mut problems, |value| networks.push(value));
            }
            Arg::Long("json") => json = true,
            Arg::Short('o') | Arg::Long("output") => json |= output(parser, &["json"], &mut problems).is_some(),
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    if let Some(name) = namespace.as_ref().filter(|name| !is_label(name)) {
        problems.push(format!("--namespace: \"{name}\" is not the name of a namespace"));
    }
    if !networks.is_empty() {
        config.allow_networks = run::networks(networks, None, &mut problems);
    }
    let listen = listen.and_then(|listen| run::address("--listen", &listen, &mut problems));
    let Named { kubeconfig, service, apiservice } = installation.finish(problems)?;
    (config.service, config.apiservice) = (service, apiservice);
    let subject = Box::new(Subject { config, namespace, listen, db });
    Ok(Command::Doctor(DoctorArguments { kubeconfig, subject, json }))
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
        let told =
            found(&["doctor", "--service=c.d", "--listen=127.0.0.1:1", "--db=/y.db", "--json", "--kubeconfig=l"]);
        assert_eq!(told.subject.config.service, ("c".to_owned(), "d".to_owned()));
        assert_eq!(
            (told.kubeconfig, told.subject.db.clone(), told.json),
            (Some("l".into()), Some("/y.db".into()), true)
        );
        assert_eq!(told.subject.listen.map(|listen| listen.port()), Some(1));
        let allowed = found(&["doctor", "--allow-network=127.0.0.0/8", "--allow-network", "::1"]);
        assert_eq!(allowed.subject.config.allow_networks.len(), 2);
        let bad = with_env(&["doctor", "--service=c", "--listen=x", "--namespace=A", "--apiservice=_", "--what"], &env);
        assert_eq!(bad.expect_err("five problems").0.len(), 5);
    }
}
