//! From `.proto` files to descriptors: the full ones that code is generated from, and the set that the component carries.

use crate::Error;
use prost::Message;
use prost_reflect::{DynamicMessage, FileDescriptor, ReflectMessage, Value};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a plugin's `.proto` files say.
pub(crate) struct Schema {
    /// The plugin's own files and all they import, with comments. Services of imported files are left out: the plugin
    /// uses those files' messages and serves nothing of them.
    pub(crate) files: FileDescriptorSet,
    /// Encoded `FileDescriptorSet` for the component: the same files without comments and without `google/protobuf/*`,
    /// which every node has. Custom options are kept.
    pub(crate) embedded: Vec<u8>,
}

impl Schema {
    /// * `includes`: where imports are looked up, in this order.
    pub(crate) fn compile(protos: &[&Path], includes: &[PathBuf]) -> Result<Self, Error> {
        let mut compiler = protox::Compiler::new(includes).map_err(|error| Error::from_protox(&error, includes))?;
        compiler.include_imports(true).include_source_info(true);
        for proto in protos {
            let mut places = includes.iter().map(|include| include.join(proto));
            if !proto.is_file() && !places.any(|place| place.is_file()) {
                return Err(Error::no_such_file(proto));
            }
            compiler.open_file(proto).map_err(|error| Error::from_protox(&error, includes))?;
        }
        let imported: BTreeSet<String> =
            compiler.files().filter(|file| file.is_import()).map(|file| file.name().to_owned()).collect();

        let mut files = compiler.file_descriptor_set();
        for file in &mut files.file {
            if imported.contains(file.name()) {
                file.service.clear();
            }
        }
        let carried: Vec<FileDescriptor> =
            compiler.descriptor_pool().files().filter(|file| !is_well_known(file.name())).collect();
        let embedded = embed(&carried, &imported).map_err(|error| Error::Proto(error.to_string()))?;
        Ok(Self { files, embedded })
    }

    /// Package of the first file that has a service: its code carries the descriptors.
    pub(crate) fn home(&self) -> Option<&str> {
        self.files.file.iter().find(|file| !file.service.is_empty()).map(FileDescriptorProto::package)
    }
}

fn is_well_known(file: &str) -> bool {
    file.starts_with("google/protobuf/")
}

/// Encodes by reflection, since the plain structs know no custom options.
fn embed(files: &[FileDescriptor], imported: &BTreeSet<String>) -> Result<Vec<u8>, prost::DecodeError> {
    let names = names_by_package(files);
    let descriptor = FileDescriptorProto::default().descriptor();
    let mut set = FileDescriptorSet::default().transcode_to_dynamic();
    let mut list = Vec::with_capacity(files.len());
    for file in files {
        let mut message = DynamicMessage::decode(descriptor.clone(), file.encode_to_vec().as_slice())?;
        message.clear_field_by_name("source_code_info");
        if imported.contains(file.name()) {
            message.clear_field_by_name("service");
        }
        let rename = |name: &str| Value::String(names.get(name).map_or(name, String::as_str).to_owned());
        message.set_field_by_name("name", rename(file.name()));
        if !file.file_descriptor_proto().dependency.is_empty() {
            let dependencies = file.file_descriptor_proto().dependency.iter().map(|name| rename(name)).collect();
            message.set_field_by_name("dependency", Value::List(dependencies));
        }
        list.push(Value::Message(message));
    }
    set.set_field_by_name("file", Value::List(list));
    Ok(set.encode_to_vec())
}

/// New names that start with the package's folders: many plugins have a `service.proto`, and the plugins of one
/// namespace share one space of file names there. `service.proto` of package `greeter.v1` is `greeter/v1/service.proto`.
fn names_by_package(files: &[FileDescriptor]) -> BTreeMap<String, String> {
    let renamed = |file: &FileDescriptor| {
        let folder = file.package_name().replace('.', "/");
        let name = file.name();
        let stays = folder.is_empty() || name.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'));
        if stays { name.to_owned() } else { format!("{folder}/{name}") }
    };
    let names: BTreeMap<String, String> = files.iter().map(|file| (file.name().to_owned(), renamed(file))).collect();
    let distinct: BTreeSet<&String> = names.values().collect();
    if distinct.len() == names.len() { names } else { BTreeMap::new() }
}
