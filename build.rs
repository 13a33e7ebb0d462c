//! Compiles `proto/` with protox, so that no protoc is needed, and keeps the descriptor set for reflection.

use prost::Message as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = proto_files(Path::new("proto/collector"))?;
    files.sort();
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(&files)?;

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let set = compiler.file_descriptor_set();
    std::fs::write(out.join("collector.binpb"), set.encode_to_vec())?;
    let mut names = tonic_prost_build::Config::new();
    // The codec weighs a request by its type.
    names.enable_type_names();
    // Without the transport: the RPC `Connect` and tonic's own constructor `connect` would be one name.
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".collector.ServeRequest")
        .bytes(".collector.plugin.v1")
        // Kept as they come: custom options survive.
        .extern_path(".google.protobuf.FileDescriptorProto", "crate::rpc::RawDescriptor")
        .extern_path(".google.protobuf.ServiceDescriptorProto", "crate::rpc::RawDescriptor")
        .codec_path("crate::rpc::StrictCodec")
        .compile_fds_with_config(set, names)?;
    Ok(())
}

fn proto_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(files)
}
