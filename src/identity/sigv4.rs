//! Signs requests to Amazon's services: Signature Version 4, with the signature in a header.
//!
//! Pure; time is an argument. The signature covers method, host, path, query and body, so that it is of no use for any
//! other request. Source: AWS Identity and Access Management, "Create a signed AWS API request".

use std::collections::BTreeMap;

use ring::{digest, hmac};

use crate::encode::{escape_segment, hex, percent_decode};
use crate::formats::url::Url;
use crate::polling::failed;
use crate::polling::request::{FORM, Header, Method, Request};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::UnixMillis;
use crate::wire::time::format_seconds;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Keys of a user or of an assumed role. No `Debug`: they are secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    /// Goes with keys that expire.
    pub session: Option<String>,
}

/// Signs a request for a service of a region, and writes its query in the order and encoding that were signed.
///
/// # Errors
/// `Configuration` if the request has no valid URL.
pub fn sign(request: &mut Request, keys: &Keys, region: &str, service: &str, at: UnixMillis) -> Result<(), PollError> {
    let url = Url::parse(&request.url).map_err(|_| {
        failed(ErrorClass::Configuration, format!("no valid request can be made for {}", request.server))
    })?;
    let query = canonical_query(url.query.as_deref().unwrap_or_default());
    // No client sends the usual port, and the host is signed as it is sent.
    let usual = if url.scheme == "https" { 443 } else { 80 };
    let port = url.port.filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
    let host = format!("{}{port}", url.host);
    let mark = if query.is_empty() { "" } else { "?" };
    request.url = format!("{}://{host}{}{mark}{query}", url.scheme, url.path);

    let time: String = format_seconds(at).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let day = &time[..8];
    let own = ["authorization", "x-amz-date", "x-amz-security-token"];
    request.headers.retain(|header| !own.contains(&header.name.to_ascii_lowercase().as_str()));
    let content_type = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
    let content_type = content_type.map_or(FORM, |header| header.value.trim());
    let (method, body) = match request.method {
        Method::Get => ("GET", ""),
        Method::Post => ("POST", request.form.as_deref().unwrap_or_default()),
        Method::Put => ("PUT", request.form.as_deref().unwrap_or_default()),
    };
    // In alphabetical order. Amazon wants all headers of its own to be signed.
    let mut signed = BTreeMap::from([("host".to_owned(), host.as_str()), ("x-amz-date".to_owned(), time.as_str())]);
    if request.form.is_some() {
        signed.insert("content-type".to_owned(), content_type);
    }
    signed.extend(keys.session.as_deref().map(|session| ("x-amz-security-token".to_owned(), session)));
    let headers = request.headers.iter().map(|header| (header.name.to_ascii_lowercase(), header.value.trim()));
    signed.extend(headers.filter(|(name, _)| name.starts_with("x-amz-")));

    let headers: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = signed.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let path = url.path.split('/').map(escape_segment).collect::<Vec<_>>().join("/");
    let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{}", hash(body));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hash(&canonical));
    let first = mac(format!("AWS4{}", keys.secret).as_bytes(), day);
    let key = [region, service, "aws4_request"].iter().fold(first, |key, part| mac(key.as_ref(), part));
    let signature = hex(mac(key.as_ref(), &text).as_ref());
    let value = format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id);

    let mut add = |name: &str, value: String| {
        request.headers.push(Header { name: name.to_owned(), value, secret: true });
    };
    add("X-Amz-Date", time);
    if let Some(session) = &keys.session {
        add("X-Amz-Security-Token", session.clone());
    }
    add("Authorization", value);
    Ok(())
}

/// Encodes each name and value as RFC 3986 says, and sorts them.
fn canonical_query(query: &str) -> String {
    let encode = |text: &str| escape_segment(&String::from_utf8_lossy(&percent_decode(&text.replace('+', " "))));
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn hash(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2015-08-30T12:36:00Z, the time of Amazon's test suite.
    const TIME: UnixMillis = UnixMillis(1_440_938_160_000);

    fn signed(url: &str, form: Option<&str>, session: Option<&str>) -> Request {
        signed_by(if form.is_some() { Method::Post } else { Method::Get }, url, form, session)
    }

    fn signed_by(method: Method, url: &str, form: Option<&str>, session: Option<&str>) -> Request {
        let mut request = Request {
            method,
            headers: vec![Header { name: "authorization".to_owned(), value: "Basic eA==".to_owned(), secret: true }],
            form: form.map(str::to_owned),
            ..Request::get(url.to_owned(), "https://example.amazonaws.com".to_owned())
        };
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session: session.map(str::to_owned),
        };
        sign(&mut request, &keys, "us-east-1", "service", TIME).unwrap();
        request
    }

    fn header<'r>(request: &'r Request, name: &str) -> &'r str {
        let mut found = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let value = &found.next().unwrap_or_else(|| panic!("no {name}")).value;
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    /// Signatures of aws-sig-v4-test-suite.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoI\
                     YRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp7\
                     5YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9K\
                     SYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let unreserved = format!("https://example.amazonaws.com/?{unreserved}={unreserved}");
        for (url, form, session, names, signature) in [
            (
                "https://example.amazonaws.com:443/",
                None,
                None,
                "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                None,
                None,
                "host;x-amz-date",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "https://example.amazonaws.com/?%E1%88%B4=bar",
                None,
                None,
                "host;x-amz-date",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                &unreserved,
                None,
                None,
                "host;x-amz-date",
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "https://example.amazonaws.com/",
                Some("Param1=value1"),
                None,
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let request = signed(url, form, session);
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={names}, Signature={signature}"
            );
            assert_eq!(header(&request, "authorization"), expected, "{url}");
            assert_eq!(header(&request, "x-amz-date"), "20150830T123600Z");
        }
        // The suite posts nothing here, and so has no type of its content.
        let request = signed_by(Method::Post, "https://example.amazonaws.com/", None, Some(token));
        assert_eq!(header(&request, "x-amz-security-token"), token);
        let signature = "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead";
        let expected = format!("SignedHeaders=host;x-amz-date;x-amz-security-token, Signature={signature}");
        assert!(header(&request, "authorization").ends_with(&expected));
    }

    #[test]
    fn the_query_is_sent_as_it_is_signed() {
        let request = signed("http://p:80/api/v1/query?query=a+%2B%20b&time=2023-11-14T22:13:20Z&c", None, None);
        assert_eq!(request.url, "http://p/api/v1/query?c=&query=a%20%2B%20b&time=2023-11-14T22%3A13%3A20Z");
        assert_eq!(signed("http://p:9090", None, None).url, "http://p:9090/");
    }
}
