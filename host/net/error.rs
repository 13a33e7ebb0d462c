//! Why there is no answer from outside.

use super::Forbidden;

/// Why there is no answer from outside. The texts are for tenants: they name no address that was resolved and nothing of
/// what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The request is wrong in itself.
    #[error("{0}")]
    Request(String),
    /// More than a request or an answer may have.
    #[error("{what} is larger than {most} bytes")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// How much there may be.
        most: usize,
    },
    /// An address that the node does not connect to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The name means no address.
    #[error("the host's name cannot be resolved")]
    Resolve,
    /// Nobody answers there.
    #[error("the host cannot be reached")]
    Connect,
    /// Not who it says it is, or no TLS.
    #[error("no trusted TLS connection to the host: {0}")]
    Tls(String),
    /// What came is no HTTP answer, or has too many or too large headers.
    #[error("the host's answer is no HTTP/1.1 within the bounds")]
    Answer,
    /// Took too long.
    #[error("the host did not answer in {0} s")]
    Late(u64),
    /// Too many under way.
    #[error("too many requests of this namespace are under way (net.fetches = {0}), try again later")]
    Busy(usize),
}
