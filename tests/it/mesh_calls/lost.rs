//! Nodes that go while they are needed.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_node_costs_only_the_calls_that_it_had() {
    let [a, mut b, c] = mesh_of(["a", "b", "c"], &["acme:invoker"]).await;
    let misbehave = plugin("misbehave");
    for node in [&b, &c] {
        deploy_known(node, &misbehave, &[&a]).await;
    }
    let stub = Stub::new(&a, &misbehave).await;
    for _ in 0..20 {
        stub.call("Sleep", amount(0)).await.unwrap();
    }
    // One that b has, when it goes.
    let input = misbehave.encode("misbehave.v1.Sin", r#"{"amount":"20000"}"#).unwrap();
    let there = pb::DispatchRequest {
        target_collector_id: "b".into(),
        ..dispatch("Misbehave", "Sleep", any("misbehave.v1.Sin", input))
    };
    let mut client = dispatcher(&a).await;
    let lost = tokio::spawn(async move { client.dispatch(there).await });
    until("b has it", async || b.node().wasm_stats().await.running == 1).await;
    drop(b.node.take());
    for n in 0..50 {
        stub.call("Sleep", amount(0)).await.unwrap_or_else(|why| panic!("call {n}: {why:?}"));
    }
    let lost = lost.await.unwrap().unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
    assert_eq!(c.node().wasm_stats().await.running, 0, "what may have begun is not begun again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_hands_its_calls_to_the_others() {
    let [a, mut b, c] = mesh_of(["a", "b", "c"], &["acme:invoker"]).await;
    let misbehave = plugin("misbehave");
    for node in [&b, &c] {
        deploy_known(node, &misbehave, &[&a]).await;
    }
    let stub = Stub::new(&a, &misbehave).await;
    let stopping = tokio::spawn(b.node.take().unwrap().stop());
    let mut calls = 0;
    while !stopping.is_finished() || calls < 50 {
        stub.call("Sleep", amount(1)).await.unwrap_or_else(|why| panic!("call {calls}: {why:?}"));
        calls += 1;
    }
    stopping.await.unwrap();
    drop(c);
}
