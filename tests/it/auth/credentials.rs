//! Credentials that are none, in every protocol.

use super::Guarded;
use crate::support::{TestNode, channel, verdict};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use collector::config::Config;
use collector::rpc::pb;
use collector::tenancy::Algorithm;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::{EncodingKey, Header, encode};
use prost::Message as _;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};
use std::path::Path;
use tonic::Code;

const LIST: &str = "/collector.CollectorRegistry/ListServices";

/// Somebody who signs tokens.
pub(super) struct Issuer(KeyPair);

impl Issuer {
    pub(super) fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    /// Makes a node trust it.
    pub(super) fn trusted(&self, config: &mut Config, folder: &Path) {
        let x = BASE64.encode(self.0.der_bytes());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] });
        let file = folder.join("jwks.json");
        std::fs::write(&file, set.to_string()).unwrap();
        let jwt = &mut config.auth.jwt;
        (jwt.issuer, jwt.audience, jwt.jwks) = ("https://issuer".into(), "node".into(), file);
        jwt.algorithm = Algorithm::EdDSA;
        jwt.roles = vec!["*:deployer".parse().unwrap()];
    }

    pub(super) fn sign(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": "https://issuer", "aud": "node", "sub": "ada", "jti": "t1",
            "exp": seconds() + 600, "collector": ["acme:deployer"],
        });
        change(&mut claims);
        let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some("k".to_owned());
        encode(&header, &claims, &EncodingKey::from_ed_der(&self.0.serialize_der())).unwrap()
    }
}

#[tokio::test]
async fn a_token_by_ecdsa_is_good_where_that_was_set_and_no_other() {
    let (own, eddsa) = (KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), Issuer::new());
    let node = Guarded::start_with(|config, folder| {
        eddsa.trusted(config, folder);
        // An uncompressed point. Source: SEC 1 section 2.3.3.
        let [4, point @ ..] = own.der_bytes() else { panic!("it is compressed") };
        let [x, y] = [&point[..32], &point[32..]].map(|part| BASE64.encode(part));
        let set = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y }] });
        std::fs::write(&config.auth.jwt.jwks, set.to_string()).unwrap();
        config.auth.jwt.algorithm = Algorithm::ES256;
    })
    .await;
    let claims = json!({
        "iss": "https://issuer", "aud": "node", "sub": "ada", "jti": "t1",
        "exp": seconds() + 600, "collector": ["acme:deployer"],
    });
    let sign = |key: &KeyPair| {
        let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("k".to_owned());
        encode(&header, &claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
    };
    let list = pb::ListServicesRequest { namespace: "acme".into() }.encode_to_vec();
    let lists = async |token: &str| node.call(token, LIST, list.clone()).await.map(drop).map_err(|why| why.code());
    assert_eq!(lists(&sign(&own)).await, Ok(()));
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    assert_eq!(lists(&sign(&other)).await, Err(Code::Unauthenticated));
    assert_eq!(lists(&eddsa.sign(|_| ())).await, Err(Code::Unauthenticated), "another algorithm");
}

/// Of the key in `rsa-of-a-test.pem`, which is good for nothing else.
const MODULUS: &str = concat!(
    "nTiwQJEdVEiUSGCMG6GMKX6LOvfLpVDu-KsiWGf1cVbfaSb6hUXcxy_myaMw1AAeaDWWxoS6lgu3nQGeA-NOhKL-zZGv5WvU8NNF",
    "0-P7tuGLDuqaWiM4Q17VA7y5Ht8Gb6sAKGG1gdYwK8Gzm21b8goKh26YoUSvKnT98obLPdFRWP0Zv11_wly79HfY1PtYY6K_jRQv",
    "OM9PTmAgiTDq-L9wsOMG5W2f_cx1ZzM1DmhVE4TB6RQaZnd8hzN8E8KXWaaCzb8XmOlP9iAOqShkQ-BYoYvorXQwPHjSvZ3Kdyl9",
    "75OaemM5SGOPJJDbXbNAR0T2OyhQe6pOp8fpchD09w",
);

#[tokio::test]
async fn a_token_by_rsa_is_good_where_that_was_set_and_no_other() {
    let eddsa = Issuer::new();
    let node = Guarded::start_with(|config, folder| {
        eddsa.trusted(config, folder);
        let set = json!({ "keys": [{ "kty": "RSA", "alg": "RS256", "kid": "k", "n": MODULUS, "e": "AQAB" }] });
        std::fs::write(&config.auth.jwt.jwks, set.to_string()).unwrap();
        config.auth.jwt.algorithm = Algorithm::RS256;
    })
    .await;
    let key = EncodingKey::from_rsa_pem(include_bytes!("rsa-of-a-test.pem")).unwrap();
    let sign = |algorithm, ends: u64| {
        let mut header = Header::new(algorithm);
        header.kid = Some("k".to_owned());
        let claims = json!({
            "iss": "https://issuer", "aud": "node", "sub": "ada", "jti": "t1",
            "exp": ends, "collector": ["acme:deployer"],
        });
        encode(&header, &claims, &key).unwrap()
    };
    let list = pb::ListServicesRequest { namespace: "acme".into() }.encode_to_vec();
    let lists = async |token: &str| node.call(token, LIST, list.clone()).await.map(drop).map_err(|why| why.code());
    let good = sign(jsonwebtoken::Algorithm::RS256, seconds() + 600);
    assert_eq!(lists(&good).await, Ok(()));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let mut other = BASE64.decode(signature).unwrap();
    other[100] ^= 1;
    let of_the_same_key = [
        sign(jsonwebtoken::Algorithm::RS512, seconds() + 600),
        sign(jsonwebtoken::Algorithm::PS256, seconds() + 600),
        sign(jsonwebtoken::Algorithm::RS256, seconds() - 600),
        format!("{head}.{}", BASE64.encode(other)),
        format!("{head}."),
    ];
    for token in of_the_same_key.into_iter().chain([eddsa.sign(|_| ())]) {
        assert_eq!(lists(&token).await, Err(Code::Unauthenticated), "{token}");
    }
}

fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

async fn send(address: &str, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut request = Request::builder().method(method).uri(format!("{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.request(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    Got { status: head.status.as_u16(), headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

/// What the node says to these headers, protocol by protocol: code and words.
async fn refusals(node: &Guarded, credentials: &[(&str, &str)]) -> Vec<(Code, String)> {
    let mut said = Vec::new();
    let mut request = tonic::Request::new(tokio_stream::iter([Vec::new()]));
    for (name, value) in credentials {
        let name: tonic::metadata::AsciiMetadataKey = name.parse().unwrap();
        request.metadata_mut().append(name, value.parse().unwrap());
    }
    let mut grpc = tonic::client::Grpc::new(node.channel.clone());
    grpc.ready().await.unwrap();
    let answer = grpc.streaming(request, http::uri::PathAndQuery::from_static(LIST), crate::support::RawCodec).await;
    match answer {
        Ok(_) => said.push((Code::Ok, String::new())),
        Err(status) => {
            assert_eq!(verdict(&status).1, "UNAUTHENTICATED");
            said.push((status.code(), status.message().to_owned()));
        }
    }
    let with = |kind: &'static str| [&[("content-type", kind)], credentials].concat();
    let address = node.address();
    for kind in ["application/json", "application/proto"] {
        let body: &[u8] = if kind.ends_with("json") { b"{}" } else { b"" };
        let got = send(&address, Method::POST, LIST, &with(kind), body).await;
        let json: Value = serde_json::from_slice(&got.body).unwrap_or_default();
        if got.status == 401 {
            assert!(got.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
            assert_eq!(json["code"], "unauthenticated");
        }
        let code = if got.status == 401 { Code::Unauthenticated } else { Code::Ok };
        said.push((code, json["message"].as_str().unwrap_or_default().to_owned()));
    }
    let got = send(&address, Method::POST, LIST, &with("application/grpc-web+proto"), &[0; 5]).await;
    let text = String::from_utf8_lossy(&got.body).into_owned();
    let in_head = got.headers.get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
    let refused = in_head.as_deref() == Some("16") || text.contains("grpc-status:16");
    said.push((if refused { Code::Unauthenticated } else { Code::Ok }, String::new()));
    let reflect = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let connect = [&[0, 0, 0, 0, 2][..], b"{}"].concat();
    let got = send(&address, Method::POST, reflect, &with("application/connect+json"), &connect).await;
    let refused = String::from_utf8_lossy(&got.body).contains("unauthenticated");
    // Over HTTP/1.1 there is no dialogue; who is nobody learns that first.
    said.push((if refused { Code::Unauthenticated } else { Code::Ok }, String::new()));
    let got = send(&address, Method::GET, "/descriptors/acme.binpb", credentials, b"").await;
    said.push((if got.status == 401 { Code::Unauthenticated } else { Code::Ok }, String::new()));
    said
}

#[tokio::test]
async fn u01_bad_credentials_are_refused_alike_in_every_protocol() {
    let issuer = Issuer::new();
    let node = Guarded::start_with(|config, folder| issuer.trusted(config, folder)).await;
    let good = issuer.sign(|_| ());
    let hmac = {
        let claims = json!({ "iss": "https://issuer", "aud": "node", "sub": "a", "jti": "b", "exp": seconds() + 60 });
        let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some("k".to_owned());
        encode(&header, &claims, &EncodingKey::from_secret(issuer.0.der_bytes())).unwrap()
    };
    let parts: Vec<&str> = good.split('.').collect();
    let forged = |header: Value| format!("{}.{}.{}", BASE64.encode(header.to_string()), parts[1], parts[2]);
    let admin = format!("Bearer {}", node.admin);
    let mut cases: Vec<(&str, Vec<String>)> = vec![
        ("none", vec![]),
        ("another scheme", vec!["Basic YWRtaW46YWRtaW4=".into()]),
        ("no scheme", vec![node.admin.clone()]),
        ("nothing after it", vec!["Bearer ".into()]),
        ("two", vec![admin.clone(), admin.clone()]),
        ("two in one", vec![format!("{admin}, {admin}")]),
    ];
    for (what, token) in [
        ("a key that is none", format!("clk_{}_{}", "0".repeat(16), "A".repeat(43))),
        ("half a key", node.admin[..node.admin.len() - 1].to_owned()),
        ("a key and more", format!("{}A", node.admin)),
        ("the node's own", format!("cln_{}_{}", "0".repeat(16), "A".repeat(43))),
        ("malformed", "a.b.c".into()),
        ("expired", issuer.sign(|all| all["exp"] = json!(seconds() - 60))),
        ("not yet", issuer.sign(|all| all["nbf"] = json!(seconds() + 60))),
        ("another audience", issuer.sign(|all| all["aud"] = json!("other"))),
        ("none", forged(json!({ "alg": "none", "kid": "k" }))),
        ("HMAC with the public key", hmac),
        ("kid traversal", forged(json!({ "alg": "EdDSA", "kid": "../../../../dev/null" }))),
    ] {
        cases.push((what, vec![format!("Bearer {token}")]));
    }
    let mut words: Option<Vec<(Code, String)>> = None;
    for (what, values) in &cases {
        let headers: Vec<(&str, &str)> = values.iter().map(|value| ("authorization", value.as_str())).collect();
        let said = refusals(&node, &headers).await;
        assert!(said.iter().all(|(code, _)| *code == Code::Unauthenticated), "{what}: {said:?}");
        assert_eq!(&said, words.get_or_insert_with(|| said.clone()), "{what}");
    }
    for value in [admin, format!("bearer {good}")] {
        let said = refusals(&node, &[("authorization", &value)]).await;
        assert!(said.iter().all(|(code, _)| *code == Code::Ok), "{said:?}");
    }
}

#[tokio::test]
async fn what_is_open_without_credentials_is_health_preflight_and_the_welcome() {
    let node = Guarded::start_with(|config, _| config.server.cors_origins = vec!["https://a.example".into()]).await;
    let address = node.address();
    let check = "/grpc.health.v1.Health/Check";
    for (service, status) in [("", 200), ("collector.CollectorRegistry", 200), ("acme.v1.Secret", 401)] {
        let body = json!({ "service": service }).to_string();
        let json = [("content-type", "application/json")];
        let got = send(&address, Method::POST, check, &json, body.as_bytes()).await;
        assert_eq!(got.status, status, "{service}");
    }
    let preflight = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    let got = send(&address, Method::OPTIONS, LIST, &preflight, b"").await;
    assert_eq!(got.status, 204);
    assert!(got.headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert_eq!(send(&address, Method::GET, "/", &[], b"").await.status, 404, "the welcome");
    // Bad credentials are bad there too.
    let bad = [("content-type", "application/json"), ("authorization", "Bearer x")];
    assert_eq!(send(&address, Method::POST, check, &bad, b"{}").await.status, 401);
}

#[tokio::test]
async fn where_nobody_is_asked_credentials_mean_nothing_and_keys_are_not_made() {
    let node = TestNode::start().await;
    let list = |value: &'static str| {
        let mut request = tonic::Request::new(pb::ListServicesRequest::default());
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        request
    };
    let channel = channel(&node.address()).await;
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel.clone());
    for value in ["Bearer nonsense", "Basic x"] {
        assert!(registry.list_services(list(value)).await.is_ok());
    }
    let mut keys = pb::admin::v1::keys_client::KeysClient::new(channel);
    let refused = keys.create(super::create(&["acme:reader"])).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::FailedPrecondition, "AUTH_OFF".into()));
}

#[tokio::test]
async fn a_tokens_power_ends_where_the_configuration_says() {
    let issuer = Issuer::new();
    let node = Guarded::start_with(|config, folder| issuer.trusted(config, folder)).await;
    let token = issuer.sign(|all| all["collector"] = json!(["acme:admin"]));
    let register = pb::RegisterProtoRequest { namespace: "acme".into(), ..Default::default() };
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(node.signed(&token));
    let reached = registry.register_proto(register).await.unwrap_err();
    assert_eq!(reached.code(), Code::InvalidArgument, "it may deploy: {reached:?}");
    let refused = node.keys(&token).create(super::create(&["acme:reader"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "it may not manage");
}

#[tokio::test]
async fn a_role_is_enough_in_connect_too_whatever_the_default_namespace() {
    let node = Guarded::start().await;
    let (_, reader) = node.key(&["acme:reader"]).await;
    let bearer = format!("Bearer {reader}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let discover = "/collector.CollectionRepo/Discover";
    for (namespace, status) in [("acme", 200), ("globex", 403), ("system", 403)] {
        let body = json!({ "namespace": namespace }).to_string();
        assert_eq!(send(&node.address(), Method::POST, discover, &headers, body.as_bytes()).await.status, status);
    }
    let native = send(&node.address(), Method::POST, "/a.v1.B/Get", &headers, b"{}").await;
    assert_eq!(native.status, 403, "a reader calls nothing");
}
