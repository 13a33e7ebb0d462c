use super::*;
use crate::store::SqliteStore;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};
use std::path::PathBuf;

struct Issuer {
    pair: KeyPair,
    id: &'static str,
}

impl Issuer {
    fn new(id: &'static str) -> Self {
        Self { pair: KeyPair::generate_for(&PKCS_ED25519).unwrap(), id }
    }

    fn jwk(&self) -> Value {
        let x = BASE64.encode(self.pair.der_bytes());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x })
    }

    fn sign(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": "https://issuer.example", "aud": "node", "sub": "ada", "jti": "t1",
            "exp": now() / 1_000_000 + 3_600, "collector": ["acme:deployer"],
        });
        change(&mut claims);
        let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some(self.id.to_owned());
        encode(&header, &claims, &EncodingKey::from_ed_der(&self.pair.serialize_der())).unwrap()
    }
}

struct Place {
    tokens: Arc<Tokens>,
    jwks: PathBuf,
    store: Arc<dyn Store>,
    lifecycle: Lifecycle,
    _data: tempfile::TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lifecycle.drain();
    }
}

fn write(path: &PathBuf, issuers: &[&Issuer]) {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    std::fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
}

impl Place {
    async fn new(issuers: &[&Issuer], roles: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let jwks = data.path().join("jwks.json");
        write(&jwks, issuers);
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data.path().join("records")).unwrap());
        let lifecycle = Lifecycle::default();
        let config = config(&jwks, roles);
        let tokens = Tokens::open(config, Arc::clone(&store), lifecycle.clone()).await.unwrap();
        Self { tokens, jwks, store, lifecycle, _data: data }
    }
}

fn config(jwks: &std::path::Path, roles: &[&str]) -> Jwt {
    Jwt {
        issuer: "https://issuer.example".into(),
        audience: "node".into(),
        jwks: jwks.to_owned(),
        roles: roles.iter().map(|text| text.parse().unwrap()).collect(),
        ..Jwt::default()
    }
}

#[tokio::test]
async fn a_good_token_gives_what_it_says_and_the_configuration_leaves() {
    let issuer = Issuer::new("a");
    let place = Place::new(&[&issuer], &["acme:admin", "*:invoker"]).await;
    let bindings = |claims: Value| {
        let token = issuer.sign(|all| all["collector"] = claims);
        place.tokens.find(&token).map(|caller| caller.bindings().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(bindings(json!(["acme:reader"])).unwrap(), ["acme:reader"]);
    assert_eq!(bindings(json!(["*:admin"])).unwrap(), ["*:invoker", "acme:admin"]);
    assert_eq!(bindings(json!(["globex:writer"])).unwrap(), [""; 0]);
    assert_eq!(bindings(json!(["acme:root", "nonsense"])).unwrap(), [""; 0]);
    assert_eq!(bindings(json!(vec!["acme:reader"; BINDINGS_MAX + 1])), None);
    let token = issuer.sign(|_| ());
    let (first, again) = (place.tokens.find(&token).unwrap(), place.tokens.find(&token).unwrap());
    assert!(std::ptr::eq(first.principal(), again.principal()), "verified once");
    assert_eq!(first.principal().to_string(), "token:ada");
}

#[tokio::test]
async fn u01_a_token_with_anything_wrong_is_nobodys() {
    let (issuer, other) = (Issuer::new("a"), Issuer::new("a"));
    let place = Place::new(&[&issuer], &["*:admin"]).await;
    let seconds = now() / 1_000_000;
    let sign = |change: &dyn Fn(&mut Value)| issuer.sign(change);
    let without = |claim: &'static str| issuer.sign(|all| drop(all.as_object_mut().unwrap().remove(claim)));
    assert!(place.tokens.find(&sign(&|_| ())).is_some());
    assert!(place.tokens.find(&sign(&|all| all["exp"] = json!(seconds - 3))).is_some(), "within the leeway");
    assert!(place.tokens.find(&sign(&|all| all["aud"] = json!(["x", "node"]))).is_some());
    let good = sign(&|_| ());
    let parts: Vec<&str> = good.split('.').collect();
    let forged = |header: Value| format!("{}.{}.{}", BASE64.encode(header.to_string()), parts[1], parts[2]);
    let hmac = {
        let claims = json!({ "iss": "https://issuer.example", "aud": "node", "sub": "ada", "jti": "t1",
            "exp": seconds + 60, "collector": ["*:admin"] });
        let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some("a".into());
        encode(&header, &claims, &EncodingKey::from_secret(issuer.pair.der_bytes())).unwrap()
    };
    for (what, bad) in [
        ("expired", sign(&|all| all["exp"] = json!(seconds - 6))),
        ("not yet", sign(&|all| all["nbf"] = json!(seconds + 30))),
        ("audience", sign(&|all| all["aud"] = json!("other"))),
        ("issuer", sign(&|all| all["iss"] = json!("https://issuer.example.evil"))),
        ("no exp", without("exp")),
        ("no iss", without("iss")),
        ("no aud", without("aud")),
        ("no sub", without("sub")),
        ("no jti", without("jti")),
        ("empty jti", sign(&|all| all["jti"] = json!(""))),
        ("long jti", sign(&|all| all["jti"] = json!("x".repeat(CLAIM_MAX + 1)))),
        ("odd exp", sign(&|all| all["exp"] = json!("tomorrow"))),
        ("another's signature", other.sign(|_| ())),
        ("none", forged(json!({ "alg": "none", "kid": "a" }))),
        ("HMAC with the public key", hmac),
        ("another algorithm", forged(json!({ "alg": "ES256", "kid": "a" }))),
        ("kid traversal", forged(json!({ "alg": "EdDSA", "kid": "../../dev/null" }))),
        ("kid unknown", forged(json!({ "alg": "EdDSA", "kid": "b" }))),
        ("a key of its own", forged(json!({ "alg": "EdDSA", "kid": "a", "jwk": other.jwk() }))),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("cut", good[..good.len() - 2].to_owned()),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("nothing", String::new()),
        ("dots", "..".into()),
        ("long", format!("{good}{}", "A".repeat(TOKEN_MAX))),
    ] {
        assert!(place.tokens.find(&bad).is_none(), "{what}");
    }
    assert!(place.tokens.find(&sign(&|all| all["jti"] = json!("x".repeat(CLAIM_MAX)))).is_some());
}

#[tokio::test]
async fn u09_a_revoked_token_is_over_for_all_who_have_it_and_stays_so() {
    let issuer = Issuer::new("a");
    let place = Place::new(&[&issuer], &["*:admin"]).await;
    let (token, other) = (issuer.sign(|_| ()), issuer.sign(|all| all["jti"] = json!("t2")));
    let again = issuer.sign(|all| all["sub"] = json!("eve"));
    let (caller, untouched) = (place.tokens.find(&token).unwrap(), place.tokens.find(&other).unwrap());
    let twin = place.tokens.find(&again).unwrap();
    let ended = place.lifecycle.spawn(caller.ended());
    let (id, until) = token_claims(&token).unwrap();
    place.tokens.revoke(id, until).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap();
    assert!(caller.has_ended() && twin.has_ended() && !untouched.has_ended());
    let reopened =
        Tokens::open(config(&place.jwks, &["*:admin"]), Arc::clone(&place.store), place.lifecycle.clone()).await;
    for tokens in [&place.tokens, &reopened.unwrap()] {
        assert!(tokens.find(&token).is_none() && tokens.find(&again).is_none() && tokens.find(&other).is_some());
    }
    assert!(place.tokens.revoke(String::new(), until).await.is_err());
    assert!(place.tokens.revoke("x".repeat(CLAIM_MAX + 1), until).await.is_err());
}

#[tokio::test]
async fn a_key_that_leaves_the_set_takes_its_tokens_along() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let place = Place::new(&[&old], &["*:admin"]).await;
    let caller = place.tokens.find(&old.sign(|_| ())).unwrap();
    let fresh = new.sign(|all| all["jti"] = json!("t2"));
    assert!(place.tokens.find(&fresh).is_none());
    let until = async |holds: &dyn Fn() -> bool| {
        for _ in 0..1_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not happen");
    };
    write(&place.jwks, &[&old, &new]);
    until(&|| place.tokens.find(&fresh).is_some()).await;
    assert!(!caller.has_ended(), "its key is still there");
    std::fs::write(&place.jwks, "half a fi").unwrap();
    tokio::time::sleep(LOOK * 3).await;
    assert!(!caller.has_ended() && place.tokens.find(&fresh).is_some(), "what cannot be used changes nothing");
    write(&place.jwks, &[&new]);
    tokio::time::timeout(Duration::from_secs(10), caller.ended()).await.unwrap();
    assert!(place.tokens.find(&old.sign(|_| ())).is_none() && place.tokens.find(&fresh).is_some());
}

#[tokio::test]
async fn known_tokens_are_bounded() {
    let issuer = Issuer::new("a");
    let place = Place::new(&[&issuer], &["*:admin"]).await;
    let caller = place.tokens.find(&issuer.sign(|_| ())).unwrap();
    let mut known = Known::default();
    for n in 0..=KNOWN_MAX {
        known.put(hash(&n.to_string()), caller.clone());
    }
    assert_eq!((known.callers.len(), known.uses.len()), (KNOWN_MAX, KNOWN_MAX));
    assert!(known.get(&hash("0")).is_none() && known.get(&hash("1")).is_some());
}
