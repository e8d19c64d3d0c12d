//! Sends requests through a proxy with the HTTP library, which blocks, so that it runs on a worker.
//!
//! Owns one client of the library for each TLS identity and proxy.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::header::LOCATION;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector};
use ureq::{Agent, Error, Proxy};

use super::exchange::{BODY_MAX, BUFFER, HEAD_MAX, REDIRECT_BODY_MAX, RawResponse, rest};
use super::fault::was_cut;
use super::link::{CLIENTS_MAX, IDLE_AGE_MAX, IDLE_MAX, IDLE_MAX_OF_ONE, IDLE_PER_SERVER_MAX};
use super::redirect::is_redirect;
use super::request::{Hop, Request, TlsMaterial, head};
use crate::outbound::connect::{Direct, Guard};
use crate::outbound::names::Names;
use crate::outbound::networks::Rules;
use crate::outbound::tls::{TlsCell, TlsConnector, TlsSettings};

pub(super) struct Proxied {
    pub(super) user_agent: String,
    pub(super) names: Arc<Names>,
    pub(super) rules: Arc<Rules>,
    pub(super) keep_alive: bool,
    /// Locked only to look up or insert a client, never during a request.
    pub(super) clients: Mutex<HashMap<(TlsMaterial, String), Client>>,
}

pub(super) struct Client {
    agent: Agent,
    used: Instant,
}

impl Proxied {
    /// Sends a request to its hop through this proxy, and reads the answer.
    pub(super) fn ask(
        &self,
        request: &Request,
        hop: &Hop,
        (proxy, tls): (&str, &Arc<rustls::ClientConfig>),
        deadline: Instant,
    ) -> Result<RawResponse, Error> {
        let agent = self.agent(hop.identity(request), proxy, tls)?;
        let mut result = send(&agent, request, hop, deadline, IDLE_AGE_MAX);
        if result.as_ref().is_err_and(was_cut) {
            result = send(&agent, request, hop, deadline, Duration::ZERO);
        }
        let response = result?;
        let status = response.status().as_u16();
        let location = response.headers().get(LOCATION).cloned();
        let rest = rest(status, response.headers());
        let mut body = response.into_body().into_reader();
        if is_redirect(status) && location.is_some() {
            // Read to its end, so that the connection can be reused; a longer body costs a new connection.
            let _ = io::copy(&mut body.take(REDIRECT_BODY_MAX as u64), &mut io::sink());
            return Ok(RawResponse { status, location, rest, body: Vec::new(), reusable: false });
        }
        let mut bytes = Vec::new();
        body.by_ref().take(BODY_MAX as u64 + 1).read_to_end(&mut bytes).map_err(Error::Io)?;
        Ok(RawResponse { status, location, rest, body: bytes, reusable: false })
    }

    fn agent(&self, material: TlsMaterial, proxy: &str, tls: &Arc<rustls::ClientConfig>) -> Result<Agent, Error> {
        // A poisoned lock still guards a consistent map, since nothing can panic between its changes.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, used) = ((material, proxy.to_owned()), Instant::now());
        if let Some(client) = clients.get_mut(&key) {
            client.used = used;
            return Ok(client.agent.clone());
        }
        let idle_max = if !self.keep_alive {
            0
        } else if key.0 == TlsMaterial::default() {
            IDLE_MAX
        } else {
            IDLE_MAX_OF_ONE
        };
        let agent = self.build(Arc::clone(tls), Proxy::new(proxy)?, idle_max);
        if clients.len() >= CLIENTS_MAX
            && let Some(oldest) = clients.iter().min_by_key(|(_, client)| client.used).map(|(key, _)| key.clone())
        {
            clients.remove(&oldest);
        }
        clients.insert(key, Client { agent: agent.clone(), used });
        Ok(agent)
    }

    fn build(&self, tls: Arc<rustls::ClientConfig>, proxy: Proxy, idle_max: usize) -> Agent {
        let guard = Guard::judging(Arc::clone(&self.names), Arc::clone(&self.rules), &proxy);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(Some(proxy))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(self.user_agent.as_str())
            .accept("application/json")
            .accept_encoding("gzip")
            .max_idle_connections(idle_max)
            .max_idle_connections_per_host(IDLE_PER_SERVER_MAX.min(idle_max))
            .max_idle_age(IDLE_AGE_MAX)
            // Below the buffer: a head that fills it looks like a closed connection.
            .max_response_header_size(HEAD_MAX)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .no_delay(true)
            .build();
        let connector =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(Direct::new(guard.clone()))
                .chain(TlsConnector(Some(TlsCell::new(TlsSettings { config: tls, server_name: None }))));
        Agent::with_parts(config, connector, guard)
    }
}

fn send(
    agent: &Agent,
    request: &Request,
    hop: &Hop,
    deadline: Instant,
    idle_age: Duration,
) -> Result<ureq::http::Response<ureq::Body>, Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::Timeout(ureq::Timeout::Global));
    }
    let (head, form) = head(request, hop)?;
    match form {
        Some(form) => {
            let request = head.map(|()| form);
            agent.run(agent.configure_request(request).timeout_global(Some(left)).max_idle_age(idle_age).build())
        }
        None => agent.run(agent.configure_request(head).timeout_global(Some(left)).max_idle_age(idle_age).build()),
    }
}
