//! Looking into a component without running or compiling it.

use super::prescan::{Scan, TooMuch, prescan};
use crate::domain::{Kind, one_line, some_of};
use crate::registry::{Schema, SchemaError};
use wasmparser::{Validator, WasmFeatures};

/// The guest interface that this node speaks, without its patch version.
const HANDLER: &str = "collector:plugin/handler@0.1.";
/// The same, whatever its version.
const ANY_HANDLER: &str = "collector:plugin/handler@";
/// What makes a component a command.
const COMMAND: &str = "wasi:cli/run@0.2.";

/// A component's outside: what it takes, what it gives, what it says about itself.
#[derive(Debug)]
pub struct Component {
    /// Names of the imports, in order.
    pub imports: Vec<String>,
    /// Names of the exports, in order.
    pub exports: Vec<String>,
    /// Services and types, where it carries descriptors.
    pub schema: Option<Schema>,
}

/// Why a component does not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// Broken.
    #[error("the component is not valid here: {0}")]
    Invalid(String),
    /// Too large in some way, or using a proposal that this node has off.
    #[error("the component is not let in: {0}")]
    TooMuch(#[from] TooMuch),
    /// Exports nothing that can be called.
    #[error("the component exports neither {HANDLER}x nor {COMMAND}x, but: {}", some_of(.0))]
    NoEntry(Vec<String>),
    /// Made for another version of the guest interface.
    #[error("the component speaks {0}, this node speaks {HANDLER}x: build it with a matching SDK")]
    OtherVersion(String),
    /// Its descriptors are broken.
    #[error("{0}")]
    Schema(#[from] SchemaError),
}

/// Proposals that guests may use: WebAssembly 2.0 without what `exec::wasm::engine` switches off, and components.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL
}

impl Component {
    /// Scans and validates the bytes and reads what they say.
    ///
    /// * errors: `TooMuch`, before anything else has looked at them; `Invalid` names the first thing that is wrong and its
    ///   offset; `Schema`.
    pub fn read(bytes: &[u8]) -> Result<Self, ComponentError> {
        let Scan { imports, exports, descriptors, .. } = prescan(bytes)?;
        Validator::new_with_features(features())
            .validate_all(bytes)
            .map_err(|why| ComponentError::Invalid(one_line(&why.to_string(), 256)))?;
        let schema = descriptors.map(Schema::decode).transpose()?;
        Ok(Self { imports, exports, schema })
    }

    /// What the component is. A handler that is a command too is a handler.
    pub fn kind(&self) -> Result<Kind, ComponentError> {
        let exports = |wanted: &str| self.exports.iter().find(|name| name.starts_with(wanted));
        if exports(HANDLER).is_some() {
            return Ok(Kind::WasmHandler);
        }
        if let Some(other) = exports(ANY_HANDLER) {
            return Err(ComponentError::OtherVersion(other.clone()));
        }
        if exports(COMMAND).is_some() {
            return Ok(Kind::WasmCommand);
        }
        Err(ComponentError::NoEntry(self.exports.clone()))
    }
}
