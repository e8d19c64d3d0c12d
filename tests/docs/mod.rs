//! Checks that the documents are true: links have targets, commands are valid, messages occur in the code, and the
//! walkthrough works.

mod links;
mod tables;
mod walkthrough;
mod workflows;

use std::fs;
use std::path::{Path, PathBuf};

use hpalite::cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every document, relative to the root.
fn documents() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("README.md")];
    let mut folders: Vec<PathBuf> = [".github", "k8s", "sql", "src", "tests"].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            // Links within the chart lead to files that are checked anyway.
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 7, "{files:?}");
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A fenced block, and the comment before it.
struct Block {
    language: String,
    text: String,
    /// The reason in a comment `<!-- not run: REASON -->` before it.
    not_run: Option<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut not_run) = (Vec::new(), None);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language: language.to_owned(), text: body.join("\n"), not_run: not_run.take() });
        } else {
            not_run = line.strip_prefix("<!-- not run: ").and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
        }
    }
    blocks
}

/// Splits a line like a shell, as far as the documents need it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    assert_eq!(quote, None, "{line}");
    words.extend(word);
    words
}

/// Returns the commands of a shell block, without comments, with continued lines joined.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn commands_are_commands() {
    let mut seen = 0;
    for file in documents() {
        for block in blocks(&read(&file)).iter().filter(|block| block.language == "sh") {
            // A script, whose syntax is not checked here.
            if block.text.contains("$(") {
                continue;
            }
            for command in commands(&block.text) {
                seen += 1;
                check(&command).unwrap_or_else(|problem| panic!("{}: {command}: {problem}", file.display()));
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

fn check(command: &str) -> Result<(), String> {
    let words = words(command);
    for word in &words {
        let path = word.trim_start_matches("./");
        if ["k8s/", "tests/", "sql/", "src/"].iter().any(|folder| path.starts_with(folder))
            && !root().join(path).exists()
        {
            return Err(format!("{path} does not exist"));
        }
    }
    let program = words.iter().find(|word| !word.contains('=')).map_or("", String::as_str);
    let known = ["kubectl", "helm", "docker", "kind", "k3s", "sudo", "cargo", "hpalite", "export"];
    if !known.contains(&program) && !program.starts_with("tests/") {
        return Err(format!("{program} is no program that is known here"));
    }
    if let Some(at) = words.iter().position(|word| word == "--bench") {
        let name = words.get(at + 1).ok_or("--bench names nothing")?;
        if !read(Path::new("Cargo.toml")).contains(&format!("name = \"{name}\"")) {
            return Err(format!("there is no bench {name}"));
        }
    }
    if let ["kubectl", "hpalite", arguments @ ..] = words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        let person = cli::Person {
            env: &|name| (name == "KUBECONFIG").then(|| "/kubeconfig".to_owned()),
            namespace: &|_| Some("shop".to_owned()),
            columns: None,
        };
        return cli::plugin(arguments.iter().map(Into::into), person)
            .map(drop)
            .map_err(|problems| problems.0.join("; "));
    }
    let Some(at) = words.iter().position(|word| word == "hpalite" || word == "/hpalite") else { return Ok(()) };
    // In `helm install hpalite` it is a name and not a program.
    if !(at == 0 || words[at - 1] == "--" || words[at - 1].contains('=')) {
        return Ok(());
    }
    let arguments = words[at + 1..].iter().take_while(|word| *word != "|" && *word != ">").map(Into::into);
    cli::parse(arguments, &|_| None).map(drop).map_err(|problems| problems.0.join("; "))
}

/// In running text, subcommands must exist, and so must their flags.
#[test]
fn flags_in_the_text_exist() {
    let mut seen = 0;
    for file in documents() {
        let text = read(&file);
        // Code between single backticks; blocks have three and are checked above.
        for code in text.replace("```", "").split('`').skip(1).step_by(2) {
            let Some(rest) = code.strip_prefix("hpalite ") else { continue };
            let subcommand = rest.split(' ').next().unwrap_or_default();
            if subcommand.starts_with('-') {
                continue;
            }
            assert!(cli::help().contains(&format!("hpalite {subcommand}")), "{}: {code}", file.display());
            for word in rest.split([' ', '[', ']']).filter(|word| word.starts_with("--")) {
                let flag = word.split('=').next().unwrap_or_default();
                assert!(cli::help().contains(flag), "{}: {code}", file.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

/// A short README is read to the end.
#[test]
fn the_readme_is_short() {
    let length = read(Path::new("README.md")).len();
    assert!(length <= 8192, "{length} bytes");
}
