//! Compiles `proto/` with protox, so that no protoc is needed, and keeps the descriptor set for reflection. Compiles the
//! program that containers which are kept between calls are started with.

use prost::Message as _;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    runner(&out.join("runner"))?;
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

/// A static program, so that it runs in an image that has nothing else. Where none can be built the file is empty: then
/// containers are not kept between calls, and the node says so.
fn runner(file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const SOURCE: &str = "host/exec/container/runner";
    println!("cargo:rerun-if-changed={SOURCE}");
    let set = |name: &str| std::env::var_os(name).ok_or_else(|| format!("cargo sets {name}"));
    let mut compiler = Command::new(set("RUSTC")?);
    compiler.arg("--target").arg(set("TARGET")?).args(["--edition", "2024", "--crate-name", "runner", "-o"]).arg(file);
    for option in ["target-feature=+crt-static", "opt-level=s", "panic=abort", "strip=symbols"] {
        compiler.args(["-C", option]);
    }
    if let Some(linker) = std::env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        compiler.arg("-C").arg(option);
    }
    let built = compiler.arg(Path::new(SOURCE).join("main.rs")).output()?;
    if !built.status.success() {
        println!("cargo:warning=no static program can be built for this target: containers are not kept between calls");
        std::fs::write(file, [])?;
    }
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
