//! Renders the tables of flags: help, manual page, completions, and the table of `k8s/flags.md`.

use std::fmt::Write as _;

use super::flags::{Flag, RUN, SUBCOMMANDS, Subcommand, Takes, find};

/// Terminal width, in columns, that the help is wrapped to.
const COLUMNS: usize = 118;
/// Column at which explanations begin.
const INDENT: usize = 25;

impl Flag {
    /// Returns for example `--db FILE` or `--json, -o json`.
    fn usage(&self) -> String {
        let value = match self.takes {
            Takes::Nothing => String::new(),
            Takes::Truth => "=BOOL".to_owned(),
            Takes::Value(name) => format!(" {name}"),
            Takes::OneOf(known) => format!(" {}", known.join("|")),
        };
        let short = self.short.map(|short| format!(", -{short}")).unwrap_or_default();
        format!("--{}{value}{short}", self.long)
    }

    /// Returns the help text with repetition, default and variable appended.
    fn explanation(&self) -> String {
        let mut text = self.help.to_owned();
        if self.is_repeatable {
            text.push_str("; repeatable");
        }
        if let Some(default) = self.default {
            let _ = write!(text, "; default {default}");
        }
        if let Some(env) = self.env {
            let _ = write!(text, " [{env}]");
        }
        text
    }
}

impl Subcommand {
    fn usage(&self) -> String {
        let flags = if self.flags.is_empty() { "" } else { " [FLAGS]" };
        let operand = self.operand.map(|(name, _)| format!(" {name}")).unwrap_or_default();
        format!("hpalite {}{flags}{operand}", self.name)
    }

    fn section(&self) -> String {
        let mut out = wrapped(&format!("{}: ", self.name), 10, self.about);
        for flag in self.flags {
            out += &wrapped(&format!("  {}", flag.usage()), INDENT, &flag.explanation());
        }
        if let Some((name, help)) = self.operand {
            out += &wrapped(&format!("  {name}"), INDENT, help);
        }
        if !self.note.is_empty() {
            let _ = writeln!(out, "  {}", self.note);
        }
        out
    }
}

/// Returns `left`, followed by `text` wrapped at words from column `indent` on.
fn wrapped(left: &str, indent: usize, text: &str) -> String {
    let mut out = String::new();
    let mut line = format!("{left:indent$}");
    if left.len() >= indent && !left.ends_with(' ') {
        out = format!("{left}\n");
        line = " ".repeat(indent);
    }
    for word in text.split(' ') {
        if line.len() + word.len() > COLUMNS && line.trim_end().len() > indent {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(indent);
        }
        line += word;
        line.push(' ');
    }
    let _ = writeln!(out, "{}", line.trim_end());
    out
}

/// Returns the text of `hpalite --help`.
#[must_use]
pub fn help() -> String {
    let mut out = "hpalite: Prometheus-driven autoscaling for Kubernetes\n\n".to_owned();
    for (at, subcommand) in SUBCOMMANDS.iter().enumerate() {
        let _ = writeln!(out, "{} {}", if at == 0 { "Usage:" } else { "      " }, subcommand.usage());
    }
    for subcommand in SUBCOMMANDS {
        out.push('\n');
        out += &subcommand.section();
    }
    out
}

/// Returns the text of `hpalite SUBCOMMAND --help`; empty for an unknown subcommand.
#[must_use]
pub fn help_of(subcommand: &str) -> String {
    find(subcommand).map_or_else(String::new, |found| format!("Usage: {}\n\n{}", found.usage(), found.section()))
}

/// Returns the table of `k8s/flags.md`: the flags of `run`, their defaults, variables and meaning.
#[must_use]
pub fn markdown() -> String {
    let mut out = "| flag | default | variable | |\n|---|---|---|---|\n".to_owned();
    let code = |text: Option<&str>| text.map(|text| format!("`{text}`")).unwrap_or_default();
    for flag in RUN.flags {
        let more = if flag.is_repeatable { "; repeatable" } else { "" };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {}{more} |",
            flag.usage(),
            code(flag.default),
            code(flag.env),
            flag.help.replace('|', "\\|")
        );
    }
    out
}

/// Returns the manual page in man(7) markup.
#[must_use]
pub fn man() -> String {
    // Escapes hyphens so that they can be copied, and line starts that troff would read as requests.
    let plain = |text: &str| {
        let text = text.replace('\\', "\\e").replace('-', "\\-");
        if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
    };
    let mut out = format!(
        ".TH HPALITE 1 \"\" \"hpalite {}\"\n.SH NAME\nhpalite \\- Prometheus\\-driven autoscaling for Kubernetes\n.SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION")
    );
    for subcommand in SUBCOMMANDS {
        let _ = writeln!(out, ".B {}\n.br", plain(&subcommand.usage()));
    }
    for subcommand in SUBCOMMANDS {
        let _ = writeln!(out, ".SH {}\n{}", subcommand.name.to_uppercase(), plain(subcommand.about));
        for flag in subcommand.flags {
            let _ = writeln!(out, ".TP\n.B {}\n{}", plain(&flag.usage()), plain(&flag.explanation()));
        }
        if let Some((name, help)) = subcommand.operand {
            let _ = writeln!(out, ".TP\n.I {}\n{}", plain(name), plain(help));
        }
        if !subcommand.note.is_empty() {
            let _ = writeln!(out, ".PP\n{}", plain(subcommand.note));
        }
    }
    out
}

/// Returns the script that a shell sources to complete subcommands and flags; `None` for an unknown shell.
#[must_use]
pub fn completion(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(format!("autoload -U +X bashcompinit && bashcompinit\n{}", bash())),
        "fish" => Some(fish()),
        _ => None,
    }
}

fn names() -> String {
    SUBCOMMANDS.map(|subcommand| subcommand.name).join(" ")
}

fn bash() -> String {
    let mut cases = String::new();
    for subcommand in SUBCOMMANDS {
        let mut words: Vec<String> = subcommand.flags.iter().map(|flag| format!("--{}", flag.long)).collect();
        words.push("--help".to_owned());
        let _ = writeln!(cases, "    {}) words=\"{}\" ;;", subcommand.name, words.join(" "));
    }
    format!(
        "_hpalite() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}} words=\"\"\n  COMPREPLY=()\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    \
         COMPREPLY=($(compgen -W \"{} --help --version\" -- \"$word\"))\n    return\n  fi\n  case ${{COMP_WORDS[1]}} in\n{cases}    \
         esac\n  case $word in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n    \
         *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n  esac\n}}\ncomplete -F _hpalite hpalite\n",
        names()
    )
}

fn fish() -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut out = "complete -c hpalite -f\n".to_owned();
    for subcommand in SUBCOMMANDS {
        let name = subcommand.name;
        let _ = writeln!(out, "complete -c hpalite -n __fish_use_subcommand -a {name} -d {}", quoted(subcommand.about));
        for flag in subcommand.flags {
            let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
            let takes = if flag.takes == Takes::Nothing { "" } else { " -r" };
            let _ = writeln!(
                out,
                "complete -c hpalite -n '__fish_seen_subcommand_from {name}' -l {}{short}{takes} -d {}",
                flag.long,
                quoted(flag.help)
            );
        }
    }
    out
}
