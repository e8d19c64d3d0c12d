//! The Prometheus servers that a cluster names once for all: the default of triggers without `serverAddress`, and
//! others by alias.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fields::quoted;
use super::mask;
use super::trigger::prometheus::DEFAULT_ADDRESS;
use crate::formats::url::Url;
use crate::scaling::model::PrometheusSource;

/// The parameter of a trigger that names its server.
const ADDRESS: &str = PrometheusSource::ADDRESS;

/// More aliases than this are a mistake; each is compared with those before it.
const ALIASES_MAX: usize = 1_000;

/// Prometheus servers that the command line names. Their URLs are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    default: Option<String>,
    aliases: BTreeMap<String, String>,
}

impl Servers {
    /// Reads the values of `--prometheus-server`, empty for none, and of `--additional-prometheus-servers`, each
    /// `NAME=URL` or several of them joined by commas.
    ///
    /// # Errors
    /// Everything that is wrong, each with its flag and what to write instead.
    pub fn parse(default: &str, additional: &[String]) -> Result<Self, Vec<String>> {
        let (mut servers, mut problems) = (Self::default(), Vec::new());
        let mut url = |flag: &str, text: &str| match Url::parse_base(text) {
            Ok(_) => Some(text.trim_end_matches('/').to_owned()),
            Err(reason) => {
                let shown = quoted(&mask::address(text)).to_string();
                problems
                    .push(format!("{flag}: {shown} {reason}: write a URL such as http://prometheus.monitoring:9090"));
                None
            }
        };
        if !default.is_empty() {
            servers.default = url("--prometheus-server", default);
        }
        let mut wrong = Vec::new();
        for pair in additional.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|pair| !pair.is_empty()) {
            let flag = "--additional-prometheus-servers";
            match pair.split_once('=') {
                Some((name, text)) if !name.trim().is_empty() => {
                    let Some(url) = url(flag, text.trim()) else { continue };
                    if servers.aliases.insert(name.trim().to_owned(), url).is_some() {
                        wrong.push(format!("{flag}: {} is named twice", quoted(name.trim())));
                    }
                }
                _ => wrong
                    .push(format!("{flag}: a value has no NAME=: write e.g. long-term=http://thanos.monitoring:9090")),
            }
        }
        problems.append(&mut wrong);
        if servers.aliases.len() > ALIASES_MAX {
            problems.push(format!("--additional-prometheus-servers: more than {ALIASES_MAX}"));
        }
        if problems.is_empty() { Ok(servers) } else { Err(problems) }
    }

    /// The server of those who name none.
    #[must_use]
    pub fn default_url(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// The server with this alias.
    #[must_use]
    pub fn of_alias(&self, name: &str) -> Option<&str> {
        self.aliases.get(name).map(String::as_str)
    }

    /// All aliases, comma-joined, for messages.
    pub(crate) fn aliases(&self) -> String {
        self.aliases.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Writes the default into each prometheus trigger of a spec that has no `serverAddress`, so that whoever reads the
    /// definition later, in the history too, sees which server was asked. Where an authentication may give the address,
    /// which goes before the default, it stands aside.
    pub fn fill_in(&self, spec: &mut Value) {
        let (Some(default), Some(triggers)) = (&self.default, spec.get_mut("triggers").and_then(Value::as_array_mut))
        else {
            return;
        };
        for trigger in triggers.iter_mut().filter(|trigger| trigger["type"] == "prometheus") {
            let name = trigger.pointer("/authenticationRef/name").and_then(Value::as_str);
            let place = if name.is_some_and(|name| !name.is_empty()) { DEFAULT_ADDRESS } else { ADDRESS };
            let Some(metadata) = trigger.get_mut("metadata").and_then(Value::as_object_mut) else { continue };
            let is_missing = match metadata.get(ADDRESS) {
                None | Some(Value::Null) => true,
                Some(Value::String(text)) => text.trim().is_empty(),
                Some(_) => false,
            };
            if is_missing {
                metadata.insert(place.to_owned(), json!(default));
            }
        }
    }

    /// Returns the servers of a cluster where the first prometheus trigger of this spec asks the default.
    #[must_use]
    pub fn of_spec(spec: &Value) -> Self {
        let triggers = spec.get("triggers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let asked = triggers.iter().filter(|trigger| trigger["type"] == "prometheus");
        let written = |trigger: &'_ Value, name: &str| trigger["metadata"][name].as_str().map(str::to_owned);
        let mut addresses =
            asked.filter_map(|trigger| written(trigger, ADDRESS).or_else(|| written(trigger, DEFAULT_ADDRESS)));
        let address = addresses.next();
        Self::parse(&address.unwrap_or_default(), &[]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(default: &str, additional: &[&str]) -> Result<Servers, Vec<String>> {
        Servers::parse(default, &additional.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn servers_are_named_by_flags() {
        let servers = parse("http://p:9090/", &["a=http://a:1, b=https://u:secret@b/x=y/", "c=http://c"]).unwrap();
        assert_eq!(servers.default_url(), Some("http://p:9090"));
        assert_eq!(servers.of_alias("b"), Some("https://u:secret@b/x=y"));
        assert_eq!((servers.of_alias("d"), servers.aliases().as_str()), (None, "a, b, c"));
        assert_eq!(parse("", &[]), Ok(Servers::default()));
    }

    #[test]
    fn what_cannot_be_a_server_is_reported_without_its_password() {
        let problems = parse("p:9090", &["http://x", "a=ftp://u:secret@x", "b=http://b", "b=http://c"]).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:#?}");
        assert!(problems[0].starts_with("--prometheus-server: \"p:9090\" is not a URL"), "{problems:#?}");
        for expected in ["no NAME=", "\"b\" is named twice", "is not an http or https URL"] {
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:#?}");
        }
        assert!(!problems.join(" ").contains("secret"), "{problems:#?}");
    }

    #[test]
    fn the_default_is_for_those_who_name_none() {
        let servers = parse("http://p", &[]).unwrap();
        let mut spec = json!({"triggers": [
            {"type": "prometheus", "metadata": {"query": "a"}},
            {"type": "prometheus", "metadata": {"serverAddress": " "}},
            {"type": "prometheus", "metadata": {"serverAddress": "http://own"}},
            {"type": "prometheus", "metadata": {"serverAddress": 5}},
            {"type": "prometheus"},
            {"type": "cron", "metadata": {}},
            {"type": "prometheus", "metadata": {}, "authenticationRef": {"name": "a"}},
            {"type": "prometheus", "metadata": {"serverAddress": "http://own"}, "authenticationRef": {"name": "a"}},
        ]});
        servers.fill_in(&mut spec);
        let addresses: Vec<Value> = (0..8)
            .map(|at| spec["triggers"][at].get("metadata").map_or(Value::Null, |m| m["serverAddress"].clone()))
            .collect();
        assert_eq!(json!(addresses), json!(["http://p", "http://p", "http://own", 5, null, null, null, "http://own"]));
        assert_eq!(spec["triggers"][6]["metadata"], json!({"defaultServerAddress": "http://p"}));
        assert_eq!(Servers::of_spec(&spec), servers);
        let aside = json!({"triggers": [spec["triggers"][6]]});
        assert_eq!(Servers::of_spec(&aside), servers);
        let before = spec.clone();
        Servers::default().fill_in(&mut spec);
        assert_eq!(spec, before);
    }
}
