//! What uploaded bytes are, from how they begin. Source: design.md section 2.

use crate::domain::Kind;
use std::fmt;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A WebAssembly component.
    Component,
    /// A core WebAssembly module.
    CoreModule,
    /// WebAssembly text.
    Text,
    /// Code that some wasmtime compiled before. Never loaded: it is machine code from a stranger.
    Precompiled,
    /// A native binary.
    Elf,
    /// A script.
    Script,
    /// None of these.
    Unknown,
}

impl Found {
    /// What bytes that begin so can be that runs here, as far as their beginning tells: handlers and commands are told
    /// apart by looking into them, and run in the same place.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Component => Some(Kind::WasmHandler),
            Self::Elf => Some(Kind::NativeElf),
            Self::CoreModule | Self::Text | Self::Precompiled | Self::Script | Self::Unknown => None,
        }
    }
}

/// Decides by the first bytes.
pub fn sniff(bytes: &[u8]) -> Found {
    match bytes {
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Found::Component,
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Found::CoreModule,
        // wasmtime's compiled code is an ELF object that names itself in e_ident.
        [0x7f, b'E', b'L', b'F', _, _, _, 200, ..] => Found::Precompiled,
        [0x7f, b'E', b'L', b'F', ..] => Found::Elf,
        [b'(', b'c', b'o', b'm', ..] | [b'(', b'm', b'o', b'd', ..] => Found::Text,
        [b'#', b'!', ..] => Found::Script,
        _ => Found::Unknown,
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "a WebAssembly component",
            Self::CoreModule => "the binary is a core WebAssembly module, not a component: build it for wasm32-wasip2",
            Self::Text => "the binary is WebAssembly text: send the component that it compiles to",
            Self::Precompiled => "the binary is precompiled code (.cwasm), which is never loaded: send the component",
            Self::Elf => "a native (ELF) binary",
            Self::Script => "the binary is a script: send a WebAssembly component, built for wasm32-wasip2, or a static native program",
            Self::Unknown => {
                "the binary is nothing that runs here: send a WebAssembly component, built for wasm32-wasip2"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precompiled_component_is_known_for_what_it_is() {
        let engine = wasmtime::Engine::default();
        let empty = b"\0asm\x0d\0\x01\0";
        assert_eq!(sniff(empty), Found::Component);
        assert_eq!(sniff(&engine.precompile_component(empty).unwrap()), Found::Precompiled);
    }

    #[test]
    fn first_bytes_decide() {
        assert_eq!(sniff(b"\0asm\x01\0\0\0"), Found::CoreModule);
        assert_eq!(sniff(b"\x7fELF\x02\x01\x01\0"), Found::Elf);
        assert_eq!(sniff(b"(component)"), Found::Text);
        assert_eq!(sniff(b"#!/bin/sh"), Found::Script);
        for other in [&b""[..], b"\0", b"\0asm", b"MZ"] {
            assert_eq!(sniff(other), Found::Unknown);
        }
    }
}
