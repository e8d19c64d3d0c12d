//! Patterns with `*` and `?` for names and texts, matched in time linear in the text.

/// A pattern, split at its `*`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    /// The first must begin the text and the last must end it; a single one must match it all.
    stretches: Vec<Stretch>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Stretch {
    /// `None` matches any character.
    parts: Vec<Option<char>>,
    /// The same as text, if it has no `?`.
    literal: Option<String>,
}

impl Pattern {
    /// Parses a pattern; `\` escapes the next character.
    pub(super) fn parse(text: &str) -> Self {
        let mut all = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let last = all.len() - 1;
            match c {
                '\\' => all[last].push(Some(chars.next().unwrap_or('\\'))),
                '?' => all[last].push(None),
                '*' => all.push(Vec::new()),
                other => all[last].push(Some(other)),
            }
        }
        let count = all.len();
        let mut at = 0;
        // Several `*` in a row are equivalent to one.
        all.retain(|parts| {
            at += 1;
            at == 1 || at == count || !parts.is_empty()
        });
        let stretches = all.into_iter().map(|parts| Stretch { literal: parts.iter().copied().collect(), parts });
        Self { stretches: stretches.collect() }
    }

    /// Returns the only text that it matches, if there is just one.
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.stretches[..] {
            [only] => only.literal.as_deref(),
            _ => None,
        }
    }

    /// Returns the maximum cost of matching a text of this length, in steps.
    pub(super) fn cost(&self, length: usize) -> usize {
        let free = self.stretches.iter().filter(|stretch| stretch.literal.is_none());
        length * (1 + free.map(|stretch| stretch.parts.len()).sum::<usize>())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &self.stretches[..] else {
            return self.stretches.iter().all(|only| only.begins(text) == Some(""));
        };
        let Some(rest) = first.begins(text) else { return false };
        let Some(mut rest) = last.ends(rest) else { return false };
        // Taking the first occurrence of each leaves the most text for the others.
        for stretch in middle {
            let Some(after) = stretch.within(rest) else { return false };
            rest = after;
        }
        true
    }
}

impl Stretch {
    /// Returns the rest of a text that begins with this stretch.
    fn begins<'t>(&self, text: &'t str) -> Option<&'t str> {
        if let Some(literal) = &self.literal {
            return text.strip_prefix(literal.as_str());
        }
        let mut rest = text.chars();
        self.parts
            .iter()
            .all(|part| rest.next().is_some_and(|c| part.is_none_or(|part| part == c)))
            .then_some(rest.as_str())
    }

    /// Returns what precedes this stretch in a text that ends with it.
    fn ends<'t>(&self, text: &'t str) -> Option<&'t str> {
        if let Some(literal) = &self.literal {
            return text.strip_suffix(literal.as_str());
        }
        let mut rest = text.chars();
        let mut parts = self.parts.iter().rev();
        parts.all(|part| rest.next_back().is_some_and(|c| part.is_none_or(|part| part == c))).then_some(rest.as_str())
    }

    /// Returns what follows the stretch's first occurrence in the text.
    fn within<'t>(&self, text: &'t str) -> Option<&'t str> {
        if let Some(literal) = &self.literal {
            return text.split_once(literal.as_str()).map(|(_, after)| after);
        }
        text.char_indices().find_map(|(at, _)| self.begins(&text[at..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn patterns() {
        for (text, pattern, expected) in [
            ("abc", "a*c", true),
            ("abc", "*", true),
            ("abc", "a?c", true),
            ("abc", "a?", false),
            ("abcbc", "a*bc", true),
            ("abcbd", "a*bc", false),
            ("a*c", "a\\*c", true),
            ("abc", "a\\*c", false),
            ("", "*", true),
            ("", "", true),
            ("", "?", false),
            ("aa", "a*a", true),
            ("a", "a*a", false),
            ("xabyabz", "*ab?ab*", true),
            ("xabyacz", "*ab?ab*", false),
            ("aüb", "a?b", true),
            ("abc", "**b**", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(
                Pattern::parse(text.replace('\\', "\\\\").as_str()).literal(),
                (!text.contains('*')).then_some(text)
            );
            assert_eq!(Pattern::parse(pattern).matches(text), expected, "{text} {pattern}");
        }
    }

    /// A backtracking matcher would take hours for these patterns.
    #[test]
    fn no_pattern_takes_long() {
        let begun = Instant::now();
        let text = "a".repeat(1 << 20);
        for pattern in [format!("{}b", "a*".repeat(500)), format!("*{}b*", "a".repeat(1_000)), "*a".repeat(500)] {
            let _ = Pattern::parse(&pattern).matches(&text);
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
