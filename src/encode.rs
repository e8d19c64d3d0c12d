//! Encodings of text and bytes, and truncation. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Encodes with the standard alphabet and padding, as Kubernetes does for byte fields.
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Encodes with the alphabet of URLs and without padding, as tokens are written.
pub(crate) fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Two lower-case digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes standard base64 with padding, ignoring white space because long values get wrapped; `None` if it is invalid.
pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(bytes).ok()
}

/// Returns a text as one line without control characters: much of it comes from others, and a terminal obeys them.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns at most `max` bytes of `text`, cut between characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Encodes as `application/x-www-form-urlencoded`, like Go's `QueryEscape`.
pub(crate) fn escape(text: &str) -> String {
    escape_segment(text).replace("%20", "+")
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, so that the text is one segment of a path.
pub(crate) fn escape_segment(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Decodes percent-encoding; text that is not valid percent-encoding stays as it is.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64_encode(plain.as_bytes()), coded);
            assert_eq!(base64_decode(coded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(base64_decode("Zm9v\n Zg==\n").as_deref(), Some(&b"foof"[..]));
        for bad in ["Z", "Zg", "Zg=", "Zg===", "Z===", "Zm=v", "Zh==", "Zm-_", "*"] {
            assert_eq!(base64_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("sum(a{b=~\"x|y\"}) + 1&ü"), "sum%28a%7Bb%3D~%22x%7Cy%22%7D%29+%2B+1%26%C3%BC");
        assert_eq!(percent_decode("a%40b%zz%4"), b"a@b%zz%4");
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 9), "aü");
    }
}
