//! The `hpalite` binary: parse, do, exit.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use hpalite::{check, cli, daemon, logfmt, store};

/// Wrong command line or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    match cli::parse(std::env::args_os().skip(1), &env) {
        Ok(cli::Command::Run(config)) => {
            logfmt::init();
            daemon::run(&config).map_or_else(|error| fail(&error.problems), |()| ExitCode::SUCCESS)
        }
        Ok(cli::Command::Check { files, json }) => check::run(&files, &mut std::io::stdout().lock(), json),
        Ok(cli::Command::Sql(arguments)) => store::command(&arguments, &mut std::io::stdout().lock())
            .map_or_else(|error| fail(&[error.to_string()]), |()| ExitCode::SUCCESS),
        Ok(cli::Command::Version) => {
            println!("hpalite {}", daemon::VERSION);
            ExitCode::SUCCESS
        }
        Ok(cli::Command::Help) => {
            print!("{}", cli::HELP);
            ExitCode::SUCCESS
        }
        Err(problems) => fail(&problems.0),
    }
}

fn fail(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("hpalite: {problem}");
    }
    ExitCode::from(USAGE)
}
