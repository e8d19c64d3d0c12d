//! The `hpalite` binary: parse, do, exit.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hpalite::scaling::model::UnixMillis;
use hpalite::store::query;
use hpalite::{check, cli, explain, history, logfmt, migration, plugin, replay, status, store};
#[cfg(target_os = "linux")]
use hpalite::{daemon, doctor};

/// Wrong command line or configuration.
const USAGE: u8 = 2;

/// Names under which kubectl runs this binary.
const PLUGIN: &str = "kubectl-hpalite";
const PLUGIN_COMPLETION: &str = "kubectl_complete-hpalite";

fn main() -> ExitCode {
    let name = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let arguments = std::env::args_os().skip(1);
    let env = |name: &str| std::env::var(name).ok();
    match name.file_stem().and_then(|name| name.to_str()) {
        Some(PLUGIN) => as_plugin(arguments),
        Some(PLUGIN_COMPLETION) => complete(arguments),
        _ => match cli::parse(arguments, &env) {
            Ok(command) => run(command),
            Err(problems) => fail(&problems.0),
        },
    }
}

fn run(command: cli::Command) -> ExitCode {
    match command {
        cli::Command::Run(config) => {
            logfmt::init("info", config.log);
            serve(&config)
        }
        cli::Command::Check { files, servers, json } => {
            check::run(&files, &servers, &mut std::io::stdout().lock(), json)
        }
        cli::Command::Sql(arguments) => sql(&arguments),
        cli::Command::History(arguments) => {
            let done = history::command::run(&arguments, &mut std::io::stdout().lock());
            done.map_or_else(|problem| fail(&[problem]), |()| ExitCode::SUCCESS)
        }
        cli::Command::Replay(arguments) => {
            let done = replay::command::run(&arguments, &mut std::io::stdout().lock());
            done.map_or_else(|problems| fail(&problems), |()| ExitCode::SUCCESS)
        }
        cli::Command::Compare(arguments) => {
            let done = history::compare::run(&arguments, &mut std::io::stdout().lock());
            done.map_or_else(|problem| fail(&[problem]), |()| ExitCode::SUCCESS)
        }
        cli::Command::Why(arguments) => why(&arguments),
        cli::Command::Doctor(arguments) => examine(&arguments),
        cli::Command::Takeover(cli::TakeoverArguments { kubeconfig, plan, apis, overrides }) => {
            let mut out = std::io::stdout().lock();
            migrated(migration::takeover(kubeconfig.as_ref(), &plan, apis, overrides, &mut out))
        }
        cli::Command::Uninstall(cli::UninstallArguments { kubeconfig, plan, objects }) => {
            migrated(migration::uninstall(kubeconfig.as_ref(), &plan, objects, &mut std::io::stdout().lock()))
        }
        cli::Command::Freeze(cli::FreezeArguments { kubeconfig, plan, scope, freeze }) => {
            let mut out = std::io::stdout().lock();
            migrated(migration::freeze(kubeconfig.as_ref(), &plan, &scope, freeze.as_ref(), &mut out))
        }
        cli::Command::Status(arguments) => show_status(&arguments),
        cli::Command::Page { place, port } => {
            let done = plugin::page(&place, port, &mut std::io::stdout().lock());
            done.map_or_else(|failure| fail(&failure.problems), |()| ExitCode::SUCCESS)
        }
        cli::Command::Completion(script) => {
            print!("{script}");
            ExitCode::SUCCESS
        }
        cli::Command::Man => {
            print!("{}", cli::man());
            ExitCode::SUCCESS
        }
        cli::Command::Version => {
            println!("hpalite {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        cli::Command::Help => {
            print!("{}", cli::help());
            ExitCode::SUCCESS
        }
        cli::Command::HelpOf(subcommand) => {
            print!("{}", cli::help_of(subcommand));
            ExitCode::SUCCESS
        }
    }
}

#[cfg(target_os = "linux")]
fn serve(config: &hpalite::config::Config) -> ExitCode {
    match daemon::run(config) {
        Ok(daemon::Ended::Stopped) => ExitCode::SUCCESS,
        Ok(daemon::Ended::Deposed) => ExitCode::FAILURE,
        Err(error) => fail(&error.problems),
    }
}

#[cfg(not(target_os = "linux"))]
fn serve(_: &hpalite::config::Config) -> ExitCode {
    fail(&["run: the daemon runs on Linux".to_owned()])
}

fn sql(arguments: &cli::SqlArguments) -> ExitCode {
    let done = match (&arguments.backup, &arguments.statement) {
        (Some(to), _) => query::backup(&arguments.db, to).map(|()| false),
        (None, statement) => {
            if let Err(error) = query::limit_memory() {
                return fail(&[error.to_string()]);
            }
            end_after(arguments.timeout + GRACE);
            let options = query::Options {
                path: arguments.db.clone(),
                sql: statement.clone().unwrap_or_default(),
                format: arguments.format,
                rows_max: arguments.limit,
                time_limit: arguments.timeout,
            };
            query::run(&options, &mut std::io::stdout().lock()).map(|outcome| outcome.cut)
        }
    };
    match done {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => {
            eprintln!("hpalite: only the first {} rows are shown; see --limit", arguments.limit);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&[error.to_string()]),
    }
}

/// SQLite looks at the clock between its steps, and one step can be made long.
const GRACE: Duration = Duration::from_secs(5);

fn end_after(limit: Duration) {
    #[expect(clippy::disallowed_methods, reason = "it ends with the process, which is what it is for")]
    std::thread::spawn(move || {
        #[expect(clippy::disallowed_methods, reason = "nothing is waited for but time")]
        std::thread::sleep(limit);
        let _ = fail(&[format!("the statement took longer than {} s", limit.as_secs())]);
        std::process::exit(i32::from(USAGE));
    });
}

#[cfg(not(target_os = "linux"))]
fn examine(_: &cli::DoctorArguments) -> ExitCode {
    fail(&["doctor: it examines from Linux alone; kubectl hpalite doctor does so in the pod".to_owned()])
}

#[cfg(target_os = "linux")]
fn examine(arguments: &cli::DoctorArguments) -> ExitCode {
    let report = match doctor::examine(arguments.kubeconfig.as_ref(), &arguments.subject) {
        Ok(report) => report,
        Err(problems) => return fail(&problems),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("plain data is JSON"));
    } else if let Err(error) = report.print(&mut std::io::stdout().lock()) {
        return fail(&[error.to_string()]);
    }
    ExitCode::from(u8::from(report.has_errors()))
}

fn migrated(result: Result<(), migration::Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(migration::Failure::Unreachable(problems)) => fail(&problems),
        Err(migration::Failure::Stopped(problems)) => {
            fail(&problems);
            ExitCode::FAILURE
        }
    }
}

fn why(arguments: &cli::WhyArguments) -> ExitCode {
    let now = store::unix_now();
    let question = match (&arguments.at, arguments.since) {
        (Some(text), _) => match explain::time_text::parse_at(text, now) {
            Ok(at) => explain::Question::At(at),
            Err(problem) => return fail(&[problem]),
        },
        (None, Some(since)) => {
            let from = now.0.saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
            explain::Question::Between(UnixMillis(from), now)
        }
        (None, None) => explain::Question::At(now),
    };
    match explain::why(&arguments.db, &arguments.namespace, &arguments.name, arguments.group, question) {
        Ok(report) if arguments.json => {
            println!("{}", serde_json::to_string_pretty(&report).expect("plain data is JSON"));
            ExitCode::SUCCESS
        }
        Ok(report) => {
            print!("{}", report.text());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&[error.to_string()]),
    }
}

fn show_status(arguments: &status::Arguments) -> ExitCode {
    let text = || status::load(arguments).map(|status| status.text());
    if let Some(every) = arguments.every {
        status::watch(every, &mut std::io::stdout().lock(), text);
        return ExitCode::SUCCESS;
    }
    let shown = if arguments.json {
        status::load(arguments).map(|status| serde_json::to_string_pretty(&status).expect("plain data is JSON") + "\n")
    } else {
        text()
    };
    match shown {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => fail(&[problem]),
    }
}

/// The variables of a person, whose kubeconfig is where kubectl has it.
fn env_of_person(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.or_else(|| {
        let home = std::env::home_dir().filter(|_| name == "KUBECONFIG")?;
        home.join(".kube/config").into_os_string().into_string().ok()
    })
}

fn as_plugin(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    logfmt::init("warn", logfmt::Style::default());
    let columns = history::command::terminal_size().map(|(columns, _)| columns);
    let person = cli::Person { env: &env_of_person, namespace: &|kubeconfig| kubeconfig.namespace(), columns };
    match cli::plugin(arguments, person) {
        Ok(cli::Plugin::Here(cli::Command::Help)) => {
            print!("{}", as_kubectl(&cli::help()));
            ExitCode::SUCCESS
        }
        Ok(cli::Plugin::Here(cli::Command::HelpOf(subcommand))) => {
            print!("{}", as_kubectl(&cli::help_of(subcommand)));
            ExitCode::SUCCESS
        }
        Ok(cli::Plugin::Here(command)) => run(command),
        Ok(cli::Plugin::There { remote, every: Some(every), .. }) => {
            let load = || {
                let mut text = Vec::new();
                let mut errors = Vec::new();
                let code = plugin::run(&remote, &mut text, &mut errors)
                    .map_err(|failure| failure.problems.join("\nhpalite: "))?;
                let shown = if code == 0 { text } else { errors };
                Ok(String::from_utf8_lossy(&shown).into_owned())
            };
            status::watch(every, &mut std::io::stdout().lock(), load);
            ExitCode::SUCCESS
        }
        Ok(cli::Plugin::There { remote, every: None, otherwise }) => {
            match (plugin::run(&remote, &mut std::io::stdout().lock(), &mut std::io::stderr().lock()), otherwise) {
                (Ok(code), _) => ExitCode::from(code),
                (Err(failure), Some(command)) if failure.is_without_pod => {
                    eprintln!("hpalite: {}; examining from here", failure.problems.join("; "));
                    run(command)
                }
                (Err(failure), _) => fail(&failure.problems),
            }
        }
        Err(problems) => fail(&problems.0),
    }
}

/// Returns a help as it is typed with kubectl.
fn as_kubectl(help: &str) -> String {
    let help = help
        .replace("Usage: hpalite ", "Usage: kubectl hpalite ")
        .replace("\n       hpalite ", "\n       kubectl hpalite ");
    help + "\n--kubeconfig, --context and --service NAME.NS say which cluster and which installation.\n"
}

/// What kubectl asks for when a person presses the tabulator.
fn complete(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let mut completion = cli::complete(&words, &env_of_person);
    if let Some(wanted) = completion.wanted.take() {
        let typing = words.last().map(String::as_str).unwrap_or_default();
        let of_context = || wanted.place.kubeconfig.as_ref().and_then(hpalite::kube::Kubeconfig::namespace);
        if let Some(namespace) = wanted.namespace.clone().or_else(of_context) {
            let prefix = if typing.contains('/') { format!("{namespace}/") } else { String::new() };
            let names =
                plugin::scaled_objects(&wanted.place, &namespace).into_iter().map(|name| prefix.clone() + &name);
            completion.words.extend(names.filter(|name| name.starts_with(typing)).map(|name| (name, String::new())));
        }
    }
    print!("{}", completion.text());
    ExitCode::SUCCESS
}

fn fail(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("hpalite: {problem}");
    }
    ExitCode::from(USAGE)
}
