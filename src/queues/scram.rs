//! SCRAM (RFC 5802 and 7677) with SHA-256 or SHA-512, the client's side: proves a password without sending it. Pure, but for its nonces.

use std::num::NonZeroU32;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::encode::{base64_decode, base64_encode, hex};

/// A hash function, and what it is called.
#[derive(Debug)]
pub(super) struct Mechanism {
    pub(super) name: &'static str,
    pbkdf2: fn() -> pbkdf2::Algorithm,
    hmac: fn() -> hmac::Algorithm,
    digest: fn() -> &'static digest::Algorithm,
}

pub(super) const SHA_256: Mechanism = Mechanism {
    name: "SCRAM-SHA-256",
    pbkdf2: || pbkdf2::PBKDF2_HMAC_SHA256,
    hmac: || hmac::HMAC_SHA256,
    digest: || &digest::SHA256,
};

pub(super) const SHA_512: Mechanism = Mechanism {
    name: "SCRAM-SHA-512",
    pbkdf2: || pbkdf2::PBKDF2_HMAC_SHA512,
    hmac: || hmac::HMAC_SHA512,
    digest: || &digest::SHA512,
};

/// Upper bound on the iterations that a server may ask for, which cost a millisecond a few thousand. PostgreSQL asks for
/// 4096.
const ITERATIONS_MAX: u32 = 100_000;

const STRANGE: &str = "its SCRAM messages are not as they should be";

/// The header that says that the connection is not bound to a TLS channel.
const HEADER: &str = "n,,";

pub(super) struct Scram {
    mechanism: &'static Mechanism,
    password: String,
    nonce: String,
    /// The first message without its header.
    first: String,
    /// The key and the text that the server signs.
    server: Option<(hmac::Key, String)>,
}

impl Scram {
    /// Begins with a nonce that nobody can guess, in printable ASCII without commas.
    pub(super) fn new(mechanism: &'static Mechanism, user: &str, password: &str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}");
        Self { mechanism, password: password.to_owned(), nonce, first, server: None }
    }

    pub(super) fn first_message(&self) -> String {
        format!("{HEADER}{}", self.first)
    }

    /// Answers the server's first message.
    pub(super) fn final_message(&mut self, server_first: &str) -> Result<String, &'static str> {
        let field = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name));
        let nonce = field("r=").filter(|nonce| nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len());
        let salt = field("s=").and_then(base64_decode);
        let iterations = field("i=").and_then(|text| text.parse::<NonZeroU32>().ok());
        let (Some(nonce), Some(salt), Some(iterations)) = (nonce, salt, iterations) else { return Err(STRANGE) };
        if iterations.get() > ITERATIONS_MAX {
            return Err("it asks for more iterations of SCRAM than are done");
        }
        let Mechanism { pbkdf2, hmac, digest, .. } = self.mechanism;
        let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac(), key), text);
        let mut salted = vec![0; digest().output_len()];
        pbkdf2::derive(pbkdf2(), iterations, &salt, self.password.as_bytes(), &mut salted);
        let last = format!("c={},r={nonce}", base64_encode(HEADER.as_bytes()));
        let message = format!("{},{server_first},{last}", self.first);
        let client_key = mac(&salted, b"Client Key");
        let stored_key = digest::digest(digest(), client_key.as_ref());
        let signature = mac(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = mac(&salted, b"Server Key");
        self.server = Some((hmac::Key::new(hmac(), server_key.as_ref()), message));
        Ok(format!("{last},p={}", base64_encode(&proof)))
    }

    /// Checks that the server knows the password as well.
    pub(super) fn verify(&self, server_final: &str) -> Result<(), &'static str> {
        let signature = server_final.strip_prefix("v=").and_then(base64_decode);
        let (Some(signature), Some((key, message))) = (signature, &self.server) else { return Err(STRANGE) };
        hmac::verify(key, message.as_bytes(), &signature).map_err(|_| "it does not know the password itself")
    }
}

/// A text that nobody can guess; `None` if the system has no random numbers.
pub(super) fn nonce() -> Option<String> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn the_example_of_the_rfc() {
        let mut scram = Scram::new(&SHA_256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(scram.first_message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert!(scram.verify("v=").is_err(), "nothing is proved yet");
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let last = scram.final_message(&first).unwrap();
        assert_eq!(last, format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        assert_eq!(scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert!(scram.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
    }

    /// The exchange that RFC 7677 shows, with the other hash; the values are those of Python's `hashlib` and `hmac`.
    #[test]
    fn the_same_with_the_longer_hash() {
        let mut scram = Scram::new(&SHA_512, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let last = scram.final_message(&format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")).unwrap();
        assert_eq!(
            last,
            format!(
                "c=biws,r={nonce},p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
            )
        );
        assert_eq!(
            scram.verify("v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw=="),
            Ok(())
        );
    }

    #[test]
    fn servers_that_cheat() {
        let mut scram = Scram::new(&SHA_512, "", "pencil", "abc".to_owned());
        for first in ["", "r=abc,s=QQ==,i=1", "r=xyz1,s=QQ==,i=1", "r=abc1,s=*,i=1", "r=abc1,s=QQ==,i=0"] {
            assert_eq!(scram.final_message(first), Err(STRANGE), "{first}");
        }
        assert!(scram.final_message("r=abc1,s=QQ==,i=2000000000").unwrap_err().contains("iterations"));
    }
}
