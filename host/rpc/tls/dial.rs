//! The client's side: connections to a node, for the command line and for the node's call to itself.

use super::self_signed::SelfSigned;
use super::{TlsError, Wire, files, provider};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// How long a node gets to accept a connection and to shake hands.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom a client believes, and how it shows itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// PEM file of authorities; none: those that browsers know.
    pub ca: Option<&'a Path>,
    /// PEM files of the client's certificate and its key.
    pub identity: Option<(&'a Path, &'a Path)>,
}

/// Makes connections; what hyper's client and tonic's channel take for a connector.
#[derive(Debug, Clone, Default)]
pub struct Dialer(Option<Arc<ClientConfig>>);

impl Dialer {
    /// Connections in clear.
    pub fn plain() -> Self {
        Self(None)
    }

    /// Encrypted ones.
    pub fn trusting(trust: Trust<'_>) -> Result<Self, TlsError> {
        let roots = match trust.ca {
            Some(path) => files::roots("--ca", path)?,
            None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect::<RootCertStore>(),
        };
        let builder = versions()?.with_root_certificates(roots);
        let config = match trust.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, key) = (files::certificates("--cert", certificate)?, files::key("--key", key)?);
                let odd = |why: Error| TlsError::Content { what: "--cert", problem: why.to_string() };
                builder.with_client_auth_cert(chain, key).map_err(odd)?
            }
        };
        Ok(Self::of(config))
    }

    /// Encrypted ones to the server with exactly this certificate, whatever it is called.
    pub(super) fn pinned(server: CertificateDer<'static>, own: Option<SelfSigned>) -> Result<Self, TlsError> {
        let builder = versions()?.dangerous().with_custom_certificate_verifier(Arc::new(Judged(Pinned(server))));
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![own.certificate.clone()];
                let odd = |why: Error| TlsError::SelfSigned(why.to_string());
                builder.with_client_auth_cert(chain, own.into_key()).map_err(odd)?
            }
        };
        Ok(Self::of(config))
    }

    pub(super) fn of(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(Some(Arc::new(config)))
    }

    /// Connects to the host and port of an address.
    ///
    /// * errors: `TimedOut` after 5 s; with a [`rustls::Error`](Error) inside if the server is not to be trusted.
    pub async fn dial(&self, uri: &Uri) -> io::Result<Wire> {
        let answer = timeout(PATIENCE, self.connect(uri)).await;
        answer.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in 5 s"))?
    }

    async fn connect(&self, uri: &Uri) -> io::Result<Wire> {
        let no_host = || io::Error::from(io::ErrorKind::InvalidInput);
        let host = uri.host().ok_or_else(no_host)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if self.0.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.0 else { return Ok(Wire::Plain(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| no_host())?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Ok(Wire::Tls(Box::new(stream.into())))
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        async move { dialer.dial(&uri).await.map(TokioIo::new) }.boxed()
    }
}

pub(super) fn versions() -> Result<ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    builder.map_err(|why| TlsError::Content { what: "TLS", problem: why.to_string() })
}

/// Decides whether a certificate is the one that was wanted.
pub(super) trait Judge: Debug + Send + Sync {
    /// * errors: it is not.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error>;
}

/// Believes whom somebody judges well, whatever it is called; that the server has its key is checked as always.
#[derive(Debug)]
pub(super) struct Judged<J>(pub(super) J);

/// Believes one certificate, by its bytes.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>);

impl Judge for Pinned {
    fn judge(&self, leaf: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<(), Error> {
        match *leaf == self.0 {
            true => Ok(()),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }
}

impl<J: Judge> ServerCertVerifier for Judged<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.judge(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
