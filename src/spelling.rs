//! The known word that a mistyped one was probably meant to be. Owns nothing else.

/// Longer than any word that is known.
const WORD_BYTES_MAX: usize = 64;

/// The closest of `candidates`, case apart, if close enough to suggest: at most a third of the word
/// wrong, one word within the other, or three quarters of it right from its start.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // No typing error: comparing it with each candidate would take as long as both are.
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let length = word.chars().count();
    let judged = candidates.iter().filter_map(|candidate| {
        let lower = candidate.to_lowercase();
        let distance = distance(&word, &lower);
        let prefix = word.chars().zip(lower.chars()).take_while(|(a, b)| a == b).count();
        let is_within = length >= 4 && lower.len() >= 4 && (word.contains(&lower) || lower.contains(&word));
        let is_near = distance <= length.max(3) / 3 || is_within || (length >= 4 && prefix * 4 >= length * 3);
        is_near.then_some((distance, *candidate))
    });
    judged.min().map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours from `a` to `b`.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues"];
        for (word, expected) in [
            ("serveraddress", Some("serverAddress")),
            ("treshold", Some("threshold")),
            ("Query", Some("query")),
            ("activationTreshold", Some("activationThreshold")),
            ("ignoreNullValue", Some("ignoreNullValues")),
            ("nullValues", Some("ignoreNullValues")),
            ("queryParams", Some("query")),
            ("qeury", Some("query")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest("x", &[]), None);
        let replicas = ["minReplicaCount", "maxReplicaCount", "idleReplicaCount"];
        assert_eq!(nearest("minReplicas", &replicas), Some("minReplicaCount"));
        assert_eq!(nearest("replicas", &replicas), None);
    }
}
