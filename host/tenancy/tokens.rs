//! Tokens that a trusted issuer signed: verified once, then known by the hash of their text until they end.
//!
//! What ends a token early: its `jti` is revoked, or the key that signed it leaves the issuer's key set.

mod jwks;
mod record;

use super::caller::Life;
use super::config::Jwt;
use super::secret::{Hash, hash};
use super::{BINDINGS_MAX, BadSetting, Binding, Caller, KeyError, Principal};
use crate::domain::{Namespace, Recency, now};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError, Write};
use arc_swap::ArcSwap;
use jsonwebtoken::{Validation, decode, decode_header};
use jwks::{KeySet, Signer};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Clocks differ by so much.
const LEEWAY_S: u64 = 5;
/// Longest token. 8 KiB: half of what a request's head may have.
const TOKEN_MAX: usize = 8 << 10;
/// Longest `sub` and `jti`: names.
const CLAIM_MAX: usize = 256;
/// Verified tokens that are remembered. 4,096: about 1 KiB each; one that was forgotten is verified again.
const KNOWN_MAX: usize = 4_096;
/// Revoked tokens that have not expired. 100,000: 100 bytes each.
const REVOKED_MAX: usize = 100_000;
/// Revocations that have expired and go at once, in the write of a new one.
const SWEPT_MAX: usize = 100;
/// How often the key set's file is looked at: a key that is withdrawn is out within a second.
const LOOK: Duration = Duration::from_millis(500);

/// What a token has to say.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    sub: String,
    jti: String,
    #[serde(default)]
    collector: Vec<String>,
}

/// Verifies tokens.
pub(super) struct Tokens {
    config: Jwt,
    issuer: Arc<str>,
    validation: Validation,
    set: ArcSwap<KeySet>,
    known: Mutex<Known>,
    revoked: ArcSwap<imbl::HashMap<Arc<str>, i64>>,
    /// Marks of tokens that somebody still uses, by `jti`.
    marks: Mutex<HashMap<Arc<str>, Weak<AtomicBool>>>,
    changes: watch::Sender<u64>,
    store: Arc<dyn Store>,
    turn: tokio::sync::Mutex<()>,
    lifecycle: Lifecycle,
}

#[derive(Default)]
struct Known {
    callers: HashMap<Hash, Caller>,
    uses: Recency<Hash>,
}

impl Known {
    fn get(&mut self, hash: &Hash) -> Option<Caller> {
        let found = self.callers.get(hash)?.clone();
        if found.has_ended() {
            self.callers.remove(hash);
            self.uses.remove(hash);
            return None;
        }
        self.uses.touch(hash);
        Some(found)
    }

    fn put(&mut self, hash: Hash, caller: Caller) {
        self.callers.insert(hash, caller);
        self.uses.insert(hash, 0);
        while let Some(oldest) = self.uses.oldest_over(u64::MAX, KNOWN_MAX) {
            self.uses.remove(&oldest);
            self.callers.remove(&oldest);
        }
    }
}

/// Why keys of an issuer cannot be used.
pub(super) async fn problem(path: &std::path::Path, algorithm: super::Algorithm) -> Option<String> {
    KeySet::read(path, algorithm).await.err()
}

impl Tokens {
    /// Reads the issuer's keys and the revocations, and watches the file from now on.
    ///
    /// * errors: a key set that cannot be read or used; the store cannot be read.
    pub(super) async fn open(
        config: Jwt,
        store: Arc<dyn Store>,
        lifecycle: Lifecycle,
    ) -> Result<Arc<Self>, super::OpenError> {
        let set = KeySet::read(&config.jwks, config.algorithm).await;
        let set = set.map_err(|problem| BadSetting::new("jwt.jwks", problem))?;
        let revoked = record::all(&*store).await?;
        let mut validation = Validation::new(jwks::algorithm(config.algorithm));
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let tokens = Arc::new(Self {
            issuer: config.issuer.as_str().into(),
            config,
            validation,
            set: ArcSwap::from_pointee(set),
            known: Mutex::default(),
            revoked: ArcSwap::from_pointee(revoked),
            marks: Mutex::default(),
            changes: watch::Sender::new(0),
            store,
            turn: tokio::sync::Mutex::default(),
            lifecycle: lifecycle.clone(),
        });
        drop(lifecycle.spawn(watch_file(Arc::downgrade(&tokens), lifecycle.clone())));
        Ok(tokens)
    }

    /// Whose token this is; `None` for one that is not good, whatever the reason.
    pub(super) fn find(&self, text: &str) -> Option<Caller> {
        if text.len() > TOKEN_MAX {
            return None;
        }
        let hash = hash(text);
        if let Some(known) = self.known().get(&hash) {
            return Some(known);
        }
        let caller = self.verify(text)?;
        self.known().put(hash, caller.clone());
        Some(caller)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verify(&self, text: &str) -> Option<Caller> {
        let header = decode_header(text).ok()?;
        // What a header demands of its readers we do not know; who it says signed it is looked up by name, never fetched.
        if header.crit.is_some() {
            return None;
        }
        let set = self.set.load();
        let signer = set.signer(header.kid.as_deref())?;
        let claims = decode::<Claims>(text, &signer.key, &self.validation).ok()?.claims;
        self.caller(claims, signer)
    }

    fn caller(&self, claims: Claims, signer: &Signer) -> Option<Caller> {
        let named = |claim: &str| !claim.is_empty() && claim.len() <= CLAIM_MAX;
        if !named(&claims.sub) || !named(&claims.jti) || claims.collector.len() > BINDINGS_MAX {
            return None;
        }
        let id: Arc<str> = claims.jti.into();
        // The mark first: who revokes sets what is known as revoked, then the mark.
        let mark = self.mark(&id);
        if self.revoked.load().contains_key(&id) {
            return None;
        }
        // What this version cannot read gives nothing.
        let asked = claims.collector.iter().filter_map(|text| text.parse::<Binding>().ok());
        let mut bindings: Vec<Binding> =
            asked.flat_map(|own| self.config.roles.iter().filter_map(move |cap| own.within(cap))).collect();
        bindings.sort_unstable();
        bindings.dedup();
        bindings.truncate(BINDINGS_MAX);
        let until = expiry(claims.exp);
        let life = Life::new(Some(until), vec![mark, Arc::clone(&signer.withdrawn)], self.changes.subscribe());
        let principal = Principal::Token { issuer: Arc::clone(&self.issuer), subject: claims.sub.into(), id };
        let caller = Caller::new(principal, bindings, Some(life));
        (!caller.has_ended()).then_some(caller)
    }

    /// What is set once the token is revoked, the same for all who know it.
    fn mark(&self, id: &Arc<str>) -> Arc<AtomicBool> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.get(id).and_then(Weak::upgrade) {
            return mark;
        }
        if marks.len() >= marks.capacity() {
            marks.retain(|_, mark| mark.strong_count() > 0);
        }
        let mark = Arc::new(AtomicBool::new(false));
        marks.insert(Arc::clone(id), Arc::downgrade(&mark));
        mark
    }

    /// Ends all tokens of this `jti`: durable, then over for new calls and open streams.
    ///
    /// * `expires_at`: its `exp` in Unix microseconds: so long the revocation is kept.
    /// * errors: `Field`, `TooMany`, `Store`.
    /// * cancel: goes on; only the answer is lost.
    pub(super) async fn revoke(self: &Arc<Self>, id: String, expires_at: i64) -> Result<(), KeyError> {
        if id.is_empty() || id.len() > CLAIM_MAX {
            let problem = format!("must be 1 to {CLAIM_MAX} bytes");
            return Err(KeyError::Field { field: "id", problem });
        }
        let this = Arc::clone(self);
        let revoked = self.lifecycle.spawn(async move { this.revoke_now(id.into(), expires_at).await }).await;
        revoked.map_err(|_| KeyError::Draining)?
    }

    async fn revoke_now(&self, id: Arc<str>, expires_at: i64) -> Result<(), KeyError> {
        let _turn = self.turn.lock().await;
        let until = expires_at.saturating_add(leeway());
        let before = self.revoked.load_full();
        let until = before.get(&id).copied().unwrap_or(until).max(until);
        let past = before.iter().filter(|(_, until)| **until < now()).map(|(id, _)| Arc::clone(id));
        let past: Vec<Arc<str>> = past.filter(|one| *one != id).take(SWEPT_MAX).collect();
        if before.len() - past.len() >= REVOKED_MAX && !before.contains_key(&id) {
            return Err(KeyError::TooMany { what: "revoked tokens", most: REVOKED_MAX });
        }
        let mut changes: Vec<_> = past.iter().map(|id| record::delete(id)).collect();
        changes.push(record::put(&id, until));
        record::ensure(&*self.store).await?;
        self.store.write(&Namespace::system(), Write::together(changes)).await?;
        let mut after = imbl::HashMap::clone(&before);
        for id in &past {
            after.remove(id);
        }
        after.insert(Arc::clone(&id), until);
        self.revoked.store(Arc::new(after));
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.get(&id).and_then(Weak::upgrade) {
            mark.store(true, Ordering::Release);
        }
        drop(marks);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Takes over another key set. Tokens of keys that are in both stay good, those of others end.
    fn replace(&self, next: KeySet) {
        let gone = self.set.load().withdrawn_by(&next);
        self.set.store(Arc::new(next.keeping(&self.set.load())));
        gone.iter().for_each(|one| one.store(true, Ordering::Release));
        self.changes.send_modify(|count| *count += 1);
        tracing::info!(withdrawn = gone.len(), "the issuer's key set has changed");
    }
}

/// Unix microseconds of an `exp`, with what clocks differ by.
fn expiry(exp: f64) -> i64 {
    // The claim was checked as a number of seconds; what is beyond a number of ours never ends.
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float to integer saturates")]
    let seconds = exp as i64;
    seconds.saturating_mul(1_000_000).saturating_add(leeway())
}

fn leeway() -> i64 {
    i64::try_from(LEEWAY_S).unwrap_or_default().saturating_mul(1_000_000)
}

/// Looks at the file until the node stops. One that cannot be used changes nothing: said once, until it changes again.
async fn watch_file(tokens: Weak<Tokens>, lifecycle: Lifecycle) {
    let Some((path, algorithm)) = tokens.upgrade().map(|one| (one.config.jwks.clone(), one.config.algorithm)) else {
        return;
    };
    // Nothing seen yet: what was changed since the first reading is read again.
    let (mut seen, mut told) = (None, None);
    loop {
        tokio::select! {
            () = lifecycle.draining() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(tokens) = tokens.upgrade() else { return };
        let look = jwks::look(&path).await;
        if seen.is_some() && look == seen {
            continue;
        }
        seen = look;
        let why = match KeySet::read(&path, algorithm).await {
            Ok(next) if tokens.set.load().is_same(&next) => None,
            Ok(next) => {
                tokens.replace(next);
                None
            }
            Err(why) => Some(why),
        };
        // Read again until it can be: it may be nothing of the file's, such as too many open files, and a key taken out of it
        // must not stay.
        seen = seen.filter(|_| why.is_none());
        if let Some(why) = why.as_ref().filter(|_| why != told) {
            tracing::warn!(%why, "auth.jwt.jwks cannot be used; the keys of before stay");
        }
        told = why;
    }
}

/// How one revoked a token by its text: its `jti` and `exp`, unverified.
///
/// * errors: no token, or one without these claims.
pub fn token_claims(text: &str) -> Result<(String, i64), KeyError> {
    #[derive(Deserialize)]
    struct Named {
        jti: String,
        exp: f64,
    }
    let problem = "is no token with the claims jti and exp".to_owned();
    match jsonwebtoken::dangerous::insecure_decode_claims(text) {
        Ok(Named { jti, exp }) => Ok((jti, expiry(exp).saturating_sub(leeway()))),
        Err(_) => Err(KeyError::Field { field: "token", problem }),
    }
}

impl From<StoreError> for super::OpenError {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

#[cfg(test)]
mod tests;
