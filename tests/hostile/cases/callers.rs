//! U: who calls, and what they may.

use crate::case::{Case, Cost, Miss, Verdict, check, done, refused, told};
use crate::raw::Raw;
use crate::target::{Target, collection};
use crate::wire::Wire;
use collector::rpc::pb;
use pb::admin::v1 as admin;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};

const LIST: &str = "collector.CollectorRegistry/ListServices";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "U01",
            "no token, broken tokens, `alg: none`, a `kid` with `../`, two tokens",
            "UNAUTHENTICATED, with one message",
            |t| Box::pin(u01(t)),
        ),
        Case::new(
            "U02",
            "a valid key on RPCs outside its grant: a sample; tests/it/auth has every RPC with every role",
            "PERMISSION_DENIED, none missing",
            |t| Box::pin(u02(t)),
        ),
        Case::new(
            "U03",
            "wrong keys that share most, half and nothing with a real one, timed; they are looked up by their hash",
            "UNAUTHENTICATED; the figure tells the times and judges nothing",
            |t| Box::pin(u03(t)),
        )
        .costs(Cost::Slow),
        Case::new(
            "U04",
            "namespaces in another case, homoglyphs, empty, `*`, paths, NUL",
            "INVALID_ARGUMENT, PERMISSION_DENIED, or another namespace",
            |t| Box::pin(u04(t)),
        ),
        Case::new(
            "U05",
            "one caller that may make 20 calls a second spreads its load over 1,000 namespaces",
            "20 a second in all, the rest RESOURCE_EXHAUSTED (QUOTA)",
            |t| Box::pin(u05(t)),
        )
        .costs(Cost::Heavy),
        Case::new(
            "U08",
            "one line of a copy of the audit log edited, dropped, swapped with the next",
            "`collector audit verify` names it",
            |t| Box::pin(u08(t)),
        )
        .costs(Cost::Heavy),
        Case::new("U09", "a key revoked during a long stream", "UNAUTHENTICATED from then on, the stream too", |t| {
            Box::pin(u09(t))
        })
        .costs(Cost::Slow),
        Case::new("U10", "the node's own namespace", "PERMISSION_DENIED everywhere", |t| Box::pin(u10(t))),
    ]
}

/// A JWT with an empty signature. Source: RFC 7519, section 6.1; RFC 8725, section 2.1.
fn jwt(header: &str) -> String {
    use base64::Engine as _;
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = r#"{"sub":"admin","aud":"collector","exp":99999999999,"roles":["admin"]}"#;
    format!("{}.{}.", url.encode(header), url.encode(claims))
}

/// Whether this node asks at all who calls.
async fn asks(t: &Target) -> Result<(), Miss> {
    let open = t.wire.without_token().to(LIST).status(&pb::ListServicesRequest::default()).await.is_ok();
    match open && t.node.is_none() {
        true => Err(Miss::Skipped("this node asks nobody who they are: auth.mode".into())),
        false => Ok(()),
    }
}

async fn u01(t: &Target) -> Verdict {
    asks(t).await?;
    let none = jwt(r#"{"alg":"none","typ":"JWT"}"#);
    let symmetric = jwt(r#"{"alg":"HS256","typ":"JWT"}"#) + "c2lnbmVk";
    let kid = jwt(r#"{"alg":"EdDSA","kid":"../../../../etc/passwd"}"#) + "c2lnbmVk";
    let tokens = [
        Vec::new(),
        vec!["Bearer".to_owned()],
        vec!["Bearer ".to_owned()],
        vec!["Basic YWRtaW46YWRtaW4=".to_owned()],
        vec!["Bearer x".to_owned()],
        vec![format!("Bearer {}", "a".repeat(8 << 10))],
        vec![format!("Bearer {none}")],
        vec![format!("Bearer {symmetric}")],
        vec![format!("Bearer {kid}")],
        vec!["Bearer a.b.c".to_owned()],
        vec!["Bearer x".to_owned(), "Bearer y".to_owned()],
    ];
    let wire = t.wire.without_token();
    let mut messages = std::collections::BTreeSet::new();
    for headers in &tokens {
        let call = headers.iter().fold(wire.to(LIST), |call, value| call.header("authorization", value));
        let what: String = headers.join(" and ").chars().take(60).collect();
        let answer = call.status(&pb::ListServicesRequest { namespace: t.namespace.clone() }).await;
        let status = refused(&format!("{what:?}"), answer, &[Code::Unauthenticated])?;
        messages.insert(status.message().to_owned());
    }
    check(messages.len() == 1, || format!("{} messages: {messages:?}", messages.len()))?;
    Ok(format!("{} refused, one message", tokens.len()))
}

/// Refusals that are counted.
#[derive(Default)]
struct Refusals(usize);

impl Refusals {
    /// Makes the call, which has to be refused.
    async fn of(&mut self, t: &Target, path: &str, message: &impl prost::Message) -> Result<(), String> {
        self.0 += 1;
        let answer = t.wire.to(path).status(message).await;
        refused(path, answer, &[Code::PermissionDenied]).map(drop)
    }
}

async fn u02(t: &Target) -> Verdict {
    asks(t).await?;
    let (own, foreign) = (&t.namespace, &t.bystander.namespace);
    let collection_name = crate::bystander::COLLECTION.to_owned();
    let (mut all, namespace) = (Refusals::default(), foreign.clone());
    // Nothing in another's namespace.
    let (name, id) = (collection_name.clone(), "entry-0".to_owned());
    let get = pb::GetRequest { namespace: namespace.clone(), collection_name: name.clone(), id: id.clone() };
    all.of(t, "collector.CollectionService/Get", &get).await?;
    let delete = pb::DeleteRequest { namespace: namespace.clone(), collection_name: name.clone(), id };
    all.of(t, "collector.CollectionService/Delete", &delete).await?;
    let list = pb::ListRequest { namespace: namespace.clone(), collection_name: name.clone(), ..Default::default() };
    all.of(t, "collector.CollectionService/List", &list).await?;
    let batch = pb::BatchRequest { namespace: namespace.clone(), collection_name: name.clone(), ..Default::default() };
    all.of(t, "collector.CollectionService/Batch", &batch).await?;
    let describe = pb::DescribeRequest { namespace: namespace.clone(), collection_name: name };
    all.of(t, "collector.CollectionService/Describe", &describe).await?;
    all.of(t, "collector.CollectionRepo/CreateCollection", &collection(foreign, "mine", "")).await?;
    all.of(t, LIST, &pb::ListServicesRequest { namespace: namespace.clone() }).await?;
    let lookup = pb::LookupServiceRequest { namespace: namespace.clone(), service_name: "greeter.v1.Greeter".into() };
    all.of(t, "collector.CollectorRegistry/LookupService", &lookup).await?;
    let mut serve =
        pb::ServeRequest { namespace: namespace.clone(), method_name: "SayHello".into(), ..Default::default() };
    serve.service = Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "greeter.v1.Greeter".into() });
    all.of(t, crate::target::SERVE, &serve).await?;
    let plugin = pb::plugin::v1::GetRequest { namespace: namespace.clone(), name: "greeter.v1.Greeter".into() };
    all.of(t, "collector.plugin.v1.Plugins/Get", &plugin).await?;
    let undeploy =
        pb::plugin::v1::UndeployRequest { namespace, name: "greeter.v1.Greeter".into(), ..Default::default() };
    all.of(t, "collector.plugin.v1.Plugins/Undeploy", &undeploy).await?;
    let hello = t.wire.to("greeter.v1.Greeter/SayHello").namespace(foreign);
    refused("a native call", hello.status(&serve).await, &[Code::PermissionDenied])?;
    // Nor what its roles are not for, in its own and in all.
    let (namespace, name, value) = (own.clone(), "mine".to_owned(), b"12345678".to_vec());
    let secret = admin::SetSecretRequest { namespace: namespace.clone(), name, value };
    all.of(t, "collector.admin.v1.Secrets/SetSecret", &secret).await?;
    let grants = vec!["dispatch=*".to_owned()];
    let grant = pb::plugin::v1::GrantRequest { namespace: namespace.clone(), name: "errands".into(), grants };
    all.of(t, "collector.plugin.v1.Plugins/Grant", &grant).await?;
    let quota = [("calls_per_second".to_owned(), 0)].into();
    let quota = admin::SetQuotaRequest { namespace: namespace.clone(), quota, reset: Vec::new() };
    all.of(t, "collector.admin.v1.Namespaces/SetQuota", &quota).await?;
    for binding in [format!("{own}:admin"), format!("{foreign}:reader"), "*:admin".to_owned()] {
        let key = admin::CreateRequest { bindings: vec![binding], ..Default::default() };
        all.of(t, "collector.admin.v1.Keys/Create", &key).await?;
    }
    Ok(format!("{} refused", all.0 + 1))
}

async fn u03(t: &Target) -> Verdict {
    asks(t).await?;
    let Some(real) = &t.token else { return Err(Miss::Skipped("it takes a key to be like".into())) };
    // The real one with its end, its half, all of it replaced by what a key may have in it.
    let like = |kept: usize| -> String {
        let turned = |(at, letter): (usize, char)| match (at < kept, letter) {
            (true, letter) | (_, letter @ '_') => letter,
            (_, 'a') => 'b',
            _ => 'a',
        };
        real.chars().enumerate().map(turned).collect()
    };
    let length = real.chars().count();
    let keys = [length.saturating_sub(1), length / 2, 0].map(like);
    let wires = keys.iter().map(|key| Wire::new(&t.address, Some(key.clone()), Arc::clone(&t.wire.seen)));
    let wires = wires.collect::<Result<Vec<_>, _>>()?;
    let mut micros = [const { Vec::new() }; 3];
    for _ in 0..t.many(100, 33_334) {
        for ((wire, key), micros) in wires.iter().zip(&keys).zip(&mut micros) {
            let began = Instant::now();
            let answer = wire.to(LIST).status(&pb::ListServicesRequest::default()).await;
            micros.push(began.elapsed().as_micros());
            check(key != real, || "a key like itself".to_owned())?;
            refused("a wrong key", answer, &[Code::Unauthenticated])?;
        }
    }
    let median = |mut all: Vec<u128>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let [most, half, nothing] = micros.map(median);
    Ok(format!("medians {most}, {half} and {nothing} us"))
}

async fn u04(t: &Target) -> Verdict {
    let own = &t.namespace;
    let bystander = &t.bystander.namespace;
    let bad = [
        "*".to_owned(),
        format!("{bystander}/"),
        format!("./{bystander}"),
        format!("{own}/../{bystander}"),
        format!("{bystander}\0"),
        format!(" {bystander}"),
        format!("{bystander} "),
        bystander.replace('a', "\u{430}"), // Cyrillic
        format!("{bystander}\u{200b}"),
        "%2e%2e".to_owned(),
        "..".to_owned(),
        "-".to_owned(),
        "a".repeat(64),
        String::new(),
    ];
    for namespace in &bad {
        let list = pb::ListRequest {
            namespace: namespace.clone(),
            collection_name: crate::bystander::COLLECTION.into(),
            ..Default::default()
        };
        let answer = t.wire.to("collector.CollectionService/List").status(&list).await;
        refused(&format!("{namespace:?}"), answer, &[Code::InvalidArgument, Code::PermissionDenied])?;
    }
    // Another case is another namespace: nothing of the bystander's is there.
    let list = pb::ListRequest {
        namespace: bystander.to_uppercase(),
        collection_name: crate::bystander::COLLECTION.into(),
        ..Default::default()
    };
    let answer = t.wire.to("collector.CollectionService/List").status(&list).await;
    refused("another case", answer, &[Code::NotFound, Code::PermissionDenied])?;
    Ok(format!("{} refused", bad.len() + 1))
}

async fn u10(t: &Target) -> Verdict {
    let system = "system";
    let denied = [Code::PermissionDenied];
    let list =
        pb::ListRequest { namespace: system.into(), collection_name: "registered_protos".into(), ..Default::default() };
    refused("read", t.wire.to("collector.CollectionService/List").status(&list).await, &denied)?;
    let made = t.wire.to("collector.CollectionRepo/CreateCollection").status(&collection(system, "mine", "")).await;
    refused("make", made, &denied)?;
    let listed = t.wire.to(LIST).ask::<pb::ListServicesResponse>(&pb::ListServicesRequest::default()).await;
    let listed = listed.map_err(|status| told(&status))?.services;
    let foreign = listed.iter().find(|service| service.namespace == system);
    check(foreign.is_none(), || "its services are listed".to_owned())?;
    let greeter = crate::target::deploy(system, &t.guests.greeter);
    let deployed = t.wire.to("collector.plugin.v1.Plugins/Deploy").bytes(greeter).await;
    refused("deploy", deployed, &denied)?;
    let get = pb::plugin::v1::GetRequest { namespace: system.into(), name: "x".into() };
    refused("get", t.wire.to("collector.plugin.v1.Plugins/Get").status(&get).await, &denied)?;
    Ok("4 refused, none listed".into())
}

async fn u05(t: &Target) -> Verdict {
    const RATE: u64 = 20;
    let (_node, other) = t.other(&[format!("quotas.caller.calls_per_second={RATE}")])?;
    let other = Arc::new(other);
    let began = Instant::now();
    let mut all = JoinSet::new();
    for job in 0..20 {
        let other = Arc::clone(&other);
        all.spawn(async move {
            let mut answers = Vec::new();
            for n in 0..50 {
                let ask = pb::ListServicesRequest { namespace: format!("spread-{}", job * 50 + n) };
                answers.push(other.wire.to(LIST).status(&ask).await);
            }
            answers
        });
    }
    let answers: Vec<Result<(), Status>> = all.join_all().await.into_iter().flatten().collect();
    // A second's worth at once, and what the time brought.
    let most = RATE as f64 * (began.elapsed().as_secs_f64() + 1.0) + 1.0;
    let count = answers.len();
    let mut through = 0;
    for answer in answers {
        match answer {
            Ok(()) => through += 1,
            Err(status) => {
                let status = refused::<()>("one over the quota", Err(status), &[Code::ResourceExhausted])?;
                check(told(&status).contains("[QUOTA]"), || told(&status))?;
            }
        }
    }
    check(through > 0 && f64::from(through) <= most, || format!("{through} of {count} got through, {most:.0} may"))?;
    Ok(format!("{through} of {count} got through in {:.1} s", began.elapsed().as_secs_f64()))
}

/// What `collector audit verify` says of a data folder, and whether it is content.
fn verify(program: &Path, data: &Path) -> Result<(bool, String), String> {
    let mut command = Command::new(program);
    command.args(["audit", "verify", "--data"]).arg(data).env_remove("COLLECTOR_CONFIG");
    let ran = command.output().map_err(|why| why.to_string())?;
    Ok((ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned()))
}

async fn u08(t: &Target) -> Verdict {
    let Some(node) = &t.node else { return Err(Miss::Skipped("the log is the node's own file".into())) };
    let copy = tempfile::tempdir().map_err(|why| why.to_string())?;
    let audit = copy.path().join("audit");
    std::fs::create_dir(&audit).map_err(|why| why.to_string())?;
    // What says how long the log is, before the log: it goes on meanwhile.
    let mut files: Vec<_> = std::fs::read_dir(node.audit()).map_err(|why| why.to_string())?.flatten().collect();
    files.sort_by_key(|file| file.path().extension().is_some_and(|kind| kind == "jsonl"));
    for file in &files {
        std::fs::copy(file.path(), audit.join(file.file_name())).map_err(|why| why.to_string())?;
    }
    let (good, said) = verify(node.program(), copy.path())?;
    check(good, || format!("as it is: {said}"))?;
    let logs = collector::tenancy::audit::files(&audit).map_err(|why| why.to_string())?;
    let log = logs.first().ok_or("there is no log")?;
    let text = std::fs::read_to_string(log).map_err(|why| why.to_string())?;
    let lines: Vec<&str> = text.lines().collect();
    check(lines.len() > 10, || "there are too few lines".to_owned())?;
    // Not the first, which begins the file, and not the last.
    let at = 1 + (t.seed as usize % (lines.len() - 3));
    let mut edited = lines.clone();
    let other = edited[at].replacen("\"time\":\"2", "\"time\":\"3", 1);
    check(other != edited[at], || "nothing was edited".to_owned())?;
    edited[at] = &other;
    let mut dropped = lines.clone();
    dropped.remove(at);
    let mut swapped = lines.clone();
    swapped.swap(at, at + 1);
    for (what, lines) in [("edited", edited), ("dropped", dropped), ("swapped", swapped)] {
        std::fs::write(log, lines.join("\n") + "\n").map_err(|why| why.to_string())?;
        let (good, said) = verify(node.program(), copy.path())?;
        t.wire.seen.count(1);
        check(!good, || format!("line {} {what}: it is content", at + 1))?;
        check(said.contains(&format!("line {}", at + 1)), || format!("line {} {what}: {said}", at + 1))?;
    }
    Ok(format!("line {} of {} named each time", at + 1, lines.len()))
}

async fn u09(t: &Target) -> Verdict {
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    asks(t).await?;
    let order = admin::CreateRequest { bindings: vec![format!("{}:reader", t.namespace)], ..Default::default() };
    let made = t.administrator()?.to("collector.admin.v1.Keys/Create").ask::<admin::CreateResponse>(&order).await;
    let made = done("a key", made)?;
    let id = made.key.unwrap_or_default().id;
    let mut raw =
        Raw::connect(&t.address, Some(&made.secret), &t.wire.seen, &[]).await.map_err(|why| why.to_string())?;
    raw.open(1, REFLECTION, &[], 0).await.map_err(|why| why.to_string())?;
    // List the services; more may follow.
    raw.frame(crate::raw::DATA, 0, 1, &[0, 0, 0, 0, 2, 0x3a, 0]).await.map_err(|why| why.to_string())?;
    let open = raw.until(Duration::from_secs(10), |said| said.headers.contains_key(&1)).await;
    check(open.is_some_and(|said| said.header(1, "grpc-status").is_none()), || "no stream was opened".to_owned())?;
    t.administer("collector.admin.v1.Keys/Revoke", &admin::RevokeRequest { id }).await?;
    let began = Instant::now();
    let wire = Wire::new(&t.address, Some(made.secret), Arc::clone(&t.wire.seen))?;
    let next = wire.to(LIST).status(&pb::ListServicesRequest::default()).await;
    refused("the next call", next, &[Code::Unauthenticated])?;
    let over = raw.until(Duration::from_secs(60), |said| said.header(1, "grpc-status").is_some() || said.closed).await;
    let over = over.ok_or("the stream goes on after 60 s")?;
    check(over.header(1, "grpc-status") == Some("16"), || format!("grpc-status {:?}", over.header(1, "grpc-status")))?;
    Ok(format!("cut {} ms after it was revoked", began.elapsed().as_millis()))
}
