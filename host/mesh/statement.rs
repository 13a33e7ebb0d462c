//! What a link's two ends share: stands in until the statements of forwarded calls are here.

use std::fmt;
use zeroize::Zeroizing;

/// A link's own end of the shared secret.
pub struct LinkKey {
    id: [u8; 16],
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkKey").finish_non_exhaustive()
    }
}

impl LinkKey {
    /// A new one.
    ///
    /// * errors: the system gives no randomness.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; 16], Zeroizing::new([0; 32]));
        getrandom::fill(&mut id)?;
        getrandom::fill(secret.as_mut_slice())?;
        Ok(Self { id, secret })
    }

    /// Names the link.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// What both sides keep.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}
