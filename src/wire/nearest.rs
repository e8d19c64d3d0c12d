//! The known word that a mistyped one was probably meant to be. Owns nothing else.

/// The closest of `candidates`, if close enough to suggest: case apart, at most a third of the word wrong.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let (distance, candidate) = candidates
        .iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), *candidate))
        .min()?;
    let contained = candidate.len() >= 4
        && word.len() >= 4
        && (word.contains(&candidate.to_lowercase()) || candidate.to_lowercase().contains(&word));
    (distance <= (word.chars().count().max(3) / 3) || contained).then_some(candidate)
}

/// Levenshtein's: insertions, deletions and replacements from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let known = [
            "serverAddress",
            "query",
            "threshold",
            "activationThreshold",
            "ignoreNullValues",
        ];
        for (word, expected) in [
            ("serveraddress", Some("serverAddress")),
            ("treshold", Some("threshold")),
            ("Query", Some("query")),
            ("activationTreshold", Some("activationThreshold")),
            ("ignoreNullValue", Some("ignoreNullValues")),
            ("nullValues", Some("ignoreNullValues")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest("x", &[]), None);
    }
}
