//! N02: files that are no static program of this machine are refused for what they are, and nothing of them is kept.

use crate::contract::How;
use crate::support::*;
use collector::exec::Native;
use collector::rpc::pb;
use tonic::Code;

/// Places in an ELF file. Source: elf(5), Elf64_Ehdr and Elf64_Phdr.
const CLASS: usize = 4;
const DATA: usize = 5;
const TYPE: usize = 16;
const MACHINE: usize = 18;
const ENTRY: usize = 24;
const SEGMENTS: usize = 32;
const SEGMENT_COUNT: usize = 56;
const SEGMENT: usize = 56;
const SEGMENT_FLAGS: usize = 4;
const SEGMENT_OFFSET: usize = 8;
const SEGMENT_ADDRESS: usize = 16;
const SEGMENT_IN_FILE: usize = 32;
const SEGMENT_IN_MEMORY: usize = 40;
const EXECUTABLE: u8 = 1;
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;

/// A real static binary, to be damaged.
#[derive(Clone)]
struct Binary(Vec<u8>);

impl Binary {
    fn real() -> Self {
        Self(How::Memexec.bytes("wordcount").to_vec())
    }

    fn set<const N: usize>(mut self, at: usize, bytes: [u8; N]) -> Self {
        self.0[at..at + N].copy_from_slice(&bytes);
        self
    }

    fn cut(mut self, bytes: usize) -> Self {
        self.0.truncate(bytes);
        self
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// Where the segments of a kind are described.
    fn segments(&self, kind: u32) -> Vec<usize> {
        let first = self.word(SEGMENTS) as usize;
        let count = usize::from(u16::from_le_bytes(self.0[SEGMENT_COUNT..SEGMENT_COUNT + 2].try_into().unwrap()));
        let all = (0..count).map(|number| first + number * SEGMENT);
        all.filter(|at| self.0[*at..at + 4] == kind.to_le_bytes()).collect()
    }
}

/// Every damaged file, and words of what must be said of it.
fn damaged() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let real = Binary::real();
    let loads = real.segments(LOAD);
    let (first, second) = (loads[0], loads[1]);
    let code = loads.iter().find(|at| real.0[**at + SEGMENT_FLAGS] & EXECUTABLE != 0).unwrap() + SEGMENT_IN_MEMORY;
    let note = real.segments(NOTE)[0];
    let past = (real.0.len() as u64 + 1).to_le_bytes();
    let set = |at: usize, bytes: [u8; 8]| real.clone().set(at, bytes).0;
    vec![
        ("dynamic", real.clone().set(note, INTERPRETER.to_le_bytes()).0, "dynamically linked"),
        ("32-bit", real.clone().set(CLASS, [1]).0, "32-bit"),
        ("big-endian", real.clone().set(DATA, [2]).0, "big-endian"),
        ("for RISC-V", real.clone().set(MACHINE, [243, 0]).0, "this node runs"),
        ("an object file", real.clone().set(TYPE, [1, 0]).0, "not a program"),
        ("a core dump", real.clone().set(TYPE, [4, 0]).0, "not a program"),
        ("magic only", real.clone().cut(4).0, "truncated"),
        ("half a header", real.clone().cut(40).0, "truncated"),
        ("without program headers", real.clone().cut(64).0, "truncated"),
        ("without its end", real.clone().cut(real.0.len() / 4).0, "truncated"),
        ("segments beyond the file", set(first + SEGMENT_IN_FILE, past), ""),
        ("headers beyond the file", set(SEGMENTS, past), "truncated"),
        ("headers at the end of numbers", set(SEGMENTS, u64::MAX.to_le_bytes()), ""),
        ("overlapping segments", set(second + SEGMENT_ADDRESS, real.word(first + SEGMENT_ADDRESS).to_le_bytes()), ""),
        ("a segment at the end of numbers", set(second + SEGMENT_OFFSET, u64::MAX.to_le_bytes()), ""),
        ("written and run", real.clone().set(first + SEGMENT_FLAGS, [7]).0, "writable and executable"),
        ("N06: code with room beyond it", set(code, (real.word(code) + 1).to_le_bytes()), "larger in memory"),
        ("entered nowhere", set(ENTRY, u64::MAX.to_le_bytes()), "entry"),
        ("no segments", real.clone().set(SEGMENT_COUNT, [0, 0]).0, ""),
        ("a script", b"#!/bin/sh\nexec cat\n".to_vec(), "script"),
        ("a Windows program", b"MZ\x90\0\x03".repeat(100), "nothing that runs here"),
        ("an archive of objects", b"!<arch>\n".repeat(100), "nothing that runs here"),
    ]
}

#[tokio::test]
async fn n02_files_that_are_no_static_program_are_refused_for_what_they_are() {
    let node = TestNode::start_with(|config| {
        config.exec.native = vec![Native::Memexec, Native::Container];
        config.exec.container.socket = engine_socket();
        config.exec.container.require_userns = false;
    })
    .await;
    let files = || walk(&node.data().join("artifacts"));
    let before = files();
    for (what, bytes, said) in damaged() {
        let request = pb::ServeRequest {
            namespace: "acme".into(),
            service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "Any".into() }),
            method_name: "Any".into(),
            input: Some(prost_types::Any::default()),
            execution_context: Default::default(),
            service_def: Some(pb::serve_request::ServiceDef::ServiceBinary(bytes.clone().into())),
        };
        let served = raw_serve(&node, request).await.expect_err(what);
        let deployed = deploy_with(&mut plugins(&node).await, header(), &bytes).await.expect_err(what);
        for status in [served, deployed] {
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
            assert!(status.message().contains(said), "{what}: {}", status.message());
        }
    }
    assert_eq!(files(), before, "nothing of them is kept");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(walk(&path)),
            path => found.push(path),
        }
    }
    found
}
