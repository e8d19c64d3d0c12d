//! Credential plugins: programs that a kubeconfig names (`users[].user.exec`) and that print a token or a certificate.
//!
//! Owns the exchange with them, `client.authentication.k8s.io/v1`. They are the person's own programs, which kubectl runs
//! too; they may ask questions on the terminal, so their time has no limit, but what they print has.
//! Must not print what they answer.

use std::io::{IsTerminal as _, Read as _};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use ureq::http::HeaderValue;

use super::authorization::bearer;
use super::kubeconfig::{Exec, Material, Selected};

const GROUP: &str = "client.authentication.k8s.io/";

/// A token of 8 KB, a chain of certificates and a key are well below.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A client certificate and its key.
type Certificate = (Option<Material>, Option<Material>);

pub(super) struct Plugin {
    exec: Exec,
    /// The request that the plugin reads from `KUBERNETES_EXEC_INFO`.
    info: String,
    // A lock of its own, since several threads send requests.
    header: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Answer {
    status: Option<AnswerStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AnswerStatus {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    /// Runs it for the first time.
    ///
    /// # Errors
    /// What is wrong with its entry or its answer.
    pub(super) fn start(exec: Exec, selected: &Selected) -> Result<(Self, Certificate), String> {
        if exec.command.is_empty() {
            return Err("command is missing".to_owned());
        }
        if !["v1", "v1beta1"].iter().any(|version| exec.api_version.strip_prefix(GROUP) == Some(version)) {
            return Err(format!("apiVersion: must be {GROUP}v1 or {GROUP}v1beta1"));
        }
        let mut spec = json!({ "interactive": std::io::stdin().is_terminal() });
        if exec.provide_cluster_info {
            let ca = match &selected.certificate_authority {
                Some(Material::Inline(bytes)) => bytes.clone(),
                Some(Material::File(path)) => std::fs::read(path).unwrap_or_default(),
                None => Vec::new(),
            };
            spec["cluster"] = json!({
                "server": selected.server,
                "tls-server-name": selected.tls_server_name,
                "insecure-skip-tls-verify": selected.insecure_skip_tls_verify,
                "certificate-authority-data": crate::encode::base64_encode(&ca),
                "proxy-url": selected.proxy_url,
            });
        }
        let info = json!({ "apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec }).to_string();
        let plugin = Self { exec, info, header: Mutex::new(None) };
        let status = plugin.run()?;
        let data =
            |pem: Option<String>| pem.filter(|pem| !pem.is_empty()).map(|pem| Material::Inline(pem.into_bytes()));
        let certificate = (data(status.client_certificate_data), data(status.client_key_data));
        let header = status.token.as_deref().filter(|token| !token.is_empty()).map(bearer).transpose();
        *plugin.lock() = header.map_err(|what| format!("the token of {} {what}", plugin.exec.command))?;
        if plugin.lock().is_none() && (certificate.0.is_none() || certificate.1.is_none()) {
            return Err(format!("{} gave neither a token nor a certificate with its key", plugin.exec.command));
        }
        Ok((plugin, certificate))
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.lock().clone()
    }

    /// Runs it again after a 401; returns true if it gave another token.
    pub(super) fn renew(&self, sent: Option<&HeaderValue>) -> bool {
        let token = self.run().ok().and_then(|status| status.token);
        let Some(Ok(header)) = token.as_deref().map(bearer) else { return false };
        let mut known = self.lock();
        *known = Some(header);
        sent != known.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) -> Result<AnswerStatus, String> {
        let Exec { command, args, env, install_hint, .. } = &self.exec;
        let variables = env.iter().flatten().map(|variable| (&variable.name, &variable.value));
        let spawned = Command::new(command)
            .args(args.iter().flatten())
            .envs(variables)
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .stdout(Stdio::piped())
            .spawn();
        let hint = if install_hint.is_empty() { String::new() } else { format!("; {}", install_hint.trim()) };
        let mut child = spawned.map_err(|error| format!("{command} cannot be run: {error}{hint}"))?;
        let mut answer = Vec::new();
        let read = child.stdout.take().map(|out| out.take(ANSWER_BYTES_MAX).read_to_end(&mut answer));
        let status = child.wait().map_err(|error| format!("{command}: {error}"))?;
        if !status.success() || !matches!(read, Some(Ok(_))) {
            return Err(format!("{command} failed with {status}"));
        }
        // The parser's own error could quote what must not be printed.
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| format!("{command} did not print an ExecCredential"))?;
        Ok(answer.status.unwrap_or_default())
    }
}
