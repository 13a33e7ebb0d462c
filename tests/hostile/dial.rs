//! Sockets to the node, plain or by TLS.

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// How long a connection may take. 10 s: a node that is at its limits accepts late, and that is the case's own to judge.
const PATIENCE: Duration = Duration::from_secs(10);

/// Anything that bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where the node is.
#[derive(Clone)]
pub struct Address {
    pub host: String,
    pub port: u16,
    tls: Option<TlsConnector>,
}

impl Address {
    /// * `url`: `http://HOST:PORT` or `https://HOST:PORT`.
    /// * `ca`: PEM of who signed the node's certificate; else those that everybody trusts.
    pub fn parse(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let url: url::Url = url.parse().map_err(|why| format!("{url} is no address: {why}"))?;
        let host = url.host_str().ok_or("the address has no host")?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or("the address has no port")?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(connector(ca)?),
            other => return Err(format!("{other}: write http:// or https://")),
        };
        Ok(Self { host, port, tls })
    }

    /// The same place as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let brackets = self.host.contains(':');
        let (left, right) = if brackets { ("[", "]") } else { ("", "") };
        format!("{scheme}://{left}{}{right}:{}", self.host, self.port)
    }

    /// A connection without TLS, whatever the node speaks.
    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let dial = TcpStream::connect((self.host.as_str(), self.port));
        let stream = tokio::time::timeout(PATIENCE, dial).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection over which HTTP/2 is spoken.
    pub async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = self.tcp().await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let shaken = tokio::time::timeout(PATIENCE, tls.connect(name, tcp)).await;
        Ok(Box::new(shaken.map_err(|_| io::ErrorKind::TimedOut)??))
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path).map_err(|why| format!("--ca: {why}"))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|why| format!("--ca: {why}"))?;
                roots.add(certificate).map_err(|why| format!("--ca: {why}"))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.map_err(|why| why.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Dials for hyper's client.
#[derive(Clone)]
pub struct Dial(pub Address);

impl tower::Service<http::Uri> for Dial {
    type Response = Socket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let address = self.0.clone();
        Box::pin(async move { Ok(Socket(TokioIo::new(address.dial().await?))) })
    }
}

/// What hyper's client reads and writes.
pub struct Socket(TokioIo<Box<dyn Stream>>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
