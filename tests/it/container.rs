//! The container executor against a real engine: what a call gets, what it cannot do, and what is left of it.

use crate::support::{Rig, error, job, output_of, until};
use bollard::query_parameters::RemoveImageOptionsBuilder;
use collector::domain::{Deadline, FaultCode, Limits, Start};
use collector::exec::{ExecError, Executor as _, Job};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_command_gets_its_call_and_answers() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let outcome = rig.call("Echo", "hello").await.unwrap();
    assert_eq!(outcome.reply.as_deref(), Ok(b"hello".as_slice()));
    let receipt = outcome.receipt;
    assert_eq!((receipt.executor, receipt.start, receipt.fuel), ("container", Start::Cold, None));
    assert!(receipt.ran > Duration::ZERO);

    let said = rig.said("Setting", "").await;
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("acme tool.v1.Tool Setting"));
    let mut names: Vec<&str> = lines.map(|line| line.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    let ours =
        ["COLLECTOR_DEADLINE_MS", "COLLECTOR_METHOD", "COLLECTOR_NAMESPACE", "COLLECTOR_SERVICE", "GRPC_INPUT_DATA"];
    // The engine adds these three, whatever it is asked for.
    assert_eq!(names, [&ours[..], &["HOME", "HOSTNAME", "PATH"]].concat());

    assert_eq!(rig.said("Deaf", &"x".repeat(1 << 20)).await, "not read");
    rig.gone().await;
    assert_eq!(rig.images().await.len(), 1, "one binary, one image");
}

#[tokio::test]
async fn a_large_message_goes_in_and_out() {
    let Some(rig) = Rig::start(|config| config.warm = 1).await else { return };
    let large = "0123456789abcdef".repeat(4 << 16);
    for limits in [Limits::default(), Limits { memory_mib: 63, ..Limits::default() }] {
        let answer = rig.run(Job { limits, ..job("Echo", &large) }).await;
        assert!(output_of(answer) == large, "all of it comes back");
    }
}

#[tokio::test]
async fn faults_and_other_ends_are_told_apart() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let fault = rig.call("Fault", "69 no such thing").await.unwrap().reply.unwrap_err();
    assert_eq!((fault.code, fault.message.as_str()), (FaultCode::NotFound, "no such thing"));
    let exit = error(rig.call("Fault", "3 gave up").await);
    assert!(matches!(&exit, ExecError::Exit { code: 3, last_words: Some(words) } if words == "gave up"), "{exit:?}");
    // As shells say it of signals: whoever chose them, they are exit codes, and no limit.
    for code in [1, 63, 64, 81, 129, 130, 137, 139, 143, 192, 255] {
        let exit = error(rig.call("Fault", &format!("{code} gave up")).await);
        assert!(matches!(exit, ExecError::Exit { code: said, .. } if said == code), "{code}: {exit:?}");
    }
    let killed = error(rig.call("KillSelf", "").await);
    assert!(matches!(killed, ExecError::Exit { code: 137, .. }), "nobody ran out of memory: {killed:?}");
    let unknown = rig.call("Nothing", "").await.unwrap().reply.unwrap_err();
    assert_eq!(unknown.code, FaultCode::Unimplemented);
}

#[tokio::test]
async fn n03_k05_what_goes_over_a_limit_is_stopped() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let limit = |error: ExecError| match error {
        ExecError::Limit { reason, limit, .. } => (reason, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(limit(error(rig.call("Allocate", "").await)), ("MEMORY_LIMIT", 512));
    let less = Job { limits: Limits { memory_mib: 32, ..Limits::default() }, ..job("Allocate", "") };
    assert_eq!(limit(error(rig.run(less).await)), ("MEMORY_LIMIT", 32));
    assert_eq!(limit(error(rig.call("Output", "16777216").await)), ("OUTPUT_LIMIT", 4 << 20));
    assert_eq!(rig.said("Flood", "20000").await, "flooded", "2 MB of log are dropped, not kept");

    let fuel = Job { limits: Limits { fuel: 1, ..Limits::default() }, ..job("Echo", "") };
    assert!(matches!(error(rig.run(fuel).await), ExecError::Unmetered));
    rig.gone().await;
}

#[tokio::test]
async fn k05_a_command_that_ignores_everything_is_gone_two_seconds_after_its_deadline() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    rig.call("Echo", "").await.unwrap();
    let spin = Job { deadline: Deadline::after(Duration::from_secs(1)), ..job("Spin", "") };
    let began = Instant::now();
    assert!(matches!(error(rig.run(spin).await), ExecError::Deadline));
    assert!(began.elapsed() < Duration::from_millis(1_100), "{:?}", began.elapsed());
    rig.gone().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_call_has_the_operators_time_at_most() {
    let Some(rig) = Rig::start(|config| config.timeout_s = 1).await else { return };
    assert!(matches!(error(rig.call("Sleep", "").await), ExecError::Deadline));
    rig.gone().await;
    assert_eq!(rig.executor.stats().await.running, 0);
}

#[tokio::test]
async fn a_call_whose_client_leaves_is_gone_and_gives_its_slot_back() {
    let Some(rig) = Rig::start(|config| config.slots = 1).await else { return };
    let mut spin = Box::pin(rig.call("Spin", ""));
    let running = async || {
        let all = rig.containers().await;
        all.iter().any(|one| one.status.as_deref().is_some_and(|status| status.starts_with("Up")))
    };
    tokio::select! {
        end = &mut spin => panic!("{end:?}"),
        () = until("it runs", running) => {}
    }
    assert_eq!(rig.executor.stats().await.running, 1);
    drop(spin);
    rig.gone().await;
    until("the slot is free", async || rig.executor.stats().await.running == 0).await;
    assert_eq!(rig.said("Echo", "next").await, "next");

    // At any moment of its start.
    for millis in [1, 5, 20, 60, 120] {
        let _late = tokio::time::timeout(Duration::from_millis(millis), rig.call("Spin", "")).await;
    }
    rig.gone().await;
}

#[tokio::test]
async fn the_end_of_the_node_ends_calls() {
    let Some(rig) = Rig::start(|config| config.warm = 1).await else { return };
    rig.call("Echo", "").await.unwrap();
    assert_eq!(rig.executor.stats().await.kept, 1);
    let ended = tokio::join!(rig.call("Sleep", ""), async {
        until("it runs", async || rig.executor.stats().await.running == 1).await;
        rig.lifecycle.drain();
        rig.lifecycle.kill();
    });
    assert!(matches!(error(ended.0), ExecError::Draining));
    rig.gone().await;
}

#[tokio::test]
async fn n04_n05_n06_a_container_shows_and_gives_nothing() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let seen = rig.said("Look", "").await;
    let expected = "Uid: 65534 65534 65534 65534\nGid: 65534 65534 65534 65534\nCapPrm: 0000000000000000\n\
                    CapEff: 0000000000000000\nCapBnd: 0000000000000000\nCapAmb: 0000000000000000\nNoNewPrivs: 1\n\
                    Seccomp: 2\nprocesses docker-init plugin\ninterfaces lo\ntmp \ndescriptors 3\nhostname plugin\n\
                    tmp runs programs false\ntmp holds 16 MiB\n";
    assert_eq!(seen, expected);
    if cfg!(target_arch = "x86_64") {
        assert_eq!(rig.said("Calls", "").await, "", "all of them are refused");
    }
    let bombs: u32 = rig.said("Bomb", "").await.trim().parse().unwrap();
    assert!(bombs < 64, "{bombs}");
}

#[tokio::test]
async fn images_are_bounded_and_survive_restarts_and_their_removal() {
    let Some(rig) = Rig::start(|config| config.images_kept = 1).await else { return };
    rig.call("Echo", "").await.unwrap();
    let first = rig.images().await;

    let rig = rig.restart().await;
    rig.call("Echo", "").await.unwrap();
    assert_eq!(rig.images().await, first, "the next life of the node takes it over");

    rig.gone().await;
    let options = RemoveImageOptionsBuilder::new().force(true).build();
    rig.docker.remove_image(&first[0], Some(options), None).await.unwrap();
    assert_eq!(rig.said("Echo", "again").await, "again", "it is made anew");
    let again = rig.images().await;
    assert_ne!(again, first);

    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    let mut bytes = std::fs::read(crate::support::tool()).unwrap();
    bytes.push(0);
    std::fs::write(&other, &bytes).unwrap();
    let digest = collector::domain::Digest::of(&bytes);
    let mut call = job("Echo", "other");
    call.code.digest = digest;
    call.code.origin = collector::exec::Origin::File(other.clone());
    let code = call.code.clone();
    assert_eq!(output_of(rig.run(call).await), "other");
    until("the older one is removed", async || {
        let left = rig.images().await;
        left.len() == 1 && left != again
    })
    .await;

    std::fs::write(&other, b"something else").unwrap();
    rig.call("Echo", "").await.unwrap();
    let namespace = "acme".parse().unwrap();
    let missing = rig.executor.prepare(&namespace, None, &code).await;
    assert!(matches!(missing, Err(ExecError::Missing)), "{missing:?}");
}

#[test]
fn k05_what_a_killed_node_leaves_behind_the_next_one_removes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let left = runtime.block_on(async {
        let rig = Rig::start(|_| ()).await?;
        let rig = std::sync::Arc::new(rig);
        let spinning = std::sync::Arc::clone(&rig);
        tokio::spawn(async move { spinning.call("Spin", "").await });
        until("it runs", async || !rig.containers().await.is_empty()).await;
        Some(rig)
    });
    let Some(left) = left else { return };
    let node = left.node.clone();
    std::mem::forget(left);
    runtime.shutdown_background(); // all its tasks end where they stand, as those of a killed process

    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let docker = crate::support::docker().await.unwrap();
        let next = Rig::of(docker, crate::support::container_config(), node).await;
        assert!(next.containers().await.is_empty(), "removed before the first call");
    });
}
