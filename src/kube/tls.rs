//! TLS to the API server: rustls with ring, under the HTTP library's transport interface.
//!
//! Owns: trust roots, the client certificate, and the connector that wraps a TCP stream.
//! The library's own connector is not used because it panics on a client certificate that does
//! not belong to its key, silently skips roots it cannot read, and cannot check the certificate
//! against another name (`tls-server-name`).
//! Must not: read files (`config` hands over bytes) or touch rustls' process-wide defaults.

use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::tls::{self, ServerVerifier, certificates, provider};

/// Whom to believe.
pub(super) enum Roots {
    Store(RootCertStore),
    /// `insecure-skip-tls-verify`: anybody.
    Anybody,
}

/// A certificate chain, leaf first, with the key that belongs to it.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Everything a handshake needs; cheap to clone.
#[derive(Clone)]
pub(super) struct TlsSettings {
    pub(super) config: Arc<ClientConfig>,
    /// The name the certificate must carry, if it is not the host of the URL.
    pub(super) server_name: Option<ServerName<'static>>,
}

/// Settings that the next handshake uses, replaced when their files change.
#[derive(Clone)]
pub(super) struct TlsCell(Arc<RwLock<TlsSettings>>);

impl TlsCell {
    pub(super) fn new(settings: TlsSettings) -> Self {
        Self(Arc::new(RwLock::new(settings)))
    }

    /// Open connections keep the settings that they began with.
    pub(super) fn replace(&self, settings: TlsSettings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn get(&self) -> TlsSettings {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn read_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for (at, certificate) in certificates(pem)?.into_iter().enumerate() {
        store.add(certificate).map_err(|error| format!("certificate {} is not usable: {error}", at + 1))?;
    }
    Ok(store)
}

/// Reads a system bundle, where a few odd certificates among hundreds are normal.
pub(super) fn read_system_roots(pem: &[u8]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    store
}

pub(super) fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    if ENCRYPTED.iter().any(|mark| contains(pem, mark)) {
        return Err("is encrypted; store it decrypted (openssl pkey)".to_owned());
    }
    // The error of the PEM reader may quote the line it choked on.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "holds no private key in pem".to_owned())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Builds the handshake settings. Fails if the key does not belong to the certificate.
pub(super) fn client_config(roots: Roots, identity: Option<Identity>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider();
    let verifier = match roots {
        Roots::Store(store) => ServerVerifier::new(Arc::new(store), Vec::new(), &provider)?,
        Roots::Anybody => ServerVerifier::of_anybody(&provider),
    };
    let mut config = tls::client_config(verifier, identity)?;
    // Offered explicitly, so that no server or proxy in between tries HTTP/2 with us.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The last link of the connector chain: TLS over whatever the links before made.
pub(super) struct TlsConnector(pub(super) Option<TlsCell>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let settings = self.0.as_ref().ok_or(ureq::Error::TlsRequired)?.get();
        let name = match settings.server_name {
            Some(name) => name,
            None => host_name(details)?,
        };
        let conn = ClientConnection::new(settings.config, name)?;
        let mut sock = TransportAdapter::new(Box::new(transport) as _, Arc::clone(&details.current_time));
        sock.set_timeout(details.timeout);
        let mut stream = StreamOwned { conn, sock };
        stream.conn.complete_io(&mut stream.sock)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

fn host_name(details: &ConnectionDetails) -> Result<ServerName<'static>, ureq::Error> {
    let host = details.uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned())
        .map_err(|_| ureq::Error::Tls("the host of the server url is not a dns name or address"))
}

pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}
