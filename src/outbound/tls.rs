//! TLS for the HTTP library, with a finished rustls configuration.
//!
//! The library's own connector is not used because it builds its configuration anew for each connection whose request
//! carries settings, copies the roots for each client, panics on a client certificate that does not match its key,
//! silently skips unreadable roots, and cannot check the certificate against another name (`tls-server-name`).

use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// Everything that a handshake needs; cheap to clone.
#[derive(Clone)]
pub(crate) struct TlsSettings {
    pub(crate) config: Arc<ClientConfig>,
    /// The name that the certificate must have, if it is not the host of the URL.
    pub(crate) server_name: Option<ServerName<'static>>,
}

/// The settings for the next handshake, replaced when their files change.
#[derive(Clone)]
pub(crate) struct TlsCell(Arc<RwLock<TlsSettings>>);

impl TlsCell {
    pub(crate) fn new(settings: TlsSettings) -> Self {
        Self(Arc::new(RwLock::new(settings)))
    }

    /// Existing connections stay as they are.
    pub(crate) fn replace(&self, settings: TlsSettings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(crate) fn get(&self) -> TlsSettings {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the name that a server's certificate must have, from the host of its URL.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| Error::Tls("its host is no valid name"))
}

/// The last connector of the chain: TLS over the transport of those before. Without settings it connects in plain text
/// only.
pub(crate) struct TlsConnector(pub(crate) Option<TlsCell>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let settings = self.0.as_ref().ok_or(Error::TlsRequired)?.get();
        let name = match settings.server_name {
            Some(name) => name,
            None => server_name(details.uri.host().unwrap_or_default())?,
        };
        let conn = ClientConnection::new(settings.config, name)?;
        let mut sock = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        sock.set_timeout(details.timeout);
        let mut stream = StreamOwned { conn, sock };
        // Here and not at the first byte, so that a failed handshake is not reported as a failed request.
        stream.conn.complete_io(&mut stream.sock)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
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
