//! The value of an `Authorization` header, checked, and marked so that nobody prints it.

use ureq::http::HeaderValue;

pub(super) fn bearer(token: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    if token.is_empty() {
        return Err("holds no token".to_owned());
    }
    if token.contains(|c: char| c.is_whitespace()) {
        return Err("holds white space inside the token".to_owned());
    }
    sensitive(&format!("Bearer {token}"))
}

pub(super) fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut header =
        HeaderValue::from_str(text).map_err(|_| "holds characters that a header cannot carry".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}
