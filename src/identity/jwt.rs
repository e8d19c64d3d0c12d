//! Signed claims: a JSON Web Token with RS256. Pure.

use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::encode::base64_url;

/// Signs claims with an RSA key in PEM.
///
/// # Errors
/// What is wrong with the key; quotes nothing of it.
pub(super) fn sign(key_id: &str, key: &str, claims: &Value) -> Result<String, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "its private_key is no PEM private key")?;
    let key = any_supported_type(&key).map_err(|_| "its private_key is of an unsupported kind")?;
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or("its private_key is no RSA key")?;
    let header = serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": key_id });
    let text = [&header, claims].map(|part| base64_url(part.to_string().as_bytes())).join(".");
    let signature = signer.sign(text.as_bytes()).map_err(|_| "its private_key cannot sign")?;
    Ok(format!("{text}.{}", base64_url(&signature)))
}
