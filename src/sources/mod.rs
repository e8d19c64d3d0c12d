//! Queries metric servers: chooses the source of a query and its credentials, and parses the answer.
//!
//! Stands above [`crate::polling`], which owns threads and connections, and above the sources themselves. The daemon's
//! workers and `hpalite doctor` ask through the same [`Asker`], so that both see the same answer.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod endpoints;
pub mod pods;
mod secrets;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use log::debug;

use self::pods::PodSource;

use crate::clock::wall_millis;
use crate::config::Config;
use crate::identity::settings::Settings;
use crate::identity::{Identity, Purpose};
use crate::kube::Client;
use crate::metrics_api::resource;
use crate::metrics_api::service::{self, ServiceSource};
use crate::outbound::names::{self, Names};
use crate::outbound::networks::Rules;
use crate::polling::Parameters;
use crate::polling::auth::Auth;
use crate::polling::credentials::{Clock, Resolver, ResolverConfig};
use crate::polling::poller::Done;
use crate::polling::proxy::ProxySettings;
use crate::polling::tls::Roots;
use crate::polling::transport::{Transport, TransportConfig};
use crate::prometheus::{self, query};
use crate::queues;
use crate::scaling::allowed;
use crate::scaling::event::{Answer, Credentials, PollDone, PollJob, Split};
use crate::scaling::model::{PodValues, PrometheusSource, Query, UnixMillis};
use crate::wire::mask;

/// Everything that a poll job needs.
#[derive(Clone)]
pub struct Asker {
    pub transport: Arc<Transport>,
    pub resolver: Arc<Resolver>,
    pub identity: Arc<Identity>,
    pub services: Arc<dyn ServiceSource>,
    pub pods: Arc<dyn PodSource>,
    pub clock: Clock,
}

impl Asker {
    /// Creates an asker from the configuration. `own` are the addresses where the daemon listens, which must not be
    /// queried.
    ///
    /// # Errors
    /// If the engine's thread cannot be started.
    pub fn new(
        config: &Config,
        own: Vec<SocketAddr>,
        client: &Client,
        own_namespace: Option<String>,
    ) -> io::Result<Self> {
        let bundle = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let transport = Transport::new(TransportConfig {
            roots: Roots::load(bundle.as_deref(), &config.ca_dirs),
            proxy: ProxySettings::from_variables(|name| std::env::var(name).ok()),
            default_timeout: config.query_timeout,
            user_agent: format!("hpalite/{}", env!("CARGO_PKG_VERSION")),
            names: Arc::new(Names::new(names::THREADS)),
            rules: Arc::new(Rules { allowed: config.allow_networks.clone(), own }),
            tls_min: config.http_tls_min,
            keep_alive: config.keep_alive,
            poll_threads: config.poll_threads,
        })?;
        let clock: Clock = Arc::new(|| UnixMillis(wall_millis()));
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let resolver = Resolver::new(
            Arc::new(secrets::KubeSecrets { client: client.clone() }),
            ResolverConfig {
                cluster_object_namespace: config
                    .cluster_namespace
                    .clone()
                    .or_else(|| env("POD_NAMESPACE"))
                    .or(own_namespace)
                    .unwrap_or_else(|| config.service.1.clone()),
                file_root: config.filepath_root.clone(),
                restrict_secret_access: env("KEDA_RESTRICT_SECRET_ACCESS").is_some_and(|value| value == "true"),
            },
            Arc::clone(&clock),
        );
        let services = Arc::new(endpoints::KubeServices { client: client.clone() });
        let transport = Arc::new(transport);
        let settings = Settings::from_variables(env, config.instance_metadata, config.identity_servers.clone());
        let identity = Arc::new(Identity::new(settings, Arc::clone(&transport), Arc::clone(&clock)));
        let pods = pods::from_api(client);
        Ok(Self { transport, resolver: Arc::new(resolver), identity, services, pods, clock })
    }

    /// Runs a job, and blocks for up to the source's time limit, and before that to resolve credentials.
    ///
    /// # Panics
    /// If the engine's thread has ended, which it does when the last asker is dropped.
    #[must_use]
    pub fn ask(&self, job: PollJob) -> PollDone {
        let (sender, done) = mpsc::sync_channel(1);
        self.begin(job, Box::new(move |done| drop(sender.send(done))));
        done.recv().expect("whoever asks answers by the time limit")
    }

    /// Starts a job, and calls `done` with its result.
    pub fn begin(&self, job: PollJob, done: Done) {
        // Credentials come from the API server.
        let waits = job.credentials.is_some() || job.query.blocks();
        let asker = self.clone();
        let work = Box::new(move || asker.start(job, done));
        if waits { self.transport.apart(work) } else { self.transport.after(Duration::ZERO, work) }
    }

    fn start(self, job: PollJob, done: Done) {
        let begun = Instant::now();
        let parameters = match &job.credentials {
            None => Ok(Parameters::new()),
            Some(credentials) => self.resolver.resolve(credentials, Some(&*self.identity)),
        };
        // The time that the query is evaluated for, which is the wall clock's.
        let asked_at = (self.clock)();
        let started = Instant::now();
        let named =
            job.credentials.as_ref().and_then(|credentials| Some(credentials.authentication.as_ref()?.to_string()));
        let (query, group, credentials) = (job.query.clone(), job.group.clone(), job.credentials.clone());
        // `server` is the one that was asked, where the job has only the authentication that names it.
        let finish = move |answer: Answer,
                           split: Option<Split>,
                           rest: Option<Duration>,
                           pods: Option<Arc<PodValues>>,
                           server| {
            let latency = started.elapsed();
            let id = job.id;
            if log::log_enabled!(log::Level::Debug) {
                let outcome = if split.is_some() { "group" } else { answer.outcome() };
                let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
                // The address of some types contains user information, which is secret.
                let server = mask::address(&job.server);
                debug!(poll = id, server:% = server, query = job.query.what(), outcome, latency_ms; "polled");
            }
            done(PollDone { id, asked_after: started - begun, latency, answer, split, rest, pods, server });
        };
        if let Query::PodMetric(source) = &query {
            return match pods::ask(&self.transport, &*self.pods, source, asked_at) {
                Ok(values) => finish(Answer::Value(values.sum()), None, None, Some(Arc::new(values)), None),
                Err(error) => finish(Answer::Failed(error), None, None, None, None),
            };
        }
        match query {
            Query::Prometheus(source) | Query::Loki(source) => {
                let is_located = source.authentication.is_some();
                let source = match &group {
                    Some(group) => Arc::new(PrometheusSource { query: group.query.clone(), ..(*source).clone() }),
                    None => source,
                };
                let build = |parameters| {
                    let source = prometheus::locate(source, credentials.as_ref(), &parameters)?;
                    let request = query::build(&source, named.as_deref(), &parameters, asked_at)?;
                    let Some(credentials) = &credentials else { return Ok((request, source)) };
                    let namespace = credentials.asker();
                    let auth = Auth { parameters: &parameters, named: named.as_deref(), namespace };
                    let purpose = Purpose {
                        url: &source.server_address,
                        aws_service: "aps",
                        aws_region: source.aws_region.as_deref(),
                        azure_cloud: source.azure_cloud,
                    };
                    let modes = auth.modes(&source.auth_modes)?;
                    let proof = self.identity.prove(credentials.pod_identity.as_ref(), &modes, &auth, purpose)?;
                    Ok((proof.apply(request, (self.clock)())?, source))
                };
                match parameters.and_then(build) {
                    Ok((request, source)) => {
                        let server = is_located.then(|| Arc::from(allowed::origin(&source.server_address)));
                        let end = move |answer, split, rest| finish(answer, split, rest, None, server);
                        prometheus::ask(&self.transport, request, source, group, end);
                    }
                    Err(error) => finish(Answer::Failed(error), None, None, None, None),
                }
            }
            Query::MetricsApi(source) => {
                let end = move |answer| finish(answer, None, None, None, None);
                match parameters {
                    Ok(parameters) => {
                        service::ask(&self.transport, &*self.services, source, named.as_deref(), &parameters, end);
                    }
                    Err(error) => end(Answer::Failed(error)),
                }
            }
            Query::Resource(source) => {
                let read = |parameters| resource::read(&source, &parameters);
                let answer = parameters.and_then(read).map_or_else(Answer::Failed, Answer::Value);
                finish(answer, None, None, None, None);
            }
            query => {
                let ask = |parameters| {
                    let timeout = self.transport.limit(query.timeout());
                    let namespace = credentials.as_ref().map(Credentials::asker).unwrap_or_default();
                    let poll = queues::Poll {
                        transport: &self.transport,
                        identity: &self.identity,
                        pod_identity: credentials.as_ref().and_then(|found| found.pod_identity.as_ref()),
                        auth: Auth { parameters: &parameters, named: named.as_deref(), namespace },
                        timeout,
                        deadline: started + timeout,
                        at: asked_at,
                    };
                    queues::ask(&poll, &query)
                };
                let answer = parameters.and_then(ask).map_or_else(Answer::Failed, Answer::Value);
                finish(answer, None, None, None, None);
            }
        }
    }
}
