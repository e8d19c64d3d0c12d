//! Verifies requests as Amazon's services do: computes the signature anew from what was sent.

use ring::{digest, hmac};

use super::fake_prometheus::Request;

/// Keys that a service knows, with the token that goes with them.
pub(crate) struct Known<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) session: Option<&'a str>,
}

/// Checks the signature of a request for a service in `eu-west-1`.
pub(crate) fn verify(request: &Request, service: &str, known: &[Known<'_>]) -> Result<(), String> {
    let header = |name: &str| request.header(name).ok_or(format!("no {name}"));
    let authorization = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let field = |name: &str| authorization.split(", ").find_map(|part| part.strip_prefix(name)).ok_or(name.to_owned());
    let (credential, names, signature) = (field("Credential=")?, field("SignedHeaders=")?, field("Signature=")?);
    let (id, scope) = credential.split_once('/').ok_or("no scope")?;
    let keys = known.iter().find(|keys| keys.id == id).ok_or(format!("unknown key {id}"))?;
    let time = header("x-amz-date")?;
    if scope != format!("{}/eu-west-1/{service}/aws4_request", &time[..8]) {
        return Err(format!("wrong scope {scope}"));
    }
    if request.header("x-amz-security-token") != keys.session {
        return Err("wrong session token".to_owned());
    }
    let must = request.headers.iter().map(|(name, _)| name.to_lowercase());
    if let Some(unsigned) = must
        .filter(|name| name == "host" || name.starts_with("x-amz-"))
        .find(|name| !names.split(';').any(|signed| signed == name))
    {
        return Err(format!("{unsigned} is not signed"));
    }
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    if pairs.iter().any(|pair| pair.contains('+')) {
        return Err("a blank must be %20".to_owned());
    }
    let mut headers = String::new();
    for name in names.split(';') {
        headers.push_str(&format!("{name}:{}\n", header(name)?.trim()));
    }
    let hash = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let canonical =
        format!("{}\n{path}\n{}\n{headers}\n{names}\n{}", request.method, pairs.join("&"), hash(&request.body));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(&canonical));
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in scope.split('/').chain([text.as_str()]) {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    if hex(&key) == signature { Ok(()) } else { Err("the signature is wrong".to_owned()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
