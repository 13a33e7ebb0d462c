//! From one snapshot to the next: every check, nothing kept. Pure, CPU work on hostile descriptors.

use super::Config;
use super::compat;
use super::error::RegistryError;
use super::link;
use super::resolve::Services;
use super::service::Service;
use super::snapshot::{File, Snapshot};
use super::source::Source;
use super::vet::{self, Vetted};
use super::wire::Shapes;
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// Bytes of descriptors that one change may link anew: itself, and the imports and dependents of what it replaces.
/// 32 MiB: a second or so; the largest plugin has a hundredth of that.
const LINKED_MAX: usize = 32 << 20;

/// How many times `registry.mib` the checks for a namespace's messages may stand for: each file has those of all that it
/// imports. 4: a file that everything imports is small.
const WEIGHT: usize = 4;
/// Extensions of one namespace. 1,000: JSON is made from messages by looking through all of them for each unknown
/// field, so this times the fields of one message is CPU time; the largest real sets of options have some dozens.
const EXTENSIONS_MAX: usize = 1_000;

/// What is to change in a namespace.
#[derive(Debug, Default)]
pub struct Edit {
    /// Files that come or are replaced.
    pub(super) files: Vec<NewFile>,
    /// Services that become callable.
    pub(super) services: Vec<NewService>,
    /// Full names of services that go.
    pub(super) gone_services: Vec<Arc<str>>,
    /// Files that go, where nothing needs them any more.
    pub(super) gone_files: Vec<Arc<str>>,
}

/// A file that comes or is replaced.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) vetted: Vetted,
    /// By name, not only with a deployment.
    pub(super) explicit: bool,
    /// Services that it gets besides those that it declares, or in their place.
    pub(super) extra: Vec<(String, Bytes)>,
    /// First and newest revision, of a file that was stored before.
    pub(super) times: Option<(i64, i64)>,
}

/// A service that becomes callable.
#[derive(Debug)]
pub(super) struct NewService {
    /// Full name.
    pub(super) name: String,
    /// By name, not only with a deployment.
    pub(super) explicit: bool,
    /// First and newest revision, of a service that was stored before.
    pub(super) times: Option<(i64, i64)>,
}

/// The next snapshot, and what about it is new.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) snapshot: Snapshot,
    pub(super) files: Vec<Arc<Source>>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) gone_files: Vec<Arc<str>>,
    pub(super) gone_services: Vec<Arc<str>>,
    pub(super) changes: Vec<compat::Change>,
    pub(super) breaking: Vec<String>,
}

impl Applied {
    pub(super) fn unchanged(old: &Snapshot) -> Self {
        Self {
            snapshot: old.clone(),
            files: Vec::new(),
            services: Vec::new(),
            gone_files: Vec::new(),
            gone_services: Vec::new(),
            changes: Vec::new(),
            breaking: Vec::new(),
        }
    }

    pub(super) fn is_unchanged(&self) -> bool {
        self.files.is_empty() && self.services.is_empty() && self.gone_files.is_empty() && self.gone_services.is_empty()
    }
}

/// Works out the snapshot that comes after `old`.
///
/// * `ceilings`: what a namespace may have; `None` for what was stored before, of which as much as possible is taken.
/// * `now`: Unix microseconds.
/// * errors: all but `Store`; breaking changes are no error here but listed in the result.
pub(super) fn apply(old: &Snapshot, edit: Edit, ceilings: Option<&Config>, now: i64) -> Result<Applied, RegistryError> {
    let linked_max = if ceilings.is_some() { LINKED_MAX } else { usize::MAX };
    let mut draft = Draft { old, new: BTreeMap::new(), gone: HashSet::new(), pools: HashMap::new(), linked_max };
    draft.take(edit.files, now)?;
    draft.drop_files(&edit.gone_files, &edit.gone_services);
    draft.check_imports()?;
    draft.check_symbols()?;
    if let Some(config) = ceilings {
        draft.check_room(config)?;
    }
    let (changes, breaking) = draft.differences();
    let affected = draft.affected();
    let files = draft.link(&affected)?;
    let mut services = Services::new(&mut draft, &files, now, ceilings.is_none());
    services.renew(&affected, &edit.gone_services)?;
    services.add(&edit.services)?;
    let Services { new: services, relinked, .. } = services;
    let services: Vec<Arc<Service>> = services.into_values().collect();
    let mut applied = draft.finish(files, services, edit.gone_services, changes, breaking);
    for service in relinked {
        applied.snapshot.services.insert(Arc::clone(&service.name), service);
    }
    Ok(applied)
}

pub(super) struct Draft<'a> {
    pub(super) old: &'a Snapshot,
    pub(super) new: BTreeMap<Arc<str>, Arc<Source>>,
    gone: HashSet<Arc<str>>,
    pub(super) pools: HashMap<Arc<str>, DescriptorPool>,
    linked_max: usize,
}

impl Draft<'_> {
    fn take(&mut self, files: Vec<NewFile>, now: i64) -> Result<(), RegistryError> {
        for NewFile { vetted, explicit, extra, times } in files {
            let (name, package) = (vetted.proto.name().to_owned(), vetted.proto.package().to_owned());
            if vet::reserved(&name, &package).is_err() {
                self.check_own(&vetted, &name)?;
                continue;
            }
            let before = self.old.files.get(name.as_str()).map(|file| &file.source);
            let mut services = before.map(|source| source.extra_services()).unwrap_or_default();
            for (name, service) in extra {
                match services.iter_mut().find(|(other, _)| *other == name) {
                    Some(known) => known.1 = service,
                    None => services.push((name, service)),
                }
            }
            let explicit = explicit || before.is_some_and(|source| source.explicit);
            let created = times.map(|times| times.0).or(before.map(|source| source.created_at)).unwrap_or(now);
            let extended = !services.is_empty();
            let source = Source::new(vetted, &services, explicit, created, times.map_or(now, |times| times.1));
            if extended {
                vet::vet(&source.raw)?; // what was put into it came from elsewhere
            }
            let same = |before: &&Arc<Source>| before.raw == source.raw && before.explicit == source.explicit;
            if before.filter(same).is_none() {
                self.new.insert(Arc::clone(&source.name), Arc::new(source));
            }
        }
        Ok(())
    }

    /// A client's own copy of a bundled file is passed over, an altered one is refused.
    fn check_own(&self, vetted: &Vetted, name: &str) -> Result<(), RegistryError> {
        let ours = self.old.base.files.get(name);
        let ours = ours.and_then(|file| FileDescriptorProto::decode(file.source.raw.clone()).ok());
        match ours {
            Some(ours) if vet::same_shape(&ours, &vetted.proto) => Ok(()),
            _ => Err(RegistryError::Reserved(name.to_owned())),
        }
    }

    /// * `services`: those that go as well.
    fn drop_files(&mut self, names: &[Arc<str>], services: &[Arc<str>]) {
        let mut going: HashSet<Arc<str>> =
            names.iter().filter(|name| self.old.files.contains_key(&***name)).cloned().collect();
        going.retain(|name| !self.new.contains_key(name));
        if going.is_empty() {
            return; // the usual case: no look at the whole namespace
        }
        let moved = |name: &Arc<str>| self.new.values().any(|source| source.services.contains(name));
        for service in self.old.services.values() {
            if !services.contains(&service.name) && !moved(&service.name) {
                going.remove(&service.file);
            }
        }
        // What somebody else imports has to stay, and then so has what that imports.
        loop {
            let stays = |source: &Source| !going.contains(&source.name);
            let old = self.old.files.values().map(|file| &file.source).filter(|source| stays(source));
            let needed: HashSet<Arc<str>> = old
                .filter(|source| !self.new.contains_key(&source.name))
                .chain(self.new.values())
                .flat_map(|source| source.imports.iter().cloned())
                .collect();
            let before = going.len();
            going.retain(|name| !needed.contains(name));
            if going.len() == before {
                break;
            }
        }
        self.gone = going;
    }

    /// The file as it will be.
    pub(super) fn source(&self, name: &str) -> Option<&Arc<Source>> {
        let old = || self.old.file(name).map(|file| &file.source).filter(|source| !self.gone.contains(&source.name));
        self.new.get(name).or_else(old)
    }

    fn check_imports(&self) -> Result<(), RegistryError> {
        for source in self.new.values() {
            if let Some(import) = source.imports.iter().find(|import| self.source(import).is_none()) {
                let (file, import) = (source.name.to_string(), import.to_string());
                return Err(RegistryError::MissingImport { file, import });
            }
        }
        Ok(())
    }

    fn check_symbols(&self) -> Result<(), RegistryError> {
        let mut fresh: HashMap<&str, &str> = HashMap::new();
        let taken =
            |symbol: &str, file: &str| Err(RegistryError::Taken { symbol: symbol.to_owned(), file: file.to_owned() });
        for source in self.new.values() {
            for symbol in &source.symbols {
                if let Some(file) = self.old.base.symbols.get(symbol) {
                    return taken(symbol, file);
                }
                if let Some(file) = fresh.insert(symbol, &source.name) {
                    return taken(symbol, file);
                }
                let old = self.old.symbols.get(symbol);
                if let Some(file) = old.filter(|file| !self.new.contains_key(*file) && !self.gone.contains(*file)) {
                    return taken(symbol, file);
                }
            }
        }
        Ok(())
    }

    fn check_room(&self, config: &Config) -> Result<(), RegistryError> {
        let added = self.new.keys().filter(|name| !self.old.files.contains_key(&***name)).count();
        if self.old.files.len() + added - self.gone.len() > config.files {
            return Err(RegistryError::TooMany { what: "files in the namespace (registry.files)", most: config.files });
        }
        let bytes: usize = self.new.values().map(|source| source.raw.len()).sum();
        if self.old.bytes + bytes > config.mib << 20 {
            let what = "MiB of descriptors in the namespace (registry.mib)";
            return Err(RegistryError::TooMany { what, most: config.mib });
        }
        if self.old.weight > (config.mib << 20).saturating_mul(WEIGHT) {
            let what = "MiB of descriptors in the namespace, counted once for each file that imports them";
            return Err(RegistryError::TooMany { what, most: config.mib.saturating_mul(WEIGHT) });
        }
        let extensions: usize = self.new.values().map(|source| source.extensions.len()).sum();
        if self.old.extensions + extensions > EXTENSIONS_MAX {
            let what = "extensions in the namespace, old and new revision together";
            return Err(RegistryError::TooMany { what, most: EXTENSIONS_MAX });
        }
        Ok(())
    }

    /// What changes in services, and what breaks. Per package, since a type may move to another file of its package.
    fn differences(&self) -> (Vec<compat::Change>, Vec<String>) {
        let mut packages: BTreeMap<String, [Option<FileDescriptorProto>; 2]> = BTreeMap::new();
        let mut put = |source: &Source, at: usize| {
            let Ok(file) = FileDescriptorProto::decode(source.raw.clone()) else { return };
            let package = packages.entry(file.package().to_owned()).or_default();
            let Some(slot) = package.get_mut(at) else { return };
            match slot {
                None => *slot = Some(file),
                Some(merged) => {
                    merged.message_type.extend(file.message_type);
                    merged.enum_type.extend(file.enum_type);
                    merged.service.extend(file.service);
                    merged.extension.extend(file.extension);
                }
            }
        };
        let replaced = self.new.keys().chain(&self.gone).filter_map(|name| self.old.files.get(&**name));
        for file in replaced {
            put(&file.source, 0);
        }
        for source in self.new.values() {
            put(source, 1);
        }
        let moved = self.moved_package();
        let (mut changes, mut breaking) = (Vec::new(), moved);
        for [old, new] in packages.values() {
            changes.extend(compat::service_changes(old.as_ref(), new.as_ref()));
            if let (Some(old), Some(new)) = (old, new) {
                breaking.extend(compat::breaking(old, new));
            }
        }
        (changes, breaking)
    }

    /// A file that changes its package takes all its names away at once.
    fn moved_package(&self) -> Vec<String> {
        let package = |source: &Source| FileDescriptorProto::decode(source.raw.clone()).map(|f| f.package().to_owned());
        let mut moved = Vec::new();
        for source in self.new.values() {
            let Some(old) = self.old.files.get(&*source.name) else { continue };
            if let (Ok(old), Ok(new)) = (package(&old.source), package(source))
                && old != new
            {
                moved.push(format!("{}: package changed from {old} to {new}", source.name));
            }
        }
        moved
    }

    /// The new files, and the old ones that import a replaced one, directly or through others.
    fn affected(&self) -> BTreeSet<Arc<str>> {
        let mut affected: BTreeSet<Arc<str>> = self.new.keys().cloned().collect();
        let mut left: Vec<Arc<str>> =
            self.new.keys().filter(|name| self.old.files.contains_key(&***name)).cloned().collect();
        if left.is_empty() {
            return affected;
        }
        let mut importers: HashMap<&str, Vec<&Arc<str>>> = HashMap::new();
        for file in self.old.files.values().filter(|file| !self.gone.contains(&file.source.name)) {
            for import in &file.source.imports {
                importers.entry(import).or_default().push(&file.source.name);
            }
        }
        while let Some(name) = left.pop() {
            for importer in importers.get(&*name).into_iter().flatten() {
                if affected.insert(Arc::clone(importer)) {
                    left.push(Arc::clone(importer));
                }
            }
        }
        affected
    }

    /// Links every affected file with its imports.
    fn link(&mut self, affected: &BTreeSet<Arc<str>>) -> Result<Vec<File>, RegistryError> {
        let (mut files, mut linked) = (Vec::new(), 0);
        for name in affected {
            let Some(source) = self.source(name).cloned() else { continue };
            let before = linked;
            let pool = self.link_one(&source, &mut linked)?;
            let weight = linked - before;
            files.push(File { source, shapes: Arc::new(Shapes::of(&pool)), weight });
            self.pools.insert(Arc::clone(name), pool);
        }
        Ok(files)
    }

    /// * `linked`: bytes that this change has linked so far.
    pub(super) fn link_one(&self, source: &Arc<Source>, linked: &mut usize) -> Result<DescriptorPool, RegistryError> {
        let files = self.closure(source);
        *linked += files.iter().map(|file| file.raw.len()).sum::<usize>();
        if *linked > self.linked_max {
            let what = "MiB of descriptors that import each other and would have to be linked anew";
            return Err(RegistryError::TooMany { what, most: LINKED_MAX >> 20 });
        }
        link::check(&files)?;
        link::pool(DescriptorPool::new(), link::set(&files)).map_err(RegistryError::Invalid)
    }

    /// The file and all that it imports, imports first.
    fn closure(&self, root: &Arc<Source>) -> Vec<Arc<Source>> {
        let (mut seen, mut files) = (HashSet::from([Arc::clone(&root.name)]), Vec::new());
        let mut stack = vec![(Arc::clone(root), 0)];
        while let Some((source, next)) = stack.pop() {
            let Some(import) = source.imports.get(next).cloned() else {
                files.push(source);
                continue;
            };
            stack.push((source, next + 1));
            if let Some(found) = self.source(&import)
                && seen.insert(Arc::clone(&found.name))
            {
                stack.push((Arc::clone(found), 0));
            }
        }
        files
    }

    fn finish(
        self,
        files: Vec<File>,
        services: Vec<Arc<Service>>,
        gone_services: Vec<Arc<str>>,
        changes: Vec<compat::Change>,
        breaking: Vec<String>,
    ) -> Applied {
        let mut next = self.old.clone();
        next.revision += 1;
        next.pool = Arc::new(OnceLock::new());
        for name in &self.gone {
            forget_file(&mut next, name);
        }
        for file in files {
            forget_file(&mut next, &file.source.name);
            for symbol in &file.source.symbols {
                next.symbols.insert(Arc::clone(symbol), Arc::clone(&file.source.name));
            }
            next.bytes += file.source.raw.len();
            next.weight += file.weight;
            next.extensions += file.source.extensions.len();
            next.files.insert(Arc::clone(&file.source.name), file);
        }
        let gone_services: Vec<Arc<str>> =
            gone_services.into_iter().filter(|name| !services.iter().any(|service| service.name == *name)).collect();
        for name in &gone_services {
            if let Some(service) = next.services.remove(&**name) {
                next.forget_short(&service);
            }
        }
        for service in &services {
            next.name_short(service);
            next.services.insert(Arc::clone(&service.name), Arc::clone(service));
        }
        let files = self.new.into_values().collect();
        let gone_files = self.gone.into_iter().collect();
        Applied { snapshot: next, files, services, gone_files, gone_services, changes, breaking }
    }
}

fn forget_file(snapshot: &mut Snapshot, name: &str) {
    let Some(file) = snapshot.files.remove(name) else { return };
    snapshot.bytes = snapshot.bytes.saturating_sub(file.source.raw.len());
    snapshot.weight = snapshot.weight.saturating_sub(file.weight);
    snapshot.extensions = snapshot.extensions.saturating_sub(file.source.extensions.len());
    for symbol in &file.source.symbols {
        if snapshot.symbols.get(symbol).is_some_and(|of| **of == *name) {
            snapshot.symbols.remove(symbol);
        }
    }
}
