//! U: who calls, and what they may.

use crate::case::{Case, Verdict, check, not_yet, refused, told};
use crate::target::{Target, collection};
use collector::rpc::pb;
use tonic::Code;

const LIST: &str = "collector.CollectorRegistry/ListServices";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "U01",
            "no token, broken tokens, `alg: none`, a `kid` with `../`, two tokens",
            "UNAUTHENTICATED, with one message",
            |t| Box::pin(u01(t)),
        )
        .pending("callers (auth.mode)"),
        not_yet(
            "U02",
            "a valid token on every RPC outside its grant, by role",
            "PERMISSION_DENIED, none missing",
            "callers (auth.mode)",
        ),
        not_yet(
            "U03",
            "100,000 timed tokens that share a prefix with a real one",
            "no signal in the times",
            "callers (auth.mode)",
        ),
        Case::new(
            "U04",
            "namespaces in another case, homoglyphs, empty, `*`, paths, NUL",
            "INVALID_ARGUMENT, PERMISSION_DENIED, or another namespace",
            |t| Box::pin(u04(t)),
        ),
        not_yet("U05", "one caller's load over 1,000 namespaces", "one caller's quota in all", "quotas per caller"),
        not_yet("U08", "one line of the audit log edited, dropped, moved", "the verifier names it", "the audit log"),
        not_yet("U09", "a token revoked during a long stream", "cut within 60 s", "callers (auth.mode)"),
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

async fn u01(t: &Target) -> Verdict {
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
