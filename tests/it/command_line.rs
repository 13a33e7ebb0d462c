//! The command line as people and scripts use it.

use crate::support::*;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn collector(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_collector")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn inspect_says_what_a_component_is() {
    let greeter = component("greeter");
    let shown = text(&collector(&["plugin", "inspect", path(&greeter)]).stdout);
    for part in [
        "kind      WasmHandler",
        "digest    sha256:",
        "service   greeter.v1.Greeter",
        "rpc SayHello(greeter.v1.HelloRequest) returns (greeter.v1.HelloReply)",
        "import    collector:plugin/context@0.1.0",
        "needs     nothing",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let sockets = component("misbehave-sockets");
    let shown: Value =
        serde_json::from_slice(&collector(&["plugin", "inspect", "--json", path(&sockets)]).stdout).unwrap();
    let missing = shown["not_granted"].as_array().unwrap();
    assert!(!missing.is_empty());
    assert!(missing.iter().all(|import| import.as_str().unwrap().starts_with("wasi:sockets/")), "{missing:?}");
    let wordcount = component("wordcount");
    assert!(text(&collector(&["plugin", "inspect", path(&wordcount)]).stdout).contains("kind      WasmCommand"));
}

#[test]
fn errors_name_the_next_step_and_end_with_one() {
    let file = path(&component("greeter")).to_owned();
    for (args, words) in [
        (vec!["plugin", "inspect", "no-such-file"], "cannot read no-such-file"),
        (vec!["plugin", "inspect", "/proc/self/exe"], "link it statically"),
        (vec!["plugin", "build", "no-such-folder"], "no-such-folder"),
        (vec!["plugin", "new", "Bad Name"], "lower-case letters"),
        (vec!["call", "no-slashes", "-p", &file], "NAMESPACE/SERVICE/METHOD"),
        (vec!["call", "a/Greeter/Nope", "-p", &file], "it has SayHello"),
        (vec!["call", "a/Greeter/SayHello", "-p", &file, "-d", "{\"nmae\": 1}"], "nmae"),
        (vec!["call", "a/Greeter/SayHello", "-p", &file, "--node", "http://127.0.0.1:1"], "collector dev"),
        (vec!["call", "a/Greeter/SayHello", "-p", &file, "--node", "ftp://x"], "http://HOST:PORT"),
        (vec!["plugin", "new", "match"], "choose another name"),
    ] {
        let failed = collector(&args);
        let said = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(collector(&["call"]).status.code(), Some(2), "a wrong command line");
    let forever = collector(&["call", "a/b/c", "-p", &file, "--timeout", "1e15"]);
    assert_eq!(forever.status.code(), Some(2), "{}", text(&forever.stderr));
}

#[test]
fn call_takes_json_from_everywhere_and_shows_the_receipt() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &[]);
    let greeter = component("greeter");
    let call = |extra: &[&str]| {
        let mut args = vec!["call", "acme/Greeter/SayHello", "--node", &node.address, "-p", path(&greeter)];
        args.extend(extra);
        collector(&args)
    };
    let answer = call(&["-d", r#"{"name": "Ada"}"#, "--verbose"]);
    assert_eq!(serde_json::from_slice::<Value>(&answer.stdout).unwrap()["text"], "Hello, Ada!");
    assert!(text(&answer.stderr).contains("start=cold"), "{answer:?}");

    let file = data.path().join("request.json");
    std::fs::write(&file, r#"{"name": "Bob"}"#).unwrap();
    let answer = call(&["-d", &format!("@{}", path(&file)), "--json"]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["reply"]["text"], "Hello, Bob!");
    assert_eq!(answer["receipt"]["collector-start"], "warm");

    let refused = call(&["-d", "{}", "--json"]);
    assert_eq!(refused.status.code(), Some(64 + 3), "64 + INVALID_ARGUMENT");
    let said: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(said["grpc"]["code"], 3);
}

#[test]
fn a_component_without_descriptors_takes_and_gives_bytes_as_they_are() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &[]);
    let wordcount = component("wordcount");
    let call = |extra: &[&str]| {
        let mut args = vec!["call", "acme/Any/Count", "--node", &node.address, "-p", path(&wordcount)];
        args.extend(extra);
        collector(&args).stdout
    };
    assert_eq!(call(&["-d", "a b"]), b"0 2 3\n", "the line's end is the plugin's");
    assert_eq!(call(&[]), b"0 0 0\n", "no data is no bytes");
    let json: Value = serde_json::from_slice(&call(&["-d", "a b", "--json"])).unwrap();
    assert_eq!(json["reply"], "0 2 3\n");
}

#[test]
fn a_new_plugin_builds_and_runs_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["plugin", "new", "my-first"])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let folder = home.path().join("my-first");
    let again = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["plugin", "new", "my-first"])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(text(&again.stderr).contains("exists already"));

    let built = collector(&["plugin", "build", path(&folder), "--json"]);
    assert!(built.status.success(), "{}", text(&built.stderr));
    let built: Value = serde_json::from_slice(&built.stdout).unwrap();
    assert_eq!((&built[0]["package"], &built[0]["kind"]), (&"my-first".into(), &"WasmHandler".into()));
    let component = built[0]["path"].as_str().unwrap();

    let node = NodeProcess::start(&home.path().join("data"), &[]);
    let target = "acme/MyFirst/SayHello";
    let answer = collector(&["call", target, "--node", &node.address, "-p", component, "-d", r#"{"name": "Ada"}"#]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    assert!(text(&answer.stdout).contains("Ada"));
}

#[test]
fn help_and_completions_are_there() {
    let help = text(&collector(&["--help"]).stdout);
    for command in ["demo", "dev", "serve", "call", "plugin", "schema", "completions", "First steps"] {
        assert!(help.contains(command), "{command} in {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&collector(&["completions", shell]).stdout);
        assert!(script.contains("collector") && script.len() > 1_000, "{shell}");
    }
}

#[test]
fn the_demo_shows_every_plugin_and_stops_a_spinning_one() {
    component("greeter"); // builds the plugins, so that the demo only checks that they are fresh
    let demo = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["demo", "--once", "--json", "--port", "0"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(demo.status.success(), "{}", text(&demo.stderr));
    let shown: Value = serde_json::from_slice(&demo.stdout).unwrap();
    let plugins: Vec<&str> =
        shown["scenes"].as_array().unwrap().iter().filter_map(|scene| scene["plugin"].as_str()).collect();
    assert_eq!(plugins, ["greeter", "markdown", "thumbnail"]);
    let spinning = &shown["scenes"][3];
    assert_eq!(spinning["stopped"], "DeadlineExceeded");
    assert!(spinning["greeter_calls"].as_u64().unwrap() > 0, "{spinning}");
}
