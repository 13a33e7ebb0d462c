//! What one collector says to the next of a call that it hands over: whose it is, what that caller may do, and where the
//! call has been.
//!
//! Signed with the key of one link, so it is good for the collector at its other end and nobody else; numbered, so it is
//! good once; dated, so it is good for half a minute; and about one path and one namespace. Source: threats.md B11, M03.

use crate::domain::{CollectorId, Namespace};
use crate::tenancy::Verbs;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::Message;
use ring::hmac;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

/// Bytes of a link's name.
pub const LINK_ID_BYTES: usize = 16;
/// Bytes of a link's key.
pub const LINK_KEY_BYTES: usize = 32;
/// Longest text of who called, in bytes: as long as any principal is written.
pub(super) const ORIGIN_MAX: usize = 512;
/// Longest statement as a header's value. 4 KiB: a path of two names, two principals and four collectors fit twice over.
pub(super) const HEADER_MAX: usize = 4 << 10;

/// A link's name, its key and its counter, at the end that hands calls over.
pub struct LinkKey {
    id: [u8; LINK_ID_BYTES],
    secret: Zeroizing<[u8; LINK_KEY_BYTES]>,
    mac: hmac::Key,
    numbers: AtomicU64,
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkKey").field("id", &hex::encode(self.id)).finish_non_exhaustive()
    }
}

impl LinkKey {
    /// A new one.
    ///
    /// * errors: the system gives no randomness.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; LINK_ID_BYTES], Zeroizing::new([0; LINK_KEY_BYTES]));
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut *secret)?;
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &*secret);
        Ok(Self { id, secret, mac, numbers: AtomicU64::new(0) })
    }

    /// Its name.
    pub fn id(&self) -> &[u8; LINK_ID_BYTES] {
        &self.id
    }

    /// The key itself, for the other end and for nobody else.
    pub fn secret(&self) -> &[u8; LINK_KEY_BYTES] {
        &self.secret
    }

    /// A signed statement as visible ASCII. Each is another, even of the same call.
    ///
    /// * `now`: Unix milliseconds.
    pub fn sign(&self, call: &Statement, now: i64) -> String {
        self.sign_all(call, crate::domain::cut(&call.origin, ORIGIN_MAX), now)
    }

    /// The same with an origin that is too long: what no collector of ours says.
    #[cfg(test)]
    pub(super) fn sign_uncut(&self, call: &Statement, now: i64) -> String {
        self.sign_all(call, &call.origin, now)
    }

    fn sign_all(&self, call: &Statement, origin: &str, now: i64) -> String {
        let wire = Wire {
            link_id: self.id.to_vec(),
            number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            issued_at: now,
            origin: origin.to_owned(),
            namespace: call.namespace.to_string(),
            verbs: call.verbs.bits(),
            path: call.path.clone(),
            visited: call.visited.iter().map(ToString::to_string).collect(),
        };
        let statement = wire.encode_to_vec();
        let mac = hmac::sign(&self.mac, &statement).as_ref().to_vec();
        STANDARD_NO_PAD.encode(Signed { statement, mac }.encode_to_vec())
    }
}

/// What is said of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Who called, and where: `COLLECTOR/PRINCIPAL`.
    pub origin: String,
    /// Where the method is to run.
    pub namespace: Namespace,
    /// What the caller may do there, by all collectors that the call has passed.
    pub verbs: Verbs,
    /// Path of the request.
    pub path: String,
    /// Collectors that the call has passed, oldest first; the one that says this is the last.
    pub visited: Vec<CollectorId>,
}

/// A statement as it is signed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Wire {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) link_id: Vec<u8>,
    /// Counts up with each of a link, from 1.
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
    /// Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub(super) issued_at: i64,
    #[prost(string, tag = "4")]
    pub(super) origin: String,
    #[prost(string, tag = "5")]
    pub(super) namespace: String,
    #[prost(uint32, tag = "6")]
    pub(super) verbs: u32,
    #[prost(string, tag = "7")]
    pub(super) path: String,
    #[prost(string, repeated, tag = "8")]
    pub(super) visited: Vec<String>,
}

/// A statement with its signature.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Signed {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) statement: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) mac: Vec<u8>,
}

impl Signed {
    /// Reads a header's value. Nothing in it is checked yet but its form.
    pub(super) fn read(header: &str) -> Option<(Self, Wire)> {
        if header.len() > HEADER_MAX {
            return None;
        }
        let signed = Self::decode(STANDARD_NO_PAD.decode(header).ok()?.as_slice()).ok()?;
        let wire = Wire::decode(signed.statement.as_slice()).ok()?;
        Some((signed, wire))
    }
}
