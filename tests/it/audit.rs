//! The log of changes and refusals: nothing changes without a record, and no record is changed unseen.

use crate::support::*;
use collector::rpc::pb;
use collector::tenancy::audit::{self, Audit, Entry, Record, files, verify};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use tonic::Code;

/// All records that there are, oldest first.
pub(crate) fn records(data: &Path) -> Vec<Record> {
    let mut all = Vec::new();
    for file in files(&data.join("audit")).unwrap() {
        let text = std::fs::read_to_string(file).unwrap();
        all.extend(text.lines().map(|line| Record::read(line.as_bytes()).unwrap()));
    }
    all
}

pub(crate) fn of<'a>(records: &'a [Record], kind: &str) -> Vec<&'a Record> {
    records.iter().filter(|record| record.kind() == kind).collect()
}

async fn store(address: &str) -> Client {
    Client::connect(address).await
}

#[tokio::test]
async fn i6_a_change_has_a_record_before_it_and_one_of_its_end() {
    let node = TestNode::start().await;
    let api = store(&node.address()).await;
    api.make(collection("acme", "notes")).await.unwrap();
    assert_eq!(api.make(collection("acme", "notes")).await.unwrap_err().code(), Code::AlreadyExists);
    until("both ends are written", || async { of(&records(&node.data()), "end").len() == 2 }).await;
    let all = records(&node.data());
    let [first, second] = of(&all, "begin")[..] else { panic!("{all:?}") };
    for begin in [first, second] {
        assert_eq!(begin.caller.as_deref(), Some("anonymous"));
        assert_eq!((begin.namespace.as_deref(), begin.verb.as_deref()), (Some("acme"), Some("define")));
        assert_eq!(begin.action.as_deref(), Some("/collector.CollectionRepo/CreateCollection"));
        assert_eq!(begin.source.unwrap().to_string(), "127.0.0.1");
    }
    let ended = |begin: &Record| {
        let ends = of(&all, "end");
        let end = ends.into_iter().find(|end| end.of == Some(begin.seq)).expect("it has an end");
        assert_eq!(end.request, begin.request);
        end.outcome.clone().unwrap()
    };
    assert_eq!((ended(first), ended(second)), ("OK".into(), "ALREADY_EXISTS".into()));
}

#[tokio::test]
async fn looking_leaves_no_record_and_a_refusal_leaves_one() {
    let node = TestNode::start().await;
    let api = store(&node.address()).await;
    assert_eq!(api.describe(Place::acme("none")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(api.make(collection("system", "mine")).await.unwrap_err().code(), Code::PermissionDenied);
    let all = records(&node.data());
    assert!(of(&all, "begin").is_empty(), "{all:?}");
    let [denied] = of(&all, "denied")[..] else { panic!("{all:?}") };
    assert_eq!((denied.namespace.as_deref(), denied.verb.as_deref()), (Some("system"), Some("define")));
    // A flood of them is a few lines.
    for _ in 0..50 {
        api.make(collection("system", "mine")).await.unwrap_err();
    }
    assert!((2..=20).contains(&of(&records(&node.data()), "denied").len()));
}

#[tokio::test]
async fn nothing_changes_that_is_not_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // A log whose file is full, so that the next record needs another one.
    std::fs::create_dir_all(&data).unwrap();
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let config = audit::Config { file_mib: 1, ..audit::Config::default() };
    let full = Audit::open(&data.join("audit"), &config).unwrap();
    let entry =
        Entry { request: None, caller: "test", source: None, action: "/a.B/C", verb: "write", namespace: "acme" };
    let file = files(&data.join("audit")).unwrap().pop().unwrap();
    while std::fs::metadata(&file).unwrap().len() < 1 << 20 {
        full.begin(&entry).unwrap().end("OK");
    }
    drop(full);
    let node = NodeProcess::start(&data, &["audit.file_mib=1"]);
    let api = store(&node.address).await;
    std::fs::rename(data.join("audit"), data.join("elsewhere")).unwrap();
    let refused = api.make(collection("acme", "notes")).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::Unavailable, "AUDIT".to_owned()), "{refused:?}");
    std::fs::rename(data.join("elsewhere"), data.join("audit")).unwrap();
    let place = Place::acme("notes");
    assert_eq!(api.describe(place).await.unwrap_err().code(), Code::NotFound, "it was not made");
    api.make(collection("acme", "notes")).await.unwrap();
    drop(node);
    assert_eq!(verify(&data.join("audit")).unwrap().problem, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn u08_a_node_killed_while_it_writes_starts_again_and_its_log_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for round in 0..3 {
        let mut node = NodeProcess::start(&data, &["audit.file_mib=1", "audit.files=0"]);
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let address = node.address.clone();
            writers.spawn(async move {
                let api = store(&address).await;
                for n in 0.. {
                    let name = format!("c-{round}-{writer}-{n}");
                    let made: Result<pb::CreateCollectionResponse, _> = api.make(collection("acme", &name)).await;
                    if made.is_err() {
                        return n;
                    }
                }
                0
            });
        }
        until("there are records", || async { records_so_far(&data) > 60 * (round + 1) }).await;
        node.signal(rustix::process::Signal::KILL);
        node.wait();
        let mut made = 0;
        while let Some(of_one) = writers.join_next().await {
            made += of_one.unwrap();
        }
        assert!(made > 0);
        let found = verify(&data.join("audit")).unwrap();
        assert_eq!(found.problem, None, "round {round}");
    }
    drop(NodeProcess::start(&data, &[]));
    assert_eq!(verify(&data.join("audit")).unwrap().problem, None);
}

fn records_so_far(data: &Path) -> usize {
    let all = files(&data.join("audit")).unwrap_or_default();
    all.iter().map(|file| std::fs::read(file).unwrap().iter().filter(|byte| **byte == b'\n').count()).sum()
}

#[tokio::test]
async fn the_command_verifies_and_shows() {
    let node = TestNode::start().await;
    let api = store(&node.address()).await;
    api.make(collection("acme", "notes")).await.unwrap();
    until("the end is written", || async { of(&records(&node.data()), "end").len() == 1 }).await;
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        let ran = command.args(args).arg("--data").arg(node.data()).env_remove("COLLECTOR_CONFIG").output().unwrap();
        (ran.status.success(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    let (good, said, _) = run(&["audit", "verify"]);
    assert!(good && said.contains("records 1 to 4 are as they were written"), "{said}");
    let (good, said, _) = run(&["--json", "audit", "verify"]);
    let value: Value = serde_json::from_str(&said).unwrap();
    assert!(good && value["ok"] == json!(true) && value["hash"].as_str().unwrap().len() == 64, "{said}");
    let (good, said, _) = run(&["audit", "tail", "-n", "2"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(good && lines.len() == 2 && lines[0].contains("begin") && lines[1].ends_with("OK"), "{said}");
    let (_, said, _) = run(&["--json", "audit", "tail", "-n", "100"]);
    assert_eq!(said.lines().count(), 4);
    assert!(said.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{said}");

    let file = files(&node.data().join("audit")).unwrap().pop().unwrap();
    let edited = std::fs::read_to_string(&file).unwrap().replace("acme", "evil");
    std::fs::write(&file, edited).unwrap();
    let (good, _, error) = run(&["audit", "verify"]);
    assert!(!good && error.contains("line 3: record 3 was edited"), "{error}");
    let (good, _, error) = run(&["audit", "verify", "--set", "audit.files=x"]);
    assert!(good || !error.is_empty());
}

#[tokio::test]
async fn i6_what_code_changes_is_written_as_a_part_of_the_call_that_it_answers() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let stub = Stub::new(&node, &errands).await;
    let written = |kind: &'static str| {
        let all = records(&node.data());
        let of_code = |one: &&Record| one.verb.as_deref() == Some("write") || kind == "end";
        of(&all, kind).into_iter().filter(of_code).cloned().collect::<Vec<_>>()
    };
    for _ in 0..2 {
        stub.call("Put", json!({ "name": "notes", "id": "a", "text": "x" })).await.unwrap();
    }
    let begun = written("begin");
    assert_eq!(begun.len(), 2, "{begun:?}");
    for begin in &begun {
        assert_eq!(begin.caller.as_deref(), Some("deployment:acme/errands.v1.Errands"));
        assert_eq!(begin.action.as_deref(), Some("/errands.v1.Errands/Put"));
        assert_eq!(begin.source.unwrap().to_string(), "127.0.0.1");
        assert!(begin.request.is_some());
        let ended = || written("end").into_iter().any(|end| end.of == Some(begin.seq) && end.request == begin.request);
        until("its end is written", async || ended()).await;
    }
    assert_ne!(begun[0].request, begun[1].request);
}
