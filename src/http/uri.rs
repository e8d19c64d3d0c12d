//! Percent-decoding and query strings for handlers.
//!
//! Pure and strict: what does not decode to UTF-8 is an error and never a replacement character, so that no two readers
//! of a request see different names.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriError {
    /// A `%` that is not followed by two hexadecimal digits.
    PercentEncoding,
    /// The decoded bytes are not UTF-8.
    Utf8,
    /// The decoded text contains a NUL byte, which no legitimate name does.
    Nul,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UriError::PercentEncoding => "bad percent-encoding",
            UriError::Utf8 => "not valid UTF-8",
            UriError::Nul => "NUL byte",
        })
    }
}

impl std::error::Error for UriError {}

/// Decodes a part of a path; `+` stands for itself.
pub fn decode(raw: &str) -> Result<String, UriError> {
    decode_with(raw, false)
}

/// Decodes a key or value of a query; `+` stands for a space.
pub fn decode_query_part(raw: &str) -> Result<String, UriError> {
    decode_with(raw, true)
}

/// Returns the segments of a raw path, split before they are decoded, so that `%2F` never becomes a separator. A
/// leading `/` yields no empty segment; empty ones elsewhere are kept for the caller to refuse.
pub fn segments(path: &str) -> Result<Vec<String>, UriError> {
    path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect()
}

/// Returns the pairs of a raw query in order, including repeated keys; a key without `=` has an empty value.
pub fn query_pairs(query: &str) -> Result<Vec<(String, String)>, UriError> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_query_part(key)?, decode_query_part(value)?))
        })
        .collect()
}

fn decode_with(raw: &str, plus_is_space: bool) -> Result<String, UriError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(UriError::PercentEncoding),
            },
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    if decoded.contains(&0) {
        return Err(UriError::Nul);
    }
    String::from_utf8(decoded).map_err(|_| UriError::Utf8)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        for (raw, path, query) in [
            ("", Ok(""), Ok("")),
            ("a+b", Ok("a+b"), Ok("a b")),
            ("a%2Fb%2bc", Ok("a/b+c"), Ok("a/b+c")),
            ("%c3%bc", Ok("ü"), Ok("ü")),
            ("%", Err(UriError::PercentEncoding), Err(UriError::PercentEncoding)),
            ("%2", Err(UriError::PercentEncoding), Err(UriError::PercentEncoding)),
            ("%zz", Err(UriError::PercentEncoding), Err(UriError::PercentEncoding)),
            ("%+1", Err(UriError::PercentEncoding), Err(UriError::PercentEncoding)),
            ("%00", Err(UriError::Nul), Err(UriError::Nul)),
            ("%C0%AF", Err(UriError::Utf8), Err(UriError::Utf8)),
            ("%ff", Err(UriError::Utf8), Err(UriError::Utf8)),
        ] {
            assert_eq!(decode(raw), path.map(str::to_owned), "{raw}");
            assert_eq!(decode_query_part(raw), query.map(str::to_owned), "{raw}");
        }
    }

    #[test]
    fn segments_are_split_before_decoding() {
        assert_eq!(segments("/a%2Fb/c").unwrap(), ["a/b", "c"]);
        assert_eq!(segments("/").unwrap(), [""]);
        assert_eq!(segments("/a//b/").unwrap(), ["a", "", "b", ""]);
        assert_eq!(segments("/%"), Err(UriError::PercentEncoding));
    }

    #[test]
    fn queries_keep_order_and_repeats() {
        let pairs = query_pairs("b=1&a=%20x+y&&b=2&zz&=v&q=a=b").unwrap();
        let expected = [("b", "1"), ("a", " x y"), ("b", "2"), ("zz", ""), ("", "v"), ("q", "a=b")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(query_pairs("").unwrap(), []);
        assert_eq!(query_pairs("a=%2"), Err(UriError::PercentEncoding));
    }
}
