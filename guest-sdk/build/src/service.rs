//! Rust for the services: what [`prost_build`] does not write.

use crate::descriptors::Schema;
use prost_build::{Method, Service, ServiceGenerator};
use std::fmt::Write;
use std::io;
use std::path::Path;

/// File that holds the descriptors, beside the generated code.
const DESCRIPTORS: &str = "collector.descriptors.bin";
/// File that brings in all packages, each in its module.
const MODULES: &str = "collector.protos.rs";

/// Writes one Rust file per package, one that includes them all, and the descriptors.
pub(crate) fn write(schema: Schema, out_dir: &Path) -> io::Result<()> {
    let descriptors = out_dir.join(DESCRIPTORS);
    if std::fs::read(&descriptors).ok().as_deref() != Some(&schema.embedded) {
        std::fs::write(descriptors, &schema.embedded)?;
    }
    let generator = Generator { home: schema.home().map(str::to_owned), descriptors_len: schema.embedded.len() };
    prost_build::Config::new()
        .out_dir(out_dir)
        .include_file(MODULES)
        .prost_path("::collector_guest::prost")
        .prost_types_path("::collector_guest::prost_types")
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .service_generator(Box::new(generator))
        .compile_fds(schema.files)
}

struct Generator {
    home: Option<String>,
    descriptors_len: usize,
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, code: &mut String) {
        // Writing to a String cannot fail.
        let home = self.home.as_deref() == Some(&service.package);
        let _ = write_trait(&service, code).and_then(|()| write_plugin(&service, home, code));
    }

    fn finalize_package(&mut self, package: &str, code: &mut String) {
        if self.home.as_deref() == Some(package) {
            let _ = write_descriptors(self.descriptors_len, code);
        }
    }
}

fn full_name(package: &str, name: &str) -> String {
    if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") }
}

fn write_trait(service: &Service, code: &mut String) -> std::fmt::Result {
    let full = full_name(&service.package, &service.proto_name);
    if service.comments.leading.is_empty() {
        writeln!(code, "/// The service `{full}`.")?;
    }
    service.comments.append_with_indent(0, code);
    writeln!(code, "///\n/// An implementation is served by [`{}Service`].", service.name)?;
    writeln!(code, "pub trait {} {{", service.name)?;
    for method in &service.methods {
        if method.comments.leading.is_empty() {
            writeln!(code, "    /// Answers `{full}/{}`.", method.proto_name)?;
        }
        method.comments.append_with_indent(1, code);
        writeln!(code, "    fn {}{};", method.name, signature(method))?;
    }
    writeln!(code, "}}")
}

/// Parameters and result of a method of the trait, by what streams.
fn signature(method: &Method) -> String {
    let Method { input_type, output_type, .. } = method;
    let requests = match method.client_streaming {
        false => format!("request: {input_type}"),
        true => format!("requests: &mut ::collector_guest::Receiver<{input_type}>"),
    };
    let (replies, result) = match method.server_streaming {
        false => (String::new(), output_type.as_str()),
        true => (format!(", replies: &mut ::collector_guest::Sender<{output_type}>"), "()"),
    };
    format!(
        "(context: &::collector_guest::Context, {requests}{replies}) \
         -> ::core::result::Result<{result}, ::collector_guest::Fault>"
    )
}

/// * `home`: the descriptors stand in the same module.
fn write_plugin(service: &Service, home: bool, code: &mut String) -> std::fmt::Result {
    let Service { name, proto_name, package, methods, .. } = service;
    let full = full_name(package, proto_name);
    writeln!(
        code,
        "/// Serves `{full}` by an implementation `T` of [`{name}`]: `collector_guest::export!({name}Service<T>);`"
    )?;
    writeln!(code, "#[derive(Debug)]")?;
    writeln!(code, "pub struct {name}Service<T>(::core::marker::PhantomData<T>);")?;
    writeln!(code, "impl<T: {name}> ::collector_guest::Plugin for {name}Service<T> {{")?;
    writeln!(code, "    const NAME: &'static str = {full:?};")?;
    writeln!(
        code,
        "    fn call(context: &::collector_guest::Context, method: &str, input: &[u8]) \
         -> ::core::result::Result<::collector_guest::prost::alloc::vec::Vec<u8>, ::collector_guest::Fault> {{"
    )?;
    if home {
        // `#[used]` keeps the section in a native command since Rust 1.89; before, the linker drops what nobody refers to.
        writeln!(code, "        #[cfg(target_os = \"linux\")]")?;
        writeln!(code, "        let _ = ::core::hint::black_box(&COLLECTOR_DESCRIPTORS);")?;
    }
    if methods.iter().all(streams) {
        writeln!(code, "        let _ = (context, input);")?;
    }
    write_arms(methods, unary_arm, code)?;
    if methods.iter().any(streams) {
        writeln!(
            code,
            "    fn stream(context: &::collector_guest::Context, method: &str, exchange: &::collector_guest::Exchange) \
             -> ::core::result::Result<(), ::collector_guest::Fault> {{"
        )?;
        write_arms(methods, stream_arm, code)?;
    }
    writeln!(code, "}}")
}

/// The body of a function of `Plugin`: an arm for each method, and one for those that are not there.
fn write_arms(methods: &[Method], arm: fn(&Method) -> String, code: &mut String) -> std::fmt::Result {
    let known: Vec<String> = methods.iter().map(|method| format!("{:?}", method.proto_name)).collect();
    writeln!(code, "        match method {{")?;
    for method in methods {
        writeln!(code, "            {:?} => {},", method.proto_name, arm(method))?;
    }
    writeln!(
        code,
        "            _ => ::core::result::Result::Err(::collector_guest::codegen::unknown_method(Self::NAME, method, &[{}])),",
        known.join(", ")
    )?;
    writeln!(code, "        }}\n    }}")
}

fn streams(method: &Method) -> bool {
    method.client_streaming || method.server_streaming
}

fn unary_arm(method: &Method) -> String {
    if streams(method) {
        return "::core::result::Result::Err(::collector_guest::codegen::streams(Self::NAME, method))".to_owned();
    }
    let input = method.input_proto_type.trim_start_matches('.');
    format!("::collector_guest::codegen::answer({input:?}, context, input, T::{})", method.name)
}

fn stream_arm(method: &Method) -> String {
    let kind = match (method.client_streaming, method.server_streaming) {
        (false, false) => {
            return "::core::result::Result::Err(::collector_guest::codegen::no_stream(Self::NAME, method))".to_owned();
        }
        (false, true) => "server_streaming",
        (true, false) => "client_streaming",
        (true, true) => "bidirectional",
    };
    let input = method.input_proto_type.trim_start_matches('.');
    format!("::collector_guest::codegen::{kind}({input:?}, context, exchange, T::{})", method.name)
}

/// The node reads this section at upload, of components and of native commands for Linux. `#[used]` keeps it through
/// link-time optimisation, and stripping takes only sections for debuggers.
fn write_descriptors(len: usize, code: &mut String) -> std::fmt::Result {
    let section = crate::SECTION;
    writeln!(
        code,
        r#"#[cfg(any(target_family = "wasm", target_os = "linux"))]
#[used]
#[allow(unsafe_code, reason = "a custom section is data; nothing runs")]
#[unsafe(link_section = "{section}")]
static COLLECTOR_DESCRIPTORS: [u8; {len}] = *include_bytes!(concat!(env!("OUT_DIR"), "/{DESCRIPTORS}"));"#
    )
}
