//! Authentication modes: which parameters they need and what they add to a request.
//!
//! Pure. Must not put a parameter's value into an error text.

use super::request::{Header, IGNORED_HEADERS};
use super::{Parameters, failed};
use crate::encode::base64_encode;
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::AuthMode;

pub(crate) struct Auth<'a> {
    pub(crate) parameters: &'a Parameters,
    pub(crate) named: Option<&'a str>,
    /// The namespace whose share of what is kept the tokens belong to, see [`Credentials::asker`].
    ///
    /// [`Credentials::asker`]: crate::scaling::event::Credentials::asker
    pub(crate) namespace: &'a str,
}

impl<'a> Auth<'a> {
    /// Returns a parameter, trimmed, since Secrets often end in a line break. An empty one counts as absent.
    pub(crate) fn optional(&self, name: &str) -> Option<&'a str> {
        self.parameters.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(crate) fn required(&self, mode: &str, names: &[&str]) -> Result<&'a str, PollError> {
        names.iter().find_map(|name| self.optional(name)).ok_or_else(|| {
            let name = names.first().copied().unwrap_or_default();
            let message = match self.named {
                Some(named) => format!("authMode {mode} needs parameter {name}, which {named} does not set"),
                None => format!(
                    "authMode {mode} needs parameter {name}, and the trigger has no authenticationRef to set it"
                ),
            };
            failed(ErrorClass::Authentication, message)
        })
    }

    pub(crate) fn fault(&self, what: &str) -> PollError {
        failed(ErrorClass::Authentication, format!("{what} ({})", self.named.unwrap_or("no authenticationRef")))
    }

    /// Returns a value from the trigger's metadata, or else from the authentication.
    pub(crate) fn modes(&self, written: &[AuthMode]) -> Result<Vec<AuthMode>, PollError> {
        if !written.is_empty() {
            return Ok(written.to_vec());
        }
        let Some(text) = self.optional("authModes").or_else(|| self.optional("authMode")) else {
            return Ok(Vec::new());
        };
        let modes = text
            .split(',')
            .map(str::trim)
            .filter(|mode| !mode.is_empty())
            .map(|mode| match mode {
                "apiKey" => Ok(AuthMode::ApiKey),
                "basic" => Ok(AuthMode::Basic),
                "tls" => Ok(AuthMode::Tls),
                "bearer" => Ok(AuthMode::Bearer),
                "custom" => Ok(AuthMode::Custom),
                "oauth" => Ok(AuthMode::OAuth),
                // Not shown: it came from a Secret and may be anything.
                _ => {
                    Err(self.fault("authModes holds an unknown mode; use apiKey, basic, tls, bearer, custom or oauth"))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let exclusive = [AuthMode::Bearer, AuthMode::Basic, AuthMode::OAuth];
        if exclusive.iter().filter(|mode| modes.contains(mode)).count() > 1 {
            return Err(self.fault("authModes may hold only one of bearer, basic and oauth"));
        }
        Ok(modes)
    }

    /// Applies the first enabled mode of bearer, basic and custom. All enabled modes must be complete.
    pub(crate) fn header(&self, modes: &[AuthMode]) -> Result<Option<Header>, PollError> {
        let mut found = None;
        if modes.contains(&AuthMode::Bearer) {
            let token = self.required("bearer", &["bearerToken", "token"])?;
            found = Some(self.secret_header("Authorization", format!("Bearer {token}"), "bearerToken")?);
        }
        if modes.contains(&AuthMode::Basic) {
            let username = self.required("basic", &["username"])?;
            let password = self.optional("password").unwrap_or_default();
            let value = format!("Basic {}", base64_encode(format!("{username}:{password}").as_bytes()));
            found = found.or(Some(Header { name: "Authorization".into(), value, secret: true }));
        }
        if modes.contains(&AuthMode::Custom) {
            let name = self.required("custom", &["customAuthHeader"])?;
            let value = self.required("custom", &["customAuthValue"])?;
            if !is_header_name(name) || IGNORED_HEADERS.iter().any(|ignored| name.eq_ignore_ascii_case(ignored)) {
                return Err(self.fault("parameter customAuthHeader is not a usable header name"));
            }
            let header = self.secret_header(name, value.to_owned(), "customAuthValue")?;
            found = found.or(Some(header));
        }
        Ok(found)
    }

    pub(crate) fn secret_header(&self, name: &str, value: String, parameter: &str) -> Result<Header, PollError> {
        if !is_header_value(&value) {
            return Err(self.fault(&format!("parameter {parameter} holds a line break or control character")));
        }
        Ok(Header { name: name.to_owned(), value, secret: true })
    }

    pub(crate) fn client_certificate(&self, modes: &[AuthMode]) -> Result<Option<(String, String)>, PollError> {
        if !modes.contains(&AuthMode::Tls) {
            return Ok(None);
        }
        let cert = self.required("tls", &["cert"])?;
        let key = self.required("tls", &["key"])?;
        Ok(Some((cert.to_owned(), key.to_owned())))
    }
}

pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

pub(crate) fn is_header_value(value: &str) -> bool {
    value.bytes().all(|b| b == b'\t' || (b >= 0x20 && b != 0x7f))
}
