use super::*;
use crate::store::SqliteStore;
use crate::tenancy::secret::hash;

struct Place {
    keys: Keys,
    store: Arc<dyn Store>,
    config: Config,
    _data: tempfile::TempDir,
}

impl Place {
    async fn new(config: Config) -> Self {
        let data = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data.path()).unwrap());
        let keys = Keys::open(Arc::clone(&store), &config, Lifecycle::default()).await.unwrap();
        Self { keys, store, config, _data: data }
    }

    async fn reopened(&self) -> Keys {
        Keys::open(Arc::clone(&self.store), &self.config, Lifecycle::default()).await.unwrap()
    }

    async fn make(&self, bindings: &[&str]) -> Result<(Key, Secret), KeyError> {
        self.keys.create(new(bindings), "test".into()).await
    }
}

fn new(bindings: &[&str]) -> NewKey {
    let bindings = bindings.iter().map(|text| text.parse().unwrap()).collect();
    NewKey { label: "a label".into(), bindings, expires_at: None }
}

#[tokio::test]
async fn a_key_survives_a_restart_as_its_hash_and_so_does_its_end() {
    let place = Place::new(Config::default()).await;
    let (key, secret) = place.make(&["acme:reader", "*:invoker"]).await.unwrap();
    let again = place.reopened().await;
    for keys in [&place.keys, &again] {
        let caller = keys.find(&hash(secret.expose())).unwrap();
        assert_eq!(caller.bindings(), key.bindings);
        assert_eq!(keys.get(&key.id).as_ref(), Some(&key));
    }
    for record in crate::store::all(&*place.store, &Namespace::system(), "api_keys").await.unwrap() {
        let text = String::from_utf8_lossy(&record.bytes);
        assert!(!text.contains(secret.expose()) && !text.contains(secret.expose().splitn(3, '_').nth(2).unwrap()));
    }
    let caller = place.keys.find(&secret.hash()).unwrap();
    let revoked = place.keys.revoke(&key.id).await.unwrap();
    assert!(revoked.revoked_at.is_some() && caller.has_ended() && place.keys.find(&secret.hash()).is_none());
    assert_eq!(place.keys.revoke(&key.id).await.unwrap(), revoked, "once more changes nothing");
    assert!(place.reopened().await.find(&secret.hash()).is_none());
    assert!(matches!(place.keys.revoke("no").await, Err(KeyError::NotFound)));
}

/// The one thing a text is turned into is a hash of all of it: two texts that share all but a character share nothing that
/// a look-up sees.
#[tokio::test]
async fn u03_a_key_is_found_by_the_hash_of_all_of_it() {
    let place = Place::new(Config::default()).await;
    let (_, secret) = place.make(&["acme:reader"]).await.unwrap();
    let text = secret.expose();
    assert!(place.keys.find(&hash(text)).is_some());
    for at in 0..text.len() {
        let mut near = text.as_bytes().to_vec();
        near[at] = if near[at] == b'A' { b'B' } else { b'A' };
        let near = hash(std::str::from_utf8(&near).unwrap());
        let differ = near.iter().zip(secret.hash()).filter(|(a, b)| *a != b).count();
        assert!(differ > 20 && place.keys.find(&near).is_none(), "{at}: {differ}");
        assert!(place.keys.find(&hash(&text[..at])).is_none());
    }
}

/// Of wrong keys, those that share most of a right one take as long as those that share nothing: the medians of many
/// look-ups differ by less than a tenth. Run by hand: a busy machine says nothing.
#[tokio::test]
#[ignore = "a measurement: run it alone, on an idle machine"]
async fn u03_a_near_miss_takes_as_long_as_a_far_one() {
    let place = Place::new(Config::default()).await;
    let (_, secret) = place.make(&["acme:reader"]).await.unwrap();
    let text = secret.expose();
    let near = format!("{}{}", &text[..text.len() - 1], if text.ends_with('A') { 'B' } else { 'A' });
    let far = format!("clk_{}_{}", "0".repeat(16), "x".repeat(43));
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..200_000 {
        let (side, guess) = if round % 2 == 0 { (0, &near) } else { (1, &far) };
        let began = tokio::time::Instant::now();
        assert!(std::hint::black_box(place.keys.find(&hash(guess))).is_none());
        times[side].push(began.elapsed().as_nanos());
    }
    let [near, far] = times.map(|mut all| {
        all.sort_unstable();
        all[all.len() / 2]
    });
    assert!(near.abs_diff(far) * 10 <= near.max(far), "{near} ns and {far} ns");
}

#[tokio::test]
async fn keys_are_bounded_and_those_that_are_over_make_room() {
    let config = Config { keys: 3, keys_per_namespace: 2, ..Config::default() };
    let place = Place::new(config).await;
    let (first, _) = place.make(&["acme:reader"]).await.unwrap();
    place.make(&["acme:reader", "acme:writer"]).await.unwrap();
    let full = place.make(&["acme:reader"]).await;
    assert!(matches!(full, Err(KeyError::TooMany { most: 2, .. })), "{full:?}");
    place.make(&["globex:reader"]).await.unwrap();
    assert!(matches!(place.make(&["*:reader"]).await, Err(KeyError::TooMany { most: 3, .. })));
    place.keys.revoke(&first.id).await.unwrap();
    assert!(place.keys.get(&first.id).is_some(), "it can still be looked at");
    place.make(&["acme:reader"]).await.unwrap();
    assert!(place.keys.get(&first.id).is_none());
    assert_eq!(place.reopened().await.list(None, 10, |_| true).len(), 3);
}

#[tokio::test]
async fn what_no_key_can_be_is_named() {
    let place = Place::new(Config::default()).await;
    let field = |made: Result<(Key, Secret), KeyError>| match made {
        Err(KeyError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let make = |change: fn(&mut NewKey)| {
        let mut order = new(&["acme:reader"]);
        change(&mut order);
        place.keys.create(order, String::new())
    };
    assert!(make(|order| order.label = "x".repeat(LABEL_MAX)).await.is_ok());
    assert_eq!(field(make(|order| order.label = "x".repeat(LABEL_MAX + 1)).await), "label");
    assert_eq!(field(make(|order| order.label = "a\nb".into()).await), "label");
    assert_eq!(field(make(|order| order.bindings.clear()).await), "bindings");
    let many = |count: usize| vec!["acme:reader".parse::<Binding>().unwrap(); count];
    assert!(place.keys.create(NewKey { bindings: many(BINDINGS_MAX), ..new(&[]) }, String::new()).await.is_ok());
    let over = place.keys.create(NewKey { bindings: many(BINDINGS_MAX + 1), ..new(&[]) }, String::new()).await;
    assert_eq!(field(over), "bindings");
    assert_eq!(field(make(|order| order.bindings = vec!["system:reader".parse().unwrap()]).await), "bindings");
    assert_eq!(field(make(|order| order.expires_at = Some(now())).await), "expires_at");
}

#[tokio::test]
async fn pages_go_on_after_a_key() {
    let place = Place::new(Config::default()).await;
    for _ in 0..5 {
        place.make(&["acme:reader"]).await.unwrap();
    }
    let all: Vec<_> = place.keys.list(None, 10, |_| true).into_iter().map(|key| key.id).collect();
    let first: Vec<_> = place.keys.list(None, 2, |_| true).into_iter().map(|key| key.id).collect();
    let rest: Vec<_> = place.keys.list(Some(&first[1]), 10, |_| true).into_iter().map(|key| key.id).collect();
    assert_eq!([first, rest].concat(), all);
}
