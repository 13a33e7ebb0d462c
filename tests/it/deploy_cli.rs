//! Schemas, deployments, calls by reflection and `dev --watch`, as people and scripts use them.

use crate::support::*;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};
use std::time::Duration;
use tokio::time::Instant;

fn path(name: &str) -> String {
    component(name).to_str().unwrap().to_owned()
}

const TYPES: &str = r#"
    syntax = "proto3";
    package shop.v1;
    message Order { string id = 1; int64 total = 2; }
"#;

fn orders(methods: &str) -> String {
    format!(
        "syntax = \"proto3\"; package shop.v1; import \"types.proto\"; import \"google/protobuf/empty.proto\";
         service Orders {{ rpc Get(Order) returns (Order); rpc Watch(google.protobuf.Empty) returns (stream Order); {methods} }}"
    )
}

#[test]
fn a_schema_is_pushed_listed_shown_and_compared() {
    let cli = Cli::start();
    let types = cli.write("types.proto", TYPES);
    let file = cli.write("orders.proto", &orders(""));
    let dry = cli.json(&["schema", "push", &file, "--dry-run"]);
    assert_eq!(dry["files"][0], json!({ "name": "types.proto", "state": "added" }), "{dry}");
    assert!(cli.says(&["schema", "list"]).contains("no services in namespace default"));

    let pushed = cli.says(&["schema", "push", &file]);
    for part in
        ["added    types.proto", "added    orders.proto", "+ shop.v1.Orders", "default/shop.v1.Orders: Get, Watch"]
    {
        assert!(pushed.contains(part), "{part} in {pushed}");
    }
    let again = cli.json(&["schema", "push", &file]);
    assert!(again["files"].as_array().unwrap().iter().all(|file| file["state"] == "same"), "{again}");
    assert_eq!(again["services"], json!([]));

    let list = cli.says(&["schema", "list"]);
    assert!(list.contains("shop.v1.Orders") && list.contains("stream shop.v1.Order"), "{list}");
    assert!(!list.contains("CollectorRegistry"), "{list}");
    assert!(cli.says(&["schema", "list", "--all"]).contains("collector.CollectorRegistry"));
    let list = cli.json(&["schema", "list"]);
    assert_eq!(list["services"][0]["methods"][1]["server_streaming"], true, "{list}");
    assert!(cli.says(&["schema", "list", "--namespace", "other"]).contains("no services"));

    let shown = cli.says(&["schema", "show", "Orders"]);
    assert!(shown.contains("rpc Watch(google.protobuf.Empty) returns (stream Order);"), "{shown}");
    assert!(shown.contains("message Order {\n  string id = 1;\n  int64 total = 2;\n}"), "{shown}");
    assert!(cli.says(&["schema", "show", "shop.v1.Order"]).contains("int64 total = 2;"));
    assert!(cli.says(&["schema", "show", "orders.proto"]).contains("import \"types.proto\";"));
    assert!(cli.fails(1, &["schema", "show", "Nope"]).contains("shop.v1.Orders"));

    cli.write("orders.proto", &orders("rpc Add(Order) returns (Order);"));
    let diff = cli.json(&["schema", "diff", &file]);
    assert_eq!(
        diff["services"],
        json!([{ "action": "added", "service": "shop.v1.Orders", "method": "Add" }]),
        "{diff}"
    );
    assert_eq!(diff["breaking"], json!([]));

    cli.write("types.proto", &TYPES.replace("int64 total", "string total"));
    let broken = cli.run(&["schema", "diff", &types]);
    assert_eq!(broken.status.code(), Some(64 + 9), "{broken:?}");
    let said = text(&broken.stdout);
    assert!(said.contains("BREAKING") && said.contains("total"), "{said}");
    assert!(cli.fails(64 + 9, &["schema", "push", &types]).contains("1 breaking change"));
    assert!(cli.says(&["schema", "show", "shop.v1.Order"]).contains("int64 total"), "nothing changed");
}

#[test]
fn what_cannot_be_pushed_says_why() {
    let cli = Cli::start();
    let bad = cli.write("bad.proto", "syntax = \"proto3\";\nmessage M { Nope n = 1; }\n");
    let said = cli.fails(1, &["schema", "push", &bad]);
    assert!(said.contains("bad.proto") && said.contains("Nope"), "{said}");
    assert!(cli.fails(1, &["schema", "push", "no-such.proto"]).contains("no-such.proto"));
}

#[test]
fn a_plugin_is_deployed_called_replaced_and_taken_away() {
    let cli = Cli::start();
    let (greeter, several) = (path("greeter"), path("several"));
    assert!(cli.says(&["plugin", "list"]).contains("no deployments"));
    let dry = cli.json(&["plugin", "deploy", &greeter, "--dry-run"]);
    assert_eq!((&dry["version"], &dry["plan"]["breaking"]), (&json!(0), &json!([])), "{dry}");
    assert!(cli.says(&["plugin", "list"]).contains("no deployments"), "a dry run leaves nothing");

    let said = cli.says(&["plugin", "deploy", &greeter]);
    for part in ["greeter: version 1 is live in default", "+ greeter.v1.Greeter", "import collector:plugin/context"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let hello = ["call", "Greeter/SayHello", "-d", r#"{"name": "Ada"}"#];
    assert_eq!(serde_json::from_str::<Value>(&cli.says(&hello)).unwrap()["text"], "Hello, Ada!");
    let again = cli.json(&["plugin", "deploy", &greeter]);
    assert_eq!(again["version"], 1, "the same bytes are no new version: {again}");

    assert!(cli.fails(64 + 6, &["plugin", "deploy", &greeter, "--name", "second"]).contains("greeter.v1.Greeter"));
    cli.says(&["plugin", "deploy", &several, "-n", "acme"]);
    let list = cli.json(&["plugin", "list", "--all-namespaces"]);
    let names: Vec<&str> =
        list["deployments"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["several", "greeter"], "{list}");
    assert!(cli.says(&["plugin", "list"]).contains("greeter.v1.Greeter"));
    let digest = list["deployments"][1]["versions"][0]["digest"].as_str().unwrap().to_owned();
    for what in [digest.as_str(), "greeter"] {
        let seen = cli.says(&["plugin", "inspect", what]);
        assert!(seen.contains("rpc SayHello(greeter.v1.HelloRequest)") && seen.contains(&digest), "{seen}");
    }

    assert!(cli.says(&["plugin", "undeploy", "greeter"]).contains("greeter.v1.Greeter"));
    assert!(cli.says(&["plugin", "list"]).contains("no deployments"));
    assert!(cli.fails(1, &hello).contains("there is no service Greeter"));
    assert_eq!(cli.run(&["plugin", "undeploy", "greeter"]).status.code(), Some(64 + 5));
}

#[test]
fn a_plugin_that_would_break_callers_is_refused_line_by_line() {
    let cli = Cli::start();
    std::fs::create_dir_all(cli.home.path().join("greeter/v1")).unwrap();
    let file = cli.write(
        "greeter/v1/greeter.proto",
        "syntax = \"proto3\"; package greeter.v1;
         message HelloRequest { int32 name = 1; } message HelloReply { string text = 1; }
         service Greeter { rpc SayHello(HelloRequest) returns (HelloReply); }",
    );
    cli.says(&["schema", "push", &file, "-I", cli.home.path().to_str().unwrap()]);
    let greeter = path("greeter");
    let refused = cli.fails(64 + 9, &["plugin", "deploy", &greeter]);
    assert!(refused.contains("HelloRequest.name"), "{refused}");
    let dry = cli.run(&["plugin", "deploy", &greeter, "--dry-run"]);
    assert_eq!(dry.status.code(), Some(64 + 9), "{dry:?}");
    let said = text(&dry.stdout);
    assert!(said.contains("BREAKING") && said.contains("+ greeter.v1.Greeter/Describe"), "{said}");
}

#[test]
fn versions_go_forward_and_back() {
    let cli = Cli::start();
    let (one, two) = (path("greeter"), cli.home.path().join("greeter.wasm"));
    std::fs::write(&two, variant(&std::fs::read(&one).unwrap(), "two")).unwrap();
    let two = two.to_str().unwrap().to_owned();
    cli.says(&["plugin", "deploy", &one]);
    let said = cli.says(&["plugin", "deploy", &two, "--inactive"]);
    assert!(said.contains("version 2 is deployed in default, version 1 stays live"), "{said}");
    assert_eq!(cli.json(&["plugin", "activate", "greeter", "--latest"])["active_version"], 2);
    assert_eq!(cli.json(&["plugin", "activate", "greeter", "1"])["active_version"], 1);
    assert_eq!(cli.run(&["plugin", "activate", "greeter"]).status.code(), Some(2), "which one?");
    assert_eq!(cli.run(&["plugin", "activate", "greeter", "7"]).status.code(), Some(64 + 5));
    assert_eq!(cli.run(&["plugin", "undeploy", "greeter", "--version", "1"]).status.code(), Some(64 + 9));
    assert_eq!(cli.json(&["plugin", "undeploy", "greeter", "--version", "2"])["versions"], json!([2]));
}

#[test]
fn every_kind_of_method_is_called_by_reflection() {
    let cli = Cli::start();
    cli.says(&["plugin", "deploy", &path("streams"), "--namespace", "acme"]);
    let echo = cli.run(&["call", "acme/Streams/Echo", "-d", r#"{"text": "one"}"#, "--verbose"]);
    assert_eq!(serde_json::from_slice::<Value>(&echo.stdout).unwrap()["text"], "one", "{echo:?}");
    assert!(text(&echo.stderr).contains("start="), "the receipt: {echo:?}");

    let count = cli.says(&["call", "acme/streams.v1.Streams/Count", "-d", r#"{"to": 3}"#]);
    let values: Vec<Value> =
        count.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["value"].clone()).collect();
    assert_eq!(values, ["1", "2", "3"], "one reply a line: {count}");

    let sum = cli.says(&["call", "Streams/Sum", "-n", "acme", "-d", r#"{"value": 1} {"value": "2"}{"value": 39}"#]);
    assert_eq!(serde_json::from_str::<Value>(&sum).unwrap()["sum"], "42");
    let sum = cli.fed(&["call", "acme/Streams/Sum"], "{\"value\": 4}\n{\"value\": 5}\n");
    assert_eq!(serde_json::from_slice::<Value>(&sum.stdout).unwrap()["sum"], "9", "{sum:?}");
    let broken = cli.fed(&["call", "acme/Streams/Sum"], "{\"value\": 4} {\"valeu\": 5}");
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
    assert!(broken.stdout.is_empty() && text(&broken.stderr).contains("valeu"), "{broken:?}");

    let chat = cli.json(&["call", "acme/Streams/Chat", "-d", r#"{"text": "a"}{"text": "b"}"#]);
    assert_eq!(chat["replies"], json!([{ "text": "A" }, { "text": "B" }]), "{chat}");
    assert!(chat["receipt"]["collector-start"].is_string(), "{chat}");
}

#[test]
fn a_conversation_goes_on_while_both_sides_speak() {
    let cli = Cli::start();
    cli.says(&["plugin", "deploy", &path("streams")]);
    let mut child = cli.piped(&["call", "Streams/Chat"]);
    let mut say: ChildStdin = child.stdin.take().unwrap();
    let mut hear = BufReader::new(child.stdout.take().unwrap());
    for word in ["one", "two", "three"] {
        writeln!(say, "{}", json!({ "text": word })).unwrap();
        assert_eq!(line(&mut hear)["text"], word.to_uppercase(), "before the next is said");
    }
    drop(say);
    assert!(child.wait().unwrap().success());
}

fn line(from: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
}

#[test]
fn failures_of_calls_keep_their_codes_and_what_came_before() {
    let cli = Cli::start();
    cli.says(&["plugin", "deploy", &path("streams")]);
    let failed = cli.run(&["call", "Streams/Fail", "-d", r#"{"after": 2, "code": 9, "message": "enough"}"#]);
    assert_eq!(failed.status.code(), Some(64 + 9), "{failed:?}");
    assert_eq!(text(&failed.stdout).lines().count(), 2);
    assert!(text(&failed.stderr).contains("FailedPrecondition: enough"), "{failed:?}");

    let late = cli.run(&["call", "Streams/Flood", "-d", "{}", "--timeout", "0.5"]);
    assert_eq!(late.status.code(), Some(64 + 4), "{}", text(&late.stderr));

    assert!(cli.fails(1, &["call", "Nope/Get"]).contains("streams.v1.Streams"), "the services that there are");
    assert!(cli.fails(1, &["call", "Streams/Nope"]).contains("it has Count, Sum, Chat"));
    assert!(cli.fails(1, &["call", "Streams/Echo", "-d", "{}{}"]).contains("takes one request, 2 were given"));
    assert!(cli.fails(1, &["call", "Streams/Echo", "-d", "{\"txet\": 1}"]).contains("txet"));
}

#[test]
fn the_nodes_own_services_are_called_like_any_other() {
    let cli = Cli::start();
    let list = cli.json(&["call", "CollectorRegistry/ListServices", "-d", r#"{"namespace": "default"}"#]);
    assert!(!list["reply"]["services"].as_array().unwrap().is_empty(), "{list}");
}

#[test]
fn an_example_can_be_sent_as_it_is() {
    let cli = Cli::start();
    cli.says(&["plugin", "deploy", &path("greeter")]);
    cli.says(&["plugin", "deploy", &path("streams")]);
    for method in ["Greeter/SayHello", "Greeter/Describe", "Streams/Echo", "Streams/Sum", "Streams/Chat"] {
        let example = cli.says(&["call", method, "--example"]);
        let answer = cli.fed(&["call", method, "-d", "-"], &example);
        assert!(answer.status.success(), "{method} {example}: {}", text(&answer.stderr));
    }
    let example = cli.json(&["call", "Greeter/SayHello", "--example", "--plugin", &path("greeter")]);
    assert_eq!(example["name"], "Ada", "of a file too");
}

#[test]
fn a_node_that_is_not_there_says_so_everywhere() {
    for args in [
        &["call", "a/b"][..],
        &["schema", "list"],
        &["schema", "show", "x"],
        &["plugin", "list"],
        &["plugin", "undeploy", "x"],
        &["plugin", "inspect", "sha256:00"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        let failed = command.args(args).args(["--node", "http://127.0.0.1:1"]).output().unwrap();
        let said = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("start one with `collector dev`"), "{args:?}: {said}");
    }
}

#[test]
fn a_folder_is_built_and_deployed_and_each_save_goes_live() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(args).current_dir(home.path()).env_remove("COLLECTOR_NAMESPACE").output().unwrap()
    };
    assert!(run(&["plugin", "new", "hello"]).status.success());
    let mut dev = Command::new(env!("CARGO_BIN_EXE_collector"));
    dev.args(["dev", "--json", "--port", "0", "--watch", "hello", "--data", "data"]).current_dir(home.path());
    let mut node = NodeProcess::spawn(dev);
    let say = || {
        let args = ["call", "Hello/SayHello", "--node", &node.address, "-d", r#"{"name": "Ada"}"#];
        text(&run(&args).stdout)
    };
    until("the first version answers", &node, || say().contains("Hello, Ada!"));

    let source = home.path().join("hello/src/lib.rs");
    let code = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, code.replace("Hello, {}!", "Welcome, {}!")).unwrap();
    until("the second version answers", &node, || say().contains("Welcome, Ada!"));

    std::fs::write(&source, "this is no Rust").unwrap();
    until("the error is told", &node, || node.log().contains("the version before stays live"));
    assert!(say().contains("Welcome, Ada!"), "a broken save harms nobody");

    let proto = home.path().join("hello/proto/hello.proto");
    let schema = std::fs::read_to_string(&proto).unwrap();
    std::fs::write(&source, code).unwrap();
    std::fs::write(&proto, schema.replace("string text = 1", "bytes text = 1")).unwrap();
    // The generated field changes its type with it, so that this builds.
    std::fs::write(
        &source,
        std::fs::read_to_string(&source).unwrap().replace(
            "text: format!(\"Hello, {}!\", request.name)",
            "text: format!(\"Hello, {}!\", request.name).into()",
        ),
    )
    .unwrap();
    until("the breaking change is told", &node, || node.log().contains("collector plugin undeploy"));
    assert!(say().contains("Welcome, Ada!"));
    let list = run(&["plugin", "list", "--json", "--node", &node.address]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list["deployments"][0]["active_version"], 2, "{list}");
    node.signal(rustix::process::Signal::INT);
    assert!(node.wait().success());
}

/// Asks until it is so. A cold build of a plugin takes its time.
fn until(what: &str, node: &NodeProcess, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(300), "{what}: not in 300 s, log: {}", node.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_folder_without_a_plugin_is_not_watched() {
    let home = tempfile::tempdir().unwrap();
    let folder: &Path = home.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["dev", "--port", "0", "--watch", "."]).current_dir(folder);
    let failed = command.output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("collector plugin new"), "{}", text(&failed.stderr));
}
