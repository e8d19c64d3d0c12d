//! Tests of what is drawn at random: which seeds they run, and how one that failed is run again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether one seed is run again, which need not meet everything that all of them meet.
pub(crate) fn is_again() -> bool {
    variable("HPALITE_SEED").is_some()
}

/// Calls `run` with the seed that `HPALITE_SEED` names, else with those of `HPALITE_SEEDS` (`500..1000`, or below a number),
/// else with those below `usual`. The first that fails prints the command that runs it again; `module` is the
/// `module_path!()` of the test.
#[expect(clippy::print_stderr, reason = "a test's output is shown if it fails")]
pub(crate) fn each(module: &str, usual: u64, mut run: impl FnMut(u64)) {
    let number = |text: &str| text.parse::<u64>().expect("HPALITE_SEED and HPALITE_SEEDS are whole numbers");
    let seeds = match (variable("HPALITE_SEED"), variable("HPALITE_SEEDS")) {
        (Some(seed), _) => number(&seed)..number(&seed) + 1,
        (None, Some(seeds)) => {
            let (from, to) = seeds.split_once("..").unwrap_or(("0", &seeds));
            number(from)..number(to)
        }
        (None, None) => 0..usual,
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("run it again: {}", command(module, seed, variable("HPALITE_STEPS").as_deref()));
            resume_unwind(panic);
        }
    }
}

fn command(module: &str, seed: u64, steps: Option<&str>) -> String {
    let (_, tests) = module.split_once("::").unwrap_or(("", module));
    let steps = steps.map_or(String::new(), |steps| format!("HPALITE_STEPS={steps} "));
    format!("HPALITE_SEED={seed} {steps}cargo test --locked --lib {tests}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_fails_is_run_again_by_one_command() {
        assert_eq!(command(module_path!(), 7, None), "HPALITE_SEED=7 cargo test --locked --lib seeds::tests");
        let longer = "HPALITE_SEED=7 HPALITE_STEPS=90 cargo test --locked --lib seeds::tests";
        assert_eq!(command(module_path!(), 7, Some("90")), longer);
    }
}
