//! What a benchmark does to a node before it measures: keys, deployments, distinct components.

use crate::Failure;
use bytes::{BufMut as _, Bytes, BytesMut};
use collector::rpc::pb::plugin::v1::deploy_request::Part;
use collector::rpc::pb::plugin::v1::plugins_client::PluginsClient;
use collector::rpc::pb::plugin::v1::{DeployHeader, DeployRequest};
use std::path::Path;
use std::process::Command;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// A key that may do everything, made before the node starts.
pub(crate) fn admin(data: &Path) -> Result<String, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["auth", "key", "create", "--role", "admin", "--namespace", "*", "--json", "--data"]).arg(data);
    let output = command.output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("no key: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(said["secret"].as_str().ok_or("no key in the answer")?.to_owned())
}

pub(crate) async fn channel(address: &str) -> Result<Channel, Failure> {
    Ok(Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await?)
}

/// The messages of one `Deploy`.
pub(crate) fn parts(namespace: &str, bytes: &Bytes) -> Vec<DeployRequest> {
    let header = DeployHeader { namespace: namespace.to_owned(), ..Default::default() };
    let chunks = bytes.chunks(256 << 10).map(|chunk| Part::Chunk(chunk.to_vec().into()));
    std::iter::once(Part::Header(header)).chain(chunks).map(|part| DeployRequest { part: Some(part) }).collect()
}

/// Deploys for the benchmark's calls to stay.
///
/// * `token`: an API key, where the node wants one.
pub(crate) async fn deploy(
    channel: &Channel,
    token: Option<&str>,
    namespace: &str,
    bytes: &Bytes,
) -> Result<(), Failure> {
    let mut request = Request::new(tokio_stream::iter(parts(namespace, bytes)));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    PluginsClient::new(channel.clone()).deploy(request).await?;
    Ok(())
}

/// The same component under a digest that nobody has seen: with a custom section that nobody reads.
pub(crate) fn distinct(component: &Bytes, number: usize) -> Result<Bytes, Failure> {
    let name = format!("n{number:08}");
    let length = u8::try_from(name.len())?;
    let mut bytes = BytesMut::from(&component[..]);
    bytes.put_slice(&[0, length + 1, length]); // a custom section: its length, the length of its name
    bytes.put_slice(name.as_bytes());
    Ok(bytes.freeze())
}
