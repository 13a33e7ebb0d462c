//! Hostile components: at a ceiling, above it, and each proposal that is off.

use super::*;
use std::time::Duration;
use tokio::time::Instant;
use wasm_encoder::{
    CodeSection, Component, ConstExpr, CustomSection, DataSection, Function, FunctionSection, GlobalSection,
    GlobalType, MemorySection, MemoryType, Module, ModuleSection, TypeSection, ValType,
};

/// No machine is too busy for this; an idle one takes a tenth.
const PATIENCE: Duration = Duration::from_secs(10);

fn component(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}

/// A module of functions without parameters, each with this body.
fn functions(count: u32, body: &Function) -> Vec<u8> {
    let (mut types, mut declared, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    for _ in 0..count {
        declared.function(0);
        code.function(body);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    component(&module)
}

fn raw(length: usize) -> Function {
    let mut body = Function::new([]);
    body.raw(std::iter::repeat_n(0x01, length - 2)); // nop; a byte for no locals, one for the end
    body.instructions().end();
    body
}

fn ceiling(bytes: &[u8]) -> (&'static str, u64, u64) {
    let began = Instant::now();
    let refused = prescan(bytes).expect_err("above a ceiling");
    assert!(began.elapsed() < PATIENCE);
    match refused {
        TooMuch::Ceiling { what, found, most } => (what, found, most),
        other => panic!("{other}"),
    }
}

fn text(text: &str) -> Result<(), TooMuch> {
    prescan(&wat::parse_str(text).unwrap()).map(drop)
}

#[test]
fn w02_functions_and_their_bodies() {
    let most = u32::try_from(FUNCTIONS).unwrap();
    assert_eq!(prescan(&functions(most, &raw(3))).unwrap().functions, FUNCTIONS);
    assert_eq!(ceiling(&functions(most + 1, &raw(3))), ("functions", FUNCTIONS + 1, FUNCTIONS));
    assert_eq!(ceiling(&functions(1_000_000, &raw(3))).0, "functions");
    let most = usize::try_from(BODY).unwrap();
    prescan(&functions(1, &raw(most))).unwrap();
    assert_eq!(ceiling(&functions(1, &raw(most + 1))), ("bytes in a function", BODY + 1, BODY));
    assert_eq!(ceiling(&functions(1, &raw(7 << 20))).0, "bytes in a function");
}

#[test]
fn w02_the_most_that_passes_is_read_in_time() {
    let began = Instant::now();
    prescan(&functions(63, &raw(512 << 10))).unwrap();
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn w02_locals_and_branch_targets() {
    let locals = |count: u32| {
        let mut body = Function::new([(count, ValType::I64)]);
        body.instructions().end();
        functions(1, &body)
    };
    let most = u32::try_from(LOCALS).unwrap();
    prescan(&locals(most)).unwrap();
    assert_eq!(ceiling(&locals(most + 1)), ("locals in a function", LOCALS + 1, LOCALS));
    assert_eq!(ceiling(&locals(u32::MAX)).0, "locals in a function");
    let table = |count: usize| {
        let mut body = Function::new([]);
        body.instructions().i32_const(0).br_table(std::iter::repeat_n(0, count), 0).end();
        functions(1, &body)
    };
    let most = usize::try_from(TARGETS).unwrap();
    prescan(&table(most)).unwrap();
    assert_eq!(ceiling(&table(most + 1)), ("targets of a br_table", TARGETS + 1, TARGETS));
}

#[test]
fn w02_types_globals_and_data() {
    let types = |count: u64| {
        let mut types = TypeSection::new();
        (0..count).for_each(|_| types.ty().function([], []));
        component(Module::new().section(&types))
    };
    prescan(&types(TYPES)).unwrap();
    assert_eq!(ceiling(&types(TYPES + 1)), ("types", TYPES + 1, TYPES));
    assert_eq!(ceiling(&types(1_000_000)).0, "bytes of types");
    let globals = |count: u64| {
        let mut globals = GlobalSection::new();
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        (0..count).for_each(|_| {
            globals.global(ty, &ConstExpr::i32_const(0));
        });
        component(Module::new().section(&globals))
    };
    prescan(&globals(GLOBALS)).unwrap();
    assert_eq!(ceiling(&globals(GLOBALS + 1)), ("globals", GLOBALS + 1, GLOBALS));
    let data = |count: u64| {
        let (mut memory, mut data) = (MemorySection::new(), DataSection::new());
        memory.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        (0..count).for_each(|_| {
            data.active(0, &ConstExpr::i32_const(0), []);
        });
        component(Module::new().section(&memory).section(&data))
    };
    prescan(&data(DATA)).unwrap();
    assert_eq!(ceiling(&data(100_000)), ("data segments", 100_000, DATA));
}

#[test]
fn w02_sections_and_wiring() {
    let mut many = Component::new();
    let empty = CustomSection { name: "".into(), data: (&[]).into() };
    (0..11_000_000).for_each(|_| {
        many.section(&empty);
    });
    assert_eq!(ceiling(&many.finish()), ("sections", SECTIONS + 1, SECTIONS));
    let aliases = format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(9));
    assert_eq!(ceiling(&wat::parse_str(aliases).unwrap()), ("core instances", 9, CORE_INSTANCES));
    let modules = |count| wat::parse_str(format!("(component {})", "(core module)".repeat(count))).unwrap();
    prescan(&modules(32)).unwrap();
    assert_eq!(ceiling(&modules(33)), ("core modules", 33, MODULES));
    let exports = |count: usize| {
        let named: String = (0..count).map(|n| format!(r#"(export "n{n:0>1000}" (type $t))"#)).collect();
        wat::parse_str(format!("(component (type $t u8) (component {named}))")).unwrap()
    };
    prescan(&exports(1_000)).unwrap();
    assert_eq!(ceiling(&exports(1_200)).0, "bytes of types and wiring");
}

#[test]
fn components_nest_once() {
    text("(component (component))").unwrap();
    let deeper = wat::parse_str("(component (component (component)))").unwrap();
    assert_eq!(ceiling(&deeper), ("levels of nested components", 3, NESTING));
    // A module in the nested one is no level more.
    text("(component (component (core module)))").unwrap();
}

#[test]
fn names_are_bounded_and_the_outside_is_read() {
    let exporting = |name: &str| {
        let text =
            format!(r#"(component (component $c) (instance $i (instantiate $c)) (export "{name}" (instance $i)))"#);
        wat::parse_str(text).unwrap()
    };
    assert_eq!(prescan(&exporting("wasi:cli/run@0.2.0")).unwrap().exports, ["wasi:cli/run@0.2.0"]);
    prescan(&exporting(&"a".repeat(1_024))).unwrap();
    assert_eq!(ceiling(&exporting(&"a".repeat(1_025))), ("bytes in a name", 1_025, NAME));
}

#[test]
fn w06_each_proposal_that_is_off_is_named() {
    let module = |body: &str| text(&format!("(component (core module {body}))"));
    let cases = [
        ("threads", "(memory 1 1 shared)"),
        ("threads", "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))"),
        ("memory64", "(memory i64 1)"),
        ("memory64", "(table i64 1 funcref)"),
        ("multi-memory", "(memory 1) (memory 1)"),
        ("multi-memory", r#"(import "a" "b" (memory 1)) (memory 1)"#),
        ("tail calls", "(func $f return_call $f)"),
        ("GC", "(type (struct))"),
        ("GC", "(rec (type (func)) (type (func)))"),
        ("GC", "(func (drop (ref.i31 (i32.const 0))))"),
        ("exceptions", "(tag)"),
        ("exceptions", "(func (try_table))"),
        ("custom page sizes", "(memory 1 (pagesize 1))"),
        ("function references", "(type $t (func)) (func (param (ref $t)))"),
        ("relaxed SIMD", "(func (param v128) (result v128) local.get 0 i32x4.relaxed_trunc_f32x4_s)"),
        ("stack switching", "(type $f (func)) (type (cont $f))"),
        ("wide arithmetic", "(func (drop (drop (i64.mul_wide_s (i64.const 1) (i64.const 1)))))"),
    ];
    for (proposal, body) in cases {
        match module(body) {
            Err(TooMuch::Proposal(named)) => assert!(named.starts_with(proposal), "{body}: {named}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    let lift = |options: &str| {
        text(&format!(
            r#"(component (core module $m (memory (export "m") 1) (func (export "f") (param i32 i32))
                (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable))
                (core instance $i (instantiate $m))
                (func (param "s" string) (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "r")) {options})))"#
        ))
    };
    lift("").unwrap();
    lift("string-encoding=utf8").unwrap();
    for (proposal, options) in [
        ("strings that are not UTF-8", "string-encoding=utf16"),
        ("strings that are not UTF-8", "string-encoding=latin1+utf16"),
        ("component-model async", "async"),
    ] {
        assert_eq!(lift(options), Err(TooMuch::Proposal(proposal)), "{options}");
    }
    for ty in ["(stream u8)", "(future)", "(instance (type (stream u8)))", "(component (type (future)))"] {
        assert_eq!(text(&format!("(component (type {ty}))")), Err(TooMuch::Proposal("component-model async")), "{ty}");
    }
}

#[test]
fn w01_whatever_is_cut_or_changed_is_an_answer() {
    let whole = wat::parse_str(r#"(component (core module $m (memory 1) (func (export "f") (drop (i32.const 1)))))"#);
    let whole = whole.unwrap();
    for length in 0..whole.len() {
        // Between two sections it is a component that has fewer of them.
        let cut = prescan(&whole[..length]);
        assert!(matches!(cut, Ok(_) | Err(TooMuch::Broken(_))), "{length}");
    }
    for at in 8..whole.len() {
        for value in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = value;
            let _ = prescan(&changed);
        }
    }
}
