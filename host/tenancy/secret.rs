//! Secrets that prove who calls: 256 random bits in text, of which the node keeps a hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// How the text of a key begins: what scanners for leaked secrets look for. `clk_<id>_<secret>`.
pub(super) const KEY_PREFIX: &str = "clk_";
/// How the node's own secret begins, which lives as long as the process.
pub(super) const NODE_PREFIX: &str = "cln_";
/// Bytes of an id: enough that no two keys of a node share one.
const ID: usize = 8;
/// Bytes of a secret: nobody guesses 256 bits.
const SECRET: usize = 32;
/// Characters of a secret that people see to tell keys apart: of 43, so that 39 are left to guess.
const SHOWN: usize = 4;

/// What is kept of a secret.
pub(super) type Hash = [u8; 32];

/// The text of a secret. Shown once; wiped when it is dropped; never in `Debug`.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A fresh one and its id.
    ///
    /// * errors: the system gives no randomness.
    pub(super) fn make(prefix: &str) -> Result<(String, Self), getrandom::Error> {
        let (mut id, mut secret) = ([0; ID], Zeroizing::new([0; SECRET]));
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut *secret)?;
        let id = hex::encode(id);
        let random = Zeroizing::new(BASE64.encode(*secret));
        Ok((id.clone(), Self(Zeroizing::new(format!("{prefix}{id}_{}", *random)))))
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub(super) fn hash(&self) -> Hash {
        hash(&self.0)
    }

    /// Its last characters.
    pub(super) fn ending(&self) -> String {
        self.0.get(self.0.len().saturating_sub(SHOWN)..).unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is kept of a text. Looking it up by this tells nobody how much of a guess was right: a guess that is right but for
/// one bit has a hash that shares nothing with the real one.
pub(super) fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_fresh_and_long_and_stay_out_of_debug() {
        let ((id, one), (other_id, other)) = (Secret::make(KEY_PREFIX).unwrap(), Secret::make(KEY_PREFIX).unwrap());
        assert!(id != other_id && one.expose() != other.expose());
        let random = one.expose().strip_prefix(&format!("clk_{id}_")).unwrap();
        assert_eq!(BASE64.decode(random).unwrap().len(), 32);
        assert!(random.ends_with(&one.ending()) && one.ending().len() == SHOWN);
        assert_eq!(format!("{one:?}"), "Secret(..)");
    }
}
