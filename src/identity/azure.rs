//! Tokens of Microsoft's for the identity of hpalite's own pod: its service account's token is exchanged for one.

use std::sync::Arc;

use super::Identity;
use super::aws::post;
use super::oauth::{access_token, refusal};
use super::tokens::{self, key};
use crate::encode::escape;
use crate::polling::auth::Auth;
use crate::scaling::allowed::names;
use crate::scaling::event::PollError;
use crate::scaling::model::{AzureCloud, PodIdentity};

const AUTHORITY: &str = "https://login.microsoftonline.com/";

/// Returns what a token is for: Azure's own Prometheus, or its Service Bus.
pub(super) fn scope(url: &str, cloud: AzureCloud) -> &'static str {
    if names(&[format!("*.{}", cloud.service_bus())], url) {
        // The same in all clouds.
        return "https://servicebus.azure.net/.default";
    }
    match cloud {
        AzureCloud::Public => "https://prometheus.monitor.azure.com/.default",
        AzureCloud::UsGovernment => "https://prometheus.monitor.azure.us/.default",
        AzureCloud::China => "https://prometheus.monitor.azure.cn/.default",
    }
}

impl Identity {
    pub(super) fn azure(&self, auth: &Auth<'_>, identity: &PodIdentity, scope: &str) -> Result<Arc<String>, PollError> {
        let PodIdentity::AzureWorkload { client_id, tenant_id, authority_host } = identity else {
            return Err(auth.fault("podIdentity is not azure-workload"));
        };
        let own = &self.settings.azure;
        let missing = || {
            auth.fault(
                "podIdentity azure-workload finds no identity of hpalite's pod: label the pod \
                 azure.workload.identity/use and annotate its service account with azure.workload.identity/client-id",
            )
        };
        let client = client_id.as_ref().or(own.client_id.as_ref()).ok_or_else(missing)?;
        let tenant = tenant_id.as_ref().or(own.tenant_id.as_ref()).ok_or_else(missing)?;
        let file = own.token_file.as_deref().ok_or_else(missing)?;
        let authority = authority_host.as_ref().or(own.authority.as_ref()).map_or(AUTHORITY, String::as_str);
        let url = format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
        self.bearers.get(key(&["azure", &url, client, scope]), auth.namespace, &self.clock, || {
            let form = format!(
                "grant_type=client_credentials&client_id={}&scope={}&client_assertion_type={}&client_assertion={}",
                escape(client),
                escape(scope),
                escape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                escape(&self.read(auth, file)?),
            );
            // The operator chose an authority of its own by a variable; Microsoft's are public.
            let is_own = authority_host.is_none() && own.authority.is_some();
            access_token(&tokens::ask(&self.transport, post(&url, form, is_own), refusal)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tokens_are_for() {
        let of = |url| scope(url, AzureCloud::China);
        assert_eq!(of("https://shop.servicebus.chinacloudapi.cn"), "https://servicebus.azure.net/.default");
        assert_eq!(of("https://x.prometheus.monitor.azure.cn"), "https://prometheus.monitor.azure.cn/.default");
    }
}
