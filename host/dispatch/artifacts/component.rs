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
        let scan = prescan(bytes)?;
        Validator::new_with_features(features())
            .validate_all(bytes)
            .map_err(|why| ComponentError::Invalid(one_line(&why.to_string(), 256)))?;
        Self::of(scan)
    }

    /// Reads what bytes say that were validated when they were let in, as their digest proves. Validating takes most of the
    /// time that [`Component::read`] does, and compilers do it themselves.
    ///
    /// * errors: those of [`Component::read`] but `Invalid`.
    pub fn read_again(bytes: &[u8]) -> Result<Self, ComponentError> {
        Self::of(prescan(bytes)?)
    }

    fn of(Scan { imports, exports, descriptors, .. }: Scan<'_>) -> Result<Self, ComponentError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_in_is_not_validated_twice_but_scanned() {
        // A function that ends with the wrong type.
        let text = "(component (core module (func (result i32) i64.const 1)))";
        let bytes = wat::parse_str(text).unwrap();
        assert!(matches!(Component::read(&bytes), Err(ComponentError::Invalid(_))));
        let again = Component::read_again(&bytes).unwrap();
        assert!(again.imports.is_empty() && again.exports.is_empty() && again.schema.is_none());
        let many = wat::parse_str(format!("(component {})", "(core module)".repeat(100))).unwrap();
        assert!(matches!(Component::read_again(&many), Err(ComponentError::TooMuch(_))));
    }
}
