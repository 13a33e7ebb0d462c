use super::*;
use crate::store::SqliteStore;
use crate::tenancy::{Caller, Tenancy};

const PLAIN: Ground = Ground { tls: false, authorities: false, certificate: false, asks: false, insecure: true };
const TLS: Ground = Ground { tls: true, authorities: true, certificate: true, asks: true, insecure: false };

struct Place {
    store: Arc<dyn Store>,
    ground: Ground,
    entries: Vec<Entry>,
    _data: tempfile::TempDir,
}

impl Place {
    fn new(ground: Ground, entries: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data.path()).unwrap());
        let entry = |(address, identity): &(&str, &str)| Entry {
            address: (*address).into(),
            identity: (*identity).into(),
            allows: Vec::new(),
        };
        Self { store, ground, entries: entries.iter().map(entry).collect(), _data: data }
    }

    async fn open(&self) -> Peers {
        Peers::open(Arc::clone(&self.store), &self.entries, self.ground, Lifecycle::default()).await.unwrap()
    }
}

fn permit() -> Permit {
    let namespace = "acme".parse().unwrap();
    Tenancy::default().authorize(&Caller::anonymous(), &namespace, Verb::Operate).unwrap()
}

async fn add(peers: &Peers, address: &str, identity: &str) -> Result<Added, PeerError> {
    let identity = Some(identity.to_owned()).filter(|identity| !identity.is_empty());
    peers.add(&permit(), address.into(), identity, vec!["acme:invoker".parse().unwrap()]).await
}

fn addresses(peers: &Peers) -> Vec<String> {
    peers.all().iter().map(|one| one.address.clone()).collect()
}

#[tokio::test]
async fn added_peers_survive_a_restart_and_stand_after_the_configured() {
    let place = Place::new(PLAIN, &[("c:1", "")]);
    let peers = place.open().await;
    let mut changes = peers.changes();
    add(&peers, "a:1", "").await.unwrap();
    add(&peers, "b:1", "").await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    for peers in [&peers, &place.open().await] {
        assert_eq!(addresses(peers), ["c:1", "a:1", "b:1"]);
        let a = peers.find_by_address("a:1").unwrap();
        assert!(a.lets(&"acme".parse().unwrap(), Verb::Invoke) && !a.lets(&"acme".parse().unwrap(), Verb::Deploy));
        assert!(!a.lets(&"rival".parse().unwrap(), Verb::Invoke));
    }
    assert_eq!(add(&peers, "a:1", "").await.unwrap().policy.address, "a:1", "once more replaces it");
    assert_eq!(peers.all().len(), 3);
    changes.mark_unchanged();
    peers.remove(&permit(), "a:1".into()).await.unwrap();
    assert!(changes.has_changed().unwrap() && peers.find_by_address("a:1").is_none());
    assert_eq!(addresses(&place.open().await), ["c:1", "b:1"]);
    assert!(matches!(peers.remove(&permit(), "a:1".into()).await, Err(PeerError::NotFound)));
    assert!(matches!(peers.remove(&permit(), "c:1".into()).await, Err(PeerError::Configured)));
    assert!(matches!(add(&peers, "c:1", "").await, Err(PeerError::Configured)));
}

#[tokio::test]
async fn m07_an_identity_belongs_to_one_peer_and_names_it() {
    let place = Place::new(TLS, &[("c:1", "spiffe://d.example/collector/c")]);
    let peers = place.open().await;
    let b = add(&peers, "b:1", "spiffe://d.example/collector/b").await.unwrap().policy;
    assert_eq!(b.name.as_ref().unwrap().as_str(), "b");
    assert_eq!(peers.find_by_identity("spiffe://d.example/collector/b"), Some(b));
    assert!(peers.find_by_identity("spiffe://other.example/collector/b").is_none());
    for taken in ["spiffe://d.example/collector/b", "spiffe://d.example/collector/c"] {
        assert!(matches!(add(&peers, "x:1", taken).await, Err(PeerError::Taken)), "{taken}");
    }
    for bad in [
        "",
        "b",
        "https://d/collector/b",
        "spiffe:///collector/b",
        "spiffe://d/b",
        "spiffe://D/collector/b",
        "spiffe://d/collector/b/c",
        "spiffe://d/collector/",
        "spiffe://u@d/collector/b",
        &format!("spiffe://{}/collector/b", "d".repeat(IDENTITY_MAX)),
    ] {
        let why = add(&peers, "x:1", bad).await.unwrap_err();
        assert!(matches!(&why, PeerError::Field(why) if why.field == "identity"), "{bad}: {why}");
    }
}

#[tokio::test]
async fn peers_are_bounded_and_addresses_are_checked() {
    let place = Place::new(PLAIN, &[]);
    let peers = place.open().await;
    for bad in ["", "a", "http://a:1", "a:0", "user@a:1", "unix:/x", "a:1\r\nx: y", "file:///a"] {
        let why = add(&peers, bad, "").await.unwrap_err();
        assert!(matches!(&why, PeerError::Field(why) if why.field == "address"), "{bad}: {why}");
    }
    for n in 1..=PEERS_MAX {
        add(&peers, &format!("a:{n}"), "").await.unwrap();
    }
    assert!(matches!(add(&peers, "b:1", "").await, Err(PeerError::TooMany)));
    add(&peers, "a:1", "").await.unwrap();
}

#[tokio::test]
async fn settings_that_tell_no_peers_apart_have_none() {
    let place = Place::new(PLAIN, &[]);
    add(&place.open().await, "a:1", "").await.unwrap();
    let asks = Place { ground: Ground { asks: true, ..PLAIN }, ..place };
    let peers = asks.open().await;
    assert!(peers.all().is_empty(), "what was added in clear is none where callers are asked");
    assert!(matches!(add(&peers, "a:1", "").await, Err(PeerError::Ground(why)) if why.contains("auth.mode")));
}
