//! The port under attack: floods, bombs, trickles, crowds. The node is a process, so that its memory can be seen.

mod connections;
mod floods;
mod messages;
mod raw;

use crate::support::*;
use std::time::Duration;
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A node that is attacked, and what it used before.
struct Victim {
    node: NodeProcess,
    kib: u64,
    descriptors: usize,
    cpu: Duration,
    _data: TempDir,
}

impl Victim {
    async fn start(settings: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let node = NodeProcess::start(&data.path().join("data"), settings);
        Self::of(node, data).await
    }

    async fn of(node: NodeProcess, data: TempDir) -> Self {
        serves(&node.address).await;
        let mut victim = Self { node, kib: 0, descriptors: 0, cpu: Duration::ZERO, _data: data };
        let id = victim.node.id();
        // Connections of the self-check and of the call above go in a moment.
        victim.descriptors = usize::MAX;
        for _ in 0..40 {
            victim.descriptors = victim.descriptors.min(descriptors(id));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (victim.kib, victim.cpu) = (victim.node.resident_kib(), cpu_time(id));
        victim
    }

    fn address(&self) -> &str {
        &self.node.address
    }

    /// MiB that it needs more than before.
    fn grown(&self) -> u64 {
        self.node.resident_kib().saturating_sub(self.kib) >> 10
    }

    /// How long it has worked since.
    fn worked(&self) -> Duration {
        cpu_time(self.node.id()) - self.cpu
    }

    /// It serves others, and holds nothing of those who left.
    async fn is_well(&self) {
        serves(self.address()).await;
        let id = self.node.id();
        until("descriptors come back", async || descriptors(id) <= self.descriptors).await;
        let log = self.node.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// A new client gets an answer.
async fn serves(address: &str) {
    let mut client = HealthClient::new(channel(address).await);
    client.check(HealthCheckRequest::default()).await.unwrap();
}

/// What a second client sees while `attack` goes on: an answer to every call.
async fn beside<T>(address: &str, attack: impl Future<Output = T>) -> T {
    let mut client = HealthClient::new(channel(address).await);
    let mut attack = std::pin::pin!(attack);
    loop {
        tokio::select! {
            ended = &mut attack => return ended,
            answer = client.check(HealthCheckRequest::default()) => drop(answer.unwrap()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
