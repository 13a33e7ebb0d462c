//! Native binaries from memory, on real processes: what they get, how they end, and that nothing of them stays.

use crate::support::*;
use bytes::Bytes;
use collector::domain::{Deadline, Digest, Kind, Limits, Outcome, Start};
use collector::exec::memexec::{Config, MemExecutor};
use collector::exec::{Code, ExecError, ExecFailure, Executor as _, Job, Origin};
use collector::lifecycle::Lifecycle;
use collector::tenancy::{Quotas, Usage};
use futures_util::future::join_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An executor of its own, and the program that its calls run.
struct Memory {
    executor: Arc<MemExecutor>,
    lifecycle: Lifecycle,
    quotas: Arc<Quotas>,
    code: Code,
}

impl Memory {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let lifecycle = Lifecycle::default();
        let mut config = test_config().exec.memexec;
        change(&mut config);
        let limits = Limits::default();
        let executor = MemExecutor::start(config, true, "test", limits.memory_mib, lifecycle.clone()).await;
        executor.availability().unwrap();
        let quotas = Arc::new(Quotas::default());
        let executor = Arc::new(executor.with_accounts(Arc::clone(&quotas) as _));
        Self { executor, lifecycle, quotas, code: code_of(&native("contract")) }
    }

    fn job(&self, method: &str, input: impl Into<Bytes>) -> Job {
        Job {
            code: self.code.clone(),
            namespace: "acme".parse().unwrap(),
            caller: None,
            service: "contract.v1.Contract".to_owned(),
            method: method.to_owned(),
            input: input.into(),
            json: None,
            metadata: Vec::new(),
            deadline: Deadline::after(Duration::from_secs(30)),
            limits: Limits::default(),
            calls: None,
        }
    }

    async fn call(&self, method: &str, input: impl Into<Bytes>) -> Result<Outcome, ExecFailure> {
        self.executor.run(self.job(method, input)).await
    }

    async fn reply(&self, method: &str, input: impl Into<Bytes>) -> Bytes {
        self.call(method, input).await.unwrap().reply.unwrap()
    }

    /// Starts calls that sleep, and waits until their processes are there.
    async fn sleepers(&self, count: usize) -> Vec<tokio::task::JoinHandle<Result<Outcome, ExecFailure>>> {
        let sleeper = |_| {
            let (executor, job) = (Arc::clone(&self.executor), self.job("Sleep", "60000"));
            tokio::spawn(async move { executor.run(job).await })
        };
        let sleepers = (0..count).map(sleeper).collect();
        let launcher = self.launcher().await;
        until("the processes", || async move { descendants(launcher).len() == 1 + count }).await;
        sleepers
    }

    async fn launcher(&self) -> u32 {
        self.executor.stats().await.launcher.unwrap()
    }

    /// What its namespace has used, and has.
    fn usage(&self) -> Usage {
        self.quotas.usage(&"acme".parse().unwrap())
    }

    /// Waits until nothing runs; a jail may stay.
    async fn quiet(&self) {
        let launcher = self.launcher().await;
        until("the end of all processes", || async move { descendants(launcher).len() <= 1 }).await;
        until("free slots", || async { self.executor.stats().await.running == 0 }).await;
        assert_eq!(self.usage().memory, 0);
    }
}

fn code_of(program: &Path) -> Code {
    let bytes = std::fs::read(program).unwrap();
    Code { digest: Digest::of(&bytes), kind: Kind::NativeElf, origin: Origin::File(program.to_owned()) }
}

fn failure(result: Result<Outcome, ExecFailure>) -> ExecError {
    result.expect_err("the call should have failed").error
}

fn alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

fn kill(process: u32) {
    let id = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    match rustix::process::kill_process(id, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(why) => panic!("{why}"),
    }
}

fn stop(process: u32) {
    let id = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::STOP).unwrap();
}

#[tokio::test]
async fn input_of_any_size_comes_back_with_a_receipt() {
    let memory = Memory::start().await;
    for size in [0, 1, 4 << 10, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 4 << 20] {
        let input: Bytes = (0..size).map(|n: u32| n.to_le_bytes()[n as usize % 2]).collect();
        assert!(memory.reply("Echo", input.clone()).await == input, "{size}");
    }
    let outcome = memory.call("Echo", "hi").await.unwrap();
    let receipt = outcome.receipt;
    assert_eq!((receipt.executor, receipt.digest), ("memexec", memory.code.digest));
    assert_eq!((receipt.start, receipt.fuel, receipt.version), (Start::Warm, None, None));
    let peak = receipt.peak_memory.unwrap();
    assert!((64 << 10..64 << 20).contains(&peak), "{peak}");
    assert!(receipt.ran > Duration::ZERO);
}

#[tokio::test]
async fn the_first_call_of_a_binary_or_a_namespace_is_cold() {
    let memory = Memory::start().await;
    let start = async |job| memory.executor.run(job).await.unwrap().receipt.start;
    assert_eq!(start(memory.job("Echo", "")).await, Start::Cold);
    assert_eq!(start(memory.job("Echo", "")).await, Start::Warm);
    let elsewhere = || Job { namespace: "other".parse().unwrap(), ..memory.job("Echo", "") };
    assert_eq!(start(elsewhere()).await, Start::Cold);
    assert_eq!(start(elsewhere()).await, Start::Warm);
    let stats = memory.executor.stats().await;
    assert_eq!((stats.binaries, stats.jails, stats.running), (1, 2, 0));
}

#[tokio::test]
async fn a_program_gets_its_names_and_nothing_of_the_nodes() {
    let memory = Memory::start().await;
    let job = Job { json: Some(r#"{"text":"a \"b\""}"#.to_owned()), ..memory.job("Given", "") };
    let given = memory.executor.run(job).await.unwrap().reply.unwrap();
    let given = String::from_utf8(given.to_vec()).unwrap();
    let mut lines: Vec<&str> = given.lines().collect();
    let left: u64 = {
        let at = lines.iter().position(|line| line.starts_with("COLLECTOR_DEADLINE_MS=")).expect("a deadline");
        lines.remove(at).rsplit_once('=').unwrap().1.parse().unwrap()
    };
    assert!((1..=30_000).contains(&left), "{left}");
    lines[4..].sort_unstable();
    let expected = [
        "plugin",
        "acme",
        "contract.v1.Contract",
        "Given",
        "COLLECTOR_METHOD=Given",
        "COLLECTOR_NAMESPACE=acme",
        "COLLECTOR_SERVICE=contract.v1.Contract",
        r#"GRPC_INPUT_DATA={"text":"a \"b\""}"#,
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    let memory = Memory::start().await;
    let fault = memory.call("Exit", "69 no such thing").await.unwrap().reply.unwrap_err();
    assert_eq!((fault.code.number(), fault.message.as_str()), (5, "no such thing"));
    for code in [1, 63, 64, 81, 255] {
        let why = failure(memory.call("Exit", format!("{code} last words")).await);
        assert!(
            matches!(&why, ExecError::Exit { code: c, last_words: Some(words) } if *c == code && words == "last words"),
            "{why:?}"
        );
    }
    let why = failure(memory.call("HalfAnAnswer", "").await);
    assert!(matches!(&why, ExecError::Signal { signal, .. } if signal == "SIGABRT"), "{why:?}");
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let memory = Memory::start().await;
    assert_eq!(memory.reply("IgnoreInput", vec![7; 4 << 20]).await, "did not read");
}

#[tokio::test]
async fn replies_at_below_and_above_their_limit() {
    let memory = Memory::start().await;
    let most = 1 << 20;
    let reply = async |bytes: usize| {
        let mut job = memory.job("Reply", bytes.to_string());
        job.limits.output_bytes = most;
        memory.executor.run(job).await
    };
    for fits in [most - 1, most] {
        assert_eq!(reply(fits).await.unwrap().reply.unwrap().len(), fits);
    }
    for over in [most + 1, 1 << 30] {
        let why = failure(reply(over).await);
        assert!(matches!(why, ExecError::Limit { reason: "OUTPUT_LIMIT", .. }), "{why:?}");
    }
    memory.quiet().await;
}

#[tokio::test]
async fn a_flood_of_log_lines_is_read_and_dropped() {
    let memory = Memory::start().await;
    assert_eq!(memory.reply("Log", (8 << 20).to_string()).await, "");
}

#[tokio::test]
async fn memory_over_the_limit_is_refused_to_the_program() {
    let memory = Memory::start().await;
    let allocate = async |mib: u64| {
        let mut job = memory.job("Allocate", mib.to_string());
        job.limits.memory_mib = 32;
        memory.executor.run(job).await
    };
    assert_eq!(allocate(16).await.unwrap().reply.unwrap(), "16");
    let why = failure(allocate(1 << 20).await);
    assert!(matches!(why, ExecError::Limit { reason: "MEMORY_LIMIT", limit: 32, .. }), "{why:?}");
}

#[tokio::test]
async fn the_deadline_kills_and_frees_the_slot() {
    let memory = Memory::start().await;
    memory.reply("Echo", "").await;
    for method in ["Spin", "Sleep"] {
        let deadline = Deadline::after(Duration::from_millis(200));
        let job = Job { deadline, ..memory.job(method, "60000") };
        let why = failure(memory.executor.run(job).await);
        let late = Instant::now().duration_since(deadline.instant());
        assert!(matches!(why, ExecError::Deadline), "{why:?}");
        assert!(late < Duration::from_millis(500), "{method}: {late:?} late");
        memory.quiet().await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_process_along() {
    let memory = Memory::start().await;
    for sleeper in memory.sleepers(8).await {
        sleeper.abort();
    }
    memory.quiet().await;
    assert_eq!(memory.reply("Echo", "still here").await, "still here");
}

#[tokio::test]
async fn many_calls_at_once_are_kept_apart() {
    let memory = Memory::start().await;
    let call = async |n: usize| {
        let namespace = format!("tenant-{}", n % 3).parse().unwrap();
        let job = Job { namespace, ..memory.job("Echo", format!("call {n}")) };
        assert_eq!(memory.executor.run(job).await.unwrap().reply.unwrap(), format!("call {n}"));
    };
    join_all((0..64).map(call)).await;
    assert_eq!(memory.executor.stats().await.running, 0);
}

#[tokio::test]
async fn calls_beyond_slots_and_queue_are_refused_at_once() {
    let memory = Memory::start_with(|config| (config.slots, config.queue) = (1, 0)).await;
    let sleepers = memory.sleepers(1).await;
    assert!(matches!(failure(memory.call("Echo", "").await), ExecError::Busy));
    sleepers.iter().for_each(tokio::task::JoinHandle::abort);
    memory.quiet().await;
    memory.reply("Echo", "").await;
}

#[tokio::test]
async fn a_jail_makes_room_for_another_unless_something_runs_in_it() {
    let memory = Memory::start_with(|config| config.jails = 1).await;
    let elsewhere = || Job { namespace: "other".parse().unwrap(), ..memory.job("Echo", "other") };
    for _ in 0..3 {
        assert_eq!(memory.reply("Echo", "own").await, "own");
        assert_eq!(memory.executor.run(elsewhere()).await.unwrap().reply.unwrap(), "other");
    }
    assert_eq!(memory.executor.stats().await.jails, 1);
    let sleepers = memory.sleepers(1).await;
    assert!(matches!(failure(memory.executor.run(elsewhere()).await), ExecError::Busy));
    sleepers.iter().for_each(tokio::task::JoinHandle::abort);
    memory.quiet().await;
    memory.executor.run(elsewhere()).await.unwrap().reply.unwrap();
}

#[tokio::test]
async fn a_launcher_that_dies_is_replaced() {
    let memory = Memory::start().await;
    let sleepers = memory.sleepers(3).await;
    let first = memory.launcher().await;
    let below = descendants(first);
    kill(first);
    for sleeper in sleepers {
        let why = failure(sleeper.await.unwrap());
        assert!(matches!(why, ExecError::Broken(_)), "{why:?}");
    }
    assert_eq!(memory.reply("Echo", "again").await, "again");
    assert_ne!(memory.launcher().await, first);
    until("the end of the first", || async { !below.iter().chain([&first]).any(|id| alive(*id)) }).await;

    // One that dies again and again is started anew only after a pause.
    let refused = async || {
        if let Some(launcher) = memory.executor.stats().await.launcher {
            kill(launcher);
        }
        let called = memory.call("Echo", "").await;
        called.is_err_and(|failed| failed.error.to_string().contains("no jail can be made at this moment"))
    };
    until("a refusal", refused).await;
    until("another launcher", || async { memory.call("Echo", "").await.is_ok() }).await;
}

#[tokio::test]
async fn a_launcher_that_died_is_waited_for_at_once() {
    let memory = Memory::start().await;
    let launcher = memory.launcher().await;
    kill(launcher);
    until("no zombie", || async { !alive(launcher) && memory.executor.stats().await.launcher.is_none() }).await;
}

#[tokio::test]
async fn calls_hear_of_their_jails_end_when_no_process_is_left() {
    let memory = Memory::start().await;
    let sleepers = memory.sleepers(16).await;
    let below = descendants(memory.launcher().await);
    let jail = below.iter().find(|id| !descendants(**id).is_empty()).expect("a jail");
    kill(*jail);
    for sleeper in sleepers {
        let why = failure(sleeper.await.unwrap());
        assert!(matches!(why, ExecError::Broken(_)), "{why:?}");
        assert!(!below.iter().any(|id| alive(*id)), "its slot would be free too early");
    }
    let used = memory.usage();
    assert!(used.memory == 0 && !used.cpu.is_zero(), "nobody can tell what they used, so what passed: {used:?}");
}

#[tokio::test]
async fn a_jail_or_a_launcher_that_hangs_is_replaced() {
    let memory = Memory::start_with(|config| config.slots = 1).await;
    let elsewhere = |name: &str| Job { namespace: name.parse().unwrap(), ..memory.job("Echo", "") };
    memory.reply("Echo", "").await;
    let launcher = memory.launcher().await;
    let jails = descendants(launcher);
    jails.iter().for_each(|id| stop(*id));
    let deadline = Deadline::after(Duration::from_millis(200));
    let why = failure(memory.executor.run(Job { deadline, ..memory.job("Echo", "") }).await);
    assert!(matches!(why, ExecError::Deadline), "{why:?}");
    assert_eq!(memory.reply("Echo", "another jail").await, "another jail");
    assert!(!jails.iter().any(|id| alive(*id)), "killed");
    assert_eq!(memory.launcher().await, launcher, "which did as it was told");

    stop(launcher);
    let replaced = async || memory.executor.run(elsewhere("other")).await.is_ok();
    let patience = Duration::from_secs(60); // four steps of five seconds each at most
    let called = async { while !replaced().await {} };
    tokio::time::timeout(patience, called).await.expect("another launcher");
    until("the end of the one that hangs", || async { !alive(launcher) }).await; // it had its goodbye first
}

#[tokio::test]
async fn the_end_of_one_executor_ends_its_processes_and_no_others() {
    let (one, other) = (Memory::start().await, Memory::start().await);
    let (gone, stays) = (one.launcher().await, other.launcher().await);
    let sleepers = one.sleepers(2).await;
    other.reply("Echo", "").await;
    let below = descendants(gone);
    one.lifecycle.drain();
    one.lifecycle.kill();
    for sleeper in sleepers {
        let why = failure(sleeper.await.unwrap());
        assert!(matches!(why, ExecError::Draining), "{why:?}");
    }
    drop(one);
    until("the end of all", || async { !below.iter().chain([&gone]).any(|id| alive(*id)) }).await;
    assert!(alive(stays));
    assert_eq!(other.reply("Echo", "still here").await, "still here");
}

#[tokio::test]
async fn idle_jails_end_when_the_node_drains_and_busy_ones_finish() {
    let memory = Memory::start().await;
    let quick = Job { namespace: "quick".parse().unwrap(), ..memory.job("Echo", "") };
    memory.executor.run(quick).await.unwrap().reply.unwrap();
    let slow = memory.call("Sleep", "300");
    let drain = async {
        until("a call", || async { memory.executor.stats().await.running == 1 }).await;
        memory.lifecycle.drain();
    };
    let (slow, ()) = tokio::join!(slow, drain);
    slow.unwrap().reply.unwrap();
    assert_eq!(memory.lifecycle.end(Duration::from_secs(5)).await, 0, "no task is left");
    assert_eq!(memory.executor.stats().await.jails, 0);
}

#[tokio::test]
async fn what_is_in_memory_needs_no_file_and_what_is_not_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("program");
    std::fs::copy(native("contract"), &file).unwrap();
    let memory = Memory::start().await;
    let mut code = memory.code.clone();
    code.origin = Origin::File(file.clone());
    memory.executor.prepare(&"acme".parse().unwrap(), None, &code).await.unwrap();
    std::fs::write(&file, "another program").unwrap();
    let job = || Job { code: code.clone(), ..memory.job("Echo", "hi") };
    assert_eq!(memory.executor.run(job()).await.unwrap().reply.unwrap(), "hi");

    let other = Memory::start().await;
    assert!(matches!(failure(other.executor.run(job()).await), ExecError::Missing), "changed");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(failure(other.executor.run(job()).await), ExecError::Missing), "gone");
}

#[tokio::test]
async fn what_cannot_be_counted_or_streamed_is_refused() {
    let memory = Memory::start().await;
    let mut job = memory.job("Echo", "");
    job.limits.fuel = 1;
    assert!(matches!(failure(memory.executor.run(job).await), ExecError::Unmetered));
    let ((_say, inbound), (outbound, _hear)) = (tokio::sync::mpsc::channel(1), tokio::sync::mpsc::channel(1));
    let streams = collector::exec::Streams { inbound, outbound };
    let streamed = memory.executor.stream(memory.job("Echo", ""), streams).await;
    assert!(matches!(failure(streamed), ExecError::NoStreaming));
}

#[tokio::test]
async fn an_executor_that_cannot_work_says_why() {
    let start = async |launcher: &str, wanted| {
        let config = Config { launcher: launcher.into(), ..Config::default() };
        let executor = MemExecutor::start(config, wanted, "test", 64, Lifecycle::default()).await;
        executor.availability().unwrap_err()
    };
    assert_eq!(start("", false).await, "exec.native does not list memexec");
    let missing = start("/nowhere", true).await;
    assert!(missing.contains("exec.memexec.launcher"), "{missing}");
    let mute = start("/bin/true", true).await;
    assert!(mute.contains("ended before it stood"), "{mute}");
}

#[tokio::test]
async fn what_could_not_work_is_tried_again_when_somebody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let launcher = folder.path().join("launcher");
    let config = Config { launcher: launcher.clone(), ..Config::default() };
    let executor = MemExecutor::start(config, true, "test", 64, Lifecycle::default()).await;
    assert!(executor.availability().is_err());
    std::os::unix::fs::symlink(test_config().exec.memexec.launcher, &launcher).unwrap();
    until("it works", || async { executor.availability().is_ok() }).await;
}
