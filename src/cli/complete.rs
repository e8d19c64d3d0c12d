//! What a shell is offered for `kubectl hpalite`, in the protocol of `kubectl_complete-…`: a candidate a line, and a last
//! line that says whether files are offered too.

use super::flags::{self, Flag, SUBCOMMANDS, Takes};
use crate::kube::Kubeconfig;
use crate::plugin::Place;

/// Of cobra's directives: offer no files, or what the shell offers by itself.
const NO_FILES: u8 = 4;
const FILES: u8 = 0;

/// What is offered for the last word.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// With descriptions, which may be empty.
    pub words: Vec<(String, String)>,
    pub files: bool,
    /// What only the cluster knows.
    pub wanted: Option<Wanted>,
}

/// ScaledObjects of a namespace; None for that of the context.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub place: Place,
    pub namespace: Option<String>,
}

impl Completion {
    /// Returns the lines that the shell reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (word, about) in &self.words {
            text += word;
            if !about.is_empty() {
                text.push('\t');
                text += about;
            }
            text.push('\n');
        }
        text + &format!(":{}\n", if self.files { FILES } else { NO_FILES })
    }
}

/// Returns what may stand for the last of the words after `kubectl hpalite`, which is being typed.
#[must_use]
pub fn complete(words: &[String], env: &dyn Fn(&str) -> Option<String>) -> Completion {
    let (typing, before) = words.split_last().map_or(("", &[][..]), |(typing, before)| (typing.as_str(), before));
    let mut subcommand = None;
    let mut operands = 0;
    let mut values: Vec<(&str, String)> = Vec::new();
    let all = |subcommand: Option<&'static flags::Subcommand>| {
        subcommand.map_or(&[][..], |found| found.flags).iter().chain(flags::PLUGIN)
    };
    let mut expected: Option<&'static Flag> = None;
    for word in before {
        if let Some(flag) = expected.take() {
            values.push((flag.long, word.clone()));
        } else if let Some(typed) = word.strip_prefix('-') {
            let (name, value) = typed.split_once('=').map_or((typed, None), |(name, value)| (name, Some(value)));
            let named = |flag: &&Flag| {
                name.strip_prefix('-') == Some(flag.long) || flag.short.is_some_and(|short| name == short.to_string())
            };
            match (all(subcommand).find(named), value) {
                (Some(flag), Some(value)) => values.push((flag.long, value.to_owned())),
                (Some(flag), None) if !matches!(flag.takes, Takes::Nothing | Takes::Truth) => expected = Some(flag),
                _ => {}
            }
        } else if subcommand.is_none() {
            subcommand = flags::find(word);
        } else {
            operands += 1;
        }
    }
    let offered = |words: Vec<(String, String)>| {
        let words = words.into_iter().filter(|(word, _)| word.starts_with(typing)).collect();
        Completion { words, ..Completion::default() }
    };
    if let Some(flag) = expected {
        return match flag.takes {
            Takes::OneOf(known) => offered(known.iter().map(|one| ((*one).to_owned(), String::new())).collect()),
            Takes::Value("FILE") => Completion { files: true, ..Completion::default() },
            _ => Completion::default(),
        };
    }
    if typing.starts_with('-') {
        let mut found: Vec<(String, String)> = Vec::new();
        for flag in all(subcommand) {
            let word = format!("--{}", flag.long);
            if !found.iter().any(|(known, _)| *known == word) {
                found.push((word, flag.help.to_owned()));
            }
        }
        return offered(found);
    }
    let Some(subcommand) = subcommand else {
        let here = SUBCOMMANDS.iter().filter(|subcommand| subcommand.name != "run");
        return offered(here.map(|subcommand| (subcommand.name.to_owned(), subcommand.about.to_owned())).collect());
    };
    match subcommand.operand {
        Some((name, _)) if name.starts_with("FILE") => Completion { files: true, ..Completion::default() },
        Some(("SHELL", _)) => offered(["bash", "zsh", "fish"].map(|shell| (shell.to_owned(), String::new())).to_vec()),
        Some(("NAMESPACE/NAME", _)) if operands == 0 => {
            let value = |long: &str| values.iter().rfind(|(known, _)| *known == long).map(|(_, value)| value.clone());
            let list = value("kubeconfig").or_else(|| env("KUBECONFIG"));
            let kubeconfig =
                list.map(|list| Kubeconfig { context: value("context"), ..Kubeconfig::from(list.as_str()) });
            // The namespace may be typed already.
            let typed = typing.split_once('/').map(|(namespace, _)| namespace.to_owned());
            let namespace = typed.or_else(|| value("namespace"));
            let wanted = Wanted { place: Place { kubeconfig, service: None }, namespace };
            Completion { wanted: Some(wanted), ..Completion::default() }
        }
        _ => Completion::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Completion {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        complete(&words, &|_| None)
    }

    fn words(words: &[&str]) -> Vec<String> {
        of(words).words.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn subcommands_flags_and_values_are_offered() {
        assert_eq!(words(&["re"]), ["replay"]);
        assert!(!words(&[""]).contains(&"run".to_owned()) && words(&[""]).contains(&"status".to_owned()));
        assert_eq!(words(&["why", "--a"]), ["--at"]);
        assert_eq!(words(&["why", "--cont"]), ["--context"]);
        assert_eq!(words(&["--context", "x", "wh"]), ["why"]);
        assert_eq!(words(&["sql", "-o", "j"]), ["json"]);
        assert_eq!(words(&["completion", ""]), ["bash", "zsh", "fish"]);
        assert!(of(&["replay", "web", "--candidate", ""]).files && of(&["check", ""]).files);
        assert_eq!(of(&["history", "web", "--since", ""]), Completion::default());
        assert_eq!(of(&["re"]).text(), format!("replay\t{}\n:4\n", flags::find("replay").expect("it is").about));
        assert_eq!(of(&["check", ""]).text(), ":0\n");
    }

    #[test]
    fn objects_come_from_the_cluster() {
        let wanted = |words: &[&str]| of(words).wanted.map(|wanted| (wanted.namespace, wanted.place.kubeconfig));
        let kubeconfig = Kubeconfig { files: vec!["/k".into()], context: Some("c".to_owned()) };
        assert_eq!(wanted(&["why", ""]), Some((None, None)));
        assert_eq!(
            wanted(&["why", "-n", "shop", "--kubeconfig=/k", "--context", "c", "w"]),
            Some((Some("shop".to_owned()), Some(kubeconfig)))
        );
        assert_eq!(wanted(&["thaw", "a/w"]).map(|(namespace, _)| namespace), Some(Some("a".to_owned())));
        assert_eq!(wanted(&["why", "web", ""]), None);
        assert_eq!(wanted(&["sql", ""]), None);
    }
}
