//! Files of guests: what is granted, what it holds, and that there is no way out.

use crate::quotas::{set, usage};
use crate::support::*;
use collector::cli::PluginFile;
use collector::rpc::pb::plugin::v1 as plugins_pb;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;
use tonic::Code;

/// What one call moves at most.
const MIB: u64 = 1 << 20;

/// A folder as `errands` sees it.
struct Folder<'a> {
    stub: Stub<'a>,
    folder: &'a str,
}

impl<'a> Folder<'a> {
    async fn new(node: &TestNode, errands: &'a PluginFile, folder: &'a str) -> Self {
        Self { stub: Stub::new(node, errands).await, folder }
    }

    async fn ask(&self, method: &str, mut errand: Value) -> Result<Value, (Code, String)> {
        errand["folder"] = self.folder.into();
        let answer = self.stub.call(method, errand).await;
        let answer = answer.map_err(|status| (status.code(), status.message().to_owned()))?;
        Ok(answer.replies.into_iter().next().unwrap())
    }

    async fn done(&self, method: &str, errand: Value) -> Value {
        let said = format!("{method} {errand}");
        self.ask(method, errand).await.unwrap_or_else(|why| panic!("{said}: {why:?}"))
    }

    async fn fails(&self, method: &str, errand: Value) -> (Code, String) {
        let said = format!("{method} {errand}");
        self.ask(method, errand).await.expect_err(&said)
    }

    async fn write(&self, name: &str, text: &str) {
        self.done("WriteFile", json!({ "name": name, "data": base64(text) })).await;
    }

    async fn read(&self, name: &str) -> Result<String, Code> {
        let read = self.ask("ReadFile", json!({ "name": name, "length": MIB })).await.map_err(|(code, _)| code)?;
        Ok(read["data"].as_str().unwrap().to_owned())
    }

    async fn names(&self) -> Vec<String> {
        names(&self.done("ListFiles", json!({})).await)
    }
}

fn names(found: &Value) -> Vec<String> {
    found["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn number(found: &Value, key: &str) -> u64 {
    found[key].as_str().unwrap().parse().unwrap()
}

/// Where a namespace's files are.
fn on_disk(node: &TestNode, below: &str) -> PathBuf {
    node.data().join("files").join(below)
}

/// Deploys `errands` in another namespace, too.
async fn errands_in(node: &TestNode, namespace: &str) {
    let mut header = with_grants(&GRANTS);
    header.namespace = namespace.into();
    deploy_with(&mut plugins(node).await, header, &plugin("errands").bytes).await.unwrap();
}

#[tokio::test]
async fn files_are_written_read_listed_renamed_and_deleted_by_name() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    assert_eq!(shared.names().await, Vec::<String>::new(), "of a folder that was never used");
    for method in ["ReadFile", "StatFile", "DeleteFile"] {
        assert_eq!(shared.fails(method, json!({ "name": "a" })).await.0, Code::NotFound, "{method}");
    }
    shared.write("a", "hello").await;
    shared.write("b/c/d.txt", "deep").await;
    shared.write("a", "hello again").await;
    assert_eq!(shared.read("a").await, Ok(base64("hello again")), "replaced as a whole");
    let part = shared.done("ReadFile", json!({ "name": "a", "offset": "6", "length": 2 })).await;
    assert_eq!(part["data"], base64("ag"));
    for offset in ["11", "12", "18446744073709551615"] {
        let behind = shared.done("ReadFile", json!({ "name": "a", "offset": offset, "length": 2 })).await;
        assert_eq!(behind["data"], "", "at {offset}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let found = shared.done("StatFile", json!({ "name": "a" })).await;
    assert_eq!(number(&found, "size"), 11);
    assert!(u128::from(number(&found, "modifiedMs")).abs_diff(now) < 60_000, "{found}");

    let into = |name: &str, offset: u64, text: &str| json!({ "name": name, "offset": offset.to_string(), "data": base64(text) });
    shared.done("WriteFile", into("a", 6, "world")).await;
    shared.done("WriteFile", into("a", 11, "!")).await;
    assert_eq!(shared.read("a").await, Ok(base64("hello world!")));
    assert_eq!(shared.fails("WriteFile", into("a", 13, "x")).await.0, Code::OutOfRange);
    assert_eq!(shared.fails("WriteFile", into("a", u64::MAX, "x")).await.0, Code::OutOfRange);
    assert_eq!(shared.fails("WriteFile", into("new", 0, "x")).await.0, Code::NotFound);
    assert_eq!(shared.read("a").await, Ok(base64("hello world!")), "what fails changes nothing");

    shared.done("RenameFile", json!({ "name": "a", "to": "e/f" })).await;
    shared.done("RenameFile", json!({ "name": "b/c/d.txt", "to": "e/g" })).await;
    assert_eq!(shared.names().await, ["e/f", "e/g"]);
    assert!(!on_disk(&node, "acme/shared/b").exists(), "folders go with their last file");
    shared.done("RenameFile", json!({ "name": "e/g", "to": "e/f" })).await;
    assert_eq!(shared.read("e/f").await, Ok(base64("deep")), "the other was replaced");
    shared.done("RenameFile", json!({ "name": "e/f", "to": "e/f" })).await;
    for (name, to, code) in [
        ("none", "other", Code::NotFound),
        ("e", "other", Code::NotFound),
        ("e/f", "e", Code::FailedPrecondition),
        ("e/f", "e/f/g", Code::FailedPrecondition),
    ] {
        assert_eq!(shared.fails("RenameFile", json!({ "name": name, "to": to })).await.0, code, "{name} to {to}");
    }
    assert_eq!(shared.fails("WriteFile", json!({ "name": "e" })).await.0, Code::FailedPrecondition, "is a folder");
    assert_eq!(shared.fails("WriteFile", json!({ "name": "e/f/g" })).await.0, Code::FailedPrecondition);
    for name in ["e", "e/f/g"] {
        assert_eq!(shared.read(name).await, Err(Code::NotFound), "{name}");
    }
    let mode = |below: &str| std::fs::metadata(on_disk(&node, below)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("acme/shared/e"), mode("acme/shared/e/f")), (0o700, 0o700, 0o600));
    shared.done("DeleteFile", json!({ "name": "e/f" })).await;
    assert!(!on_disk(&node, "acme").exists(), "nothing is left");
    assert_eq!(usage(&node, "acme").await.file_bytes, 0);
}

#[tokio::test]
async fn one_call_moves_a_mib_and_no_more() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    shared.done("WriteFile", json!({ "name": "a", "length": MIB })).await;
    shared.done("WriteFile", json!({ "name": "a", "offset": MIB.to_string(), "length": MIB })).await;
    assert_eq!(number(&shared.done("StatFile", json!({ "name": "a" })).await, "size"), 2 * MIB);
    for (method, offset) in [("WriteFile", None), ("WriteFile", Some("0")), ("ReadFile", Some("0"))] {
        let (code, words) = shared.fails(method, json!({ "name": "a", "offset": offset, "length": MIB + 1 })).await;
        assert!(code == Code::InvalidArgument && words.contains("1048576"), "{method}: {words}");
    }
    let whole = shared.done("ReadFile", json!({ "name": "a", "offset": "1", "length": MIB })).await;
    assert!(whole["data"].as_str().unwrap().len() as u64 > MIB);
}

#[tokio::test]
async fn listings_are_in_order_and_in_pages() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    let all = ["a", "a-b", "a.txt", "a0", "b/a", "b/b/c", "b/b/d", "b/c", "b0", "ä", "c"];
    let mut all = all.map(str::to_owned).to_vec();
    for name in &all {
        shared.write(name, "x").await;
    }
    all.sort_unstable();
    for size in [1, 2, 3, all.len() - 1, all.len(), all.len() + 1] {
        let found = shared.done("ListFiles", json!({ "length": size })).await;
        assert_eq!(names(&found), all, "{size} to a page");
        assert_eq!(number(&found, "size"), all.len().div_ceil(size) as u64, "no empty page at the end");
    }
    for (prefix, wanted) in [
        ("b/", vec!["b/a", "b/b/c", "b/b/d", "b/c"]),
        ("b", vec!["b/a", "b/b/c", "b/b/d", "b/c", "b0"]),
        ("b/b/c", vec!["b/b/c"]),
        ("b/b/c/", vec![]),
        ("../", vec![]),
        ("/", vec![]),
    ] {
        assert_eq!(names(&shared.done("ListFiles", json!({ "name": prefix, "length": 2 })).await), wanted, "{prefix}");
    }
    let first = shared.done("ListFilesFrom", json!({ "name": "b", "length": 1 })).await;
    let token = first["to"].as_str().unwrap().to_owned();
    let next = shared.done("ListFilesFrom", json!({ "name": "b", "length": 1, "to": token })).await;
    assert_eq!(names(&next), ["b/b/c"]);
    for forged in [
        json!({ "name": "b", "length": 1, "to": format!("AAAA{token}") }),
        json!({ "name": "a", "length": 1, "to": token }),
        json!({ "name": "b", "length": 2, "to": token }),
        json!({ "name": "b", "length": 1, "to": "../../x" }),
        json!({ "name": "b\\", "length": 1 }),
        json!({ "name": "b\n", "length": 1 }),
    ] {
        assert_eq!(shared.fails("ListFilesFrom", forged.clone()).await.0, Code::InvalidArgument, "{forged}");
    }
}

#[tokio::test]
async fn h04_no_name_leads_out_of_a_folder() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    shared.write("own", "x").await;
    let (long, deep) = ("p".repeat(256), ["a"; 9].join("/"));
    let bad = [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        "../own",
        "../../node.key",
        "a/../../b",
        "a/./b",
        "./own",
        "own/..",
        "a\\b",
        "..\\..\\x",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
        "a/\u{85}",
        &long,
        &deep,
    ];
    for name in bad {
        for method in ["ReadFile", "WriteFile", "StatFile", "DeleteFile"] {
            assert_eq!(
                shared.fails(method, json!({ "name": name })).await.0,
                Code::InvalidArgument,
                "{method} {name:?}"
            );
        }
        for (from, to) in [("own", name), (name, "own")] {
            let (code, words) = shared.fails("RenameFile", json!({ "name": from, "to": to })).await;
            assert_eq!(code, Code::InvalidArgument, "{from:?} to {to:?}: {words}");
            assert!(!words.contains(node.data().to_str().unwrap()), "{words}");
        }
    }
    for folder in ["", ".", "..", "../rival", "shared/..", "*", "/", "a\0b", ".tmp", &"f".repeat(64)] {
        let outside = Folder::new(&node, &errands, folder).await;
        for method in ["ReadFile", "WriteFile", "StatFile", "ListFiles", "DeleteFile"] {
            let (code, _) = outside.fails(method, json!({ "name": "own" })).await;
            assert_eq!(code, Code::InvalidArgument, "{method} in {folder:?}");
        }
    }
    for good in [&"p".repeat(255), &["a"; 8].join("/"), "...", "..a", "-rf", "c:", "ä ö", "%2e%2e"] {
        shared.write(good, "y").await;
        assert_eq!(shared.read(good).await, Ok(base64("y")), "{good}");
    }
    let found: Vec<_> =
        std::fs::read_dir(on_disk(&node, "")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(found.len(), 2, "the namespace and what is being written: {found:?}");
    assert_eq!(std::fs::read_dir(on_disk(&node, ".tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn h04_what_is_planted_is_neither_followed_nor_listed() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    shared.write("own", "x").await;
    let folder = on_disk(&node, "acme/shared");
    let outside = node.data().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("gold"), "gold").unwrap();
    symlink(outside.join("gold"), folder.join("link")).unwrap();
    symlink("own", folder.join("beside")).unwrap();
    symlink(&outside, folder.join("way")).unwrap();
    symlink(".", folder.join("round")).unwrap();
    symlink("/nowhere", folder.join("dead")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, folder.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    std::fs::write(folder.join("back\\slash"), "x").unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    let bad = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"b\xffd");
    std::fs::write(folder.join(bad), "x").unwrap();
    assert_eq!(shared.names().await, ["own"]);
    for size in 1..4 {
        assert_eq!(names(&shared.done("ListFiles", json!({ "length": size })).await), ["own"]);
    }
    for name in ["link", "beside", "dead", "pipe", "socket", "way/gold", "round/own", "own/x"] {
        assert_eq!(shared.read(name).await, Err(Code::NotFound), "{name}");
        let into = json!({ "name": name, "offset": "0", "data": base64("mine") });
        for (method, errand) in
            [("StatFile", json!({ "name": name })), ("DeleteFile", json!({ "name": name })), ("WriteFile", into)]
        {
            assert_eq!(shared.fails(method, errand).await.0, Code::NotFound, "{method} {name}");
        }
        let (code, _) = shared.fails("WriteFile", json!({ "name": name, "data": base64("mine") })).await;
        assert_eq!(code, Code::FailedPrecondition, "{name}");
        let (code, _) = shared.fails("RenameFile", json!({ "name": "own", "to": name })).await;
        assert_eq!(code, Code::FailedPrecondition, "{name}");
    }
    shared.done("DeleteFile", json!({ "name": "own" })).await;
    assert_eq!(std::fs::read(outside.join("gold")).unwrap(), b"gold");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    // The folder of a namespace, and a folder in it, behind links.
    std::fs::remove_dir_all(on_disk(&node, "acme")).unwrap();
    for link in ["acme", "acme/shared"] {
        let link = on_disk(&node, link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&outside, &link).unwrap();
        assert_eq!(shared.read("gold").await, Err(Code::NotFound));
        assert_eq!(shared.names().await, Vec::<String>::new());
        assert_eq!(shared.fails("WriteFile", json!({ "name": "gold" })).await.0, Code::FailedPrecondition);
        std::fs::remove_file(&link).unwrap();
    }
    assert_eq!(std::fs::read(outside.join("gold")).unwrap(), b"gold");
}

#[tokio::test]
async fn h05_a_folder_to_read_is_not_changed_and_others_are_not_there() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    shared.write("a", "hello").await;
    shared.write("b", "there").await;
    grant(&node, &["files=shared:read", "files=own:write"]).await;
    for (method, errand) in [
        ("WriteFile", json!({ "name": "a", "data": "" })),
        ("WriteFile", json!({ "name": "new" })),
        ("WriteFile", json!({ "name": "a", "offset": "0", "data": base64("x") })),
        ("DeleteFile", json!({ "name": "a" })),
        ("DeleteFile", json!({ "name": "none" })),
        ("RenameFile", json!({ "name": "a", "to": "c" })),
        ("RenameFile", json!({ "name": "a", "to": "b" })),
    ] {
        let (code, words) = shared.fails(method, errand).await;
        assert!(code == Code::PermissionDenied && words.contains("files=shared:write"), "{method}: {words}");
    }
    assert_eq!((shared.read("a").await, shared.names().await.len()), (Ok(base64("hello")), 2));
    let other = Folder::new(&node, &errands, "other").await;
    for method in ["ReadFile", "StatFile", "ListFiles"] {
        let (code, words) = other.fails(method, json!({ "name": "a" })).await;
        assert!(code == Code::PermissionDenied && words.contains("files=other:read"), "{method}: {words}");
    }
    let own = Folder::new(&node, &errands, "own").await;
    assert_eq!(own.names().await, Vec::<String>::new());
    own.write("a", "mine").await;
    assert_eq!(shared.read("a").await, Ok(base64("hello")));
    for bad in ["files=*", "files=a/b:write", "files=..", "files=shared:all", "files="] {
        let refused = deploy_with(&mut plugins(&node).await, with_grants(&[bad]), &errands.bytes).await.unwrap_err();
        assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec!["grants".to_owned()]), "{bad}");
    }
}

#[tokio::test]
async fn two_namespaces_with_one_folder_are_apart() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    errands_in(&node, "rival").await;
    let ours = Folder::new(&node, &errands, "shared").await;
    let mut theirs = Folder::new(&node, &errands, "shared").await;
    theirs.stub.namespace = "rival".into();
    ours.write("a", "ours").await;
    assert_eq!((theirs.read("a").await, theirs.names().await), (Err(Code::NotFound), Vec::new()));
    theirs.write("a", "theirs").await;
    assert_eq!((ours.read("a").await, theirs.read("a").await), (Ok(base64("ours")), Ok(base64("theirs"))));
    theirs.done("DeleteFile", json!({ "name": "a" })).await;
    assert_eq!((usage(&node, "acme").await.files, usage(&node, "rival").await.files), (1, 0));
}

#[tokio::test]
async fn h04_quotas_hold_at_and_above_and_space_returns() {
    let mut node = TestNode::start().await;
    let errands = errands(&node).await;
    let before = usage(&node, "acme").await;
    assert_eq!((before.files, before.file_bytes), (0, 0));
    set(&node, "acme", &[("stored_records", before.stored_records + 3)]).await.unwrap();
    let shared = Folder::new(&node, &errands, "shared").await;
    let filled = shared.done("FillFolder", json!({ "name": "f", "offset": "100", "length": 1 })).await;
    assert_eq!(number(&filled, "size"), 3, "{filled}");
    assert!(filled["text"].as_str().unwrap().contains("stored_records"), "{filled}");
    shared.write("f0", "not one more").await;
    shared.done("RenameFile", json!({ "name": "f0", "to": "g" })).await;
    let note = json!({ "name": "notes", "id": "a", "text": "x" });
    let refused = shared.stub.call("Put", note.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "records and files share it: {refused:?}");
    let used = usage(&node, "acme").await;
    assert_eq!((used.files, used.file_bytes, used.stored_records), (3, 3 * 4_096, before.stored_records + 3));
    shared.done("DeleteFile", json!({ "name": "g" })).await;
    shared.stub.call("Put", note).await.unwrap();
    assert_eq!(shared.fails("WriteFile", json!({ "name": "h" })).await.0, Code::ResourceExhausted);

    // What the database takes is whole pages; so is what is left beside it.
    let base = usage(&node, "acme").await.stored_bytes;
    let mib = base.div_ceil(MIB) + 1;
    set(&node, "acme", &[("stored_records", 0), ("stored_mib", mib)]).await.unwrap();
    let room = mib * MIB - base;
    let (mut left, mut n) = (room, 0);
    while left > 0 {
        let length = left.min(MIB);
        shared.done("WriteFile", json!({ "name": format!("x{n}"), "length": length })).await;
        (left, n) = (left - length, n + 1);
    }
    assert_eq!(usage(&node, "acme").await.stored_bytes, mib * MIB, "at the quota");
    for (name, offset) in [("y", None), ("d/y", None), ("x0", Some(MIB.min(room)))] {
        let errand = json!({ "name": name, "offset": offset.map(|offset| offset.to_string()), "length": 1 });
        let (code, words) = shared.fails("WriteFile", errand).await;
        assert!(code == Code::ResourceExhausted && words.contains("stored_mib"), "{name}: {words}");
    }
    let (code, words) = shared.fails("RenameFile", json!({ "name": "x0", "to": "d/x0" })).await;
    assert!(code == Code::ResourceExhausted, "a folder takes a block: {words}");
    shared.done("WriteFile", json!({ "name": "x0", "length": MIB.min(room) })).await;
    shared.done("WriteFile", json!({ "name": "x0", "offset": "0", "length": 1 })).await;
    shared.done("WriteFile", json!({ "name": "x0", "length": 1 })).await;
    shared.write("d/y", "fits again").await;
    let used = usage(&node, "acme").await;

    node.restart().await;
    until("files are counted", async || usage(&node, "acme").await.files == used.files).await;
    let again = usage(&node, "acme").await;
    assert_eq!((again.files, again.file_bytes), (used.files, used.file_bytes), "a walk finds what was booked");
    let shared = Folder::new(&node, &errands, "shared").await;
    for name in shared.names().await {
        shared.done("DeleteFile", json!({ "name": name })).await;
    }
    let empty = usage(&node, "acme").await;
    assert_eq!((empty.files, empty.file_bytes), (0, 0), "space returns");
    assert!(!on_disk(&node, "acme").exists());
}

#[tokio::test]
async fn files_survive_a_restart_and_what_was_half_written_goes() {
    let mut node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    shared.write("a/b", "kept").await;
    std::fs::write(on_disk(&node, ".tmp/left-over"), "half").unwrap();
    node.restart().await;
    let shared = Folder::new(&node, &errands, "shared").await;
    assert_eq!(shared.read("a/b").await, Ok(base64("kept")), "grants and files");
    assert_eq!(std::fs::read_dir(on_disk(&node, ".tmp")).unwrap().count(), 0);
    until("files are counted", async || usage(&node, "acme").await.file_bytes == 2 * 4_096).await;
}

#[tokio::test]
async fn h04_who_reads_while_others_replace_and_delete_sees_whole_files() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    let (zeros, ones) = ("\0".repeat(50_000), "\u{1}".repeat(50_000));
    shared.write("a", &zeros).await;
    let insist = shared.done("InsistFile", json!({ "name": "a", "length": 50_000 }));
    let change = async {
        until("it reads", async || node.node().wasm_stats().await.running == 1).await;
        let shared = Folder::new(&node, &errands, "shared").await;
        for _ in 0..20 {
            shared.write("a", &ones).await;
            shared.write("b", &zeros).await;
            shared.done("RenameFile", json!({ "name": "b", "to": "a" })).await;
            shared.done("WriteFile", json!({ "name": "a", "offset": "0", "data": base64(&ones) })).await;
        }
        shared.done("DeleteFile", json!({ "name": "a" })).await;
    };
    let (told, ()) = tokio::join!(insist, change);
    assert!(told["text"].as_str().unwrap().starts_with("NOT_FOUND"), "{told}");
    assert!(number(&told, "size") > 0, "{told}");
}

#[tokio::test]
async fn h10_a_folder_that_is_revoked_is_denied_to_a_call_that_runs() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    shared.write("a", "\0").await;
    let insist = async {
        let told = shared.done("InsistFile", json!({ "name": "a", "length": 1 })).await;
        (told, tokio::time::Instant::now())
    };
    let revoked = async {
        until("it runs", async || node.node().wasm_stats().await.running == 1).await;
        assert_eq!(revoke(&node, &["files=shared"]).await.unwrap().len(), GRANTS.len() - 1);
        tokio::time::Instant::now()
    };
    let ((told, denied), revoked) = tokio::join!(insist, revoked);
    let words = told["text"].as_str().unwrap();
    assert!(words.starts_with("PERMISSION_DENIED") && words.contains("files=shared:read"), "{words}");
    assert!(denied.saturating_duration_since(revoked) < Duration::from_secs(1));
    let name = plugins_pb::GetRequest { namespace: "acme".into(), name: ERRANDS.into() };
    plugins(&node).await.get(name).await.unwrap();
    assert!(on_disk(&node, "acme/shared/a").exists(), "the file stays");
}

#[tokio::test]
async fn a_call_waits_for_files_no_longer_than_it_may() {
    let node = TestNode::start_with(|config| (config.files.at_once, config.files.reads) = (1, 1)).await;
    let errands = errands(&node).await;
    let shared = Folder::new(&node, &errands, "shared").await;
    let writes = (0..16).map(|n| {
        let shared = &shared;
        async move { shared.write(&format!("f{n}"), "x").await }
    });
    futures_util::future::join_all(writes).await;
    assert_eq!(shared.names().await.len(), 16, "with one place they come one after another");
    let mut hasty = Folder::new(&node, &errands, "shared").await;
    hasty.stub.timeout = Some(Duration::from_millis(300));
    let (code, _) = hasty.fails("InsistFile", json!({ "name": "f0", "length": 1 })).await;
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
    until("nothing runs", async || node.node().wasm_stats().await.running == 0).await;
    shared.write("f0", "still").await;
}

#[tokio::test]
async fn the_command_line_shows_what_files_take() {
    let cli = Cli::start();
    let file = component("errands");
    let mut args = vec!["plugin", "deploy", file.to_str().unwrap(), "--name", "errands"];
    GRANTS.iter().for_each(|grant| args.extend(["--grant", grant]));
    let shown = cli.says(&args);
    assert!(shown.contains("files"), "{shown}");
    cli.says(&["call", "errands.v1.Errands/WriteFile", "-d", r#"{"folder": "shared", "name": "a/b", "length": 5000}"#]);
    let used = cli.json(&["ns", "usage", "default"]);
    assert_eq!((&used["files"], &used["file_bytes"]), (&json!(1), &json!(3 * 4_096)));
    assert!(cli.says(&["ns", "usage", "default"]).contains("files among them"));
}
