//! All nodes restarted, one after the other, while clients call.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_are_restarted_one_after_the_other_and_no_call_fails() {
    let mut mesh = Mesh::full(5).start(20).await;
    for place in &mesh.places {
        place.deploy("misbehave").await;
    }
    let crowd = Crowd::that_go_on(&mesh.places, 5);
    crowd.calls(50).await;
    for number in 0..5 {
        mesh.end(number, Signal::TERM);
        crowd.calls(20).await;
        mesh.start_again(number);
        until("its links", async || mesh.places[number].linked().await.is_some_and(|linked| linked.len() == 4)).await;
        for place in &mesh.places {
            until("all links", async || place.linked().await.is_some_and(|linked| linked.len() == 4)).await;
        }
        crowd.calls(20).await;
    }
    let failed = crowd.end().await;
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_node_without_the_code_outlive_the_restart_of_those_that_have_it() {
    let mut mesh = Mesh::full(3).start(6).await;
    for number in [1, 2] {
        mesh.places[number].deploy("misbehave").await;
    }
    mesh.places[0].answers_for(&["n1", "n2"]).await;
    let crowd = Crowd::naps(&[&mesh.places[0]; 4]);
    crowd.calls(50).await;
    for number in [1, 2] {
        mesh.end(number, Signal::TERM);
        crowd.calls(20).await;
        mesh.start_again(number);
        mesh.places[0].answers_for(&["n1", "n2"]).await;
    }
    crowd.calls(50).await;
    let failed = crowd.end().await;
    assert!(failed.is_empty(), "{failed:?}");
}
