//! A node with `errands` deployed, its grants, and what is outside of it.

use super::*;
use collector::rpc::pb::admin::v1 as admin;
use collector::rpc::pb::plugin::v1 as plugins_pb;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// One of each kind, so that the plugin is deployed.
pub const GRANTS: [&str; 6] = [
    "config=region=north",
    "secret=api-token",
    "collections=notes:write",
    "dispatch=errands.v1.Errands",
    "http=http://127.0.0.1:1",
    "files=shared:write",
];
/// Name of the deployment.
pub const ERRANDS: &str = "errands.v1.Errands";
/// The secret's value.
pub const TOKEN: &str = "s3cr3t-t0ken-never-to-be-seen";

pub fn with_grants(grants: &[&str]) -> plugins_pb::DeployHeader {
    let grants = grants.iter().map(|&grant| grant.to_owned()).collect();
    plugins_pb::DeployHeader { grants, ..header() }
}

/// Deploys the plugin with [`GRANTS`] and makes the collection `notes`.
pub async fn errands(node: &TestNode) -> PluginFile {
    let plugin = plugin("errands");
    deploy_with(&mut plugins(node).await, with_grants(&GRANTS), &plugin.bytes).await.unwrap();
    let client = Client::connect(&node.address()).await;
    client.make(Place::acme("notes").definition("errands.v1.Note", &[])).await.unwrap();
    plugin
}

pub async fn grant(node: &TestNode, grants: &[&str]) {
    let grants = grants.iter().map(|&grant| grant.to_owned()).collect();
    let request = plugins_pb::GrantRequest { namespace: "acme".into(), name: ERRANDS.into(), grants };
    plugins(node).await.grant(request).await.unwrap();
}

pub async fn revoke(node: &TestNode, grants: &[&str]) -> Result<Vec<String>, Status> {
    let grants = grants.iter().map(|&grant| grant.to_owned()).collect();
    let request = plugins_pb::RevokeRequest { namespace: "acme".into(), name: ERRANDS.into(), grants };
    let done = plugins(node).await.revoke(request).await?;
    Ok(done.into_inner().deployment.unwrap().grants)
}

pub async fn set_secret(node: &TestNode, namespace: &str, name: &str, value: &str) -> Result<(), Status> {
    let mut client = admin::secrets_client::SecretsClient::new(channel(&node.address()).await);
    let (namespace, name, value) = (namespace.into(), name.into(), value.into());
    client.set_secret(admin::SetSecretRequest { namespace, name, value }).await.map(drop)
}

/// A server outside: answers each connection and keeps what it was sent.
pub struct Outside {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

/// What such a server says.
#[derive(Clone)]
pub enum Says {
    /// This, and closes.
    Bytes(Vec<u8>),
    /// What it was sent, as the body of an answer and in a header.
    Echo,
    /// The beginning of an answer, then a byte now and then, without end.
    Dribble,
}

impl Outside {
    pub async fn new(says: Says) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let keeps = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, says.clone(), Arc::clone(&keeps)));
            }
        });
        Self { address, heard }
    }

    pub async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        Self::new(Says::Bytes(answer.into())).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The grant that it takes to reach it.
    pub fn grant(&self) -> String {
        format!("http=http://{}", self.address)
    }

    /// Heads of the requests so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn answer<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut stream: S,
    says: Says,
    keeps: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    keeps.lock().unwrap().push(head.clone());
    match says {
        Says::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
        }
        Says::Echo => {
            let line = head.lines().find(|line| line.starts_with("authorization")).unwrap_or_default();
            let text = format!("HTTP/1.1 200 OK\r\nx-was: {line}\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Says::Dribble => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let _ = stream.shutdown().await;
}

/// The same behind TLS, for `localhost`, with the certificate (PEM) to trust.
pub async fn outside_with_tls(says: Says) -> (Outside, String) {
    use tokio_rustls::rustls;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let keeps = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, says, keeps) = (acceptor.clone(), says.clone(), Arc::clone(&keeps));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, says, keeps).await;
                }
            });
        }
    });
    (Outside { address, heard }, made.cert.pem())
}
