//! What native binaries and images may run where, what is said of those that may not, and what operators and authors see.

use crate::support::*;
use bytes::Bytes;
use collector::cli::{Answer, Target};
use collector::config::Config;
use collector::domain::{ImageRef, Kind};
use collector::exec::Native;
use collector::rpc::pb;
use collector::rpc::pb::plugin::v1 as plugins_pb;
use collector::rpc::pb::serve_request::ServiceDef;
use plugins_pb::inspect_request::Artifact;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tonic::{Code, Status};

fn native_bytes(name: &str) -> Bytes {
    std::fs::read(native(name)).unwrap().into()
}

fn memexec(config: &mut Config) {
    config.exec.native = vec![Native::Memexec];
}

/// Calls `Echo` of a service that nobody registered.
async fn echo(node: &TestNode, namespace: &str, code: ServiceDef) -> Result<Answer, Status> {
    let (service, method) = ("Any".into(), "Echo".into());
    let target = Target { namespace: namespace.into(), service, method, ..Target::default() };
    let input = prost_types::Any { type_url: String::new(), value: b"hi".to_vec() };
    node.client.serve(&target, code, input).await.map_err(status)
}

/// All files of a folder, with their sizes.
fn files(folder: &Path) -> BTreeSet<(PathBuf, u64)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => drop(found.insert((path, entry.metadata().unwrap().len()))),
        }
    }
    found
}

/// All but the audit log, which tells of the attempts.
fn kept(node: &TestNode) -> BTreeSet<(PathBuf, u64)> {
    let audit = node.data().join("audit");
    files(&node.data()).into_iter().filter(|(path, _)| !path.starts_with(&audit)).collect()
}

#[tokio::test]
async fn n01_where_native_is_not_enabled_nothing_of_a_binary_is_kept() {
    let node = TestNode::start().await;
    run_command(&node, collector::cli::PluginFile::of(distinct_command(1).into()).unwrap()).await.unwrap();
    let before = kept(&node);
    let bytes = native_bytes("contract");
    let status = echo(&node, "acme", ServiceDef::ServiceBinary(bytes.clone())).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "NATIVE_OFF".into()));
    assert!(status.message().contains("exec.native"), "{}", status.message());
    let status = deploy_with(&mut plugins(&node).await, header(), &bytes).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "NATIVE_OFF".into()));
    // Not looked into either: it does not matter what is behind the first bytes.
    let status = echo(&node, "acme", ServiceDef::ServiceBinary(bytes.slice(..16))).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "NATIVE_OFF".into()));
    assert_eq!(kept(&node), before, "no new file");
}

#[tokio::test]
async fn n02_what_is_not_static_or_not_for_this_machine_is_refused_saying_what_it_is() {
    let node = TestNode::start_with(memexec).await;
    let whole = native_bytes("contract");
    let changed = |at: usize, value: u8| {
        let mut bytes = whole.to_vec();
        bytes[at] = value;
        Bytes::from(bytes)
    };
    let dynamic = Bytes::from(
        std::fs::read(env!("CARGO_BIN_EXE_collector")).unwrap().into_iter().take(1 << 20).collect::<Vec<_>>(),
    );
    for (bytes, words) in [
        (changed(4, 1), "a 32-bit ELF binary, this node runs"),
        (changed(5, 2), "a big-endian ELF binary"),
        (changed(18, 243), "an ELF binary for riscv, this node runs"),
        (changed(16, 1), "an ELF object file"),
        (whole.slice(..60), "the ELF binary is truncated: its header ends at 64, the file has 60 bytes"),
        (whole.slice(..whole.len() / 2), "the ELF binary is truncated: "),
        (dynamic, "the ELF binary is truncated: "),
    ] {
        let status = echo(&node, "acme", ServiceDef::ServiceBinary(bytes)).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::InvalidArgument, "NATIVE_INVALID".into()), "{words}: {status:?}");
        assert!(status.message().contains(words), "{words}: {}", status.message());
    }
    assert!(!node.data().join("artifacts/acme").exists(), "nothing was kept");
}

#[tokio::test]
async fn namespaces_are_narrowed_and_a_binary_runs_where_it_may() {
    let node = TestNode::start_with(|config| {
        memexec(config);
        config.exec.namespaces.insert("rival".into(), vec![]);
    })
    .await;
    let code = || ServiceDef::ServiceBinary(native_bytes("contract"));
    let answer = echo(&node, "acme", code()).await.unwrap();
    assert_eq!(
        (answer.output.value.as_slice(), answer.receipt["collector-executor"].as_str()),
        (&b"hi"[..], "memexec")
    );
    let status = echo(&node, "rival", code()).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "NATIVE_OFF".into()));
    let report = node.node().executors();
    let works: Vec<_> = report.iter().map(|one| (one.name, one.allowed, one.works.is_ok())).collect();
    assert_eq!(works, [("memexec", true, true), ("container", false, false)]);
}

#[tokio::test]
async fn a_deployed_binary_answers_until_the_setting_is_taken_back() {
    let mut node = TestNode::start_with(memexec).await;
    let bytes = native_bytes("greeter");
    let mut client = plugins(&node).await;
    let deployed = deploy_with(&mut client, header(), &bytes).await.unwrap();
    let version = &deployed.deployment.unwrap().versions[0];
    assert_eq!((version.kind.as_str(), &version.services[..]), ("NativeElf", &["greeter.v1.Greeter".to_owned()][..]));

    let greeter = plugin("greeter");
    let hello = async |node: &TestNode| {
        Stub::new(node, &greeter).await.call("SayHello", json!({ "name": "Ada" })).await.map(|answer| answer.replies)
    };
    assert_eq!(hello(&node).await.unwrap(), [json!({ "text": "Hello, Ada!" })]);

    node.restart_with(|config| config.exec.native.clear()).await;
    let refused = hello(&node).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::FailedPrecondition, "NATIVE_OFF".into()));
    let mut client = plugins(&node).await;
    let name = "greeter.v1.Greeter".to_owned();
    let again = plugins_pb::ActivateRequest { namespace: "acme".into(), name: name.clone(), version: 1 };
    let refused = client.activate(again).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::FailedPrecondition, "NATIVE_OFF".into()));
    for validate_only in [true, false] {
        let known = plugins_pb::DeployHeader { digest: version.digest.clone(), validate_only, ..header() };
        let refused = deploy_with(&mut client, known, b"").await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::FailedPrecondition, "NATIVE_OFF".into()));
    }
    let looked = plugins_pb::InspectRequest { namespace: "acme".into(), artifact: Some(Artifact::Name(name)) };
    assert_eq!(client.inspect(looked).await.unwrap().into_inner().kind, "NativeElf", "looking is not running");

    node.restart_with(memexec).await;
    assert_eq!(hello(&node).await.unwrap(), [json!({ "text": "Hello, Ada!" })]);
}

#[tokio::test]
async fn a_component_that_fails_runs_nowhere_else() {
    let node = TestNode::start_with(memexec).await;
    let trapping = wasi_command(r#"(func (export "run") (result i32) unreachable)"#);
    let failed = run_command(&node, trapping).await.unwrap_err();
    assert_eq!(verdict(&failed), (Code::Unknown, "GUEST_TRAP".into()));
    assert_eq!(failed.metadata().get("collector-executor").unwrap(), "wasm");
}

#[tokio::test]
async fn k03_tags_and_repositories_that_are_not_listed_are_refused() {
    let node =
        TestNode::start_with(|config| config.exec.container.images = vec!["registry.example/team/*".into()]).await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let tags = ["image:registry.example/team/tool", "image:registry.example/team/tool:latest"].map(str::to_owned);
    let unlisted = ["registry.example/other/tool", "tool"].map(|name| format!("image:{name}@{digest}"));
    for uri in tags.into_iter().chain(unlisted) {
        let status = echo(&node, "acme", ServiceDef::ServiceUri(uri.clone())).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::PermissionDenied, "IMAGE_NOT_ALLOWED".into()), "{uri}: {status:?}");
        let order =
            plugins_pb::DeployHeader { image: uri.clone(), services: vec!["contract.v1.Contract".into()], ..header() };
        let status = deploy_with(&mut plugins(&node).await, order, b"").await.unwrap_err();
        assert_eq!(verdict(&status), (Code::PermissionDenied, "IMAGE_NOT_ALLOWED".into()), "{uri}: {status:?}");
    }
    let off = TestNode::start().await;
    let listed = ServiceDef::ServiceUri(format!("image:registry.example/team/tool@{digest}"));
    let status = echo(&off, "acme", listed).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::PermissionDenied, "IMAGE_NOT_ALLOWED".into()), "no list, no image");
}

/// An image with a native command in it, and a node that may run it; `None`, said aloud, where there is no engine.
async fn image_node(name: &str) -> Option<(TestNode, OciRegistry, ImageRef)> {
    docker().await?;
    let registry = OciRegistry::start().await;
    let image =
        registry.image("team/tool", &[("tool", 0o755, &native_bytes(name))], json!({ "Entrypoint": ["/tool"] }));
    let listed = format!("{}/team/*", registry.host());
    let node = TestNode::start_with(|config| {
        config.exec.container.images = vec![listed];
        config.exec.container.socket = engine_socket();
        config.exec.container.require_userns = false; // the engine of a test machine is as it is
    })
    .await;
    Some((node, registry, image))
}

async fn register_greeter(node: &TestNode) {
    let file =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/greeter/proto/greeter.proto"));
    let file = compile(&[("greeter.proto", &file.unwrap())]).pop().unwrap();
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel(&node.address()).await);
    let request = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&file.service[0])),
        file_descriptor: Some(raw(&file)),
    };
    registry.register_service(request).await.unwrap();
}

#[tokio::test]
async fn an_image_answers_a_call_and_a_deployment_by_its_digest() {
    let Some((mut node, _registry, image)) = image_node("greeter").await else { return };
    register_greeter(&node).await;
    let greeter = plugin("greeter");
    let mut call = Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    call.code = ServiceDef::ServiceUri(format!("image:{image}"));
    let called = call.run(&node.client).await.unwrap();
    assert_eq!(called.reply, json!({ "text": "Hello, Ada!" }));
    assert_eq!(called.receipt("collector-executor"), "container");
    assert_eq!(called.receipt("collector-digest"), format!("sha256:{}", image.digest()));

    let mut client = plugins(&node).await;
    let order = |services: Vec<String>| plugins_pb::DeployHeader {
        image: format!("image:{image}"),
        name: "tool".into(),
        services,
        ..header()
    };
    let unsaid = deploy_with(&mut client, order(vec![]), b"").await.unwrap_err();
    assert_eq!(verdict(&unsaid), (Code::FailedPrecondition, "NO_SERVICES".into()));
    let deployed = deploy_with(&mut client, order(vec!["greeter.v1.Greeter".into()]), b"").await.unwrap();
    let version = &deployed.deployment.unwrap().versions[0];
    assert_eq!((version.kind.as_str(), version.image.as_str()), (Kind::Image.name(), image.to_string().as_str()));
    assert_eq!(version.digest, format!("sha256:{}", image.digest()));

    for restarted in [false, true] {
        if restarted {
            node.restart().await;
        }
        let stub = Stub::new(&node, &greeter).await;
        let answer = stub.call("SayHello", json!({ "name": "Bob" })).await.unwrap();
        assert_eq!(answer.replies, [json!({ "text": "Hello, Bob!" })]);
        assert_eq!((answer.receipt("collector-executor"), answer.receipt("collector-version")), ("container", "1"));
    }
    let mut client = plugins(&node).await;
    let looked = plugins_pb::InspectRequest { namespace: "acme".into(), artifact: Some(Artifact::Name("tool".into())) };
    let found = client.inspect(looked).await.unwrap().into_inner();
    assert_eq!((found.kind.as_str(), found.size_bytes), ("Image", 0));
    let activate = plugins_pb::ActivateRequest { namespace: "acme".into(), name: "tool".into(), version: 1 };
    client.activate(activate).await.unwrap();
    node.restart_with(|config| config.exec.container.images.clear()).await;
    let refused = Stub::new(&node, &greeter).await.call("SayHello", json!({ "name": "Ada" })).await.unwrap_err();
    assert_eq!(
        verdict(&refused),
        (Code::PermissionDenied, "IMAGE_NOT_ALLOWED".into()),
        "the list counts at every call"
    );
    let gone = plugins_pb::UndeployRequest { namespace: "acme".into(), name: "tool".into(), version: 0 };
    plugins(&node).await.undeploy(gone).await.unwrap();
    forget(&image).await;
}

/// Removes an image from the engine.
async fn forget(image: &ImageRef) {
    let options = bollard::query_parameters::RemoveImageOptionsBuilder::new().force(true).build();
    let docker = docker().await.unwrap();
    let _ = docker.remove_image(&image.to_string(), Some(options), None).await;
}

fn collector(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_collector")).args(args).env_remove("COLLECTOR_CONFIG").output().unwrap()
}

fn doctor(settings: &[&str]) -> (Option<i32>, Value) {
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let done = collector(&[&["doctor", "--json"], settings.as_slice()].concat());
    (done.status.code(), serde_json::from_slice(&done.stdout).unwrap())
}

#[test]
fn doctor_says_what_works_and_ends_with_one_where_something_allowed_does_not() {
    let (code, found) = doctor(&["exec.native=memexec"]);
    assert_eq!((code, found["ok"].as_bool()), (Some(0), Some(true)), "{found:#}");
    let executor = |found: &Value, name: &str| {
        let all = found["executors"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    assert!(found["machine"]["kernel"].as_str().unwrap().contains('.'), "{found:#}");
    assert_eq!(
        (&executor(&found, "wasm")["works"], &executor(&found, "wasm")["allowed"]),
        (&json!(true), &json!(true))
    );
    let memexec = executor(&found, "memexec");
    assert_eq!(
        (&memexec["allowed"], &memexec["works"], &memexec["why_not"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert!(memexec["facts"]["Landlock"].as_str().unwrap().starts_with("ABI 6"), "{memexec:#}");
    for fact in ["user namespaces", "seccomp", "control groups"] {
        assert!(!memexec["facts"][fact].as_str().unwrap().is_empty(), "{fact}: {memexec:#}");
    }

    let nowhere = "exec.container.socket=unix:///nowhere/docker.sock";
    let (code, found) = doctor(&["exec.native=container", nowhere, "exec.namespaces.acme=container"]);
    assert_eq!((code, found["ok"].as_bool()), (Some(1), Some(false)), "{found:#}");
    let why = executor(&found, "container")["why_not"].as_str().unwrap().to_owned();
    assert!(why.contains("start Docker") && !why.contains("nowhere"), "{why}");
    let next = |found: &Value, name: &str| executor(found, name)["what_to_do"].clone();
    assert!(next(&found, "container").as_str().unwrap().contains("exec.container.socket"), "{found:#}");
    assert_eq!(next(&found, "wasm"), Value::Null);
    let of = |namespace: &str, native: &[&str]| json!({ "namespace": namespace, "native": native, "images": false });
    assert_eq!(found["allowed"], json!([of("acme", &["container"]), of("*", &["container"])]));
    // What is listed for a namespace and not in exec.native runs for nobody.
    let (code, found) = doctor(&["exec.namespaces.acme=memexec", "exec.native=container", nowhere]);
    assert_eq!((code, &found["allowed"]), (Some(1), &json!([of("acme", &[]), of("*", &["container"])])));

    let settings = ["exec.namespaces.acme=container", "exec.container.images=registry.example/team/*", nowhere];
    let done = collector(&["doctor", "--set", settings[0], "--set", settings[1], "--set", settings[2]]);
    let shown = text(&done.stdout);
    for part in [
        "kernel ",
        "wasm        works\n",
        "memexec     works here, and is not allowed (setting exec.native)",
        "Landlock",
        "container   DOES NOT WORK: there is no socket of a container engine",
        "what to do                   see that `docker info` answers at exec.container.socket",
        "acme                         images\n",
        "every other namespace        images\n",
        "images of                    registry.example/team/*\n",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(done.status.code(), Some(1), "images are allowed, and no engine is there");
    assert!(text(&done.stderr).contains("allowed and not working, see above: container"), "{}", text(&done.stderr));
    let shown = text(&collector(&["doctor", "--set", nowhere]).stdout);
    for part in [
        "container   is not allowed (settings exec.native and exec.container.images), and would not work",
        "every other namespace        nothing\n",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let wrong = collector(&["doctor", "--set", "exec.native=jail"]);
    assert!(text(&wrong.stderr).contains("`jail`, expected `memexec` or `container`"), "{}", text(&wrong.stderr));
}

#[test]
fn doctor_says_every_limit_with_its_origin_and_what_the_machine_lacks() {
    let (_, found) = doctor(&["limits.memory_mib=32", "wasm.total_memory_mib=99999999"]);
    let limit = |key: &str| {
        let all = found["limits"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).map(|one| (one["value"].clone(), one["origin"].clone())).unwrap()
    };
    assert_eq!(limit("limits.memory_mib"), (json!(32), json!("flag")));
    assert_eq!(limit("limits.log_bytes"), (json!(64 << 10), json!("default")));
    let missing = found["missing"].as_array().unwrap();
    assert!(missing.iter().any(|one| one.as_str().unwrap().contains("wasm.total_memory_mib")), "{missing:?}");
    let done = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["doctor", "--set", "server.connections=10000000"])
        .env("COLLECTOR_LIMITS__FUEL", "12")
        .output()
        .unwrap();
    let shown = text(&done.stdout);
    assert!(shown.contains("12  (COLLECTOR_LIMITS__FUEL)") && shown.contains("MISSING     open files"), "{shown}");
}

#[test]
fn doctor_says_what_keeps_a_node_from_starting_and_makes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (data, file) = (home.path().join("data"), home.path().join("file"));
    std::fs::write(&file, "no PEM").unwrap();
    let [data, file] = [&data, &file].map(|path| path.to_str().unwrap().to_owned());
    let look = |args: &[&str]| {
        let done = collector(&[&["doctor", "--json"], args].concat());
        let found: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(found["starts"].as_bool().unwrap(), done.status.success(), "{}", text(&done.stderr));
        found
    };
    let fine = look(&["--data", &data]);
    assert_eq!((&fine["starts"], &fine["missing"]), (&json!(true), &json!([])));
    assert!(fine["built_in"].as_array().unwrap().iter().any(|one| one["value"] == "16 KiB"), "{fine}");
    let below = format!("{file}/data");
    let (tls, jwks) = (format!("server.tls.certificate={file}"), format!("auth.jwt.jwks={file}"));
    let (key, ca) = (format!("server.tls.key={file}"), format!("net.ca_file={file}"));
    let issuer = ["--set", "auth.mode=required", "--set", "auth.jwt.issuer=i", "--set", "auth.jwt.audience=a"];
    for (args, wanted) in [
        (vec!["--listen", "0.0.0.0:0"], "--insecure"),
        (vec!["--set", &tls, "--set", &key], "server.tls.certificate"),
        ([&issuer[..], &["--set", &jwks]].concat(), "auth.jwt.jwks"),
        (vec!["--set", &ca], "net.ca_file"),
        (vec!["--data", &below], "data:"),
    ] {
        let found = look(&args);
        let missing = found["missing"].as_array().unwrap();
        let is_said = missing.iter().any(|one| one.as_str().unwrap().contains(wanted));
        assert!(is_said && found["starts"] == false, "{wanted}: {missing:?}");
    }
    assert_eq!(look(&["--listen", "0.0.0.0:0", "--insecure", "--data", &data])["missing"], json!([]));
    let alone = look(&["--set", "auth.mode=required", "--data", &data]);
    assert!(alone["missing"][0].as_str().unwrap().contains("auth key create") && alone["starts"] == true, "{alone}");
    assert!(!home.path().join("data").exists(), "nothing was made");
}

/// The default settings want root in containers to be nobody outside, and know an engine where it is.
#[tokio::test]
async fn only_an_engine_that_maps_root_is_good_enough_for_the_default_settings() {
    let Some(docker) = docker().await else { return };
    let told = docker.info().await.unwrap().security_options.unwrap_or_default();
    let maps = told.iter().any(|option| ["name=userns", "name=rootless"].iter().any(|word| option.starts_with(word)));
    let node = TestNode::start_with(|config| {
        config.exec.native = vec![Native::Container];
        config.exec.container.socket = engine_socket();
        assert!(config.exec.container.require_userns);
    })
    .await;
    let answered = echo(&node, "acme", ServiceDef::ServiceBinary(native_bytes("contract"))).await;
    match maps {
        true => assert_eq!(answered.unwrap().output.value, b"hi"),
        false => {
            let refused = answered.unwrap_err();
            assert_eq!(verdict(&refused), (Code::FailedPrecondition, "EXECUTOR_UNAVAILABLE".into()));
            let why =
                node.node().executors().into_iter().find(|one| one.name == "container").unwrap().works.unwrap_err();
            assert!(why.contains("--userns-remap=default") && why.contains("require_userns=false"), "{why}");
        }
    }
}

#[test]
fn a_native_plugin_is_inspected_called_and_deployed_by_hand() {
    let file = native("greeter");
    let file = file.to_str().unwrap();
    let shown = text(&collector(&["plugin", "inspect", file]).stdout);
    let machine = format!("machine   {}, statically linked", std::env::consts::ARCH);
    for part in
        ["kind      NativeElf", &machine, "service   greeter.v1.Greeter", "rpc SayHello(", "setting exec.native"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }

    let home = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(&home.path().join("data"), &["exec.native=memexec"]);
    let on = |args: &[&str]| {
        let done = collector(&[args, &["--node", &node.address, "--json"]].concat());
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let answer = on(&["call", "acme/Greeter/SayHello", "-p", file, "-d", r#"{"name": "Ada"}"#]);
    assert_eq!(
        (&answer["reply"]["text"], &answer["receipt"]["collector-executor"]),
        (&json!("Hello, Ada!"), &json!("memexec"))
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/greeter");
    let deployed = on(&["plugin", "deploy", folder.to_str().unwrap(), "--native", "-n", "acme"]);
    assert_eq!((&deployed["name"], &deployed["version"]), (&json!("greeter"), &json!(1)));
    let listed = on(&["plugin", "list", "-n", "acme"]);
    assert_eq!(listed["deployments"][0]["versions"][0]["kind"], "NativeElf");
    let answer = on(&["call", "acme/Greeter/SayHello", "-d", r#"{"name": "Bob"}"#]);
    assert_eq!(
        (&answer["reply"]["text"], &answer["receipt"]["collector-executor"]),
        (&json!("Hello, Bob!"), &json!("memexec"))
    );

    let image = format!("image:tool@sha256:{}", "0".repeat(64));
    for args in
        [vec!["call", "acme/Any/Count", "-p", &image], vec!["plugin", "deploy", &image, "-s", "greeter.v1.Greeter"]]
    {
        let done = collector(&[args.as_slice(), &["--node", &node.address]].concat());
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(64 + 7), "{said}");
        assert!(said.contains("IMAGE_NOT_ALLOWED") && said.contains("exec.container.images"), "{said}");
    }
}
