//! Masks secrets in what users write, before it is stored, shown, logged or quoted.
//!
//! Owns the only list of what may be secret: user information and parameters of addresses, headers and parameters whose
//! names say so, and trigger parameters that are credentials. The rest is unchanged: a masked definition is as valid as
//! the original.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The replacement for a secret.
const MASK: &str = "***";

/// Bytes of a definition that is recorded as a whole; real ones have a few thousand.
const RECORDED_MAX: usize = 64 << 10;

/// Bytes recorded of each text of a larger definition.
const TEXT_MAX: usize = 500;

/// The ends of texts that were cut: quoted within JSON, quoted, plain.
const CUTS: &[&str] = &["\\\"…", "\"…", "…"];

/// Names, in lower-case letters and digits, whose values are always secret.
const SECRET_NAMES: &[&str] =
    &["auth", "cookie", "setcookie", "pass", "passwd", "pwd", "pw", "sig", "key", "cert", "jwt", "sas"];

/// Endings of such names.
const SECRET_ENDS: &[&str] = &[
    "password",
    "authorization",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authkey",
    "sharedkey",
    "signature",
    "credential",
    "credentials",
    "bearer",
    "customauthvalue",
    "connection",
    "connectionstring",
];

/// Returns what is recorded of a spec: masked, with sorted keys, and bounded in size. A larger spec loses the ends of
/// its long texts, and then its parts.
pub(crate) fn recorded(spec: &Value) -> String {
    let mut spec = spec.clone();
    definition(&mut spec);
    let text = spec.to_string();
    if text.len() <= RECORDED_MAX {
        return text;
    }
    let bytes = text.len();
    shorten(&mut spec);
    let text = spec.to_string();
    if text.len() <= RECORDED_MAX {
        return text;
    }
    // The scalar fields, such as the replica bounds, are still informative.
    let mut rest: Map<String, Value> = match spec {
        Value::Object(members) => {
            members.into_iter().filter(|(_, value)| !value.is_array() && !value.is_object()).collect()
        }
        _ => Map::new(),
    };
    rest.insert("notRecorded".to_owned(), format!("the rest of {bytes} bytes").into());
    let text = Value::Object(rest).to_string();
    if text.len() <= RECORDED_MAX { text } else { "{}".to_owned() }
}

/// Like [`recorded`], for a recorded text; `None` if nothing changes or it is not JSON.
pub(crate) fn recorded_text(spec_json: &str) -> Option<String> {
    let spec: Value = serde_json::from_str(spec_json).ok()?;
    let masked = recorded(&spec);
    (masked != spec_json).then_some(masked)
}

/// Masks everything that may be secret in a definition.
fn definition(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = self::text(text) {
                *text = masked;
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(definition),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if !text.is_empty() => match masked_parameter(name, text) {
                        Some(masked) => *text = masked,
                        None => definition_text(text),
                    },
                    // A password that is a number.
                    Value::Number(_) if name != "key" && is_secret_name(name) => *value = MASK.into(),
                    other => definition(other),
                }
            }
        }
        _ => {}
    }
}

fn definition_text(text: &mut String) {
    if let Cow::Owned(masked) = self::text(text) {
        *text = masked;
    }
}

/// Masks a trigger parameter that is a secret or contains some; `None` for others.
fn masked_parameter(name: &str, text: &str) -> Option<String> {
    match name {
        "customHeaders" | "queryParameters" => Some(pairs(text)),
        "serverAddress" | "defaultServerAddress" | "url" => Some(address(text).into_owned()),
        "rawQuery" => Some(parameters(text)),
        _ if is_secret_name(name) => Some(MASK.to_owned()),
        _ => None,
    }
}

/// Masks `k=v,k2=v2`: the values of names that are secret, and everything that does not have this form.
fn pairs(text: &str) -> String {
    let masked = text.split(',').map(|item| match item.split_once('=') {
        Some((name, value)) if !value.is_empty() && (name.trim().is_empty() || is_secret_name(name)) => {
            format!("{name}={MASK}")
        }
        Some((name, value)) => format!("{name}={}", self::text(value)),
        None if item.trim().is_empty() => item.to_owned(),
        None => MASK.to_owned(),
    });
    masked.collect::<Vec<_>>().join(",")
}

/// Returns whether a header or parameter of this name has a secret value.
fn is_secret_name(name: &str) -> bool {
    // Names that say where credentials are do not match: usernameFromEnv, oauthTokenURI, keyParamName.
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let is_header = name.contains('-') && (plain.ends_with("key") || plain.ends_with("auth"));
    is_header || SECRET_NAMES.contains(&plain.as_str()) || SECRET_ENDS.iter().any(|end| plain.ends_with(end))
}

/// Masks an address: its user information, and the values of parameters whose names are secret. In a malformed address
/// everything that might be a password is masked as well.
pub(crate) fn address(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (before, rest) = text.split_at(start);
    let without_user = user_end(rest).map(|end| (MASK, &rest[end..]));
    let (user, rest) = without_user.unwrap_or(("", rest));
    let query = rest.split_once('?').map(|(path, query)| format!("{path}?{}", parameters(query)));
    if user.is_empty() && query.as_deref().is_none_or(|masked| masked == rest) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{before}{user}{}", query.as_deref().unwrap_or(rest)))
}

/// Returns where the user information before a host ends: at the `@`, or where a text was cut within it.
fn user_end(rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    // An unescaped slash in a password ends the apparent authority early; then the apparent port is not a number.
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (_, port) = authority[after_bracket..].split_once(':')?;
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    rest.rfind('@').or_else(|| CUTS.iter().find_map(|cut| authority.find(cut)))
}

fn parameters(query: &str) -> String {
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if is_secret_name(name) && !value.is_empty() => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    masked.collect::<Vec<_>>().join("&")
}

/// Masks every address in a text.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let scheme = rest[..at]
            .rfind(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c))
            .map_or(0, |last| last + rest[last..].chars().next().map_or(1, char::len_utf8));
        let after = at + 3;
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '{' | '}' | '\\');
        let end = rest[after..].find(is_end).map_or(rest.len(), |length| after + length);
        // The text was cut within quotes.
        let cut = CUTS.iter().find(|cut| rest[end..].starts_with(**cut));
        let end = end + cut.map_or(0, |cut| cut.len());
        out.push_str(&rest[..scheme]);
        out.push_str(&address(&rest[scheme..end]));
        rest = &rest[end..];
    }
    out.push_str(rest);
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// Masks a user's value for a message: as an address, even with blanks, or else the addresses in it.
pub(crate) fn value(text: &str) -> Cow<'_, str> {
    let is_scheme =
        |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    match text.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => address(text),
        _ => self::text(text),
    }
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_MAX => {
            let cut = crate::encode::cut(text, TEXT_MAX).len();
            text.truncate(cut);
            text.push('…');
        }
        Value::Array(elements) => elements.iter_mut().for_each(shorten),
        Value::Object(members) => members.values_mut().for_each(shorten),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("http://p:9090/x?y=1", "http://p:9090/x?y=1"),
            ("http://user:pass@p:9090", "http://***@p:9090"),
            ("http://user@p", "http://***@p"),
            ("http://user:p@ss@p/a@b", "http://***@p/a@b"),
            ("http://user:pa ss@p:port", "http://***@p:port"),
            ("http://user:pa/ss@p", "http://***@p"),
            ("http://user:pa#ss@p", "http://***@p"),
            ("http://user:pa?ss@p", "http://***@p"),
            ("http://user:very-long…", "http://***…"),
            ("http://p:9090/a@b", "http://p:9090/a@b"),
            ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
            ("user:pass@p:9090", "***@p:9090"),
            ("http://p?api_key=abc&x=1&token=&X-Auth-Key=3", "http://p?api_key=***&x=1&token=&X-Auth-Key=***"),
            ("amqp://user:pass@rabbit/vhost", "amqp://***@rabbit/vhost"),
        ] {
            assert_eq!(address(text), expected, "{text}");
            assert_eq!(address(&address(text)), expected, "twice");
        }
    }

    #[test]
    fn texts_with_addresses_in_them() {
        for (text, expected) in [
            ("rate(a{url=\"http://u:p@h/x\"}[5m])", "rate(a{url=\"http://***@h/x\"}[5m])"),
            ("ask http://h or https://u:p@h, both", "ask http://h or https://***@h, both"),
            ("ü://u:p@h", "ü://***@h"),
            ("\"http://user:very-lo\"… has no valid port", "\"http://***\"… has no valid port"),
            ("://", "://"),
            ("no address, a@b", "no address, a@b"),
        ] {
            assert_eq!(self::text(text), expected, "{text}");
        }
    }

    #[test]
    fn names_that_say_so() {
        for name in [
            "apiKey",
            "api_key",
            "X-API-KEY",
            "X-Auth-Key",
            "Authorization",
            "Proxy-Authorization",
            "token",
            "bearerToken",
            "X-Vault-Token",
            "password",
            "Cookie",
            "cert",
            "key",
            "customAuthValue",
            "client_secret",
            "X-Auth",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "query",
            "namespace",
            "keyParamName",
            "authModes",
            "method",
            "tokenURL",
            "customAuthHeader",
            "X-Scope-OrgID",
            "secretTargetRef",
            "username",
            "usernameFromEnv",
            "passwordFromEnv",
            "monkey",
            "name",
            "targetValue",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_definition_loses_its_secrets_and_nothing_else() {
        let spec = json!({
            "minReplicaCount": 1,
            "scaleTargetRef": {"name": "web"},
            "triggers": [
                {"type": "metrics-api", "metadata": {"url": "http://u:s3cret@api/x?api_key=s3cret", "apiKey": "s3cret",
                    "keyParamName": "X", "valueLocation": "a"}},
                {"type": "prometheus", "authenticationRef": {"name": "token"}, "metadata": {
                    "serverAddress": "http://u:s3cret@p", "query": "up", "password": 17, "cert": "s3cret", "key": "s3cret",
                    "customHeaders": "Authorization=Basic s3cret==,X-Scope-OrgID=a,s3cret",
                    "queryParameters": "token=s3cret,x=1"}},
                {"type": "rabbitmq", "metadata": {"host": "amqp://u:s3cret@r", "queueName": "q"}},
                {"type": "prometheus", "metadata": {"defaultServerAddress": "http://u:s3cret@p"}},
            ],
        });
        let text = recorded(&spec);
        let masked: Value = serde_json::from_str(&text).expect("JSON");
        assert!(!text.contains("s3cret") && !text.contains("17"), "{text}");
        assert_eq!(masked["triggers"][0]["metadata"]["url"], "http://***@api/x?api_key=***");
        assert_eq!(masked["triggers"][1]["metadata"]["customHeaders"], "Authorization=***,X-Scope-OrgID=a,***");
        assert_eq!(masked["triggers"][1]["metadata"]["queryParameters"], "token=***,x=1");
        assert_eq!(masked["triggers"][1]["authenticationRef"]["name"], "token");
        assert_eq!(recorded_text(&text), None, "masked already");
        let plain = json!({"triggers": [{"type": "prometheus", "metadata": {"query": "sum(up)", "threshold": "5"}}]});
        assert_eq!(recorded(&plain), plain.to_string());
    }

    #[test]
    fn a_definition_is_recorded_up_to_a_size() {
        let metadata = json!({"query": "x".repeat(16_000)});
        let long = json!({"minReplicaCount": 1, "triggers": vec![json!({"metadata": metadata}); 8]});
        let text = recorded(&long);
        let cut: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(cut["triggers"][7]["metadata"]["query"].as_str().map(str::len), Some(503));
        let wide = json!({"minReplicaCount": 1, "triggers": vec![json!({"type": "x"}); 100_000]});
        assert_eq!(
            recorded(&wide),
            format!("{{\"minReplicaCount\":1,\"notRecorded\":\"the rest of {} bytes\"}}", wide.to_string().len())
        );
        let text = json!({"a".repeat(70_000): 1});
        assert_eq!(recorded(&text), "{}");
    }
}
