//! Containers that are kept between calls: fast, and no call finds anything of another one.

use crate::support::{Rig, error, job, output_of, until};
use collector::domain::{Deadline, Limits, Outcome, Start};
use collector::exec::{ExecError, Job};
use std::time::Duration;

fn start(outcome: &Outcome) -> Start {
    outcome.receipt.start
}

#[tokio::test]
async fn the_second_call_finds_its_container_ready() {
    let Some(rig) = Rig::start(|config| config.warm = 2).await else { return };
    let first = rig.call("Echo", "one").await.unwrap();
    let second = rig.call("Echo", "two").await.unwrap();
    assert_eq!((start(&first), start(&second)), (Start::Cold, Start::Warm));
    assert_eq!(second.reply.as_deref(), Ok(b"two".as_slice()));
    let fault = rig.call("Fault", "69 no such thing").await.unwrap();
    assert_eq!(fault.reply.unwrap_err().message, "no such thing");
    assert!(matches!(error(rig.call("Fault", "3 gave up").await), ExecError::Exit { code: 3, .. }));
    assert_eq!(rig.said("Flood", "20000").await, "flooded");
    assert_eq!(rig.said("Deaf", &"x".repeat(1 << 20)).await, "not read");

    let said = rig.said("Setting", "").await;
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("acme tool.v1.Tool Setting"));
    let mut names: Vec<&str> = lines.map(|line| line.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    let ours =
        ["COLLECTOR_DEADLINE_MS", "COLLECTOR_METHOD", "COLLECTOR_NAMESPACE", "COLLECTOR_SERVICE", "GRPC_INPUT_DATA"];
    assert_eq!(names, ours, "nothing of the container's own");
    assert_eq!(rig.containers().await.len(), 1, "one served them all");

    let less = Job { limits: Limits { memory_mib: 32, ..Limits::default() }, ..job("Echo", "less") };
    assert_eq!(start(&rig.run(less).await.unwrap()), Start::Cold, "other limits, another container");
}

#[tokio::test]
async fn a_container_is_never_shared_between_namespaces_or_calls_at_once() {
    let Some(rig) = Rig::start(|config| config.warm = 2).await else { return };
    rig.call("Echo", "").await.unwrap();
    let other = Job { namespace: "globex".parse().unwrap(), ..job("Echo", "") };
    assert_eq!(start(&rig.run(other).await.unwrap()), Start::Cold);
    assert_eq!(rig.executor.stats().await.kept, 2);

    // The third that is kept pushes out the one that was used least recently: acme's first.
    let third = Job { namespace: "initech".parse().unwrap(), ..job("Echo", "") };
    rig.run(third).await.unwrap();
    until("one is let go", async || rig.containers().await.len() == 2).await;
    assert_eq!(start(&rig.call("Echo", "").await.unwrap()), Start::Cold);

    let (a, b) = tokio::join!(rig.call("Echo", "a"), rig.call("Echo", "b"));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.reply.as_deref(), b.reply.as_deref()), (Ok(b"a".as_slice()), Ok(b"b".as_slice())));
    assert!(start(&a) == Start::Cold || start(&b) == Start::Cold, "one of them found it taken");
}

#[tokio::test]
async fn nothing_of_a_call_is_left_for_the_next() {
    let Some(rig) = Rig::start(|config| config.warm = 1).await else { return };
    assert_eq!(rig.said("Leave", "").await, "", "there is nowhere else to write to");
    let next = rig.call("Look", "").await.unwrap();
    assert_eq!(start(&next), Start::Warm);
    let seen = String::from_utf8(next.reply.unwrap().to_vec()).unwrap();
    for line in ["processes docker-init plugin runner", "tmp ", "descriptors 3", "NoNewPrivs: 1", "Seccomp: 2"] {
        assert!(seen.lines().any(|seen| seen == line), "{line:?} in {seen}");
    }
    let again = rig.said("Look", "").await;
    assert_eq!(again, seen, "the files of the last look are gone too");

    let bombs: u32 = rig.said("Bomb", "").await.trim().parse().unwrap();
    assert!(bombs < 64, "{bombs}");
    let after = rig.said("Look", "").await;
    assert_eq!(after, seen);
}

#[tokio::test]
async fn a_hostile_call_hurts_only_itself() {
    let Some(rig) = Rig::start(|config| config.warm = 1).await else { return };
    rig.call("Echo", "").await.unwrap();
    assert_eq!(rig.said("Attack", "").await, "", "neither the runner nor the init can be written to");
    assert_eq!(start(&rig.call("Echo", "").await.unwrap()), Start::Warm);

    let gone = error(rig.call("KillAll", "").await);
    assert!(matches!(gone, ExecError::Broken(_)), "{gone:?}");
    assert_eq!(rig.said("Echo", "next").await, "next", "in another container");

    let killed = error(rig.call("KillSelf", "").await);
    assert!(matches!(killed, ExecError::Signal { .. }), "nobody ran out of memory: {killed:?}");
    let limit = error(rig.call("Allocate", "").await);
    assert!(matches!(limit, ExecError::Limit { reason: "MEMORY_LIMIT", limit: 512, .. }), "{limit:?}");
    let output = error(rig.call("Output", "16777216").await);
    assert!(matches!(output, ExecError::Limit { reason: "OUTPUT_LIMIT", .. }), "{output:?}");
    let spin = Job { deadline: Deadline::after(Duration::from_secs(1)), ..job("Spin", "") };
    assert!(matches!(error(rig.run(spin).await), ExecError::Deadline));
    assert_eq!(output_of(rig.call("Echo", "still").await), "still");
}

#[tokio::test]
async fn a_container_that_somebody_removed_is_replaced() {
    let Some(rig) = Rig::start(|config| config.warm = 1).await else { return };
    rig.call("Echo", "").await.unwrap();
    let kept = rig.containers().await.remove(0).id.unwrap();
    let options = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).build();
    rig.docker.remove_container(&kept, Some(options)).await.unwrap();
    assert_eq!(rig.said("Echo", "next").await, "next");
}
