//! Compares formulas with the results of expr-lang, with which KEDA evaluates them.

use hpalite::scaling::formula::Formula;

/// One expression per line with its results for two rows of values; see facts/main.go.
const FACTS: &str = include_str!("facts.tsv");

const ROWS: [[Option<f64>; 3]; 2] = [[Some(3.0), Some(2.5), None], [Some(0.0), Some(500.0), Some(20.125)]];

/// Returns the result of a formula in the notation of the table.
fn result(formula: &Formula, values: &[Option<f64>]) -> Result<Option<f64>, &'static str> {
    formula.evaluate(values).map_err(|_| "error")
}

#[test]
fn formulas_give_what_expr_gives() {
    let names = ["a", "b", "c"].map(str::to_owned);
    let mut wrong = Vec::new();
    let mut numbers = 0;
    for line in FACTS.lines().filter(|line| !line.starts_with("# expression")) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [text, ref expected @ ..] = columns[..] else { panic!("{line}") };
        let formula = Formula::compile(text, &names);
        for (expected, values) in expected.iter().zip(ROWS) {
            let found = match &formula {
                Err(_) => "refused".to_owned(),
                Ok(formula) => match result(formula, &values) {
                    Err(word) => word.to_owned(),
                    Ok(None) => "nil".to_owned(),
                    Ok(Some(number)) => {
                        let close = expected.parse::<f64>().is_ok_and(|expected| is_close(expected, number));
                        if close { (*expected).to_owned() } else { number.to_string() }
                    }
                },
            };
            numbers += usize::from(expected.parse::<f64>().is_ok());
            if found != **expected {
                let problem = formula.as_ref().err().map(ToString::to_string).unwrap_or_default();
                wrong.push(format!("{text}: expected {expected}, found {found} {problem}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(numbers > 800, "only {numbers} of the facts are numbers");
}

/// Powers may differ in their last digit.
fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= a.abs().max(b.abs()) * 1e-12
}
