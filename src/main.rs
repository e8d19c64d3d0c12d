//! The `hpalite` binary: parse, do, exit.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::Duration;

use hpalite::scaling::model::UnixMillis;
use hpalite::store::query;
use hpalite::{check, cli, daemon, doctor, explain, history, logfmt, migration, replay, store};

/// Wrong command line or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    match cli::parse(std::env::args_os().skip(1), &env) {
        Ok(cli::Command::Run(config)) => {
            logfmt::init();
            match daemon::run(&config) {
                Ok(daemon::Ended::Stopped) => ExitCode::SUCCESS,
                Ok(daemon::Ended::Deposed) => ExitCode::FAILURE,
                Err(error) => fail(&error.problems),
            }
        }
        Ok(cli::Command::Check { files, servers, json }) => {
            check::run(&files, &servers, &mut std::io::stdout().lock(), json)
        }
        Ok(cli::Command::Sql(arguments)) => sql(&arguments),
        Ok(cli::Command::History(arguments)) => {
            let done = history::command::run(&arguments, &mut std::io::stdout().lock());
            done.map_or_else(|problem| fail(&[problem]), |()| ExitCode::SUCCESS)
        }
        Ok(cli::Command::Replay(arguments)) => {
            let done = replay::command::run(&arguments, &mut std::io::stdout().lock());
            done.map_or_else(|problems| fail(&problems), |()| ExitCode::SUCCESS)
        }
        Ok(cli::Command::Compare(arguments)) => {
            let done = history::compare::run(&arguments, &mut std::io::stdout().lock());
            done.map_or_else(|problem| fail(&[problem]), |()| ExitCode::SUCCESS)
        }
        Ok(cli::Command::Why(arguments)) => why(&arguments),
        Ok(cli::Command::Doctor(arguments)) => examine(&arguments),
        Ok(cli::Command::Takeover(cli::TakeoverArguments { kubeconfig, plan, overrides })) => {
            migrated(migration::takeover(kubeconfig.as_deref(), &plan, overrides, &mut std::io::stdout().lock()))
        }
        Ok(cli::Command::Uninstall(cli::UninstallArguments { kubeconfig, plan, objects })) => {
            migrated(migration::uninstall(kubeconfig.as_deref(), &plan, objects, &mut std::io::stdout().lock()))
        }
        Ok(cli::Command::Freeze(cli::FreezeArguments { kubeconfig, plan, scope, freeze })) => {
            let mut out = std::io::stdout().lock();
            migrated(migration::freeze(kubeconfig.as_deref(), &plan, &scope, freeze.as_ref(), &mut out))
        }
        Ok(cli::Command::Completion(script)) => {
            print!("{script}");
            ExitCode::SUCCESS
        }
        Ok(cli::Command::Man) => {
            print!("{}", cli::man());
            ExitCode::SUCCESS
        }
        Ok(cli::Command::Version) => {
            println!("hpalite {}", daemon::VERSION);
            ExitCode::SUCCESS
        }
        Ok(cli::Command::Help) => {
            print!("{}", cli::help());
            ExitCode::SUCCESS
        }
        Ok(cli::Command::HelpOf(subcommand)) => {
            print!("{}", cli::help_of(subcommand));
            ExitCode::SUCCESS
        }
        Err(problems) => fail(&problems.0),
    }
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

fn examine(arguments: &cli::DoctorArguments) -> ExitCode {
    let report = match doctor::examine(arguments.kubeconfig.as_deref(), &arguments.subject) {
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

fn fail(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("hpalite: {problem}");
    }
    ExitCode::from(USAGE)
}
