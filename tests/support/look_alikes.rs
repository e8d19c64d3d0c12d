//! Certificate chains that a server presents: proper ones, and ones that cause a long search.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A server's certificate for `localhost`, and the chain that it presents.
pub(crate) struct LookAlikes {
    /// The CA that a client trusts, as PEM.
    pub(crate) root: String,
    chain: Vec<CertificateDer<'static>>,
    key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl LookAlikes {
    /// Adds `count` CAs of the same name with different keys, none of which leads to the root.
    pub(crate) fn new(count: usize) -> Self {
        let root = authority("root").self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let mut others = Vec::new();
        let mut last = None;
        for _ in 0..count {
            let key = KeyPair::generate().unwrap();
            let params = authority("look-alike");
            others.push(params.self_signed(&key).unwrap().der().clone());
            last = Some(Issuer::new(params, key));
        }
        Self::with(root, &last.unwrap(), others)
    }

    /// Adds `count` CAs, each signed by the next one, and the last one by the root.
    pub(crate) fn proper(count: usize) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority("root");
        let root = params.self_signed(&key).unwrap().pem();
        let mut issuer = Issuer::new(params, key);
        let mut others = Vec::new();
        for number in 0..count {
            let key = KeyPair::generate().unwrap();
            let params = authority(&format!("intermediate {number}"));
            others.insert(0, params.signed_by(&key, &issuer).unwrap().der().clone());
            issuer = Issuer::new(params, key);
        }
        Self::with(root, &issuer, others)
    }

    fn with(root: String, issuer: &Issuer<'_, KeyPair>, others: Vec<CertificateDer<'static>>) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, issuer).unwrap().der().clone();
        let chain = std::iter::once(leaf).chain(others).collect();
        Self { root, chain, key: key.serialize_pem() }
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        builder.with_no_client_auth().with_single_cert(self.chain.clone(), key).unwrap()
    }
}
