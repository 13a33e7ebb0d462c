//! Namespaces beside each other: who asks for more than its share waits longer, others do not.

use crate::support::*;
use collector::cli::{NodeClient, PluginFile};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

async fn call(
    client: &NodeClient,
    plugin: &PluginFile,
    namespace: &str,
    method: &str,
    request: serde_json::Value,
) -> Result<Called, tonic::Status> {
    let mut call = Call::new(plugin, method, request).timeout(Duration::from_secs(10));
    call.target.namespace = namespace.into();
    call.run(client).await
}

/// Clients that call again and again until they are told to stop; what they met is counted.
struct Crowd {
    stop: Arc<AtomicBool>,
    fine: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Crowd {
    fn of(node: &TestNode, size: usize, method: &'static str, request: &serde_json::Value) -> Self {
        let (stop, fine, refused) = (Arc::default(), Arc::default(), Arc::default());
        let mut crowd = Self { stop, fine, refused, clients: JoinSet::new() };
        for _ in 0..size {
            let (client, request) = (node.client.clone(), request.clone());
            let (stop, fine) = (Arc::clone(&crowd.stop), Arc::clone(&crowd.fine));
            let refused = Arc::clone(&crowd.refused);
            crowd.clients.spawn(async move {
                let plugin = plugin("misbehave");
                while !stop.load(Ordering::Relaxed) {
                    match call(&client, &plugin, "noisy", method, request.clone()).await {
                        Ok(_) => fine.fetch_add(1, Ordering::Relaxed),
                        Err(status) => {
                            assert!(status.code() != Code::Internal, "{status:?}");
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        crowd
    }

    async fn end(mut self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        (self.fine.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o02_a_namespace_that_takes_all_slots_does_not_refuse_a_quiet_one() {
    let node = TestNode::start_with(|config| {
        config.wasm.slots = 4;
        config.wasm.queue = 16;
    })
    .await;
    let misbehave = plugin("misbehave");
    call(&node.client, &misbehave, "noisy", "Sleep", amount(0)).await.unwrap();
    call(&node.client, &misbehave, "quiet", "Sleep", amount(0)).await.unwrap();
    // Ten times and more of what there is room for, each trying again at once.
    let noisy = Crowd::of(&node, 48, "Sleep", &amount(20));
    until("the queue is full", async || noisy.refused.load(Ordering::Relaxed) > 0).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        let began = Instant::now();
        call(&node.client, &misbehave, "quiet", "Sleep", amount(0)).await.expect("a quiet namespace is not refused");
        slowest = slowest.max(began.elapsed());
    }
    let (fine, refused) = noisy.end().await;
    assert!(fine > 0 && refused > 0);
    // The queue of the noisy one alone is 80 ms and more; a generous bound for a slow machine.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    println!("slowest quiet call {slowest:?}, noisy {fine} answered and {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_clients_that_try_again_at_once_do_not_keep_it_from_recovering() {
    let node = TestNode::start_with(|config| {
        config.wasm.slots = 2;
        config.wasm.queue = 4;
    })
    .await;
    let misbehave = plugin("misbehave");
    call(&node.client, &misbehave, "noisy", "Sleep", amount(0)).await.unwrap();
    let storm = Crowd::of(&node, 64, "Sleep", &amount(5));
    until("it is over capacity", async || storm.refused.load(Ordering::Relaxed) > 100).await;
    let before = storm.fine.load(Ordering::Relaxed);
    until("calls are answered all the same", async || storm.fine.load(Ordering::Relaxed) > before + 10).await;
    storm.end().await;
    call(&node.client, &misbehave, "noisy", "Sleep", amount(0)).await.expect("it has recovered");
    until("nothing is left", async || node.node().wasm_stats().await.running == 0).await;
}

/// A figure for the bar of issue 6, taken by hand: `cargo test --release --test it fairness -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, for a machine that does nothing else"]
async fn quiet_latency_beside_sixty_four_spinning_calls() {
    let node = TestNode::start_with(|config| config.wasm.slots = 256).await;
    let greeter = plugin("greeter");
    let quiet = async || {
        let mut took = Vec::new();
        for _ in 0..500 {
            let began = Instant::now();
            call(&node.client, &greeter, "quiet", "SayHello", json!({ "name": "you" })).await.unwrap();
            took.push(began.elapsed());
        }
        took.sort_unstable();
        (took[250], took[495])
    };
    quiet().await;
    let alone = quiet().await;
    let noisy = Crowd::of(&node, 64, "Spin", &amount(0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let beside = quiet().await;
    println!("quiet p50 and p99: alone {alone:?}, beside {beside:?}");
    drop(noisy);
}
