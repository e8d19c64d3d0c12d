//! Parses the flags of external metrics that other adapters have.

use std::path::PathBuf;

use super::typed::Typed;
use crate::config::ForwardSettings;
use crate::formats::url::Url;

/// More adapters than a cluster can have APIs for; each has a part of a read's two seconds.
const TARGETS_MAX: usize = 4;
/// Where the kubelet puts the token of the pod's own account.
const OWN_TOKENS: &str = "/var/run/secrets/kubernetes.io/serviceaccount/";

/// Returns `None` where no adapter is named, or after reporting a problem. `service` are name and namespace of our own.
pub(super) fn parse(
    typed: &Typed<'_>,
    service: &(String, String),
    problems: &mut Vec<String>,
) -> Option<ForwardSettings> {
    let before = problems.len();
    let mut targets: Vec<String> = Vec::new();
    for text in typed.listed("forward-external-metrics") {
        match target(&text, service) {
            Ok(url) if targets.contains(&url) => {
                problems.push(format!("--forward-external-metrics: {url} is named twice"));
            }
            Ok(url) => targets.push(url),
            Err(problem) => problems.push(format!("--forward-external-metrics: {problem}")),
        }
    }
    if targets.len() > TARGETS_MAX {
        problems.push(format!("--forward-external-metrics: at most {TARGETS_MAX}"));
    }
    let insecure = typed.value("forward-insecure-skip-tls-verify");
    if !matches!(insecure.as_str(), "true" | "false") {
        problems.push(format!("--forward-insecure-skip-tls-verify: \"{insecure}\" is neither true nor false"));
    }
    let skips_verification = insecure == "true";
    let token_file = typed.given("forward-token-file").map(PathBuf::from);
    if skips_verification && token_file.as_ref().is_some_and(|file| file.starts_with(OWN_TOKENS)) {
        problems.push(
            "--forward-token-file: whoever pretends to be the adapter would get the token of hpalite's own account, with all \
             its rights: give the adapter's CA by --ca-dir instead of --forward-insecure-skip-tls-verify, or the token of an \
             account that may read external metrics alone"
                .to_owned(),
        );
    }
    (!targets.is_empty() && problems.len() == before).then_some(ForwardSettings {
        targets,
        token_file,
        skips_verification,
    })
}

/// Returns the URL without a slash at its end.
fn target(text: &str, (name, namespace): &(String, String)) -> Result<String, String> {
    let fix = "write a URL such as https://prometheus-adapter.monitoring:443";
    // What has a user may be a password, so it is not repeated.
    let url = Url::parse_base(text).map_err(|why| format!("a value {why}: {fix}"))?;
    if url.user.is_some() {
        return Err(format!("a value has a user: use --forward-token-file, and {fix}"));
    }
    if url.scheme != "https" {
        return Err(format!("{text} is not https, which every adapter speaks: {fix}"));
    }
    let host = url.host.trim_end_matches('.').to_ascii_lowercase();
    let own = [".svc.cluster.local", ".svc", ""].map(|end| format!("{name}.{namespace}{end}"));
    if own.contains(&host) {
        return Err(format!("{text} is hpalite's own Service: name another adapter's"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_env;
    use super::*;
    use crate::cli::{Command, Problems};

    fn settings(arguments: &[&str], env: &[(&str, &str)]) -> Result<Option<ForwardSettings>, Vec<String>> {
        match with_env(&[&["run"], arguments].concat(), env) {
            Ok(Command::Run(config)) => Ok(config.forward),
            Err(Problems(problems)) => Err(problems),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn adapters_are_named_by_flags_or_the_variable() {
        assert_eq!(settings(&[], &[]), Ok(None));
        let env = [
            ("HPALITE_FORWARD_EXTERNAL_METRICS", "https://a.monitoring:443/, https://b.x/base"),
            ("HPALITE_FORWARD_TOKEN_FILE", "/var/run/secrets/reader/token"),
            ("HPALITE_FORWARD_INSECURE_SKIP_TLS_VERIFY", "true"),
        ];
        let expected = ForwardSettings {
            targets: vec!["https://a.monitoring:443".into(), "https://b.x/base".into()],
            token_file: Some("/var/run/secrets/reader/token".into()),
            skips_verification: true,
        };
        assert_eq!(settings(&[], &env), Ok(Some(expected)));
        let flags = ["--forward-external-metrics=https://c.d", "--forward-external-metrics", "https://e.f"];
        let found = settings(&flags, &[]).expect("valid").expect("adapters");
        assert_eq!(found.targets, ["https://c.d", "https://e.f"]);
        assert_eq!((found.token_file, found.skips_verification), (None, false));
    }

    #[test]
    fn what_cannot_be_asked_says_what_to_write() {
        for (flag, words) in [
            ("https://hpalite.hpalite:443", "is hpalite's own Service"),
            ("https://HPALITE.hpalite.svc.", "is hpalite's own Service"),
            ("https://hpalite.hpalite.svc.cluster.local", "is hpalite's own Service"),
            ("http://a.b", "is not https"),
            ("a.b:443", "is not a URL"),
            ("https://a.b?x", "contains a query"),
            ("https://u:secret@a.b", "has a user"),
        ] {
            let problems = settings(&["--forward-external-metrics", flag], &[]).expect_err("refused");
            assert!(problems.len() == 1 && problems[0].contains(words), "{flag}: {problems:?}");
            assert!(!problems[0].contains("secret@"), "{problems:?}");
        }
        let twice = ["--forward-external-metrics=https://a.b", "--forward-external-metrics=https://a.b/"];
        assert!(settings(&twice, &[]).expect_err("refused")[0].contains("named twice"));
        let many = [("HPALITE_FORWARD_EXTERNAL_METRICS", "https://a,https://b,https://c,https://d,https://e")];
        assert!(settings(&[], &many).expect_err("refused")[0].contains("at most 4"));
    }

    #[test]
    fn our_own_token_goes_to_nobody_who_is_not_verified() {
        let own = "--forward-token-file=/var/run/secrets/kubernetes.io/serviceaccount/token";
        let adapter = "--forward-external-metrics=https://a.b";
        assert!(settings(&[adapter, own], &[]).is_ok());
        let problems = settings(&[adapter, own, "--forward-insecure-skip-tls-verify"], &[]).expect_err("refused");
        assert!(problems[0].contains("hpalite's own account"), "{problems:?}");
        assert!(settings(&[adapter, "--forward-insecure-skip-tls-verify=maybe"], &[]).is_err());
    }
}
