//! TLS to web servers: the public roots, and those of the operator.

use super::{BadSetting, Config, FetchError};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Opens TLS connections.
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// * errors: the operator's file cannot be read, or holds no certificate.
    pub(super) fn new(config: &Config) -> Result<Self, BadSetting> {
        let bad = |problem: String| BadSetting { key: "ca_file", problem };
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if !config.ca_file.as_os_str().is_empty() {
            let all = CertificateDer::pem_file_iter(&config.ca_file);
            let all = all.and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let all = all.map_err(|why| bad(format!("cannot be read as certificates in PEM: {why}")))?;
            if all.is_empty() {
                return Err(bad("holds no certificate".to_owned()));
            }
            for one in all {
                roots.add(one).map_err(|why| bad(format!("holds what is no certificate: {why}")))?;
            }
        }
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let client = client.with_safe_default_protocol_versions();
        let client = client.map_err(|why| bad(why.to_string()))?;
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(client))))
    }

    /// * `host`: name or address, IPv6 in brackets.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, FetchError> {
        let name = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|_| FetchError::Tls("its name is none".to_owned()))?;
        self.0.connect(name, stream).await.map_err(|why| {
            let known = why.get_ref().and_then(|why| why.downcast_ref::<rustls::Error>());
            FetchError::Tls(match known {
                Some(rustls::Error::InvalidCertificate(why)) => format!("its certificate is not valid ({why:?})"),
                Some(_) => "it speaks no TLS that this node speaks".to_owned(),
                None => "it broke the handshake off".to_owned(),
            })
        })
    }
}
