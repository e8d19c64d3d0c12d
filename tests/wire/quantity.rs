//! Compares quantities with what Kubernetes itself makes of them.

use hpalite::wire::quantity::{canonical, parse_milli};

/// One text a line with its milli value and its canonical form; see quantity/main.go.
const FACTS: &str = include_str!("quantity.tsv");

/// A quantity's limit here, which Kubernetes has for binary suffixes alone, and far below.
const MILLI_MAX: i128 = 10_i128.pow(27);

/// Kubernetes takes a text without any digit for 0, such as a sign, a dot or a suffix alone; here it is a mistake.
fn has_no_digit(text: &str) -> bool {
    !text.split(['e', 'E']).next().unwrap_or_default().contains(|c: char| c.is_ascii_digit())
}

/// With a binary suffix Kubernetes limits what is larger than 64 bits, here only what is far larger is limited.
fn is_limited_there(text: &str, canonical: &str) -> bool {
    text.ends_with('i') && canonical.trim_start_matches('-') == i64::MAX.to_string()
}

#[test]
fn quantities_are_those_of_kubernetes() {
    let mut wrong = Vec::new();
    let mut kinds = [0; 3];
    for line in FACTS.lines().skip(1) {
        let columns: Vec<&str> = line.rsplitn(3, '\t').collect();
        let [expected_text, expected_milli, text] = columns[..] else { panic!("{line}") };
        let (milli, written) = (parse_milli(text), canonical(text));
        let is_as_expected = if expected_milli == "refused" || has_no_digit(text) {
            kinds[0] += 1;
            milli.is_none() && written.is_none()
        } else if let (Some(milli), Some(written)) = (milli, &written) {
            let is_milli_equal = match expected_milli.parse::<i128>() {
                Ok(expected) => {
                    kinds[1] += 1;
                    milli == expected
                }
                Err(_) => {
                    kinds[2] += 1;
                    milli.abs() > i128::from(i64::MAX / 1000 * 1000)
                }
            };
            // What is beyond the limit here is the limit, in whichever form.
            let is_beyond = milli.abs() >= MILLI_MAX || is_limited_there(text, expected_text);
            is_milli_equal && (written == expected_text || expected_text == "lost" || is_beyond)
        } else {
            false
        };
        if !is_as_expected {
            wrong.push(format!("{text:?}: expected {expected_milli} {expected_text}, found {milli:?} {written:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    let [refused, small, large] = kinds;
    assert!(refused > 500 && small > 700 && large > 300, "{refused} refused, {small} small, {large} large");
}
