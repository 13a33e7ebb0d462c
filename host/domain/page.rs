//! Page tokens: where a listing goes on, told in a way that only this node can make and only for the same query.
//! Source: semantics.md section 1.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// What the key of page tokens is derived under.
const CONTEXT: &str = "collector 2026-11 page tokens";
/// Bytes of the MAC that a token carries: nobody guesses 128 bits.
const MAC: usize = 16;
/// Longest token that we make or take: a place in an order of eight texts and an id, a KiB each and up to six times that
/// where JSON escapes them, and the MAC, in base64.
const TOKEN_MAX: usize = 80 << 10;

/// A token that this node did not make, or for another query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is none that this node made for this query; leave it empty for the first page")]
pub struct BadToken;

/// Makes and reads tokens.
#[derive(Debug, Clone)]
pub struct PageTokens {
    key: [u8; 32],
}

impl PageTokens {
    /// * `node_key`: tokens survive a restart of the node that made them.
    pub fn new(node_key: &[u8; 32]) -> Self {
        Self { key: blake3::derive_key(CONTEXT, node_key) }
    }

    /// The token for what comes after `last` in `query`.
    pub fn token(&self, query: &str, last: &str) -> String {
        BASE64.encode([&self.mac(query, last)[..], last.as_bytes()].concat())
    }

    /// What the listing got to; `None` for the first page.
    pub fn read(&self, query: &str, token: &str) -> Result<Option<String>, BadToken> {
        if token.is_empty() {
            return Ok(None);
        }
        let bad = || BadToken;
        let bytes = Some(token).filter(|token| token.len() <= TOKEN_MAX).and_then(|token| BASE64.decode(token).ok());
        let bytes = bytes.ok_or_else(bad)?;
        let (mac, last) = bytes.split_at_checked(MAC).ok_or_else(bad)?;
        let last = std::str::from_utf8(last).map_err(|_| bad())?;
        // blake3's hashes compare in constant time; 16 bytes of one do as well, one attempt costs a round trip.
        if mac != self.mac(query, last) {
            return Err(bad());
        }
        Ok(Some(last.to_owned()))
    }

    fn mac(&self, query: &str, last: &str) -> [u8; MAC] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(query.len() as u64).to_le_bytes()).update(query.as_bytes()).update(last.as_bytes());
        let mut mac = [0; MAC];
        hasher.finalize_xof().fill(&mut mac);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_node_and_query_only() {
        let pages = PageTokens::new(&[1; 32]);
        let token = pages.token("List a", "a/x");
        assert_eq!(pages.read("List a", &token), Ok(Some("a/x".to_owned())));
        assert_eq!(pages.read("List a", ""), Ok(None));
        assert!(pages.read("List b", &token).is_err());
        assert!(PageTokens::new(&[2; 32]).read("List a", &token).is_err());
        for bad in ["x", "AAAA", &token[1..], &format!("{token}AAAA"), &"A".repeat(TOKEN_MAX + 1)] {
            assert!(pages.read("List a", bad).is_err(), "{bad}");
        }
    }
}
