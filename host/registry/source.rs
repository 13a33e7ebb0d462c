//! One registered file: its bytes, and what of them is looked up by name.

use super::raw;
use super::vet::Vetted;
use bytes::Bytes;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use std::sync::Arc;

/// A file as it was registered. Immutable.
#[derive(Debug)]
pub struct Source {
    /// The name that imports use.
    pub name: Arc<str>,
    /// Byte for byte as registered.
    pub registered: Bytes,
    /// The same with the services that were registered for it and that it does not declare itself.
    pub raw: Bytes,
    /// Names of the files that it imports, in order.
    pub imports: Vec<Arc<str>>,
    /// Which of the imports are public, by index.
    pub public: Vec<i32>,
    /// Simple names of its top-level messages, in order.
    pub messages: Vec<String>,
    /// Full names of the services that it declares, in order.
    pub services: Vec<Arc<str>>,
    /// Full names of everything else that no second file may define, services included.
    pub symbols: Vec<Arc<str>>,
    /// Full name of the extended message, and number, of each extension.
    pub extensions: Vec<(String, i32)>,
    /// Registered by name, not only brought along by a deployment.
    pub explicit: bool,
    /// Unix microseconds of the first revision.
    pub created_at: i64,
    /// Unix microseconds of this one.
    pub updated_at: i64,
}

impl Source {
    /// * `extra`: services registered for the file; those that it declares itself are passed over.
    pub(super) fn new(vetted: Vetted, extra: &[(String, Bytes)], explicit: bool, created_at: i64, now: i64) -> Self {
        let Vetted { proto, raw: registered, .. } = vetted;
        let mut whole = registered.clone();
        let mut services: Vec<&str> = proto.service.iter().map(|service| service.name()).collect();
        for (name, service) in extra {
            if !services.contains(&name.as_str()) {
                whole = raw::with_service(&whole, name, service);
                services.push(name);
            }
        }
        let package = proto.package();
        let services: Vec<Arc<str>> = services.into_iter().map(|name| joined(package, name).into()).collect();
        let mut names = Names { symbols: services.clone(), extensions: Vec::new() };
        names.file(&proto);
        Self {
            name: proto.name().into(),
            registered,
            raw: whole,
            imports: proto.dependency.iter().map(|name| name.as_str().into()).collect(),
            public: proto.public_dependency.clone(),
            messages: proto.message_type.iter().map(|message| message.name().to_owned()).collect(),
            services,
            symbols: names.symbols,
            extensions: names.extensions,
            explicit,
            created_at,
            updated_at: now,
        }
    }

    /// Names of the files that it imports publicly.
    pub(super) fn public_imports(&self) -> impl Iterator<Item = &str> {
        self.public.iter().filter_map(|at| self.imports.get(usize::try_from(*at).ok()?)).map(|name| &**name)
    }

    /// Services that are in `raw` and not in what was registered, by simple name.
    pub(super) fn extra_services(&self) -> Vec<(String, Bytes)> {
        let declared: Vec<String> =
            raw::services(&self.registered).into_iter().map(|service| service.proto.name().to_owned()).collect();
        let all = raw::services(&self.raw).into_iter();
        all.map(|service| (service.proto.name().to_owned(), service.raw))
            .filter(|(name, _)| !declared.contains(name))
            .collect()
    }
}

/// `package.name`, or the name alone without a package.
pub(super) fn joined(package: &str, name: &str) -> String {
    if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") }
}

struct Names {
    symbols: Vec<Arc<str>>,
    extensions: Vec<(String, i32)>,
}

impl Names {
    fn file(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        for message in &file.message_type {
            self.message(package, message);
        }
        for one in &file.enum_type {
            self.enumeration(package, one);
        }
        for extension in &file.extension {
            self.extension(package, extension);
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = joined(scope, message.name());
        for nested in &message.nested_type {
            self.message(&name, nested);
        }
        for one in &message.enum_type {
            self.enumeration(&name, one);
        }
        for extension in &message.extension {
            self.extension(&name, extension);
        }
        self.symbols.push(name.into());
    }

    /// An enum's values are names beside the enum, not within it. Source: the protobuf language guide.
    fn enumeration(&mut self, scope: &str, one: &EnumDescriptorProto) {
        self.symbols.push(joined(scope, one.name()).into());
        self.symbols.extend(one.value.iter().map(|value| joined(scope, value.name()).into()));
    }

    fn extension(&mut self, scope: &str, extension: &FieldDescriptorProto) {
        self.symbols.push(joined(scope, extension.name()).into());
        self.extensions.push((extension.extendee().trim_start_matches('.').to_owned(), extension.number()));
    }
}
