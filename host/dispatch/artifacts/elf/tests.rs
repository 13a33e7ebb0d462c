//! Programs that are, and files that claim to be.

use super::*;
use proptest::prelude::*;
use prost::Message as _;

/// Offsets in the header and in a program header. Source: elf(5).
mod at {
    pub(super) const CLASS: usize = 4;
    pub(super) const DATA: usize = 5;
    pub(super) const ABI: usize = 7;
    pub(super) const TYPE: usize = 16;
    pub(super) const MACHINE: usize = 18;
    pub(super) const ENTRY: usize = 24;
    pub(super) const PHOFF: usize = 32;
    pub(super) const SHOFF: usize = 40;
    pub(super) const PHNUM: usize = 56;
    pub(super) const SHNUM: usize = 60;
    pub(super) const SHSTRNDX: usize = 62;
    pub(super) const FIRST: usize = 64;
    pub(super) const SECOND: usize = FIRST + 56;
    pub(super) const THIRD: usize = SECOND + 56;
    pub(super) const FLAGS: usize = 4;
    pub(super) const OFFSET: usize = 8;
    pub(super) const VADDR: usize = 16;
    pub(super) const FILESZ: usize = 32;
    pub(super) const MEMSZ: usize = 40;
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn segment(kind: u32, flags: u32, offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> Vec<u8> {
    let mut all = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    for word in [offset, vaddr, vaddr, filesz, memsz, PAGE] {
        all.extend(word.to_le_bytes());
    }
    all
}

fn section(name: u32, kind: u32, offset: u64, size: u64) -> Vec<u8> {
    let mut all = [name.to_le_bytes(), kind.to_le_bytes()].concat();
    for word in [0, 0, offset, size, 0, 0, 0] {
        all.extend(u64::to_le_bytes(word));
    }
    all.truncate(64);
    all
}

fn descriptors() -> Vec<u8> {
    let message = prost_types::DescriptorProto { name: Some("M".into()), ..Default::default() };
    let method = prost_types::MethodDescriptorProto {
        name: Some("Get".into()),
        input_type: Some(".a.v1.M".into()),
        output_type: Some(".a.v1.M".into()),
        ..Default::default()
    };
    let service =
        prost_types::ServiceDescriptorProto { name: Some("S".into()), method: vec![method], ..Default::default() };
    let file = prost_types::FileDescriptorProto {
        name: Some("a/v1/a.proto".into()),
        package: Some("a.v1".into()),
        message_type: vec![message],
        service: vec![service],
        syntax: Some("proto3".into()),
        ..Default::default()
    };
    prost_types::FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

/// A static program of two segments: code in the file's first page, data in its second; and a section of
/// descriptors.
fn program() -> Vec<u8> {
    let page = usize::try_from(PAGE).unwrap();
    let (described, names) = (descriptors(), b"\0collector:descriptors\0.shstrtab\0");
    let mut file = vec![0; 2 * page];
    put(&mut file, 0, *b"\x7fELF\x02\x01\x01");
    put(&mut file, at::TYPE, elf::ET_EXEC.to_le_bytes());
    put(&mut file, at::MACHINE, HOST.0.to_le_bytes());
    put(&mut file, 20, 1_u32.to_le_bytes());
    put(&mut file, at::ENTRY, 0x40_0800_u64.to_le_bytes());
    put(&mut file, at::PHOFF, 64_u64.to_le_bytes());
    put(&mut file, 52, [64, 0, 56, 0, 3, 0, 64, 0, 3, 0, 2, 0]);
    let (code, data) = (elf::PF_R | elf::PF_X, elf::PF_R | elf::PF_W);
    let segments = [
        segment(elf::PT_LOAD, code, 0, 0x40_0000, PAGE, PAGE),
        segment(elf::PT_LOAD, data, PAGE, 0x40_2000, 16, 4 * PAGE),
        segment(elf::PT_GNU_STACK, data, 0, 0, 0, 0),
    ];
    file[at::FIRST..at::FIRST + 3 * 56].copy_from_slice(&segments.concat());
    let described_at = file.len() as u64;
    file.extend(&described);
    let names_at = file.len() as u64;
    file.extend(names);
    file.resize(file.len().next_multiple_of(8), 0);
    let headers_at = file.len() as u64;
    put(&mut file, at::SHOFF, headers_at.to_le_bytes());
    file.extend(section(0, elf::SHT_NULL, 0, 0));
    file.extend(section(1, elf::SHT_PROGBITS, described_at, described.len() as u64));
    file.extend(section(23, elf::SHT_STRTAB, names_at, names.len() as u64));
    file
}

fn refused(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut file = program();
    change(&mut file);
    Elf::read(&file).unwrap_err().to_string()
}

#[test]
fn a_static_program_is_taken_with_its_descriptors_wherever_its_buffer_begins() {
    let file = program();
    for shift in 0..8 {
        let shifted = [vec![0; shift], file.clone()].concat();
        let elf = Elf::read(&shifted[shift..]).unwrap();
        assert_eq!(&*elf.schema.unwrap().services()[0].name, "a.v1.S");
    }
    let mut stripped = file;
    put(&mut stripped, at::SHOFF, [0; 8]);
    assert!(Elf::read(&stripped).unwrap().schema.is_none());
}

#[test]
fn n02_foreign_binaries_are_named() {
    for (at, value, words) in [
        (at::CLASS, vec![elf::ELFCLASS32], "a 32-bit ELF binary"),
        (at::DATA, vec![elf::ELFDATA2MSB], "a big-endian ELF binary"),
        (at::ABI, vec![elf::ELFOSABI_FREEBSD], "another operating system (ABI 9)"),
        (at::MACHINE, elf::EM_RISCV.to_le_bytes().to_vec(), "for riscv, this node runs"),
        (at::MACHINE, 9_999_u16.to_le_bytes().to_vec(), "for machine 9999, this node runs"),
        (at::TYPE, elf::ET_REL.to_le_bytes().to_vec(), "an ELF object file, not a program"),
        (at::TYPE, elf::ET_CORE.to_le_bytes().to_vec(), "an ELF core dump, not a program"),
        (at::TYPE, vec![9, 9], "its type is"),
    ] {
        let said = refused(|file| file[at..at + value.len()].copy_from_slice(&value));
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn n02_dynamic_binaries_say_what_they_want() {
    let own = std::fs::read("/proc/self/exe").unwrap();
    let said = Elf::read(&own).unwrap_err().to_string();
    assert!(said.contains("dynamically linked") && said.contains("wants /lib"), "{said}");
    assert!(said.contains("collector plugin build --native"), "{said}");
    let needs = refused(|file| {
        let dynamic = segment(elf::PT_DYNAMIC, elf::PF_R, 0x800, 0x40_0800, 32, 32);
        file[at::THIRD..at::THIRD + 56].copy_from_slice(&dynamic);
        put(file, 0x800, 1_u64.to_le_bytes()); // DT_NEEDED
    });
    assert!(needs.contains("wants shared libraries"), "{needs}");
}

#[test]
fn n02_truncated_headers_and_segments_say_where() {
    let size = program().len();
    let said = refused(|file| file.truncate(40));
    assert!(said.contains("its header ends at 64, the file has 40 bytes"), "{said}");
    let said = refused(|file| file.truncate(100));
    assert!(said.contains("its program headers end at 232, the file has 100 bytes"), "{said}");
    let said = refused(|file| file.truncate(4_100));
    assert!(said.contains("one of its segments ends at 4112, the file has 4100 bytes"), "{said}");
    let said = refused(|file| file.truncate(size - 1));
    assert!(said.contains(&format!("its section headers end at {size}, the file has {} bytes", size - 1)), "{said}");
    let said = refused(|file| put(file, at::PHOFF, u64::MAX.to_le_bytes()));
    assert!(said.contains("its program headers end at 18446744073709551615"), "{said}");
}

#[test]
fn n02_what_no_linker_makes_is_refused() {
    let (first, second, third) = (at::FIRST, at::SECOND, at::THIRD);
    let cases: [(usize, u64, &str); 10] = [
        (second + at::VADDR, 0x40_0000, "overlap"),
        (first + at::VADDR, 0x80_0000, "overlap or are out of order"),
        (second + at::FILESZ, 5 * PAGE, "one of its segments ends"),
        (second + at::MEMSZ, 1, "larger in the file than in memory"),
        (second + at::OFFSET, 8, "does not keep to pages"),
        (second + at::MEMSZ, u64::MAX, "beyond all memory"),
        (second + at::MEMSZ, ADDRESS_MAX, "beyond all memory"),
        (first + at::MEMSZ, 2 * PAGE, "executable segments is larger in memory"),
        (at::ENTRY, 0x40_2000, "entry point is in no executable segment"),
        (at::ENTRY, 0, "entry point is in no executable segment"),
    ];
    for (at, value, words) in cases {
        let said = refused(|file| put(file, at, value.to_le_bytes()));
        assert!(said.contains(words), "{words}: {said}");
    }
    for (at, words) in [(first, "both writable and executable"), (third, "an executable stack")] {
        let said = refused(|file| put(file, at + at::FLAGS, 7_u32.to_le_bytes()));
        assert!(said.contains(words), "{words}: {said}");
    }
    for (at, count, words) in [
        (at::PHNUM, 0, "without program headers"),
        (at::PHNUM, 65, "65 program headers, at most 64"),
        (at::PHNUM, u16::MAX, "at most 64"),
        (at::SHNUM, 5_000, "5000 sections, at most 4096"),
        (at::SHNUM, 0, "does not say how many"),
        (at::SHSTRNDX, 3, "names of its sections are missing"),
        (at::SHSTRNDX, elf::SHN_XINDEX, "names of its sections are missing"),
    ] {
        let said = refused(|file| put(file, at, count.to_le_bytes()));
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// The program with this many sections, all of whose names begin somewhere in a table of 31 MiB that has no end.
fn with_sections(count: usize) -> Vec<u8> {
    let mut file = program();
    let names_at = file.len();
    file.resize(names_at + (31 << 20), b'x');
    let names = section(0, elf::SHT_STRTAB, names_at as u64, 31 << 20);
    let headers_at = file.len() as u64;
    file.extend(names.repeat(count));
    put(&mut file, at::SHOFF, headers_at.to_le_bytes());
    put(&mut file, at::SHNUM, u16::try_from(count).unwrap_or_default().to_le_bytes());
    // Where a number does not fit, the first section has it as its size. Source: elf(5), e_shnum.
    if count > usize::from(u16::MAX) {
        put(&mut file, usize::try_from(headers_at).unwrap() + 32, (count as u64).to_le_bytes());
    }
    put(&mut file, at::SHSTRNDX, 1_u16.to_le_bytes());
    file
}

#[test]
fn n02_many_sections_cost_no_more_than_their_headers() {
    let said = Elf::read(&with_sections(500_000)).unwrap_err().to_string();
    assert!(said.contains("does not say how many"), "{said}");
    let said = Elf::read(&with_sections(SECTIONS_MAX + 1)).unwrap_err().to_string();
    assert!(said.contains("4097 sections, at most 4096"), "{said}");
    // 124 GiB of names if each were read to its end.
    assert!(Elf::read(&with_sections(SECTIONS_MAX)).unwrap().schema.is_none());
}

#[test]
fn n02_dynamic_entries_are_walked_once() {
    let said = refused(|file| {
        let dynamic = segment(elf::PT_DYNAMIC, elf::PF_R, 0x800, 0x40_0800, 32, 32);
        file[at::SECOND..at::SECOND + 56].copy_from_slice(&dynamic);
        file[at::THIRD..at::THIRD + 56].copy_from_slice(&dynamic);
    });
    assert!(said.contains("more than one dynamic segment"), "{said}");
}

proptest! {
    /// What is behind the bytes that are compared is not looked at: it may be anything, or nothing.
    #[test]
    fn a_name_is_judged_by_its_first_bytes_alone(
        before in prop::collection::vec(any::<u8>(), 0..64), after in prop::collection::vec(any::<u8>(), 0..64)) {
        let at = u32::try_from(before.len()).unwrap();
        for (name, is_it) in [("collector:descriptors\0", true), ("collector:descriptorsX", false), ("collector:des\0", false)] {
            let short = [&before, name.as_bytes()].concat();
            let long = [&short[..], &after].concat();
            prop_assert_eq!((is_descriptors(&short, at), is_descriptors(&long, at)), (is_it, is_it));
            prop_assert!(!is_descriptors(&short[..short.len() - 1], at));
        }
        prop_assert!(!is_descriptors(&before, at + 1) && !is_descriptors(&before, u32::MAX));
    }

    #[test]
    fn no_bytes_make_it_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        near in prop::collection::vec((0_usize..232, any::<u8>()), 0..8), cut in any::<prop::sample::Index>(),
        whole in any::<bool>()) {
        let mut file = program();
        for (at, value) in flips {
            let at = at.index(file.len());
            file[at] = value;
        }
        for (at, value) in near {
            file[at] = value;
        }
        if !whole {
            file.truncate(cut.index(file.len()));
        }
        if let Err(why) = Elf::read(&file) {
            prop_assert!(why.to_string().len() < 1_024);
        }
    }
}
