//! Descriptors from `.proto` text.

use collector::rpc::RawDescriptor;
use prost_types::FileDescriptorProto;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().find(|(at, _)| at == name);
        found.map_or_else(|| Err(protox::Error::file_not_found(name)), |(at, text)| File::from_source(at, text))
    }
}

/// All of `files` and what they import, imports first.
pub fn compile(files: &[(&str, &str)]) -> Vec<FileDescriptorProto> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_files(files.iter().map(|(name, _)| name)).unwrap();
    compiler.file_descriptor_set().file
}

/// One file, not looked at by anything but the parser: it may pose as another.
pub fn protox_file(name: &str, text: &str) -> FileDescriptorProto {
    let mut file = compile(&[("posing.proto", text)]).pop().unwrap();
    file.name = Some(name.to_owned());
    file
}

/// A message as requests carry descriptors.
pub fn raw(message: &impl prost::Message) -> RawDescriptor {
    RawDescriptor::of(message)
}
