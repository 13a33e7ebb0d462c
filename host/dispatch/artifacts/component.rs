//! Looking into a component without running or compiling it.

use super::DESCRIPTORS;
use crate::domain::{Kind, one_line, some_of};
use crate::registry::{Schema, SchemaError};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

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
    /// Broken, or using a proposal that this node has off.
    #[error("the component is not valid here: {0}")]
    Invalid(String),
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

/// Imports, and exports, of one component. 1,000: the largest world of WASI has some hundred.
const OUTSIDE_MAX: usize = 1_000;

fn within(what: &str, so_far: usize) -> Result<(), ComponentError> {
    if so_far < OUTSIDE_MAX {
        return Ok(());
    }
    Err(ComponentError::Invalid(format!("it has more than {OUTSIDE_MAX} {what}")))
}

impl Component {
    /// Validates the bytes and reads what they say.
    ///
    /// * errors: `Invalid` names the first thing that is wrong and its offset; `Schema`.
    pub fn read(bytes: &[u8]) -> Result<Self, ComponentError> {
        Validator::new_with_features(features())
            .validate_all(bytes)
            .map_err(|why| ComponentError::Invalid(one_line(&why.to_string(), 256)))?;
        let mut outside = Self { imports: Vec::new(), exports: Vec::new(), schema: None };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|why| ComponentError::Invalid(one_line(&why.to_string(), 256)))?;
            match &payload {
                Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
            outside.note(&payload, depth)?;
        }
        Ok(outside)
    }

    fn note(&mut self, payload: &Payload<'_>, depth: usize) -> Result<(), ComponentError> {
        let invalid = |why: wasmparser::BinaryReaderError| ComponentError::Invalid(one_line(&why.to_string(), 256));
        match payload {
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports.clone() {
                    within("imports", self.imports.len())?;
                    self.imports.push(one_line(import.map_err(invalid)?.name.name, 256));
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports.clone() {
                    within("exports", self.exports.len())?;
                    self.exports.push(one_line(export.map_err(invalid)?.name.name, 256));
                }
            }
            // The linker leaves the section in the core module; the first one counts.
            Payload::CustomSection(section) if section.name() == DESCRIPTORS && self.schema.is_none() => {
                self.schema = Some(Schema::decode(section.data())?);
            }
            _ => {}
        }
        Ok(())
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
