//! Proves who asks: identities of cloud providers and OAuth2 clients.
//!
//! Pure: [`sigv4`] (signatures of requests to Amazon), [`jwt`] (signed claims), [`settings`] (what the pod was given). Shell:
//! `aws`, `azure`, `gcp` and `oauth`, which exchange one proof for another over the engine of [`crate::polling`], `stores`,
//! which shows proofs to secret stores, and `tokens`, which keeps what they got. Calls block, so they run where polls may.
//!
//! A bearer token of hpalite's own pod goes to servers of its provider only, since whoever gets it may use it elsewhere.
//! Signatures are bound to the host that they are for. No token, key or assertion is in a log or an error text.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod aws;
mod azure;
mod gcp;
mod jwt;
mod oauth;
pub mod settings;
pub mod sigv4;
mod stores;
mod tokens;

pub(crate) use aws::domain as aws_domain;

use std::sync::Arc;

use self::settings::Settings;
use self::sigv4::Keys;
use self::tokens::Tokens;
use crate::polling::auth::Auth;
use crate::polling::credentials::Clock;
use crate::polling::request::{Header, Request};
use crate::polling::transport::Transport;
use crate::scaling::allowed;
use crate::scaling::event::PollError;
use crate::scaling::model::{AuthMode, AzureCloud, PodIdentity, UnixMillis};
use crate::wire::trigger::identity::is_aws_region;

/// Upper bound on the answers of secret stores that are kept. One has some 100 kilobytes at most, so that is 25 MB.
const SECRETS_MAX: usize = 256;

/// What an identity is proved for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose<'a> {
    /// `scheme://host:port/…` of the request.
    pub(crate) url: &'a str,
    /// Amazon's name of the service.
    pub(crate) aws_service: &'static str,
    /// `awsRegion` of the trigger.
    pub(crate) aws_region: Option<&'a str>,
    pub(crate) azure_cloud: AzureCloud,
}

/// What is added to a request.
#[derive(Clone)]
pub(crate) enum Proof {
    /// Nothing: the trigger has no identity to prove.
    Nothing,
    Bearer(Arc<String>),
    Signature {
        keys: Arc<Keys>,
        region: String,
        service: &'static str,
    },
}

impl Proof {
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Adds the proof to a request that is sent at this time.
    ///
    /// # Errors
    /// If the request cannot be signed.
    pub(crate) fn apply(&self, mut request: Request, at: UnixMillis) -> Result<Request, PollError> {
        match self {
            Self::Nothing => {}
            Self::Bearer(token) => {
                request.headers.retain(|header| !header.name.eq_ignore_ascii_case("authorization"));
                let value = format!("Bearer {token}");
                request.headers.push(Header { name: "Authorization".to_owned(), value, secret: true });
            }
            Self::Signature { keys, region, service } => sigv4::sign(&mut request, keys, region, service, at)?,
        }
        Ok(request)
    }
}

/// Proves identities, for all threads.
pub struct Identity {
    settings: Settings,
    transport: Arc<Transport>,
    clock: Clock,
    bearers: Tokens<String>,
    keys: Tokens<Keys>,
    /// Answers of secret stores.
    secrets: Tokens<String>,
}

impl Identity {
    #[must_use]
    pub fn new(settings: Settings, transport: Arc<Transport>, clock: Clock) -> Self {
        let (bearers, keys, secrets) = (Tokens::default(), Tokens::default(), Tokens::new(SECRETS_MAX));
        Self { settings, transport, clock, bearers, keys, secrets }
    }

    /// Returns what proves the identity that a trigger and its authentication ask for. Blocks for a token that is not
    /// known yet.
    ///
    /// # Errors
    /// What is missing, who refused it, or that the server must not get it.
    pub(crate) fn prove(
        &self,
        identity: Option<&PodIdentity>,
        modes: &[AuthMode],
        auth: &Auth<'_>,
        purpose: Purpose<'_>,
    ) -> Result<Proof, PollError> {
        if identity.is_some() && !modes.is_empty() {
            return Err(auth.fault("podIdentity takes the place of authModes, so one of them must go"));
        }
        if modes.contains(&AuthMode::OAuth) {
            return self.oauth(auth).map(Proof::Bearer);
        }
        if !modes.is_empty() {
            return Ok(Proof::Nothing);
        }
        match identity {
            Some(PodIdentity::Aws { role_arn, external_id }) => {
                let region = self.region(auth, purpose)?;
                let role = role_arn.as_deref().or_else(|| auth.optional("awsRoleArn"));
                let keys = self.pod_keys(auth, role, external_id.as_deref(), &region)?;
                Ok(Proof::Signature { keys, region, service: purpose.aws_service })
            }
            Some(azure @ PodIdentity::AzureWorkload { .. }) => {
                self.check_server(auth, azure, settings::AZURE_SERVERS, purpose.url)?;
                self.azure(auth, azure, azure::prometheus_scope(purpose.azure_cloud)).map(Proof::Bearer)
            }
            Some(PodIdentity::Gcp) => {
                self.check_server(auth, &PodIdentity::Gcp, settings::GOOGLE_SERVERS, purpose.url)?;
                self.gcp(auth, gcp::SCOPE).map(Proof::Bearer)
            }
            None => self.given(auth, purpose),
        }
    }

    /// Uses keys that the parameters themselves have.
    fn given(&self, auth: &Auth<'_>, purpose: Purpose<'_>) -> Result<Proof, PollError> {
        if let Some(id) = auth.optional("awsAccessKeyID").or_else(|| auth.optional("awsAccessKeyId")) {
            let Some(secret) = auth.optional("awsSecretAccessKey") else {
                return Err(auth.fault("parameter awsAccessKeyID needs awsSecretAccessKey, which is not set"));
            };
            let region = self.region(auth, purpose)?;
            let session = auth.optional("awsSessionToken").map(str::to_owned);
            let keys = Arc::new(Keys { id: id.to_owned(), secret: secret.to_owned(), session });
            return Ok(Proof::Signature { keys, region, service: purpose.aws_service });
        }
        match auth.optional("GoogleApplicationCredentials") {
            Some(key) => self.google_key(auth, key, gcp::SCOPE).map(Proof::Bearer),
            None => Ok(Proof::Nothing),
        }
    }

    fn region(&self, auth: &Auth<'_>, purpose: Purpose<'_>) -> Result<String, PollError> {
        let given = purpose.aws_region.or_else(|| auth.optional("awsRegion"));
        match given.or(self.settings.aws.region.as_deref()) {
            Some(region) if is_aws_region(region) => Ok(region.to_owned()),
            Some(_) => Err(auth.fault("parameter awsRegion is not the name of a region")),
            None => Err(auth.fault("awsRegion is missing: write it in the trigger's metadata")),
        }
    }

    /// Refuses to send a token of hpalite's own to a server that is not its provider's.
    fn check_server(&self, auth: &Auth<'_>, identity: &PodIdentity, own: &[&str], url: &str) -> Result<(), PollError> {
        let own: Vec<String> = own.iter().map(|pattern| (*pattern).to_owned()).collect();
        if allowed::names(&own, url) || allowed::names(&self.settings.servers, url) {
            return Ok(());
        }
        let what = format!(
            "podIdentity {} gives its token to the provider's own servers only, {}, and to servers that \
             --identity-server names",
            identity.provider(),
            own.join(", ")
        );
        Err(auth.fault(&what))
    }
}
