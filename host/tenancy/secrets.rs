//! Secrets of namespaces: kept sealed, shown to nobody, used by the node itself.
//!
//! A record of `system/secrets` holds a value encrypted under a key that is derived from the node's, bound to its
//! namespace and name. What is held in memory is the same sealed bytes; a value is in the clear only while a request that
//! uses it is made. Whoever has the data folder has the node's key and with it the secrets; a copy of the database alone
//! is of no use.

use super::Permit;
use crate::domain::{Namespace, SecretName};
use crate::lifecycle::Lifecycle;
use crate::store::{self, Change, Expect, Store, StoreError, Write};
use arc_swap::ArcSwap;
use prost::Message;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::sync::Arc;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// Collection of secrets, in `system`.
const COLLECTION: &str = "secrets";
const TYPE: &str = "type.googleapis.com/collector.admin.v1.SecretRecord";
/// What the sealing key is derived under.
const CONTEXT: &str = "collector 2026-11 secrets at rest";
/// Shortest secret. 8 bytes: what is shorter cannot be told from words when answers are searched for it.
pub const SECRET_MIN: usize = 8;
/// Longest secret. 4 KiB: a header holds it.
pub const SECRET_MAX: usize = 4 << 10;
/// Secrets of one namespace. 256: all are held in memory.
pub const SECRETS_MAX: usize = 256;

/// As the store keeps it. Source: proto/collector/admin/v1/secrets.proto.
#[derive(Clone, PartialEq, Message)]
struct SecretRecord {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    /// Nonce, then the value encrypted.
    #[prost(bytes = "vec", tag = "3")]
    sealed: Vec<u8>,
}

/// Why a secret was not set or deleted.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The value is none that a header can carry.
    #[error("a secret has {SECRET_MIN} to {SECRET_MAX} bytes of visible ASCII and spaces, without line breaks")]
    Value,
    /// More than the namespace may have.
    #[error("the namespace has {SECRETS_MAX} secrets, more are not kept; delete one")]
    TooMany,
    /// None of this name.
    #[error("there is no secret of this name in this namespace")]
    NotFound,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Ours.
    #[error("the node failed to keep the secret")]
    Internal,
}

/// Where a secret is.
type Place = (Namespace, SecretName);

type Kept = imbl::OrdMap<Place, Arc<[u8]>>;

/// The secrets of all namespaces. Clones share them.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    kept: ArcSwap<Kept>,
    key: LessSafeKey,
    store: Arc<dyn Store>,
    /// Held from the store's write to the swap, so that both are in the same order.
    turn: Mutex<()>,
    lifecycle: Lifecycle,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// Reads what was set in earlier runs.
    ///
    /// * errors: the store cannot be read.
    pub async fn open(store: Arc<dyn Store>, node_key: &[u8; 32], lifecycle: Lifecycle) -> Result<Self, StoreError> {
        store::ensure(&*store, &Namespace::system(), COLLECTION).await?;
        let mut kept = Kept::new();
        for record in store::all(&*store, &Namespace::system(), COLLECTION).await? {
            match SecretRecord::decode(record.bytes).ok().and_then(read) {
                Some((place, sealed)) => drop(kept.insert(place, sealed)),
                None => tracing::error!(id = record.id, "a stored secret cannot be read"),
            }
        }
        let derived = Zeroizing::new(blake3::derive_key(CONTEXT, node_key));
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*derived).map_err(|_| StoreError::Closed)?;
        let (kept, key) = (ArcSwap::from_pointee(kept), LessSafeKey::new(key));
        Ok(Self(Arc::new(Inner { kept, key, store, turn: Mutex::new(()), lifecycle })))
    }

    /// Keeps a secret, instead of the one of this name if there is one.
    ///
    /// * cancel: goes on; only the answer is lost.
    pub async fn set(&self, permit: &Permit, name: SecretName, value: Zeroizing<Vec<u8>>) -> Result<(), SecretError> {
        let fits = (SECRET_MIN..=SECRET_MAX).contains(&value.len());
        if !fits || !value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
            return Err(SecretError::Value);
        }
        let place = (permit.namespace().clone(), name);
        let sealed = self.seal(&place, &value).ok_or(SecretError::Internal)?;
        let this = self.clone();
        self.tracked(async move {
            let _turn = this.0.turn.lock().await;
            let kept = this.0.kept.load();
            if !kept.contains_key(&place) && names_of(&kept, &place.0).count() >= SECRETS_MAX {
                return Err(SecretError::TooMany);
            }
            let change = put(&place, &sealed);
            this.0.store.write(&Namespace::system(), Write::together(vec![change])).await?;
            this.0.kept.store(Arc::new(kept.update(place, sealed)));
            Ok(())
        })
        .await
    }

    /// Forgets a secret. The next host call that wants it does not find it.
    ///
    /// * cancel: goes on; only the answer is lost.
    pub async fn delete(&self, permit: &Permit, name: SecretName) -> Result<(), SecretError> {
        let place = (permit.namespace().clone(), name);
        let this = self.clone();
        self.tracked(async move {
            let _turn = this.0.turn.lock().await;
            let kept = this.0.kept.load();
            if !kept.contains_key(&place) {
                return Err(SecretError::NotFound);
            }
            let change = Change::Delete { collection: COLLECTION.to_owned(), id: id(&place), expect: Expect::Any };
            this.0.store.write(&Namespace::system(), Write::together(vec![change])).await?;
            this.0.kept.store(Arc::new(kept.without(&place)));
            Ok(())
        })
        .await
    }

    /// The names in a namespace, in order.
    pub fn names(&self, permit: &Permit) -> Vec<SecretName> {
        names_of(&self.0.kept.load(), permit.namespace()).cloned().collect()
    }

    /// Whether there is such a secret.
    pub fn has(&self, permit: &Permit, name: &SecretName) -> bool {
        self.0.kept.load().contains_key(&(permit.namespace().clone(), name.clone()))
    }

    /// The value, for a request that the node makes itself. Never to be handed to a guest or a client.
    pub(crate) fn reveal(&self, permit: &Permit, name: &SecretName) -> Option<Zeroizing<Vec<u8>>> {
        let place = (permit.namespace().clone(), name.clone());
        let sealed = self.0.kept.load().get(&place).cloned()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.key.open_in_place(nonce, Aad::from(id(&place)), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }

    fn seal(&self, place: &(Namespace, SecretName), value: &[u8]) -> Option<Arc<[u8]>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = value.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.key.seal_in_place_append_tag(unique, Aad::from(id(place)), &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat().into())
    }

    async fn tracked<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SecretError>> + Send + 'static,
    ) -> Result<T, SecretError> {
        self.0.lifecycle.spawn(work).await.map_err(|_gone| SecretError::Internal)?
    }
}

fn names_of<'a>(kept: &'a Kept, namespace: &'a Namespace) -> impl Iterator<Item = &'a SecretName> {
    kept.keys().filter(move |(of, _)| of == namespace).map(|(_, name)| name)
}

/// Names the record, and what the sealed bytes are bound to. Neither part has a slash.
fn id((namespace, name): &(Namespace, SecretName)) -> String {
    format!("{namespace}/{name}")
}

fn read(record: SecretRecord) -> Option<(Place, Arc<[u8]>)> {
    Some(((record.namespace.parse().ok()?, record.name.parse().ok()?), record.sealed.into()))
}

fn put(place: &(Namespace, SecretName), sealed: &[u8]) -> Change {
    let (namespace, name) = (place.0.to_string(), place.1.to_string());
    Change::Put {
        collection: COLLECTION.to_owned(),
        id: id(place),
        type_url: TYPE.to_owned(),
        bytes: SecretRecord { namespace, name, sealed: sealed.to_vec() }.encode_to_vec().into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    }
}
