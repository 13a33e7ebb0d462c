//! Nodes that know each other.

use super::NAMESPACE;
use crate::Failure;
use crate::echo::HelloClient;
use crate::node::{channel, deploy};
use crate::process::Process;
use bytes::Bytes;
use collector::rpc::pb::admin::v1 as pb;
use pb::peers_client::PeersClient;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address that nobody else has, also while no node listens there: an own one of loopback, and a port that no outgoing
/// connection gets.
fn reserve() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (process, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{}:7051", 128 + process % 64, (process / 64) % 256, n)
}

/// Nodes that keep their addresses and folders while their processes come and go.
pub(super) struct Nodes {
    all: Vec<Node>,
    _data: TempDir,
}

struct Node {
    /// `HOST:PORT`.
    at: String,
    url: String,
    data: PathBuf,
    config: PathBuf,
    /// How many peers it has.
    peers: usize,
    process: Option<Process>,
}

impl Node {
    fn start(&mut self) -> Result<(), Failure> {
        let config = self.config.to_str().ok_or("an odd folder")?;
        self.process = Some(Process::node_at(&self.at, &self.data, ["--config", config])?);
        Ok(())
    }

    /// Links of it that are up; `None`: it does not answer.
    async fn links(&self) -> Option<usize> {
        let mut client = PeersClient::new(channel(&self.url).await.ok()?);
        let peers = client.list(pb::ListPeersRequest {}).await.ok()?.into_inner().peers;
        Some(peers.iter().filter(|peer| peer.state() == pb::peer::State::Linked).count())
    }
}

impl Nodes {
    /// * `pairs`: which know each other.
    pub(super) async fn start(count: usize, pairs: &[(usize, usize)]) -> Result<Self, Failure> {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let places: Vec<String> = (0..count).map(|_| reserve()).collect();
        let mut all = Vec::new();
        for (number, at) in places.iter().enumerate() {
            let mut text = format!("[mesh]\nid = \"n{number}\"\n");
            let mut peers = 0;
            for (one, two) in pairs {
                let other = match number {
                    number if number == *one => two,
                    number if number == *two => one,
                    _ => continue,
                };
                let at = places.get(*other).ok_or("a pair of nobody")?;
                write!(text, "[[peers]]\naddress = \"{at}\"\nallows = [\"{NAMESPACE}:invoker\"]\n")?;
                peers += 1;
            }
            let config = data.path().join(format!("{number}.toml"));
            std::fs::write(&config, text)?;
            let (url, data) = (format!("http://{at}"), data.path().join(number.to_string()));
            all.push(Node { at: at.clone(), url, data, config, peers, process: None });
        }
        all.iter_mut().try_for_each(Node::start)?;
        let nodes = Self { all, _data: data };
        nodes.linked().await?;
        Ok(nodes)
    }

    /// Everybody knows everybody.
    pub(super) async fn full(count: usize) -> Result<Self, Failure> {
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |two| (one, two)));
        Self::start(count, &pairs.collect::<Vec<_>>()).await
    }

    fn node(&self, number: usize) -> Result<&Node, Failure> {
        self.all.get(number).ok_or_else(|| "there is no such node".into())
    }

    pub(super) fn address(&self, number: usize) -> Result<&str, Failure> {
        Ok(&self.node(number)?.url)
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.all.iter().map(|node| node.url.clone()).collect()
    }

    pub(super) fn process(&self, number: usize) -> Result<&Process, Failure> {
        self.node(number)?.process.as_ref().ok_or_else(|| "the node does not run".into())
    }

    /// The process, which its node has no more.
    pub(super) fn take(&mut self, number: usize) -> Result<Process, Failure> {
        let node = self.all.get_mut(number).ok_or("there is no such node")?;
        node.process.take().ok_or_else(|| "the node does not run".into())
    }

    pub(super) fn start_again(&mut self, number: usize) -> Result<(), Failure> {
        self.all.get_mut(number).ok_or("there is no such node")?.start()
    }

    /// Waits until all links are up.
    pub(super) async fn linked(&self) -> Result<(), Failure> {
        for node in &self.all {
            until("a link", async || node.links().await == Some(node.peers)).await?;
        }
        Ok(())
    }

    pub(super) async fn deploy(&self, numbers: &[usize], bytes: &Bytes) -> Result<(), Failure> {
        for number in numbers {
            deploy(&channel(self.address(*number)?).await?, None, NAMESPACE, bytes).await?;
        }
        Ok(())
    }
}

/// Waits until a node answers a greeting, itself or by another.
pub(super) async fn greeted(address: &str) -> Result<(), Failure> {
    until("a greeting", async || match HelloClient::connect(address) {
        Ok(mut client) => client.call("Ada").await.is_ok(),
        Err(_) => false,
    })
    .await
}

/// Waits until a condition holds.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        if Instant::now() > deadline {
            return Err(format!("{what} did not come").into());
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
