//! Secrets of the namespace: used by name, never seen.

use crate::Fault;

#[cfg(target_family = "wasm")]
use crate::component::bindings::collector::plugin::secret;

/// A secret that the deployment was granted (`secret=NAME`). Goes into a header of a
/// [`Request`](crate::http::Request::secret_header); there is no way to its bytes.
///
/// ```no_run
/// use collector_guest::{Fault, Secret, http};
///
/// fn forecast() -> Result<Vec<u8>, Fault> {
///     let key = Secret::open("weather-key")?;
///     let answer = http::Request::get("https://api.example.com/now").secret_header("authorization", "Bearer ", &key).send()?;
///     Ok(answer.body)
/// }
/// ```
#[derive(Debug)]
pub struct Secret(#[cfg(target_family = "wasm")] pub(crate) secret::Secret, #[cfg(not(target_family = "wasm"))] ());

impl Secret {
    /// The secret with this name.
    /// * errors: `PERMISSION_DENIED` without the grant, `NOT_FOUND` where nobody has set it.
    pub fn open(name: &str) -> Result<Self, Fault> {
        #[cfg(target_family = "wasm")]
        return secret::Secret::open(name).map(Self).map_err(Fault::from);
        #[cfg(not(target_family = "wasm"))]
        Err(crate::not_on_a_node(&["the secret ", name].concat()))
    }
}
