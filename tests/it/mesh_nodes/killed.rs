//! Any node killed: one of many, the middle of a star, the one that clients call.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn any_of_five_is_killed_under_load_and_costs_only_what_it_had() {
    let mut mesh = Mesh::full(5).start(20).await;
    for place in &mesh.places {
        place.deploy("misbehave").await;
    }
    // Clients of all but one each: those of the dead node go with it.
    for number in 0..5 {
        let others: Vec<&Place> = mesh.places.iter().filter(|place| place.id != format!("n{number}")).collect();
        for other in &others {
            other.answers_for(&[&mesh.places[number].id]).await;
        }
        let crowd = Crowd::naps(&others);
        crowd.calls(50).await;
        mesh.node(number).signal(Signal::KILL);
        let killed = Instant::now();
        mesh.node(number).wait();
        let dead = Instant::now();
        crowd.calls(50).await;
        for failed in crowd.end().await {
            let was_there = failed.began < dead && failed.ended > killed;
            let had_begun = failed.status.metadata().get("collector-began").is_none();
            assert!(was_there && had_begun && failed.status.code() == Code::Unavailable, "n{number}: {failed:?}");
        }
        mesh.start_again(number);
        for place in &mesh.places {
            until("all links", async || place.linked().await.is_some_and(|linked| linked.len() == 4)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_middle_of_a_star_is_killed_and_calls_go_over_it_again_when_it_is_back() {
    let mut mesh = Mesh::star(4).start(6).await;
    mesh.places[3].deploy("greeter").await;
    let reaches = async |mesh: &Mesh| mesh.places[1].greeted_by("").await.is_ok_and(|who| who == "n3");
    until("a call over the middle", async || reaches(&mesh).await).await;
    mesh.end(0, Signal::KILL);
    let gone = async || mesh.places[1].greeted_by("").await.is_err_and(|why| why.code() == Code::NotFound);
    until("the way is gone", gone).await;
    assert_eq!(mesh.places[3].greeted_by("").await.unwrap(), "n3", "who has the code goes on alone");
    mesh.start_again(0);
    until("the way is back", async || reaches(&mesh).await).await;
    // And the one at the end of it.
    mesh.end(3, Signal::KILL);
    let gone = async || mesh.places[1].greeted_by("").await.is_err_and(|why| why.code() == Code::NotFound);
    until("nobody has the code", gone).await;
    mesh.start_again(3);
    until("it is back with its code", async || reaches(&mesh).await).await;
}
