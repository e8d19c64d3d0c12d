use super::*;

fn names() -> Vec<String> {
    ["a", "b", "web_rps", "my-queue"].map(str::to_owned).to_vec()
}

fn compiled(text: &str) -> Formula {
    Formula::compile(text, &names()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    Formula::compile(text, &names()).expect_err(text).to_string()
}

fn evaluated(text: &str, a: f64) -> Result<Option<f64>, String> {
    compiled(text).evaluate(&[Some(a), None, Some(1.0), None]).map_err(|error| error.to_string())
}

#[test]
fn errors_name_the_column_and_what_was_meant() {
    for (text, expected) in [
        ("a + wep_rps", "column 5: unknown name \"wep_rps\", did you mean \"web_rps\"?"),
        ("a + 'x'", "column 5: text is not supported in formulas, which are about numbers"),
        ("a +", "column 4: unexpected end"),
        ("(a + b", "column 7: unexpected end, expected )"),
        ("a b", "column 3: unexpected \"b\""),
        ("a > 1", "column 3: the result must be a number, and is true or false"),
        ("nil", "column 1: the result must be a number, and is nil"),
        ("a % 2", "column 3: % needs whole numbers, and gets a number and a whole number: write int(…) around them"),
        ("avg([a])", "column 1: unknown function \"avg\", did you mean \"mean\"?"),
        ("mediam([a])", "column 1: unknown function \"mediam\", did you mean \"median\"?"),
        ("sortBy([a], #)", "column 1: the function sortBy() is not supported: formulas know no order of arrays"),
        ("max + 1", "column 1: \"max\" is a function, write max(…)"),
        (
            "my-queue + 1",
            "column 1: unknown name \"my\": the trigger name \"my-queue\" cannot stand in a formula, use letters, digits and _",
        ),
        ("a ? 1 : 2", "column 1: a condition must be true or false, and this is a number"),
        ("a ?? b + 1", "column 8: + after ?? is ambiguous: write one of them in parentheses"),
        ("filter([a], #)[0]", "column 13: filter needs a condition, and this is a number"),
        ("sum(a)", "column 5: sum needs an array, and this is a number"),
        ("map([a])", "column 8: map needs a second argument that says what to do with each element"),
        ("let a = 1; a", "column 5: \"a\" is taken, let needs a new name"),
        ("[a][0:1]", "column 4: slices are not supported in formulas"),
        ("now() > a ? 1 : 0", "column 1: the function now() is not supported: formulas know no dates and times"),
        (
            "a.b + 1",
            "column 2: members and methods, which a . leads to, are not supported in formulas, which are about numbers",
        ),
        ("a contains b", "column 3: the operator contains is not supported: formulas know no text"),
        ("10 % int(a + 1)", "column 4: the right side of % is zero"),
        ("a = 1", "column 3: unexpected \"=\""),
        ("sum(1..999999)", "column 6: the formula takes more than 20000 steps"),
        ("a /* b", "column 3: this comment has no end, write */"),
    ] {
        assert_eq!(refused(text), format!("formula, {expected}"), "{text}");
    }
}

#[test]
fn what_is_no_number_is_an_error_with_its_reason() {
    for (text, a, expected) in [
        ("1 / a", 0.0, "column 3: the result is infinite (+Inf): is something divided by zero?"),
        ("-1 / a", 0.0, "column 4: the result is infinite (-Inf): is something divided by zero?"),
        ("a / a", 0.0, "column 3: the result is not a number (NaN): is zero divided by zero?"),
        ("a + b", 1.0, "column 3: + cannot be used between a number and nil"),
        ("a > 0 ? b : 1", 1.0, "column 7: the result must be a number, and is nil"),
        ("int(a > 1 ? 1e30 : 1)", 2.0, "column 1: int cannot take 1e30: it does not fit a whole number"),
        ("int(a) * 9000000000000000000", 2.0, "column 8: a whole number becomes too large"),
    ] {
        assert_eq!(evaluated(text, a).unwrap_err(), format!("formula, {expected}"), "{text}");
    }
}

#[test]
fn nil_stays_nil_only_with_coalescing() {
    assert_eq!(evaluated("b ?? b", 1.0), Ok(None));
    assert_eq!(evaluated("b ?? a", 1.0), Ok(Some(1.0)));
    assert!(evaluated("b", 1.0).is_err());
}

#[test]
fn a_float_in_front_needs_no_float_at_the_end() {
    assert_eq!(evaluated("float(a) > 1 ? 5 : 0", 3.0), Ok(Some(5.0)));
}

#[test]
fn numbers_are_put_in_where_variables_stand() {
    let values = [Some(500.0), Some(20.125), Some(1e20), None];
    for (text, expected) in [
        ("(a + b) / 2", "(500 + 20.125) / 2 = 260.062"),
        ("max(a, 7) - a", "max(500, 7) - 500 = 0"),
        ("let x = a; x * 2", "let x = 500; x * 2 = 1000"),
        ("web_rps", "1e20 = 1e20"),
        ("max(a,\n    b)\n", "max(500, 20.125) = 500"),
        ("a - 500.0001", "500 - 500.0001 = 0"),
    ] {
        assert_eq!(compiled(text).with_numbers(&values), expected);
    }
    let missing = [Some(500.0), None, None, None];
    assert_eq!(compiled("b ?? b").with_numbers(&missing), "nil ?? nil = nil");
    assert_eq!(
        compiled("a + b").with_numbers(&missing),
        "500 + nil fails: formula, column 3: + cannot be used between a number and nil"
    );
}

#[test]
fn only_what_is_read_counts_as_used() {
    let formula = compiled("a + (1 > 2 ? web_rps : 0)");
    assert_eq!([0, 1, 2, 3].map(|position| formula.uses(position)), [true, false, true, false]);
}

/// Every formula is refused or evaluated within bounds, on the stack of a test's thread.
#[test]
fn depth_length_and_work_are_bounded() {
    let repeated = |start: &str, middle: &str, end: &str, times: usize| {
        format!("{}{middle}{}", start.repeat(times), end.repeat(times))
    };
    for times in [10, 63, 100, 500, 2000] {
        for (start, end) in [
            ("(", ")"),
            ("-", ""),
            ("!", ""),
            ("[", "]"),
            ("[", "][0]"),
            ("abs(", ")"),
            ("map([1], ", ")[0]"),
            ("a ?", ": 1"),
            ("a > 1 ? 1 : ", ""),
            ("if true {1} else ", ""),
            ("if true {", "} else {1}"),
            ("1 + ", ""),
            ("1 ** ", ""),
            ("a ?? ", ""),
            ("true and ", ""),
            ("1 < ", ""),
            ("1; ", ""),
            ("", " + 1"),
            ("", "[0]"),
            ("", " | abs()"),
        ] {
            if let Ok(formula) = Formula::compile(&repeated(start, "a", end, times), &names()) {
                let _ = formula.evaluate(&[Some(1.0), Some(1.0), Some(1.0), Some(1.0)]);
            }
        }
    }
    assert_eq!(evaluated(&repeated("", "a", " + 1", 100), 1.0), Ok(Some(101.0)));
    assert_eq!(evaluated(&repeated("(", "a", ")", 60), 1.0), Ok(Some(1.0)));
    assert!(refused(&repeated("", "a", " + 1", 200)).contains("too deep"));
    assert!(refused(&repeated("(", "a", ")", 100)).contains("too deeply"));
    assert!(refused(&format!("a{}", " ".repeat(LENGTH_MAX))).contains("longer than 10000 characters"));
    let doubled: String =
        (0..40).fold("let x0 = [1, 1]; ".to_owned(), |text, n| format!("{text}let x{} = [x{n}, x{n}]; ", n + 1));
    assert!(refused(&format!("{doubled}len(x40)")).contains("deep"));
    let doubled: String =
        (0..25).fold("let x0 = [1, 1]; ".to_owned(), |text, n| format!("{text}let x{} = [x{n}, x{n}]; ", n + 1));
    assert!(refused(&format!("{doubled}max(x25)")).contains("steps"));
    assert!(refused(&format!("{doubled}(x25 == x25) ? 1 : 0")).contains("steps"));
    assert!(refused("reduce(1..5000, [#acc])[0]").contains("32 deep"));
    assert!(refused("sum(map(1..200, sum(map(1..200, # * 2))))").contains("steps"));
}

#[test]
fn errors_in_several_lines_name_the_line_and_show_it() {
    let text = "max(\n  a,\n\tb + laod\n)\n";
    let error = Formula::compile(text, &names()).expect_err("an unknown name");
    assert_eq!(error.to_string(), "formula, line 3, column 6: unknown name \"laod\"");
    assert_eq!(error.excerpt(text).as_deref(), Some(" b + laod\n     ^"));
    let error = compiled("a +\n b").evaluate(&[Some(1.0), None, None, None]).expect_err("nil");
    assert_eq!(error.to_string(), "formula, line 1, column 3: + cannot be used between a number and nil");
    // A single line is one, whatever a block scalar leaves at its end.
    let error = Formula::compile("a + laod\n", &names()).expect_err("an unknown name");
    assert_eq!((error.line, error.column), (None, 5));
    let long = format!("{}laod", "a + ".repeat(50));
    let error = Formula::compile(&long, &names()).expect_err("an unknown name");
    let excerpt = error.excerpt(&long).expect("a line");
    let (line, mark) = excerpt.split_once('\n').expect("two lines");
    assert!(line[mark.len() - 1..].starts_with("laod") && line.len() <= 100, "{excerpt}");
}
