//! The first look at a component: is it small and plain enough for the validator and the compiler to be let at it?
//!
//! One pass over the bytes, before anything else reads them: no recursion but over the two levels that components may nest,
//! no memory but for the names on the outside. What is counted is counted over the whole file, whatever module it is in, so
//! that no tenant gets more by cutting a module up. Whether the bytes are valid is not asked here: the validator does that
//! with what passed. Source: threats.md B6, W02, W06.

mod proposals;
#[cfg(test)]
mod tests;

use super::DESCRIPTORS;
use crate::domain::one_line;
use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentDefinedType, ComponentInstance, ComponentType,
    ElementItems, Encoding, ExternalKind, FunctionBody, Instance, MemoryType, Operator, Parser, Payload,
    SectionLimited, TableType, TypeRef,
};

/// Functions that have a body. 50,000: a large program in Rust has about 20,000.
pub const FUNCTIONS: u64 = 50_000;
/// Bytes of one function's body. 512 KiB: compilers of languages split long before; the cost of compiling grows faster.
pub const BODY: u64 = 512 << 10;
/// Types of core modules and of components. 10,000: wasi and a large program have some hundred.
pub const TYPES: u64 = 10_000;
/// Locals of one function. 5,000: a tenth of what engines take.
pub const LOCALS: u64 = 5_000;
/// Targets of one `br_table`. 10,000: a match over everything that two bytes can be is split by compilers.
pub const TARGETS: u64 = 10_000;
/// Tables. 4: what one slot of the pool has.
pub const TABLES: u64 = 4;
/// Globals. 10,000: programs have three; position-independent ones one for each symbol.
pub const GLOBALS: u64 = 10_000;
/// Data segments. 10,000: linkers merge them into a few.
pub const DATA: u64 = 10_000;
/// Element segments. 10,000: the same.
pub const ELEMENTS: u64 = 10_000;
/// Functions in all element segments. 200,000: four for each function that there may be.
pub const ELEMENT_ITEMS: u64 = 200_000;
/// Imports of core modules. 4,000: four times what the outside may have.
pub const CORE_IMPORTS: u64 = 4_000;
/// Exports of core modules. 10,000: position-independent programs export each symbol.
pub const CORE_EXPORTS: u64 = 10_000;
/// Imports, and exports, of the component. 1,000: the largest world of WASI has some hundred.
pub const OUTSIDE: u64 = 1_000;
/// Bytes of one name of an import or export. 1,024: names of C++ templates are cut above by its linkers too.
pub const NAME: u64 = 1_024;
/// Core instances that are made of modules. 8: what one slot of the pool has.
pub const CORE_INSTANCES: u64 = 8;
/// Instances that are made of nested components: the linker of Rust makes one for each interface that is exported.
pub const INSTANCES: u64 = 32;
/// Core modules. 32: a program, and the shims around it.
pub const MODULES: u64 = 32;
/// How deep components may nest, the outermost counted. 2: see [`INSTANCES`].
pub const NESTING: u64 = 2;
/// Sections. 10,000: each piece of a component's outside can be one.
pub const SECTIONS: u64 = 10_000;
/// Bytes of what is neither a module nor a custom section: the component's types and wiring. 1 MiB: fifty times WASI's.
pub const WIRING: u64 = 1 << 20;
/// Bytes of a module's type section. 1 MiB: 100 for each type that there may be.
pub const TYPE_BYTES: u64 = 1 << 20;

/// What a look at the bytes found.
#[derive(Debug)]
pub struct Scan<'a> {
    /// Names of the imports, in order, made safe to show.
    pub imports: Vec<String>,
    /// Names of the exports, in order, made safe to show.
    pub exports: Vec<String>,
    /// The first section of descriptors: the linker leaves it in the core module.
    pub descriptors: Option<&'a [u8]>,
    /// Functions that have a body: what compiling will take grows with them.
    pub functions: u64,
}

/// Why bytes do not get as far as the validator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Above a ceiling.
    #[error("it has {found} {what}: more than {most} {what} are not let in")]
    Ceiling {
        /// Of what.
        what: &'static str,
        /// As many as were seen when it was enough.
        found: u64,
        /// The ceiling.
        most: u64,
    },
    /// It uses a proposal that this node has off.
    #[error("it uses {0}, which this node has off: build it without")]
    Proposal(&'static str),
    /// The bytes end early, or are no component.
    #[error("{0}")]
    Broken(String),
}

impl From<BinaryReaderError> for TooMuch {
    fn from(why: BinaryReaderError) -> Self {
        Self::Broken(one_line(&why.to_string(), 256))
    }
}

/// Looks at the bytes of a component.
///
/// * errors: the first ceiling that is passed, proposal that is off, or byte that makes no sense.
pub fn prescan(bytes: &[u8]) -> Result<Scan<'_>, TooMuch> {
    let mut look = Look {
        scan: Scan { imports: Vec::new(), exports: Vec::new(), descriptors: None, functions: 0 },
        seen: Seen::default(),
        levels: Vec::new(),
    };
    for payload in Parser::new(0).parse_all(bytes) {
        look.note(&payload?)?;
    }
    Ok(look.scan)
}

/// Counts one thing, up to its ceiling.
fn count(so_far: &mut u64, more: u64, what: &'static str, most: u64) -> Result<(), TooMuch> {
    *so_far = so_far.saturating_add(more);
    within(*so_far, what, most)
}

fn within(found: u64, what: &'static str, most: u64) -> Result<(), TooMuch> {
    match found <= most {
        true => Ok(()),
        false => Err(TooMuch::Ceiling { what, found, most }),
    }
}

fn name(text: &str) -> Result<(), TooMuch> {
    within(text.len() as u64, "bytes in a name", NAME)
}

fn size<T>(section: &SectionLimited<'_, T>) -> u64 {
    let range = section.range();
    range.end.saturating_sub(range.start) as u64
}

/// What was counted so far.
#[derive(Default)]
struct Seen {
    sections: u64,
    modules: u64,
    functions: u64,
    types: u64,
    type_bytes: u64,
    wiring: u64,
    memories: u64,
    tables: u64,
    globals: u64,
    data: u64,
    elements: u64,
    element_items: u64,
    core_imports: u64,
    core_exports: u64,
    core_instances: u64,
    instances: u64,
}

/// A component or a module that is being looked at.
struct Level {
    is_component: bool,
    /// Memories of this module, imported ones too.
    memories: u64,
}

struct Look<'a> {
    scan: Scan<'a>,
    seen: Seen,
    levels: Vec<Level>,
}

impl<'a> Look<'a> {
    fn note(&mut self, payload: &Payload<'a>) -> Result<(), TooMuch> {
        if !matches!(payload, Payload::CodeSectionEntry(_)) {
            count(&mut self.seen.sections, 1, "sections", SECTIONS)?;
        }
        match payload {
            Payload::Version { encoding, .. } => self.enter(*encoding),
            Payload::End(_) => {
                self.levels.pop();
                Ok(())
            }
            Payload::CustomSection(section) => {
                if section.name() == DESCRIPTORS && self.scan.descriptors.is_none() {
                    self.scan.descriptors = Some(section.data());
                }
                Ok(())
            }
            Payload::CodeSectionEntry(body) => {
                count(&mut self.seen.functions, 1, "functions", FUNCTIONS)?;
                self.scan.functions = self.seen.functions;
                function(body)
            }
            Payload::UnknownSection { id, .. } => Err(TooMuch::Broken(format!("unknown section {id}"))),
            _ if self.levels.last().is_some_and(|level| level.is_component) => self.of_component(payload),
            _ => self.of_module(payload),
        }
    }

    fn enter(&mut self, encoding: Encoding) -> Result<(), TooMuch> {
        let is_component = encoding == Encoding::Component;
        self.levels.push(Level { is_component, memories: 0 });
        match is_component {
            true => within(self.levels.len() as u64, "levels of nested components", NESTING),
            false => count(&mut self.seen.modules, 1, "core modules", MODULES),
        }
    }

    fn of_module(&mut self, payload: &Payload<'a>) -> Result<(), TooMuch> {
        let seen = &mut self.seen;
        match payload {
            Payload::TypeSection(types) => {
                count(&mut seen.type_bytes, size(types), "bytes of types", TYPE_BYTES)?;
                count(&mut seen.types, types.count().into(), "types", TYPES)?;
                for group in types.clone() {
                    proposals::of_types(&group?)?;
                }
            }
            Payload::ImportSection(imports) => {
                count(&mut seen.core_imports, imports.count().into(), "imports of modules", CORE_IMPORTS)?;
                for import in imports.clone().into_imports() {
                    let import = import?;
                    name(import.module)?;
                    name(import.name)?;
                    self.imported(&import.ty)?;
                }
            }
            Payload::FunctionSection(functions) => within(functions.count().into(), "functions", FUNCTIONS)?,
            Payload::TableSection(tables) => {
                count(&mut seen.tables, tables.count().into(), "tables", TABLES)?;
                for table in tables.clone() {
                    plain_table(&table?.ty)?;
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    self.memory(&memory?)?;
                }
                count(&mut self.seen.memories, memories.count().into(), "memories", 1)?;
            }
            Payload::TagSection(_) => return Err(TooMuch::Proposal("exceptions")),
            Payload::GlobalSection(globals) => {
                count(&mut seen.globals, globals.count().into(), "globals", GLOBALS)?;
                for global in globals.clone() {
                    if global?.ty.shared {
                        return Err(TooMuch::Proposal("threads"));
                    }
                }
            }
            Payload::ExportSection(exports) => {
                count(&mut seen.core_exports, exports.count().into(), "exports of modules", CORE_EXPORTS)?;
                for export in exports.clone() {
                    let export = export?;
                    name(export.name)?;
                    if matches!(export.kind, ExternalKind::Tag) {
                        return Err(TooMuch::Proposal("exceptions"));
                    }
                }
            }
            Payload::ElementSection(elements) => {
                count(&mut seen.elements, elements.count().into(), "element segments", ELEMENTS)?;
                for element in elements.clone() {
                    let items = match element?.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    };
                    count(&mut seen.element_items, items.into(), "elements in segments", ELEMENT_ITEMS)?;
                }
            }
            Payload::DataCountSection { count: data, .. } => within((*data).into(), "data segments", DATA)?,
            Payload::DataSection(data) => count(&mut seen.data, data.count().into(), "data segments", DATA)?,
            Payload::CodeSectionStart { count: functions, .. } => {
                within((*functions).into(), "functions", FUNCTIONS)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn imported(&mut self, ty: &TypeRef) -> Result<(), TooMuch> {
        match ty {
            TypeRef::Memory(memory) => self.memory(memory),
            TypeRef::Table(table) => plain_table(table),
            TypeRef::Global(global) if global.shared => Err(TooMuch::Proposal("threads")),
            TypeRef::Tag(_) => Err(TooMuch::Proposal("exceptions")),
            TypeRef::FuncExact(_) => Err(TooMuch::Proposal("custom descriptors")),
            TypeRef::Func(_) | TypeRef::Global(_) => Ok(()),
        }
    }

    fn memory(&mut self, memory: &MemoryType) -> Result<(), TooMuch> {
        let off = [
            (memory.shared, "threads (a shared memory)"),
            (memory.memory64, "memory64"),
            (memory.page_size_log2.is_some(), "custom page sizes"),
        ];
        if let Some((_, proposal)) = off.into_iter().find(|(used, _)| *used) {
            return Err(TooMuch::Proposal(proposal));
        }
        if let Some(level) = self.levels.last_mut() {
            level.memories += 1;
            if level.memories > 1 {
                return Err(TooMuch::Proposal("multi-memory (more than 1 memory in a module)"));
            }
        }
        Ok(())
    }

    fn of_component(&mut self, payload: &Payload<'a>) -> Result<(), TooMuch> {
        self.wiring(payload)?;
        let seen = &mut self.seen;
        match payload {
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    if matches!(instance?, Instance::Instantiate { .. }) {
                        count(&mut seen.core_instances, 1, "core instances", CORE_INSTANCES)?;
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    if matches!(instance?, ComponentInstance::Instantiate { .. }) {
                        count(&mut seen.instances, 1, "instances of nested components", INSTANCES)?;
                    }
                }
            }
            Payload::ComponentTypeSection(types) => {
                for ty in types.clone() {
                    component_type(&ty?, &mut seen.types)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions.clone() {
                    canonical(&function?)?;
                }
            }
            Payload::ComponentStartSection { .. } => return Err(TooMuch::Proposal("a component's start function")),
            Payload::ComponentImportSection(imports) if self.levels.len() == 1 => {
                within((self.scan.imports.len() as u64).saturating_add(imports.count().into()), "imports", OUTSIDE)?;
                for import in imports.clone() {
                    let import = import?.name.name;
                    name(import)?;
                    self.scan.imports.push(one_line(import, 256));
                }
            }
            Payload::ComponentExportSection(exports) if self.levels.len() == 1 => {
                within((self.scan.exports.len() as u64).saturating_add(exports.count().into()), "exports", OUTSIDE)?;
                for export in exports.clone() {
                    let export = export?.name.name;
                    name(export)?;
                    self.scan.exports.push(one_line(export, 256));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts the bytes, and with the small section of core types its types.
    fn wiring(&mut self, payload: &Payload<'a>) -> Result<(), TooMuch> {
        let seen = &mut self.seen;
        let (bytes, types) = match payload {
            Payload::InstanceSection(section) => (size(section), 0),
            Payload::CoreTypeSection(section) => (size(section), section.count()),
            Payload::ComponentInstanceSection(section) => (size(section), 0),
            Payload::ComponentAliasSection(section) => (size(section), 0),
            Payload::ComponentTypeSection(section) => (size(section), section.count()),
            Payload::ComponentCanonicalSection(section) => (size(section), 0),
            Payload::ComponentImportSection(section) => (size(section), 0),
            Payload::ComponentExportSection(section) => (size(section), 0),
            _ => (0, 0),
        };
        count(&mut seen.wiring, bytes, "bytes of types and wiring", WIRING)?;
        count(&mut seen.types, types.into(), "types", TYPES)
    }
}

fn plain_table(table: &TableType) -> Result<(), TooMuch> {
    match (table.shared, table.table64) {
        (true, _) => Err(TooMuch::Proposal("threads (a shared table)")),
        (_, true) => Err(TooMuch::Proposal("memory64 (a table of 64 bits)")),
        _ => Ok(()),
    }
}

fn function(body: &FunctionBody<'_>) -> Result<(), TooMuch> {
    let range = body.range();
    within(range.end.saturating_sub(range.start) as u64, "bytes in a function", BODY)?;
    let mut locals = 0;
    for group in body.get_locals_reader()? {
        count(&mut locals, group?.0.into(), "locals in a function", LOCALS)?;
    }
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let operator = operators.read()?;
        if let Operator::BrTable { targets } = &operator {
            within(targets.len().into(), "targets of a br_table", TARGETS)?;
        }
        proposals::of_operator(&operator)?;
    }
    Ok(())
}

/// Types within a type count too. The recursion is as deep as the reader's own, which is bounded.
fn component_type(ty: &ComponentType<'_>, types: &mut u64) -> Result<(), TooMuch> {
    use wasmparser::{ComponentTypeDeclaration as Of, InstanceTypeDeclaration as OfInstance};
    let mut inner = |declared: &ComponentType<'_>| {
        count(types, 1, "types", TYPES)?;
        component_type(declared, types)
    };
    match ty {
        ComponentType::Defined(ComponentDefinedType::Future(_) | ComponentDefinedType::Stream(_)) => {
            Err(TooMuch::Proposal(ASYNC))
        }
        ComponentType::Defined(ComponentDefinedType::FixedLengthList(..) | ComponentDefinedType::Map(..)) => {
            Err(TooMuch::Proposal("lists of a fixed length, or maps, between components"))
        }
        ComponentType::Func(function) if function.async_ => Err(TooMuch::Proposal(ASYNC)),
        ComponentType::Component(declarations) => declarations.iter().try_for_each(|one| match one {
            Of::Type(ty) => inner(ty),
            _ => Ok(()),
        }),
        ComponentType::Instance(declarations) => declarations.iter().try_for_each(|one| match one {
            OfInstance::Type(ty) => inner(ty),
            _ => Ok(()),
        }),
        ComponentType::Defined(_) | ComponentType::Func(_) | ComponentType::Resource { .. } => Ok(()),
    }
}

const ASYNC: &str = "component-model async";

fn canonical(function: &CanonicalFunction) -> Result<(), TooMuch> {
    let options = match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => options,
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => return Ok(()),
        CanonicalFunction::ThreadSpawnRef { .. }
        | CanonicalFunction::ThreadSpawnIndirect { .. }
        | CanonicalFunction::ThreadAvailableParallelism => return Err(TooMuch::Proposal("threads")),
        _ => return Err(TooMuch::Proposal(ASYNC)),
    };
    options.iter().try_for_each(|option| match option {
        CanonicalOption::UTF16 | CanonicalOption::CompactUTF16 => Err(TooMuch::Proposal("strings that are not UTF-8")),
        CanonicalOption::Async | CanonicalOption::Callback(_) => Err(TooMuch::Proposal(ASYNC)),
        CanonicalOption::Gc | CanonicalOption::CoreType(_) => Err(TooMuch::Proposal("GC")),
        CanonicalOption::UTF8
        | CanonicalOption::Memory(_)
        | CanonicalOption::Realloc(_)
        | CanonicalOption::PostReturn(_) => Ok(()),
    })
}
