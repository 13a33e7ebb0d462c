//! N07: nothing outlives its call, and nothing outlives the node.

use super::{Sin, host, on_every_native_executor};
use crate::contract::{How, marker};
use crate::support::*;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::Instant;

on_every_native_executor! {
    n07_a_process_left_behind_ends_with_its_call,
}

async fn n07_a_process_left_behind_ends_with_its_call(how: How) {
    for warm in ["exec.container.warm=0", "exec.container.warm=1"] {
        let host = host!(how, &[warm]);
        let marker = marker();
        let said = host.commit(Sin::new("LeaveBehind").marked(&marker)).await.unwrap();
        let expected = if how.is_container() { "left one behind\n" } else { "fork: EPERM\n" };
        assert_eq!(said, expected);
        host.is_unharmed(&marker).await;
        if !how.is_container() {
            return;
        }
    }
}

/// How long anything may outlive the node.
const SURVIVAL: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n07_nothing_outlives_a_node_that_is_killed() {
    let mut host = host!(How::Memexec);
    let marker = marker();
    let mut sins = tokio::task::JoinSet::new();
    for method in ["IgnoreSignals", "IgnoreSignals", "CloseEverything"] {
        let (client, sin) = (host.client.clone(), Sin::new(method).input("60000").marked(&marker));
        let digest = host.digest();
        sins.spawn(async move { super::commit(&client, digest, sin).await });
    }
    until("they run", async || running(&marker).len() == 3).await;
    let family = descendants(host.process.id());
    assert!(family.len() > 3, "the launcher, a jail, and what runs in it");
    host.process.signal(Signal::KILL);
    let killed = Instant::now();
    host.process.wait();
    while !running(&marker).is_empty() || family.iter().any(|id| is_alive(*id)) {
        assert!(killed.elapsed() < SURVIVAL, "{:?} of {family:?} live on", running(&marker));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(sin) = sins.join_next().await {
        assert!(sin.unwrap().is_err(), "nobody is there to answer");
    }
}

/// Runs, and has not only not been waited for.
fn is_alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
