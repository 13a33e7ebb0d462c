//! What code of a deployment may reach: nothing but what is granted to it, for as long as it is.

use crate::support::*;
use collector::rpc::pb::plugin::v1 as plugins_pb;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_types::StatusExt as _;

async fn says(stub: &Stub<'_>, method: &str, errand: Value) -> String {
    let answer = stub.call(method, errand).await.unwrap();
    answer.replies[0]["text"].as_str().unwrap_or_default().to_owned()
}

async fn fails(stub: &Stub<'_>, method: &str, errand: Value) -> (Code, String) {
    let status = stub.call(method, errand).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn w07_imports_beyond_the_grants_are_listed_and_nothing_is_deployed() {
    let node = TestNode::start().await;
    let (errands, mut client) = (plugin("errands"), plugins(&node).await);
    let missing = async |client: &mut Plugins, grants: &[&str]| {
        let refused = deploy_with(client, with_grants(grants), &errands.bytes).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::FailedPrecondition, "IMPORTS_NOT_GRANTED".into()), "{refused:?}");
        let violations = refused.get_details_precondition_failure().unwrap().violations;
        violations.into_iter().map(|one| one.subject).collect::<Vec<_>>()
    };
    let all = missing(&mut client, &[]).await;
    for kind in ["config", "secret", "collections", "dispatch", "http", "files"] {
        assert!(all.iter().any(|one| one.contains(&format!("collector:plugin/{kind}@"))), "{kind} in {all:?}");
    }
    assert_eq!(all.len(), 6);
    assert_eq!(missing(&mut client, &GRANTS[..5]).await.len(), 1);

    let only = plugins_pb::DeployHeader { validate_only: true, ..with_grants(&GRANTS[..2]) };
    let plan = deploy_with(&mut client, only, &errands.bytes).await.unwrap().plan.unwrap();
    let power = |kind: &str| plan.powers.iter().find(|power| power.grant == kind).unwrap().granted;
    assert_eq!((power("config"), power("secret"), power("http")), (true, true, false));
    let name = plugins_pb::GetRequest { namespace: "acme".into(), name: ERRANDS.into() };
    assert_eq!(client.get(name).await.unwrap_err().code(), Code::NotFound, "nothing was deployed");

    let done = deploy_with(&mut client, with_grants(&GRANTS), &errands.bytes).await.unwrap();
    assert_eq!(done.deployment.unwrap().grants.len(), GRANTS.len());
    let again = deploy_with(&mut client, header(), &variant(&errands.bytes, "two")).await.unwrap();
    assert_eq!(again.version, 2, "grants are the deployment's, not the version's");
    let bad = deploy_with(&mut client, with_grants(&["files=/etc"]), &errands.bytes).await.unwrap_err();
    assert_eq!((bad.code(), bad_fields(&bad)), (Code::InvalidArgument, vec!["grants".to_owned()]));
}

#[tokio::test]
async fn a_guest_that_asks_for_more_than_it_was_granted_is_written_down() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let stub = Stub::new(&node, &errands).await;
    let denied = || {
        let all = crate::audit::records(&node.data());
        let denied = all.into_iter().filter(|record| record.kind() == "denied");
        denied.map(|record| (record.caller.unwrap(), record.verb.unwrap())).collect::<Vec<_>>()
    };
    assert!(denied().is_empty());
    for (method, errand, verb) in [
        ("OpenSecret", json!({ "name": "other" }), "invoke"),
        ("Put", json!({ "name": "private", "id": "x", "text": "x" }), "write"),
        ("Get", json!({ "name": "private", "id": "x" }), "read"),
        ("Fetch", json!({ "method": "GET", "url": "http://example.com/", "headers": [] }), "invoke"),
    ] {
        let before = denied().len();
        assert_eq!(fails(&stub, method, errand).await.0, Code::PermissionDenied, "{method}");
        until(method, async || denied().len() > before).await;
        let (caller, said) = denied().pop().unwrap();
        assert!(caller.contains(ERRANDS) && said == verb, "{method}: {caller} {said}");
    }
}

#[tokio::test]
async fn code_of_no_deployment_is_granted_nothing() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    for call in [Call::new(&errands, "Config", json!({})), Call::new(&errands, "Config", json!({})).by_digest()] {
        let refused = assert_verdict(call.run(&node.client).await, Code::FailedPrecondition, "IMPORTS_NOT_GRANTED");
        assert!(refused.message().contains("collector:plugin/http"), "{}", refused.message());
    }
}

#[tokio::test]
async fn each_grant_opens_what_it_names_and_no_more() {
    let mut node = TestNode::start().await;
    let errands = errands(&node).await;
    set_secret(&node, "acme", "api-token", TOKEN).await.unwrap();
    set_secret(&node, "acme", "other", TOKEN).await.unwrap();
    let stub = Stub::new(&node, &errands).await;
    assert_eq!(says(&stub, "Config", json!({ "name": "region" })).await, "north");
    assert_eq!(fails(&stub, "Config", json!({ "name": "other" })).await.0, Code::NotFound);
    assert!(!says(&stub, "OpenSecret", json!({ "name": "api-token" })).await.contains(TOKEN));
    let (code, words) = fails(&stub, "OpenSecret", json!({ "name": "other" })).await;
    assert!(code == Code::PermissionDenied && words.contains("secret=other"), "{words}");

    for id in ["a", "b", "c"] {
        assert_eq!(says(&stub, "Put", json!({ "name": "notes", "id": id, "text": format!("note {id}") })).await, id);
    }
    says(&stub, "Put", json!({ "name": "notes", "id": "a", "text": "changed" })).await;
    assert_eq!(says(&stub, "Get", json!({ "name": "notes", "id": "a" })).await, "changed");
    let pages = stub.call("List", json!({ "name": "notes", "amount": 2 })).await.unwrap();
    assert_eq!(pages.replies[0], json!({ "text": "2", "names": ["c", "b", "a"], "data": "" }));
    let found = stub.call("Search", json!({ "name": "notes", "text": "note" })).await.unwrap();
    assert_eq!(found.replies[0]["names"].as_array().unwrap().len(), 2);
    says(&stub, "Remove", json!({ "name": "notes", "id": "b" })).await;
    assert_eq!(fails(&stub, "Get", json!({ "name": "notes", "id": "b" })).await.0, Code::NotFound);
    let token = stub.call("ListFrom", json!({ "name": "notes" })).await.unwrap().replies[0]["text"].clone();
    let forged = format!("AAAA{}", token.as_str().unwrap());
    assert_eq!(fails(&stub, "ListFrom", json!({ "name": "notes", "text": forged })).await.0, Code::InvalidArgument);

    let client = Client::connect(&node.address()).await;
    client.make(Place::acme("private").definition("errands.v1.Note", &[])).await.unwrap();
    for method in ["Put", "Get", "List", "Search", "Remove"] {
        let (code, words) = fails(&stub, method, json!({ "name": "private", "id": "x", "text": "x" })).await;
        assert!(code == Code::PermissionDenied && words.contains("collections=private"), "{method}: {words}");
    }
    grant(&node, &["collections=notes:read"]).await;
    assert_eq!(fails(&stub, "Put", json!({ "name": "notes", "id": "d", "text": "x" })).await.0, Code::PermissionDenied);
    assert_eq!(says(&stub, "Get", json!({ "name": "notes", "id": "c" })).await, "note c");

    let greeter = plugin("greeter");
    deploy(&node, &greeter).await;
    let (code, words) = fails(&stub, "Call", json!({ "name": "Greeter", "text": "SayHello" })).await;
    assert!(code == Code::PermissionDenied && words.contains("dispatch=greeter.v1.Greeter"), "{words}");
    grant(&node, &["dispatch=greeter.v1.Greeter"]).await;
    let (code, words) = fails(&stub, "Call", json!({ "name": "Greeter", "text": "SayHello" })).await;
    assert_eq!((code, words.as_str()), (Code::InvalidArgument, "nobody to greet"), "the other handler's own fault");
    assert_eq!(fails(&stub, "Call", json!({ "name": "Greeter", "text": "Nope" })).await.0, Code::Unimplemented);
    assert_eq!(fails(&stub, "Call", json!({ "name": ERRANDS, "text": "Watch" })).await.0, Code::Unimplemented);

    node.restart().await;
    let stub = Stub::new(&node, &errands).await;
    assert_eq!(says(&stub, "Config", json!({ "name": "region" })).await, "north", "grants survive");
    says(&stub, "OpenSecret", json!({ "name": "api-token" })).await;
}

#[tokio::test]
async fn h09_another_namespace_cannot_be_named_and_a_secret_is_said_nowhere() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    set_secret(&node, "acme", "api-token", TOKEN).await.unwrap();
    set_secret(&node, "rival", "rivals", TOKEN).await.unwrap();
    grant(&node, &["secret=rivals", "collections=*:write", "dispatch=*"]).await;
    let client = Client::connect(&node.address()).await;
    let rival = Place { namespace: "rival", collection: "gold" };
    client.make(rival.definition("", &[])).await.unwrap();
    let stub = Stub::new(&node, &errands).await;
    assert_eq!(fails(&stub, "OpenSecret", json!({ "name": "rivals" })).await.0, Code::NotFound, "is another's");
    assert_eq!(fails(&stub, "OpenSecret", json!({ "name": "rival/rivals" })).await.0, Code::InvalidArgument);
    assert_eq!(fails(&stub, "Get", json!({ "name": "gold", "id": "x" })).await.0, Code::NotFound);
    for name in ["rival/gold", "../rival", "system/secrets", ""] {
        let (code, _) = fails(&stub, "Get", json!({ "name": name, "id": "x" })).await;
        assert_eq!(code, Code::InvalidArgument, "{name:?}");
    }
    assert_eq!(fails(&stub, "Get", json!({ "name": "secrets", "id": "acme/api-token" })).await.0, Code::NotFound);
    let (code, words) = fails(&stub, "DieWithSecret", json!({ "name": "api-token" })).await;
    assert!(code == Code::Unknown && words.contains("holding") && !words.contains(TOKEN), "{words}");

    for entry in walk(&node.data()) {
        let bytes = std::fs::read(&entry).unwrap();
        let found = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!found, "in the clear in {}", entry.display());
    }
    for bad in ["", "short", "with\r\nbreak and more", &"x".repeat(4_097)] {
        assert_eq!(set_secret(&node, "acme", "bad", bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    set_secret(&node, "acme", "large", &"x".repeat(4_096)).await.unwrap();
    assert_eq!(set_secret(&node, "system", "a", TOKEN).await.unwrap_err().code(), Code::PermissionDenied);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

#[tokio::test]
async fn h10_what_is_revoked_is_denied_to_calls_that_run() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let stub = Stub::new(&node, &errands).await;
    let request = stub.request(tokio_stream::iter([stub.encode("Watch", &json!({ "name": "notes" }))]));
    let watch = stub.grpc().await.streaming(request, stub.path("Watch"), RawCodec).await.unwrap();
    let mut watch = watch.into_inner();
    watch.next().await.unwrap().unwrap();
    let insist = async {
        let answer = stub.call("Insist", json!({ "name": "notes" })).await.unwrap();
        (answer.replies[0]["text"].as_str().unwrap().to_owned(), tokio::time::Instant::now())
    };
    let revoked = async {
        until("both calls run", async || node.node().wasm_stats().await.running == 2).await;
        let left = revoke(&node, &["collections"]).await.unwrap();
        assert_eq!(left.len(), GRANTS.len() - 1);
        tokio::time::Instant::now()
    };
    let ((words, denied), revoked) = tokio::join!(insist, revoked);
    assert!(words.starts_with("PERMISSION_DENIED") && words.contains("collections=notes:read"), "{words}");
    assert!(denied.saturating_duration_since(revoked) < Duration::from_secs(1));
    let end = loop {
        match watch.next().await.expect("a status at the end") {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::PermissionDenied);
    let unknown = revoke(&node, &["collections=notes"]).await.unwrap_err();
    assert_eq!(verdict(&unknown), (Code::NotFound, "GRANT_NOT_FOUND".into()));
    grant(&node, &["collections=notes:read"]).await;
    says(&stub, "List", json!({ "name": "notes" })).await;
}

#[tokio::test]
async fn calls_of_guests_never_wait_for_the_place_of_their_caller() {
    let node = TestNode::start_with(|config| {
        config.wasm.slots = 1;
        config.wasm.nested = 1;
    })
    .await;
    let errands = errands(&node).await;
    let stub = Stub::new(&node, &errands).await;
    let nest = async |depth: u32| stub.call("Nest", json!({ "amount": depth })).await;
    let (one, two, three) = tokio::join!(nest(3), nest(3), nest(8));
    for answer in [one, two, three] {
        assert_eq!(answer.unwrap().replies[0]["text"], "the bottom");
    }
    let too_deep = nest(9).await.unwrap_err();
    assert!(too_deep.code() == Code::ResourceExhausted && too_deep.message().contains("8 others"), "{too_deep:?}");
    until("every place comes back", async || node.node().wasm_stats().await.running == 0).await;
}

#[tokio::test]
async fn the_command_line_grants_revokes_and_keeps_secrets() {
    let cli = Cli::start();
    let file = component("errands");
    let file = file.to_str().unwrap();
    let refused = cli.fails(64 + 9, &["plugin", "deploy", file, "--name", "errands"]);
    assert!(refused.contains("collector:plugin/http") && refused.contains("http="), "{refused}");
    let mut args = vec!["plugin", "deploy", file, "--name", "errands"];
    GRANTS.iter().for_each(|grant| args.extend(["--grant", grant]));
    cli.says(&args);
    let granted = cli.json(&["plugin", "grant", "errands", "config=mode=fast"]);
    assert_eq!(granted["grants"].as_array().unwrap().len(), GRANTS.len() + 1);
    let shown = cli.says(&["plugin", "revoke", "errands", "config", "dispatch"]);
    assert!(shown.contains("secret=api-token") && !shown.contains("config=mode"), "{shown}");
    assert!(cli.fails(64 + 5, &["plugin", "revoke", "errands", "dispatch"]).contains("no grant dispatch"));

    assert!(cli.fed(&["secret", "set", "api-token"], &format!("{TOKEN}\n")).status.success());
    assert_eq!(cli.json(&["secret", "list"])["names"], json!(["api-token"]));
    let empty = cli.fed(&["secret", "set", "other"], "\n");
    assert!(!empty.status.success() && text(&empty.stderr).contains("stdin"));
    let from_file = cli.write("value", TOKEN);
    cli.says(&["secret", "set", "other", "--file", &from_file]);
    cli.says(&["secret", "delete", "api-token"]);
    assert_eq!(cli.says(&["secret", "list"]).trim(), "other");
}
