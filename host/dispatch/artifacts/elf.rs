//! Looking into a native binary without running it: whether this machine can run it as it is, alone.
//!
//! Strict, because the kernel's own loader is lenient: what is refused here never reaches it. Source: elf(5); System V
//! ABI, chapters 4 and 5; threats.md B9.

use super::DESCRIPTORS;
use crate::domain::one_line;
use crate::registry::{Schema, SchemaError};
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::endian::LittleEndian;
use object::pod;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// This machine, as ELF numbers it and as people call it. An architecture that is neither runs no native binaries.
const HOST: (u16, &str) = if cfg!(target_arch = "x86_64") {
    (elf::EM_X86_64, "x86_64")
} else if cfg!(target_arch = "aarch64") {
    (elf::EM_AARCH64, "aarch64")
} else {
    (elf::EM_NONE, "another architecture")
};

/// Segments of one binary. 64: linkers make about a dozen.
const SEGMENTS_MAX: usize = 64;
/// Sections of one binary. 4,096: linkers make about 40, a build that keeps each function apart some thousand.
const SECTIONS_MAX: usize = 4_096;
/// Where user space ends. Source: kernel.org, x86_64/mm.rst; on aarch64 it ends later.
const ADDRESS_MAX: u64 = 1 << 47;
/// The smallest page of either architecture: file and memory agree in the place within it.
const PAGE: u64 = 4_096;
/// How to make one that runs, in the three languages that most are written in.
const LINK: &str = "link it statically (`collector plugin build --native`; Rust: -C target-feature=+crt-static; C: -static; \
                    Go: CGO_ENABLED=0)";

/// A static executable for this machine.
#[derive(Debug)]
pub struct Elf {
    /// Services and types, where it carries descriptors.
    pub schema: Option<Schema>,
}

/// Why a native binary does not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// For another machine or system.
    #[error("the binary is {0}, this node runs ELF binaries for 64-bit Linux on {host}: build it for that", host = HOST.1)]
    Foreign(String),
    /// ELF, but nothing that can be started.
    #[error("the binary is {0}, not a program: send the executable that it is linked into")]
    NoProgram(&'static str),
    /// Wants a loader or libraries that are not there.
    #[error("the binary is a dynamically linked ELF binary (wants {0}): {LINK}")]
    Dynamic(String),
    /// Ends before it should.
    #[error("the ELF binary is truncated: {what} at {end}, the file has {bytes} bytes")]
    Truncated {
        /// What is missing.
        what: &'static str,
        /// Where that ends.
        end: u64,
        /// Where the file ends.
        bytes: usize,
    },
    /// Nothing that a linker makes, or nothing that is safe to load.
    #[error("the ELF binary is not valid here: {0}")]
    Malformed(String),
    /// Its descriptors are broken.
    #[error("{0}")]
    Schema(#[from] SchemaError),
}

fn malformed(what: impl Into<String>) -> ElfError {
    ElfError::Malformed(what.into())
}

impl Elf {
    /// The machine that all of them are for: this one.
    pub const MACHINE: &str = HOST.1;

    /// Checks the bytes and reads what they say.
    ///
    /// * errors: the first thing that is wrong, with what was found; hostile bytes are expected here.
    pub fn read(bytes: &[u8]) -> Result<Self, ElfError> {
        if bytes.as_ptr().align_offset(align_of::<u64>()) == 0 {
            return Self::read_aligned(bytes);
        }
        // A buffer that came over the wire begins anywhere, and numbers in it are read in place.
        let mut words = vec![0_u64; bytes.len().div_ceil(size_of::<u64>())];
        let place = pod::bytes_of_slice_mut(&mut words).split_at_mut(bytes.len()).0;
        place.copy_from_slice(bytes);
        Self::read_aligned(place)
    }

    fn read_aligned(bytes: &[u8]) -> Result<Self, ElfError> {
        let header = header(bytes)?;
        let segments = segments(header, bytes)?;
        stands_alone(segments, bytes)?;
        loads(header, segments)?;
        Ok(Self { schema: schema(header, bytes)? })
    }
}

/// The header of a program for this machine.
fn header(bytes: &[u8]) -> Result<&Header, ElfError> {
    match bytes {
        [_, _, _, _, elf::ELFCLASS32, ..] => return Err(ElfError::Foreign("a 32-bit ELF binary".to_owned())),
        [_, _, _, _, _, elf::ELFDATA2MSB, ..] => {
            return Err(ElfError::Foreign("a big-endian ELF binary".to_owned()));
        }
        _ => {}
    }
    within("its header ends", 0, size_of::<Header>() as u64, bytes)?;
    let header = Header::parse(bytes).map_err(|why| malformed(why.to_string()))?;
    match header.e_machine(LE) {
        machine if machine == HOST.0 && machine != elf::EM_NONE => {}
        machine => return Err(ElfError::Foreign(format!("an ELF binary for {}", machine_name(machine)))),
    }
    // A binary that uses extensions of Linux says so; all others that have a number here are other systems.
    if !matches!(header.e_ident.os_abi, elf::ELFOSABI_SYSV | elf::ELFOSABI_GNU) {
        let system = header.e_ident.os_abi;
        return Err(ElfError::Foreign(format!("an ELF binary for another operating system (ABI {system})")));
    }
    match header.e_type(LE) {
        elf::ET_EXEC | elf::ET_DYN => Ok(header),
        elf::ET_REL => Err(ElfError::NoProgram("an ELF object file")),
        elf::ET_CORE => Err(ElfError::NoProgram("an ELF core dump")),
        other => Err(malformed(format!("its type is {other}"))),
    }
}

fn machine_name(machine: u16) -> String {
    let known = match machine {
        elf::EM_X86_64 => "x86_64",
        elf::EM_AARCH64 => "aarch64",
        elf::EM_386 => "x86",
        elf::EM_ARM => "arm",
        elf::EM_RISCV => "riscv",
        elf::EM_PPC64 => "ppc64",
        elf::EM_S390 => "s390x",
        elf::EM_LOONGARCH => "loongarch",
        other => return format!("machine {other}"),
    };
    known.to_owned()
}

/// The program headers, each of which stays within the file.
fn segments<'a>(header: &Header, bytes: &'a [u8]) -> Result<&'a [Segment], ElfError> {
    let count = usize::from(header.e_phnum.get(LE));
    if count == 0 {
        return Err(ElfError::NoProgram("an ELF file without program headers"));
    }
    if count > SEGMENTS_MAX {
        return Err(malformed(format!("it has {count} program headers, at most {SEGMENTS_MAX} are allowed")));
    }
    let size = count as u64 * size_of::<Segment>() as u64;
    within("its program headers end", header.e_phoff(LE), size, bytes)?;
    let segments = header.program_headers(LE, bytes).map_err(|why| malformed(why.to_string()))?;
    for segment in segments.iter().filter(|segment| segment.p_type(LE) != elf::PT_NULL) {
        within("one of its segments ends", segment.p_offset(LE), segment.p_filesz(LE), bytes)?;
    }
    Ok(segments)
}

/// Whether it needs nothing but itself: no loader, no libraries.
fn stands_alone(segments: &[Segment], bytes: &[u8]) -> Result<(), ElfError> {
    let dynamic = segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_DYNAMIC);
    if dynamic.count() > 1 {
        return Err(malformed("it has more than one dynamic segment")); // each would be walked to its end
    }
    for segment in segments {
        if segment.p_type(LE) == elf::PT_INTERP {
            let path = segment.interpreter(LE, bytes).ok().flatten().unwrap_or_default();
            return Err(ElfError::Dynamic(one_line(&String::from_utf8_lossy(path), 128)));
        }
        let dynamic = segment.dynamic(LE, bytes).map_err(|why| malformed(why.to_string()))?.unwrap_or_default();
        let entries = dynamic.iter().take_while(|entry| entry.d_tag.get(LE) != elf::DT_NULL);
        if entries.into_iter().any(|entry| entry.d_tag.get(LE) == elf::DT_NEEDED) {
            return Err(ElfError::Dynamic("shared libraries".to_owned()));
        }
    }
    Ok(())
}

/// Whether what is loaded is a program that the kernel takes, with no memory both written and run.
fn loads(header: &Header, segments: &[Segment]) -> Result<(), ElfError> {
    const WX: u32 = elf::PF_W | elf::PF_X;
    let mut end = 0;
    let entry = header.e_entry(LE);
    let mut enters = false;
    for segment in segments {
        let (from, flags) = (segment.p_vaddr(LE), segment.p_flags(LE));
        let (in_file, in_memory) = (segment.p_filesz(LE), segment.p_memsz(LE));
        match segment.p_type(LE) {
            elf::PT_GNU_STACK if flags & elf::PF_X != 0 => return Err(malformed("it wants an executable stack")),
            elf::PT_LOAD => {}
            _ => continue,
        }
        if flags & WX == WX {
            return Err(malformed("one of its segments is both writable and executable"));
        }
        if in_file > in_memory {
            return Err(malformed("one of its segments is larger in the file than in memory"));
        }
        // The kernel makes what is beyond the file writable as well, whatever the segment says. Source: fs/binfmt_elf.c.
        if flags & elf::PF_X != 0 && in_file != in_memory {
            return Err(malformed("one of its executable segments is larger in memory than in the file"));
        }
        if in_file > 0 && (segment.p_offset(LE) ^ from) & (PAGE - 1) != 0 {
            return Err(malformed("one of its segments does not keep to pages"));
        }
        if from < end {
            return Err(malformed("its segments overlap or are out of order"));
        }
        let beyond = || malformed("one of its segments lies beyond all memory");
        end = from.checked_add(in_memory).filter(|end| *end <= ADDRESS_MAX).ok_or_else(beyond)?;
        enters |= flags & elf::PF_X != 0 && entry >= from && entry - from < in_file;
    }
    if !enters {
        return Err(ElfError::NoProgram("an ELF file whose entry point is in no executable segment (a library?)"));
    }
    Ok(())
}

/// The descriptors, where a section carries them. A program whose section headers were taken away has none.
fn schema(header: &Header, bytes: &[u8]) -> Result<Option<Schema>, ElfError> {
    if header.e_shoff(LE) == 0 {
        return Ok(None);
    }
    let count = usize::from(header.e_shnum.get(LE));
    // 0 would mean that the number is in the first section, where it has no bound.
    if count == 0 {
        return Err(malformed("it has section headers and does not say how many"));
    }
    if count > SECTIONS_MAX {
        return Err(malformed(format!("it has {count} sections, at most {SECTIONS_MAX} are allowed")));
    }
    let size = count as u64 * u64::from(header.e_shentsize(LE));
    within("its section headers end", header.e_shoff(LE), size, bytes)?;
    let broken = |why: object::read::Error| malformed(why.to_string());
    let sections = header.section_headers(LE, bytes).map_err(broken)?;
    let names = match header.e_shstrndx.get(LE) {
        elf::SHN_UNDEF => return Ok(None), // its sections have no names
        index => sections.get(usize::from(index)).ok_or_else(|| malformed("the names of its sections are missing"))?,
    };
    let names = names.data(LE, bytes).map_err(broken)?;
    let Some(section) = sections.iter().find(|section| is_descriptors(names, section.sh_name(LE))) else {
        return Ok(None);
    };
    Ok(Some(Schema::decode(section.data(LE, bytes).map_err(broken)?)?))
}

/// Whether the name that begins here is that of descriptors. Looks at as many bytes as that has, and never for the end
/// of another: a table without ends would be walked through once per section.
fn is_descriptors(names: &[u8], at: u32) -> bool {
    const WITH_END: usize = DESCRIPTORS.len() + 1;
    let name = usize::try_from(at).ok().and_then(|at| names.get(at..)?.first_chunk::<WITH_END>());
    matches!(name, Some([name @ .., 0]) if name == DESCRIPTORS.as_bytes())
}

/// Whether `size` bytes from `at` are in the file.
fn within(what: &'static str, at: u64, size: u64, bytes: &[u8]) -> Result<(), ElfError> {
    let end = at.saturating_add(size);
    match end <= bytes.len() as u64 {
        true => Ok(()),
        false => Err(ElfError::Truncated { what, end, bytes: bytes.len() }),
    }
}

#[cfg(test)]
mod tests;
