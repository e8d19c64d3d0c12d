//! The command line: selects the subcommand and validates its arguments. Each subcommand has a file below.
//!
//! Flags take precedence over environment variables, which take precedence over defaults. All problems are collected,
//! so that one run shows them all.

mod complete;
mod doctor;
mod flags;
mod forward;
mod freeze;
mod help;
mod history;
mod installation;
mod migration;
mod plugin;
mod replay;
mod run;
mod sql;
mod status;
mod typed;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::config::Config;
use crate::history::command::Arguments as HistoryArguments;
use crate::kube::Kubeconfig;
use crate::plugin::Place;
use crate::replay::command::Arguments as ReplayArguments;
use crate::scaling::model::ApiGroup;
use crate::status::Arguments as StatusArguments;
use crate::wire::Servers;
pub use complete::{Completion, Wanted, complete};
pub use doctor::DoctorArguments;
use flags::{SUBCOMMANDS, Subcommand};
pub use freeze::FreezeArguments;
pub use help::{completion, help, help_of, man, markdown};
pub use migration::{TakeoverArguments, UninstallArguments};
pub use plugin::{Person, Plugin, plugin};
pub use sql::SqlArguments;
use typed::Typed;
pub use why::WhyArguments;

/// A valid command line.
#[derive(Debug, PartialEq)]
pub enum Command {
    Run(Box<Config>),
    Check {
        files: Vec<PathBuf>,
        servers: Servers,
        json: bool,
    },
    Sql(SqlArguments),
    History(HistoryArguments),
    Replay(ReplayArguments),
    Compare(crate::history::compare::Arguments),
    Why(WhyArguments),
    Status(StatusArguments),
    Page {
        place: Place,
        /// Of this machine; 0 for any.
        port: u16,
    },
    Doctor(DoctorArguments),
    Takeover(TakeoverArguments),
    Uninstall(UninstallArguments),
    Freeze(FreezeArguments),
    /// For a known shell, see [`completion`].
    Completion(String),
    Man,
    Version,
    Help,
    /// Help for one subcommand.
    HelpOf(&'static str),
}

/// Everything that is wrong with a command line, one problem per line.
#[derive(Debug, PartialEq)]
pub struct Problems(pub Vec<String>);

/// Parses the arguments after the program's name. `env` returns the value of a variable.
///
/// # Errors
/// Every problem at once.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Command, Problems> {
    let mut parser = Parser::from_args(arguments);
    let name = match parser.next() {
        Ok(Some(Arg::Value(value))) => value.string().map_err(|error| one(error.to_string()))?,
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => return Ok(Command::Help),
        Ok(Some(Arg::Short('V') | Arg::Long("version"))) => return Ok(Command::Version),
        Ok(Some(other)) => return Err(one(format!("{}; see --help", other.unexpected()))),
        Ok(None) => return Err(one(format!("a subcommand is missing: {}; see --help", names()))),
        Err(error) => return Err(one(error.to_string())),
    };
    // `help why` is the same as `why --help`.
    if name == "help" {
        return match parser.next() {
            Ok(Some(Arg::Value(of))) => known(&of.to_string_lossy()).map(|found| Command::HelpOf(found.name)),
            _ => Ok(Command::Help),
        };
    }
    let subcommand = known(&name)?;
    let mut problems = Vec::new();
    let typed = Typed::read(subcommand, &mut parser, env, &mut problems);
    if typed.wants_help {
        return Ok(Command::HelpOf(subcommand.name));
    }
    command(subcommand, &typed, env, &mut problems).filter(|_| problems.is_empty()).ok_or(Problems(problems))
}

/// Validates the arguments of a subcommand.
fn command(
    subcommand: &Subcommand,
    typed: &Typed<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) -> Option<Command> {
    match subcommand.name {
        "run" => run::parse(typed, problems),
        "check" => check(typed, problems),
        "sql" => sql::parse(typed, problems),
        "why" => why::parse(typed, problems),
        "history" => history::parse(typed, problems),
        "replay" => replay::parse(typed, problems),
        "compare" => history::compare(typed, problems),
        "status" => status::parse(typed, problems),
        "page" => page(typed, problems),
        "doctor" => doctor::parse(typed, env, problems),
        "takeover" => migration::takeover(typed, problems),
        "uninstall" => migration::uninstall(typed, problems),
        "freeze" => freeze::freeze(typed, problems),
        "thaw" => freeze::thaw(typed, problems),
        "completion" => shell(typed, problems),
        "man" => Some(Command::Man),
        _ => Some(Command::Version),
    }
}

fn known(name: &str) -> Result<&'static Subcommand, Problems> {
    flags::find(name).ok_or_else(|| one(format!("unknown subcommand \"{name}\": use {}", names())))
}

/// Returns for example `run, check or version`.
fn names() -> String {
    let names = SUBCOMMANDS.map(|subcommand| subcommand.name).join(", ");
    names.rsplit_once(", ").map_or_else(String::new, |(names, last)| format!("{names} or {last}"))
}

fn shell(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let shell = typed.operands.first().map(|shell| shell.to_string_lossy()).unwrap_or_default();
    let script = completion(&shell);
    if script.is_none() {
        problems.push(format!("completion: \"{shell}\" is none of bash, zsh, fish"));
    }
    script.map(Command::Completion)
}

/// Parses the object of a history: `NAMESPACE/NAME` or `hpa/NAMESPACE/NAME`, or the last part alone if `-n` gives the
/// namespace. `--group` says which of several of one name.
fn recorded(
    typed: &Typed<'_>,
    subcommand: &str,
    problems: &mut Vec<String>,
) -> Option<(String, String, Option<ApiGroup>)> {
    let named = typed.subcommand_has("group").then(|| typed.flag("group")).flatten();
    let group = named.and_then(ApiGroup::from_name);
    if let (Some(name), None) = (named, group) {
        problems.push(format!("--group: \"{name}\" is none of keda.sh, keda.k8s.io and autoscaling"));
    }
    let operand = typed.operands.first().map(|object| object.to_string_lossy().into_owned()).unwrap_or_default();
    // A namespace may be called hpa: what follows it has no further slash then, unless -n says otherwise.
    let is_hpa = |rest: &&str| rest.contains('/') || typed.flag("namespace").is_some();
    let hpa = operand.strip_prefix("hpa/").filter(is_hpa);
    let (namespace, name) = object_named(typed, subcommand, hpa.unwrap_or(&operand), problems)?;
    if hpa.is_some() && group.is_some_and(|group| group != ApiGroup::Autoscaling) {
        problems.push(format!("{subcommand}: \"{operand}\" is an HPA, and --group says otherwise: write one of them"));
    }
    Some((namespace, name, if hpa.is_some() { Some(ApiGroup::Autoscaling) } else { group }))
}

/// Parses `NAMESPACE/NAME`, or the name alone if `-n` gives the namespace.
fn object(typed: &Typed<'_>, subcommand: &str, problems: &mut Vec<String>) -> Option<(String, String)> {
    let object = typed.operands.first().map(|object| object.to_string_lossy().into_owned()).unwrap_or_default();
    object_named(typed, subcommand, &object, problems)
}

fn object_named(
    typed: &Typed<'_>,
    subcommand: &str,
    object: &str,
    problems: &mut Vec<String>,
) -> Option<(String, String)> {
    if typed.operands.len() > 1 {
        problems.push(format!("{subcommand}: one object only"));
        return None;
    }
    let namespace = typed.flag("namespace").map(str::to_owned);
    let found = match (object.split_once('/'), &namespace) {
        (Some((within, name)), None) => Some((within.to_owned(), name.to_owned())),
        (Some((within, name)), Some(namespace)) if within == namespace => Some((within.to_owned(), name.to_owned())),
        (Some((within, _)), Some(namespace)) => {
            problems
                .push(format!("{subcommand}: \"{object}\" is in {within}, and -n says {namespace}: write one of them"));
            return None;
        }
        (None, Some(namespace)) => Some((namespace.clone(), object.to_owned())),
        (None, None) => None,
    };
    let found = found.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    if found.is_none() {
        problems.push(format!(
            "{subcommand}: \"{object}\" is not NAMESPACE/NAME, for example shop/web; -n shop web will do as well"
        ));
    }
    found
}

fn one(problem: String) -> Problems {
    Problems(vec![problem])
}

fn number(flag: &str, text: &str, problems: &mut Vec<String>) -> Option<u64> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => {
            problems.push(format!("{flag}: \"{text}\" is not a whole number"));
            None
        }
    }
}

/// Returns whether a text is an RFC 1123 label, as names of namespaces and Services are.
fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn check(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    if typed.operands.is_empty() {
        problems.push("check: name at least one file, or - for standard input".to_owned());
    }
    let files = typed.operands.iter().map(PathBuf::from).collect();
    let servers = servers(typed, problems)?;
    Some(Command::Check { files, servers, json: wants_json(typed) })
}

/// Parses the Prometheus servers that are named for all triggers.
fn servers(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Servers> {
    let given = typed.value("prometheus-server");
    Servers::parse(&given, &typed.listed("additional-prometheus-servers")).map_err(|found| problems.extend(found)).ok()
}

fn page(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let text = typed.value("port");
    let port = text.parse().map_err(|_| problems.push(format!("--port: \"{text}\" is not a port"))).ok();
    Some(Command::Page { place: place(typed, problems)?, port: port? })
}

/// Returns the kubeconfig that the flags and the variable name.
fn kubeconfig(typed: &Typed<'_>) -> Option<Kubeconfig> {
    let list = typed.given("kubeconfig")?;
    Some(Kubeconfig { context: typed.flag("context").map(str::to_owned), ..Kubeconfig::from(list.as_str()) })
}

/// Returns the installation that is meant.
fn place(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Place> {
    let service = match typed.flag("service") {
        Some(text) => Some(service(text, problems)?),
        None => None,
    };
    Some(Place { kubeconfig: kubeconfig(typed), service })
}

fn wants_json(typed: &Typed<'_>) -> bool {
    typed.is_set("json") || typed.flag("output") == Some("json")
}

/// Parses `NAME.NAMESPACE`, which identifies our Service.
fn service(text: &str, problems: &mut Vec<String>) -> Option<(String, String)> {
    match text.split_once('.') {
        Some((name, namespace)) if is_label(name) && is_label(namespace) => {
            Some((name.to_owned(), namespace.to_owned()))
        }
        _ => {
            problems.push(format!("--service: \"{text}\" is not NAME.NAMESPACE, for example hpalite.hpalite"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn with_env(arguments: &[&str], env: &[(&str, &str)]) -> Result<Command, Problems> {
        let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(arguments.iter().map(OsString::from), &|name| {
            env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn each_subcommand_is_recognised() {
        assert_eq!(with_env(&["version"], &[]), Ok(Command::Version));
        assert_eq!(with_env(&["--help"], &[]), Ok(Command::Help));
        assert!(
            matches!(with_env(&["check", "a.yaml", "-", "--json"], &[]), Ok(Command::Check { json: true, files, .. }) if files.len() == 2)
        );
        assert!(with_env(&["check"], &[]).is_err());
        assert!(matches!(with_env(&["sql", "SELECT 1"], &[]), Ok(Command::Sql(_))));
        assert!(with_env(&["sql", "--format", "xml", "SELECT 1"], &[]).is_err());
        assert!(with_env(&["sql"], &[]).is_err());
        assert!(with_env(&["sql", "--backup", "copy.db", "SELECT 1"], &[]).is_err());
        assert!(with_env(&[], &[]).is_err());
        assert!(with_env(&["fly"], &[]).is_err());
    }

    #[test]
    fn the_help_of_a_subcommand_has_only_its_own_section() {
        for name in SUBCOMMANDS.map(|subcommand| subcommand.name) {
            for arguments in [&[name, "--help"][..], &[name, "-h"], &["help", name]] {
                assert_eq!(with_env(arguments, &[]), Ok(Command::HelpOf(name)), "{arguments:?}");
            }
            let help = help_of(name);
            let section = format!("\n{name}: ");
            assert!(help.starts_with(&format!("Usage: hpalite {name}")) && help.contains(&section), "{help}");
            assert!(!help.contains("as above"), "{help}");
            for other in SUBCOMMANDS.map(|subcommand| subcommand.name).into_iter().filter(|other| *other != name) {
                assert!(!help.contains(&format!("\n{other}: ")), "{help}");
            }
        }
        assert_eq!(with_env(&["help"], &[]), Ok(Command::Help));
        assert!(with_env(&["help", "fly"], &[]).is_err());
    }

    #[test]
    fn flags_of_kubectl_work_beside_ours() {
        let same = |ours: &[&str], theirs: &[&str]| {
            let parsed = with_env(ours, &[]);
            assert!(parsed.is_ok(), "{ours:?}: {parsed:?}");
            assert_eq!(parsed, with_env(theirs, &[]), "{theirs:?}");
        };
        for name in ["why", "history"] {
            same(&[name, "shop/web", "--json"], &[name, "-n", "shop", "web", "-o", "json"]);
            same(&[name, "shop/web"], &[name, "web", "--namespace=shop"]);
            same(&[name, "shop/web"], &[name, "-nshop", "shop/web"]);
            for wrong in [
                &[name, "web"][..],
                &[name, "-n", "a", "shop/web"],
                &[name, "shop/web", "-o", "yaml"],
                &[name, "-n", "shop"],
            ] {
                assert_eq!(with_env(wrong, &[]).expect_err("it is wrong").0.len(), 1, "{wrong:?}");
            }
        }
        same(&["history", "shop/web", "--csv"], &["history", "shop/web", "-o", "csv"]);
        same(&["doctor", "--json", "--namespace", "shop"], &["doctor", "-o", "json", "-n", "shop"]);
        same(&["check", "a", "--json"], &["check", "-o=json", "a"]);
        same(&["sql", "--format", "json", "SELECT 1"], &["sql", "-o", "json", "SELECT 1"]);
    }

    /// Every declared flag is in the help, can be typed and is recognised by a parser.
    #[test]
    fn every_flag_is_in_the_help_and_can_be_typed() {
        for subcommand in SUBCOMMANDS {
            let help = help_of(subcommand.name);
            for flag in subcommand.flags {
                assert!(help.contains(&format!("  --{}", flag.long)), "{help}");
                assert!(flag.env.is_none_or(|env| help.contains(env)), "{}: {help}", flag.long);
                let mut arguments = vec![subcommand.name.to_owned(), format!("--{}", flag.long)];
                match flag.takes {
                    flags::Takes::Nothing | flags::Takes::Truth => {}
                    flags::Takes::OneOf(known) => arguments.push(known[0].to_owned()),
                    flags::Takes::Value(_) => arguments.push(flag.default.unwrap_or("1").to_owned()),
                }
                let mut problems = Vec::new();
                let mut parser = Parser::from_args(arguments[1..].iter().map(OsString::from));
                let typed = Typed::read(subcommand, &mut parser, &|_| None, &mut problems);
                assert!(typed.is_set(flag.long) && problems.is_empty(), "{}: {problems:?}", flag.long);
            }
        }
    }

    #[test]
    fn nothing_is_declared_twice() {
        for subcommand in SUBCOMMANDS {
            let longs = subcommand.flags.iter().flat_map(|flag| [Some(flag.long), flag.alias]).flatten();
            let mut longs: Vec<&str> = longs.collect();
            let mut shorts: Vec<char> = subcommand.flags.iter().filter_map(|flag| flag.short).collect();
            let count = (longs.len(), shorts.len());
            longs.sort_unstable();
            longs.dedup();
            shorts.sort_unstable();
            shorts.dedup();
            assert_eq!((longs.len(), shorts.len()), count, "{}", subcommand.name);
        }
    }

    #[test]
    fn the_manual_page_has_every_flag() {
        let man = man().replace("\\-", "-");
        for flag in SUBCOMMANDS.iter().flat_map(|subcommand| subcommand.flags) {
            assert!(man.contains(&format!("\n.B --{}", flag.long)), "{}", flag.long);
        }
        assert!(man.lines().all(|line| !line.starts_with('\'')), "{man}");
        assert!(with_env(&["completion", "tcsh"], &[]).is_err());
    }
}
