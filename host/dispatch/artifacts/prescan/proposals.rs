//! Which proposal an instruction or a type belongs to.

use super::TooMuch;
use wasmparser::{CompositeInnerType, Operator, RecGroup, RefType, ValType};

/// The proposal that is off, by the name that the reader's own list of instructions has for it; `None` where it is on. One
/// that is new to this node is off.
macro_rules! off {
    (mvp) => {
        None
    };
    (sign_extension) => {
        None
    };
    (saturating_float_to_int) => {
        None
    };
    (bulk_memory) => {
        None
    };
    (reference_types) => {
        None
    };
    (simd) => {
        None
    };
    (exceptions) => {
        Some("exceptions")
    };
    (legacy_exceptions) => {
        Some("exceptions")
    };
    (gc) => {
        Some("GC")
    };
    (custom_descriptors) => {
        Some("custom descriptors")
    };
    (function_references) => {
        Some("function references")
    };
    (relaxed_simd) => {
        Some("relaxed SIMD")
    };
    (stack_switching) => {
        Some("stack switching")
    };
    (tail_call) => {
        Some("tail calls")
    };
    (threads) => {
        Some("threads")
    };
    (shared_everything_threads) => {
        Some("threads")
    };
    (wide_arithmetic) => {
        Some("wide arithmetic")
    };
    ($other:ident) => {
        Some("a proposal that is not in WebAssembly 2.0")
    };
}

macro_rules! by_operator {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($arity:tt)*) )*) => {
        fn proposal(operator: &Operator<'_>) -> Option<&'static str> {
            match operator {
                $( Operator::$op { .. } => off!($proposal), )*
                #[allow(unreachable_patterns, reason = "whether the list can grow is the reader's decision")]
                _ => Some("an instruction that is not in WebAssembly 2.0"),
            }
        }
    };
}

wasmparser::for_each_operator!(by_operator);

pub(super) fn of_operator(operator: &Operator<'_>) -> Result<(), TooMuch> {
    match proposal(operator) {
        None => Ok(()),
        Some(proposal) => Err(TooMuch::Proposal(proposal)),
    }
}

pub(super) fn of_types(group: &RecGroup) -> Result<(), TooMuch> {
    if group.is_explicit_rec_group() {
        return Err(TooMuch::Proposal("GC"));
    }
    for ty in group.types() {
        let composite = &ty.composite_type;
        if composite.shared {
            return Err(TooMuch::Proposal("threads"));
        }
        let CompositeInnerType::Func(function) = &composite.inner else {
            let stacks = matches!(composite.inner, CompositeInnerType::Cont(_));
            return Err(TooMuch::Proposal(if stacks { "stack switching" } else { "GC" }));
        };
        if !ty.is_final || ty.supertype_idx.is_some() {
            return Err(TooMuch::Proposal("GC"));
        }
        function.params().iter().chain(function.results()).try_for_each(of_value)?;
    }
    Ok(())
}

fn of_value(ty: &ValType) -> Result<(), TooMuch> {
    match ty {
        ValType::Ref(RefType::FUNCREF | RefType::EXTERNREF) => Ok(()),
        ValType::Ref(reference) if reference.is_concrete_type_ref() => Err(TooMuch::Proposal("function references")),
        ValType::Ref(_) => Err(TooMuch::Proposal("GC")),
        ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 | ValType::V128 => Ok(()),
    }
}
