//! Compiling in a process of its own: bounded, in turns, and whatever becomes of it, one tenant's failed deployment.

use crate::support::*;
use collector::cli::PluginFile;
use collector::domain::{Accounts as _, Charge, Digest, Kind};
use collector::exec::wasm::{Config, WasmExecutor};
use collector::exec::{Code as Program, ExecError, Executor as _, Origin};
use collector::lifecycle::Lifecycle;
use collector::node::Node;
use collector::rpc::pb;
use collector::rpc::pb::serve_request::ServiceDef;
use collector::tenancy::Quotas;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use wasm_encoder::{
    CodeSection, Component, Function, FunctionSection, InstanceSection, Module, ModuleArg, ModuleSection, TypeSection,
    ValType,
};

/// A command, and a module beside it that is dear to compile.
///
/// * `functions`: of 5,000 additions each.
fn dear(mark: u64, functions: u32) -> Vec<u8> {
    let (mut types, mut declared, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I32; 8], [ValType::I32]);
    for number in 0..functions {
        let mut body = Function::new([(16, ValType::I32)]);
        let mut to = body.instructions();
        for step in 0..5_000_u32 {
            let (a, b, c) = (step % 24, (step * 7 + number) % 24, (step * 11) % 24);
            to.local_get(a).local_get(b).i32_add().local_tee(c).local_get(a).i32_mul().local_set(b);
        }
        to.local_get(0).end();
        declared.function(0);
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    let mut whole = distinct_command(mark);
    // The command as it is, and one section more.
    let mut component = Component::new();
    let mut instances = InstanceSection::new();
    instances.instantiate::<[(&str, ModuleArg); 0], &str>(1, []); // what is never instantiated is never compiled
    component.section(&ModuleSection(&module)).section(&instances);
    whole.extend_from_slice(&component.finish()[8..]);
    whole
}

fn request(namespace: &str, bytes: Vec<u8>) -> pb::ServeRequest {
    pb::ServeRequest {
        namespace: namespace.into(),
        service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "S".into() }),
        method_name: "M".into(),
        service_def: Some(ServiceDef::ServiceBinary(bytes.into())),
        ..Default::default()
    }
}

async fn serve(address: &str, namespace: &str, bytes: Vec<u8>) -> Result<pb::ServeResponse, Status> {
    let channel = channel(address).await;
    let mut client = pb::collective_dispatcher_client::CollectiveDispatcherClient::new(channel);
    client.serve(request(namespace, bytes)).await.map(tonic::Response::into_inner)
}

/// A compiler that does what a file of shell words says, then what it should.
struct Moody {
    folder: tempfile::TempDir,
}

impl Moody {
    fn new() -> Self {
        let moody = Self { folder: tempfile::tempdir().unwrap() };
        let script = format!(
            "#!/bin/sh\n. {}\nexec {} \"$@\"\n",
            moody.folder.path().join("mood").display(),
            env!("CARGO_BIN_EXE_collector")
        );
        std::fs::write(moody.program(), script).unwrap();
        std::fs::set_permissions(moody.program(), std::fs::Permissions::from_mode(0o755)).unwrap();
        moody.mood("");
        moody
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("compiler")
    }

    fn mood(&self, words: &str) {
        std::fs::write(self.folder.path().join("mood"), words).unwrap();
    }

    /// A node as a process, its compilers those.
    fn node(&self, data: &Path, settings: &[&str]) -> NodeProcess {
        let program = format!("wasm.compiler={}", self.program().display());
        NodeProcess::start(data, &[&[program.as_str()], settings].concat())
    }
}

#[tokio::test]
async fn w04_whatever_becomes_of_a_compiler_costs_one_deployment() {
    let (moody, data) = (Moody::new(), tempfile::tempdir().unwrap());
    let node = moody.node(&data.path().join("data"), &["wasm.compile_seconds=1"]);
    serve(&node.address, "acme", distinct_command(0)).await.unwrap();
    let failed = (Code::FailedPrecondition, "CANNOT_COMPILE");
    let slow = (Code::ResourceExhausted, "COMPILE_TIME");
    let cases = [
        ("aborts", "kill -ABRT $$", failed),
        ("crashes", "kill -SEGV $$", failed),
        ("exits", "exit 3", failed),
        ("says nothing", "exit 0", failed),
        ("talks nonsense", "echo nonsense; exit 0", failed),
        ("talks without end", "exec /bin/cat /dev/zero", failed),
        (
            "is out of memory",
            "echo 'memory allocation of 8 bytes failed' >&2; kill -ABRT $$",
            (Code::ResourceExhausted, "COMPILE_MEMORY"),
        ),
        ("has spent its time", "kill -XCPU $$", slow),
        ("hangs", "exec /bin/sleep 1000", slow),
        ("is killed", "kill -KILL $$", (Code::Unavailable, "EXECUTOR_FAILED")),
    ];
    for (mark, (what, words, expected)) in (1..).zip(cases) {
        moody.mood(words);
        let status = serve(&node.address, "acme", distinct_command(mark)).await.unwrap_err();
        assert_eq!(verdict(&status), (expected.0, expected.1.to_owned()), "{what}: {status:?}");
        moody.mood("");
        serve(&node.address, "acme", distinct_command(mark)).await.unwrap();
    }
}

#[tokio::test]
async fn w04_a_hundred_aborts_leave_nothing() {
    let (moody, data) = (Moody::new(), tempfile::tempdir().unwrap());
    let node = moody.node(&data.path().join("data"), &[]);
    serve(&node.address, "acme", distinct_command(0)).await.unwrap();
    moody.mood("kill -ABRT $$");
    let broken = |mark| serve(&node.address, "acme", distinct_command(mark));
    broken(1).await.unwrap_err();
    let before = descriptors(node.id());
    for mark in 2..100 {
        assert_eq!(broken(mark).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    until("no process is left", || async { descendants(node.id()).is_empty() }).await;
    // Connections of the calls above end on their own time.
    until("no file is left", || async { descriptors(node.id()) <= before }).await;
}

#[tokio::test]
async fn w03_time_and_memory_of_a_compilation_are_bounded() {
    let node = TestNode::start_with(|config| config.wasm.compile_memory_mib = 32).await;
    let status = serve(&node.address(), "acme", dear(1, 300)).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::ResourceExhausted, "COMPILE_MEMORY".to_owned()), "{status:?}");
    assert!(status.message().contains("wasm.compile_memory_mib = 32"), "{}", status.message());
    serve(&node.address(), "acme", distinct_command(1)).await.unwrap();

    let node = TestNode::start_with(|config| config.wasm.compile_seconds = 1).await;
    let status = serve(&node.address(), "acme", dear(1, 400)).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::ResourceExhausted, "COMPILE_TIME".to_owned()), "{status:?}");
    serve(&node.address(), "acme", distinct_command(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn w09_one_tenant_in_a_hurry_is_told_to_wait_and_others_deploy() {
    let moody = Moody::new();
    let node = TestNode::start_with(|config| {
        (config.wasm.compile_queue_own, config.wasm.compile_queue) = (3, 8);
        config.wasm.compiler = moody.program();
    })
    .await;
    let go = moody.folder.path().join("go");
    moody.mood(&format!("while [ ! -e {} ]; do /bin/sleep 0.05; done", go.display()));
    let mut calls = tokio::task::JoinSet::new();
    for mark in 0..12 {
        let address = node.address();
        calls.spawn(async move { serve(&address, "greedy", distinct_command(mark)).await });
    }
    for _ in 0..8 {
        let status = calls.join_next().await.unwrap().unwrap().expect_err("one is compiled, three wait");
        assert_eq!(verdict(&status), (Code::ResourceExhausted, "BUSY".to_owned()), "{status:?}");
        assert!(status.get_details_retry_info().is_some(), "it says when to come back");
    }
    moody.mood("");
    serve(&node.address(), "quiet", distinct_command(99)).await.unwrap();
    std::fs::write(go, "").unwrap();
    while let Some(ended) = calls.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_node_without_a_compiler_says_so_and_does_not_start() {
    let data = tempfile::tempdir().unwrap();
    let mut config = test_config();
    config.data = data.path().join("data");
    for program in ["/bin/false", "/no/such/file"] {
        config.wasm.compiler = program.into();
        let why = Node::start(config.clone()).await.err().expect("no compiler").to_string();
        assert!(why.contains("wasm.compiler") && why.contains("wasm.compile_in_child = false"), "{why}");
    }
    config.wasm.compile_in_child = false;
    let node = Node::start(config).await.unwrap();
    serve(&format!("http://{}", node.address()), "acme", distinct_command(1)).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn w03_who_asks_together_with_one_that_is_over_its_quota_is_not_refused_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = distinct_command(1);
    let file = folder.path().join("command.wasm");
    std::fs::write(&file, &bytes).unwrap();
    let quotas = Arc::new(Quotas::default());
    let (poor, rich) = ("poor".parse().unwrap(), "rich".parse().unwrap());
    quotas.of(&poor).charge_time(Charge::Compile, Duration::from_secs(3_600));
    let executor =
        WasmExecutor::new(test_config().wasm, &folder.path().join("compiled"), &[7; 32], Lifecycle::default());
    let executor = executor.unwrap().with_accounts(quotas);
    let code = Program { digest: Digest::of(&bytes), kind: Kind::WasmCommand, origin: Origin::File(file) };
    // On one thread the first is first, and the second finds it under way.
    let (first, second) = tokio::join!(executor.prepare(&poor, None, &code), executor.prepare(&rich, None, &code));
    assert!(matches!(first, Err(ExecError::Quota(over)) if over.quota == "compile_ms_per_minute"), "{first:?}");
    second.unwrap();
    assert!(executor.prepare(&poor, None, &code).await.is_ok(), "what is compiled costs nothing more");
}

#[tokio::test]
async fn a_compiler_ends_with_its_node() {
    let (moody, data) = (Moody::new(), tempfile::tempdir().unwrap());
    let mut node = moody.node(&data.path().join("data"), &[]);
    let address = node.address.clone();
    let call = tokio::spawn(async move { serve(&address, "acme", dear(1, 200)).await });
    until("a compiler runs", || async { !descendants(node.id()).is_empty() }).await;
    let compilers = descendants(node.id());
    node.signal(rustix::process::Signal::KILL);
    node.wait();
    until("it is gone", || async { compilers.iter().all(|id| !Path::new(&format!("/proc/{id}/exe")).exists()) }).await;
    assert!(call.await.unwrap().is_err());
}

/// `cargo test --release -p collector --test it compile::measured -- --ignored --nocapture`
#[tokio::test]
#[ignore = "prints figures"]
async fn measured_first_call_in_this_process_and_in_a_child() {
    let greeter: PluginFile = plugin("greeter");
    for in_child in [false, true] {
        let mut times = Vec::new();
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("greeter.wasm");
            std::fs::write(&file, &greeter.bytes).unwrap();
            let config = Config { compile_in_child: in_child, ..test_config().wasm };
            let executor =
                WasmExecutor::new(config, &folder.path().join("compiled"), &[7; 32], Lifecycle::default()).unwrap();
            let (digest, kind) = (greeter.artifact.digest, greeter.artifact.kind);
            let code = Program { digest, kind, origin: Origin::File(file) };
            let began = Instant::now();
            executor.prepare(&"acme".parse().unwrap(), None, &code).await.unwrap();
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let where_ = if in_child { "in a child" } else { "in this process" };
        println!("{} KiB {where_}: {:?} (of {times:?})", greeter.bytes.len() >> 10, times[2]);
        assert!(times[2] < Duration::from_secs(10));
    }
}
