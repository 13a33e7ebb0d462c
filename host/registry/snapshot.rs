//! What a namespace knows, at one revision: files, services, names. Immutable; whoever holds one sees no change.

use super::call::CallError;
use super::service::{MessageType, MethodRef, Service};
use super::source::Source;
use super::wire::Shapes;
use super::{link, raw};
use crate::domain::{MethodName, Namespace, ServiceName};
use bytes::Bytes;
use prost_reflect::DescriptorPool;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

/// A registered file with the checks for its types.
#[derive(Debug, Clone)]
pub struct File {
    /// What it says.
    pub source: Arc<Source>,
    pub(super) shapes: Arc<Shapes>,
    /// Bytes of the file and of all that it imports: what its checks stand for.
    pub(super) weight: usize,
}

/// What every namespace starts with: the `google/protobuf/` files and the node's own services.
#[derive(Debug, Default)]
pub(super) struct Base {
    pub(super) files: imbl::OrdMap<Arc<str>, File>,
    pub(super) symbols: imbl::HashMap<Arc<str>, Arc<str>>,
    pub(super) services: imbl::OrdMap<Arc<str>, Arc<Service>>,
}

/// One namespace at one revision.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) namespace: Namespace,
    pub(super) revision: u64,
    pub(super) base: Arc<Base>,
    pub(super) files: imbl::OrdMap<Arc<str>, File>,
    /// Full name of everything that a file defines, to the file's name.
    pub(super) symbols: imbl::HashMap<Arc<str>, Arc<str>>,
    pub(super) services: imbl::OrdMap<Arc<str>, Arc<Service>>,
    /// Last segment of a service's name to the full names that end so, the node's own among them.
    pub(super) short: imbl::HashMap<Arc<str>, imbl::OrdSet<Arc<str>>>,
    /// Bytes of all files.
    pub(super) bytes: usize,
    /// Sum of all files' weights.
    pub(super) weight: usize,
    /// Extensions in all files.
    pub(super) extensions: usize,
    pub(super) pool: Arc<OnceLock<Option<DescriptorPool>>>,
}

impl Snapshot {
    pub(super) fn new(namespace: Namespace, base: Arc<Base>) -> Self {
        let mut empty = Self {
            namespace,
            revision: 0,
            base,
            files: imbl::OrdMap::new(),
            symbols: imbl::HashMap::new(),
            services: imbl::OrdMap::new(),
            short: imbl::HashMap::new(),
            bytes: 0,
            weight: 0,
            extensions: 0,
            pool: Arc::default(),
        };
        let built_in: Vec<Arc<Service>> = empty.base.services.values().cloned().collect();
        for service in built_in {
            empty.name_short(&service);
        }
        empty
    }

    /// Whose it is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Counts the changes of the namespace since the node started; 0: nothing was ever registered.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether nothing is registered in it.
    pub fn is_blank(&self) -> bool {
        self.files.is_empty() && self.services.is_empty()
    }

    /// All services, the node's own included, by full name.
    pub fn services(&self) -> Vec<&Arc<Service>> {
        let mut all: Vec<&Arc<Service>> = self.base.services.values().chain(self.services.values()).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The service with this full name.
    pub fn service(&self, full_name: &str) -> Option<&Arc<Service>> {
        self.services.get(full_name).or_else(|| self.base.services.get(full_name))
    }

    /// Whether the service is one of the node's own.
    pub fn is_built_in(&self, full_name: &str) -> bool {
        self.base.services.contains_key(full_name)
    }

    /// The service with this full name, or the only one whose name ends so.
    ///
    /// * errors: `NoService`, `Ambiguous`.
    pub fn find_service(&self, name: &ServiceName) -> Result<&Arc<Service>, CallError> {
        if let Some(exact) = self.service(name.as_str()) {
            return Ok(exact);
        }
        let candidates = self.short.get(name.as_str());
        let mut candidates = candidates.into_iter().flat_map(|names| names.iter());
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => self.service(only).ok_or_else(|| self.no_service(name)),
            (None, _) => Err(self.no_service(name)),
            (Some(one), Some(two)) => Err(CallError::Ambiguous {
                service: name.to_string(),
                candidates: [one, two].into_iter().chain(candidates).map(|name| name.to_string()).collect(),
            }),
        }
    }

    /// The method that a call names.
    ///
    /// * errors: `NoService`, `Ambiguous`, `NoMethod`.
    pub fn find_method(&self, service: &ServiceName, method: &MethodName) -> Result<MethodRef, CallError> {
        let service = self.find_service(service)?;
        service.pick(method).ok_or_else(|| CallError::no_method(service, method))
    }

    /// The file with this name, bundled ones included.
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.get(name).or_else(|| self.base.files.get(name))
    }

    /// The file that defines the symbol: a message, enum, enum value, service, extension, or a field or method in one.
    pub fn file_of(&self, symbol: &str) -> Option<&File> {
        let defined = |name: &str| self.symbols.get(name).or_else(|| self.base.symbols.get(name));
        if let Some(file) = defined(symbol) {
            return self.file(file);
        }
        let (scope, _) = symbol.rsplit_once('.')?;
        self.file(defined(scope)?).filter(|file| file.source.has_member(symbol))
    }

    /// The file that defines this very name; unlike [`Snapshot::file_of`] it looks into no file.
    pub(super) fn definer(&self, symbol: &str) -> Option<&Arc<str>> {
        self.symbols.get(symbol).or_else(|| self.base.symbols.get(symbol))
    }

    /// Whether there is a message with this full name.
    pub fn has_message(&self, full_name: &str) -> bool {
        self.file_of(full_name).is_some_and(|file| file.source.has_message(full_name))
    }

    /// The message with this full name, as a check for bytes.
    pub fn message_type(&self, full_name: &str) -> Option<MessageType> {
        MessageType::named(full_name, &self.file_of(full_name)?.shapes)
    }

    /// The file that extends the message (full name) with this field number.
    pub fn file_of_extension(&self, message: &str, number: i32) -> Option<&File> {
        let wanted = |file: &&File| file.source.extensions.iter().any(|(of, n)| of == message && *n == number);
        self.files.values().chain(self.base.files.values()).find(wanted)
    }

    /// Field numbers of all extensions of the message (full name), ascending.
    pub fn extensions_of(&self, message: &str) -> Vec<i32> {
        let files = self.files.values().chain(self.base.files.values());
        let all = files.flat_map(|file| &file.source.extensions).filter(|(of, _)| of == message);
        let mut numbers: Vec<i32> = all.map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The files and all that they import, imports first, each once.
    pub fn closure<'a>(&'a self, roots: impl IntoIterator<Item = &'a File>) -> Vec<&'a File> {
        let mut found = Closure { snapshot: self, seen: HashSet::new(), files: Vec::new() };
        for root in roots {
            found.add(root);
        }
        found.files
    }

    /// An encoded `google.protobuf.FileDescriptorSet` of the namespace's own files and all that they import.
    pub fn descriptor_set(&self) -> Bytes {
        raw::set(self.closure(self.files.values()).into_iter().map(|file| &file.source.raw))
    }

    /// All types of the namespace and of the node, linked: for JSON. Built when first asked for, so not for the path of
    /// a binary call; CPU work that grows with the namespace.
    pub fn pool(&self) -> Option<&DescriptorPool> {
        let build = || {
            let all = self.closure(self.base.files.values().chain(self.files.values()));
            let sources: Vec<&Source> = all.into_iter().map(|file| &*file.source).collect();
            link::pool(DescriptorPool::new(), link::set(&sources)).ok()
        };
        self.pool.get_or_init(build).as_ref()
    }

    /// Whether [`Snapshot::pool`] has been built, so that asking for it costs nothing.
    pub fn is_linked(&self) -> bool {
        self.pool.get().is_some()
    }

    pub(super) fn name_short(&mut self, service: &Service) {
        let short: Arc<str> = service.short_name().into();
        self.short.entry(short).or_default().insert(Arc::clone(&service.name));
    }

    pub(super) fn forget_short(&mut self, service: &Service) {
        if let Some(names) = self.short.get_mut(service.short_name()) {
            names.remove(&service.name);
        }
    }

    fn no_service(&self, name: &ServiceName) -> CallError {
        // The node's own services are no help to somebody who misspelled one of the namespace's.
        CallError::no_service(name, self.services.keys().map(|name| &**name))
    }
}

struct Closure<'a> {
    snapshot: &'a Snapshot,
    seen: HashSet<&'a str>,
    files: Vec<&'a File>,
}

impl<'a> Closure<'a> {
    /// Depth first, with a stack of its own: a chain of imports may be as long as the namespace.
    fn add(&mut self, root: &'a File) {
        let mut stack = vec![(root, 0)];
        if !self.seen.insert(&root.source.name) {
            return;
        }
        while let Some((file, next)) = stack.pop() {
            let Some(import) = file.source.imports.get(next) else {
                self.files.push(file);
                continue;
            };
            stack.push((file, next + 1));
            if let Some(found) = self.snapshot.file(import)
                && self.seen.insert(&found.source.name)
            {
                stack.push((found, 0));
            }
        }
    }
}
