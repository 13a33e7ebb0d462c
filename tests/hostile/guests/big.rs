//! Components that are too much of something, made by hand: as text they would take a minute to parse.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection, Instruction,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};

/// A core module with `run: [] -> [i32]`, and what is too much.
#[derive(Default)]
struct Parts {
    types: u32,
    functions: Vec<Function>,
    data: u32,
}

impl Parts {
    fn component(self) -> Result<Vec<u8>, String> {
        let mut types = TypeSection::new();
        types.ty().function([], [ValType::I32]);
        types.ty().function([], []);
        for n in 0..self.types {
            // All different, or the engine would take them for one.
            let bits = (0..16).map(|bit| if n >> bit & 1 == 0 { ValType::I32 } else { ValType::I64 });
            types.ty().function(bits, []);
        }
        let mut functions = FunctionSection::new();
        functions.function(0);
        let mut code = CodeSection::new();
        let mut run = Function::new([]);
        run.instruction(&Instruction::I32Const(0)).instruction(&Instruction::End);
        code.function(&run);
        for function in &self.functions {
            functions.function(1);
            code.function(function);
        }
        let mut memories = MemorySection::new();
        memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        let mut exports = ExportSection::new();
        exports.export("run", ExportKind::Func, 0);
        let mut data = DataSection::new();
        for _ in 0..self.data {
            data.active(0, &ConstExpr::i32_const(0), [1]);
        }
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&memories).section(&exports).section(&code).section(&data);
        Ok(component(&module.finish()))
    }
}

/// A command around a core module that exports `run`: what stands before and after the module, written by `wat`.
fn component(module: &[u8]) -> Vec<u8> {
    use wasm_encoder::{Component, ComponentSectionId, RawSection};
    let text = r#"(component (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $run (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#;
    let whole = ::wat::parse_str(text).unwrap_or_default();
    // After the eight bytes of the header stands the module: a section id, its size, itself.
    let size = usize::from(whole[9]);
    let mut component = Component::new();
    component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
    let mut bytes = component.finish();
    bytes.extend(&whole[10 + size..]);
    bytes
}

fn body(fill: impl FnOnce(&mut Function)) -> Function {
    let mut function = Function::new([]);
    fill(&mut function);
    function.instruction(&Instruction::End);
    function
}

fn repeated(times: usize, instructions: &[Instruction<'_>]) -> Function {
    body(|function| {
        for _ in 0..times {
            for instruction in instructions {
                function.instruction(instruction);
            }
        }
    })
}

/// One function of so many bytes, about.
pub fn long_function(bytes: usize) -> Result<Vec<u8>, String> {
    let function = repeated(bytes / 3, &[Instruction::I32Const(0), Instruction::Drop]);
    Parts { functions: vec![function], ..Parts::default() }.component()
}

pub fn many_functions(count: usize) -> Result<Vec<u8>, String> {
    Parts { functions: (0..count).map(|_| body(|_| ())).collect(), ..Parts::default() }.component()
}

pub fn many_types(count: u32) -> Result<Vec<u8>, String> {
    Parts { types: count, ..Parts::default() }.component()
}

pub fn many_locals(count: u32) -> Result<Vec<u8>, String> {
    let mut function = Function::new([(count, ValType::I64)]);
    function.instruction(&Instruction::End);
    Parts { functions: vec![function], ..Parts::default() }.component()
}

pub fn many_targets(count: usize) -> Result<Vec<u8>, String> {
    let targets = vec![0; count];
    let function = body(|function| {
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::BrTable(targets.into(), 0));
    });
    Parts { functions: vec![function], ..Parts::default() }.component()
}

pub fn many_segments(count: u32) -> Result<Vec<u8>, String> {
    Parts { data: count, ..Parts::default() }.component()
}

/// Blocks within blocks, each branched out of.
pub fn deep_blocks(depth: u32) -> Result<Vec<u8>, String> {
    let function = body(|function| {
        for _ in 0..depth {
            function.instruction(&Instruction::Block(BlockType::Empty));
        }
        for level in 0..depth {
            function.instruction(&Instruction::I32Const(0));
            function.instruction(&Instruction::BrIf(depth - 1 - level));
            function.instruction(&Instruction::End);
        }
    });
    Parts { functions: vec![function], ..Parts::default() }.component()
}

/// `locals` values that all live through a chain of `blocks` blocks, each reading and writing them.
pub fn long_lives(locals: u32, blocks: u32) -> Result<Vec<u8>, String> {
    let mut function = Function::new([(locals, ValType::I64)]);
    for block in 0..blocks {
        function.instruction(&Instruction::Block(BlockType::Empty));
        for local in 0..4 {
            function.instruction(&Instruction::LocalGet((block * 4 + local) % locals));
            function.instruction(&Instruction::LocalGet((block * 7 + local) % locals));
            function.instruction(&Instruction::I64Add);
            function.instruction(&Instruction::LocalSet((block * 13 + local) % locals));
        }
        function.instruction(&Instruction::LocalGet(block % locals));
        function.instruction(&Instruction::I32WrapI64);
        function.instruction(&Instruction::BrIf(0));
        function.instruction(&Instruction::End);
    }
    function.instruction(&Instruction::End);
    Parts { functions: vec![function], ..Parts::default() }.component()
}
