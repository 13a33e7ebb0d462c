//! The issuer's public keys: a JSON Web Key Set in a file. Source: RFC 7517.

use crate::tenancy::config::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Largest file. 1 MiB: a key has half a KiB.
const FILE_MAX: u64 = 1 << 20;
/// Keys of one set. 64: an issuer has two or three at a time.
const KEYS_MAX: usize = 64;
/// Bits of an RSA key's modulus. 2,048: RFC 7518 section 3.3. 4,096: a look at a larger one costs every caller time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// What tells one state of a file from another.
pub(super) type Look = (u64, u64, i64, i64);

/// The file as it is now; `None` if it cannot be looked at.
pub(super) async fn look(path: &Path) -> Option<Look> {
    let about = tokio::fs::metadata(path).await.ok()?;
    Some((about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
}

/// The library's word for it.
pub(super) fn algorithm(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
    }
}

/// A key that tokens may be signed with.
pub(super) struct Signer {
    id: Option<String>,
    /// Tells whether another key is the same.
    print: [u8; 32],
    /// The key.
    pub(super) key: DecodingKey,
    /// Set once the key is no longer in the set.
    pub(super) withdrawn: Arc<AtomicBool>,
}

/// All of them.
pub(super) struct KeySet(Vec<Arc<Signer>>);

impl KeySet {
    /// Reads the file.
    ///
    /// * errors: in words, without the path. A set with a key of the wrong kind is refused as a whole: who shares secrets
    ///   in it has misunderstood something.
    pub(super) async fn read(path: &Path, wanted: Algorithm) -> Result<Self, String> {
        let unreadable = |why: std::io::Error| format!("cannot be read: {why}");
        let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        if size > FILE_MAX {
            return Err(format!("has more than {FILE_MAX} bytes"));
        }
        Self::parse(&tokio::fs::read(path).await.map_err(unreadable)?, wanted)
    }

    fn parse(text: &[u8], wanted: Algorithm) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(text).map_err(|_| "is no JSON Web Key Set".to_owned())?;
        if set.keys.is_empty() || set.keys.len() > KEYS_MAX {
            return Err(format!("must have 1 to {KEYS_MAX} keys"));
        }
        let signers = set.keys.iter().map(|jwk| Signer::of(jwk, wanted).map(Arc::new));
        let set = Self(signers.collect::<Result<_, _>>()?);
        let mut ids: Vec<Option<&str>> = set.0.iter().map(|signer| signer.id.as_deref()).collect();
        ids.sort_unstable();
        let before = ids.len();
        ids.dedup();
        if ids.len() < before {
            return Err("has two keys with the same kid, or several without one".to_owned());
        }
        Ok(set)
    }

    /// The key that a token names; the only one, if it names none.
    pub(super) fn signer(&self, id: Option<&str>) -> Option<&Signer> {
        match (id, self.0.as_slice()) {
            (Some(id), signers) => signers.iter().find(|signer| signer.id.as_deref() == Some(id)).map(Arc::as_ref),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Whether it has the same keys under the same names.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|signer| other.has(signer))
    }

    fn has(&self, signer: &Signer) -> bool {
        self.0.iter().any(|one| one.is(signer))
    }

    /// What ends the tokens of keys that `next` lacks.
    pub(super) fn withdrawn_by(&self, next: &Self) -> Vec<Arc<AtomicBool>> {
        let gone = self.0.iter().filter(|signer| !next.has(signer));
        gone.map(|signer| Arc::clone(&signer.withdrawn)).collect()
    }

    /// The same with `before`'s own where both have a key.
    pub(super) fn keeping(self, before: &Self) -> Self {
        let kept = |signer: Arc<Signer>| before.0.iter().find(|one| one.is(&signer)).cloned().unwrap_or(signer);
        Self(self.0.into_iter().map(kept).collect())
    }
}

impl Signer {
    fn is(&self, other: &Self) -> bool {
        self.id == other.id && self.print == other.print
    }

    fn of(jwk: &Jwk, wanted: Algorithm) -> Result<Self, String> {
        let fits = match (&jwk.algorithm, wanted) {
            (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
            (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
            (AlgorithmParameters::RSA(key), Algorithm::RS256) => is_sound(&key.n)?,
            _ => false,
        };
        let named = jwk.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{wanted:?}"));
        let signs = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
        if !fits || !named || !signs {
            return Err(format!("has a key that is not one for signatures with {wanted:?} (auth.jwt.algorithm)"));
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "has a key that is malformed".to_owned())?;
        let text = serde_json::to_vec(&jwk.algorithm).map_err(|_| "has a key that is malformed".to_owned())?;
        let withdrawn = Arc::new(AtomicBool::new(false));
        Ok(Self { id: jwk.common.key_id.clone(), print: Sha256::digest(&text).into(), key, withdrawn })
    }
}

/// Whether an RSA key is large enough to be safe, and no larger than what is quickly looked at.
///
/// * `modulus`: as in the set, base64url.
/// * errors: it is not; which size would be.
fn is_sound(modulus: &str) -> Result<bool, String> {
    let bytes = URL_SAFE_NO_PAD.decode(modulus).map_err(|_| "has a key that is malformed".to_owned())?;
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let zeros = bytes.get(first).map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (bytes.len() - first) * 8 - zeros;
    match RSA_BITS.contains(&bits) {
        true => Ok(true),
        false => {
            let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
            Err(format!("has an RSA key of {bits} bits; make one of {least} to {most}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    fn parse(keys: &str) -> Result<KeySet, String> {
        KeySet::parse(format!("{{\"keys\":[{keys}]}}").as_bytes(), Algorithm::EdDSA)
    }

    #[test]
    fn u01_only_keys_of_the_one_algorithm_are_taken() {
        assert!(parse(&format!("{ED}}}")).is_ok());
        assert!(parse(&format!("{ED},\"alg\":\"EdDSA\",\"use\":\"sig\",\"kid\":\"a\"}}")).is_ok());
        for bad in [
            String::new(),
            format!("{ED},\"use\":\"enc\"}}"),
            format!("{ED},\"alg\":\"ES256\"}}"),
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
            format!("{ED}}},{ED}}}"),
            format!("{ED},\"kid\":\"a\"}},{ED},\"kid\":\"a\"}}"),
            vec![format!("{ED},\"kid\":\"a\"}}"); KEYS_MAX + 1].join(","),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
        assert!(KeySet::parse(b"no json", Algorithm::EdDSA).is_err());
    }

    #[test]
    fn rsa_keys_below_at_and_above_the_limits() {
        let parse = |modulus: &[u8]| {
            let n = URL_SAFE_NO_PAD.encode(modulus);
            let set = format!(r#"{{"keys":[{{"kty":"RSA","n":"{n}","e":"AQAB"}}]}}"#);
            KeySet::parse(set.as_bytes(), Algorithm::RS256).map(drop)
        };
        let number = |bits: usize| {
            let mut bytes = vec![0xff; bits.div_ceil(8)];
            bytes[0] = 0xff >> (bytes.len() * 8 - bits);
            bytes
        };
        for good in [2_048, 2_049, 3_072, 4_096] {
            assert_eq!(parse(&number(good)), Ok(()), "{good}");
        }
        for bad in [1, 512, 1_024, 2_047, 4_097, 16_384] {
            let why = parse(&number(bad)).unwrap_err();
            assert!(why.contains(&format!("{bad} bits; make one of 2048 to 4096")), "{why}");
        }
        let padded = [vec![0; 128], number(1_024)].concat();
        assert!(parse(&padded).unwrap_err().contains("1024 bits"), "zeros before it are no part of it");
        assert!(parse(&[]).is_err() && parse(&[0; 256]).is_err());
    }

    #[test]
    fn a_token_without_a_name_fits_a_set_of_one() {
        let one = parse(&format!("{ED},\"kid\":\"a\"}}")).unwrap();
        assert!(one.signer(None).is_some() && one.signer(Some("a")).is_some());
        for other in ["", "b", "A", "../a", "a\0"] {
            assert!(one.signer(Some(other)).is_none(), "{other:?}");
        }
        let two = parse(&format!("{ED},\"kid\":\"a\"}},{ED},\"kid\":\"b\"}}")).unwrap();
        assert!(two.signer(None).is_none());
        assert_eq!(two.withdrawn_by(&one).len(), 1);
    }
}
