//! The services of a draft: those that its files change under, and those that it adds.

use super::draft::{Draft, NewService};
use super::error::RegistryError;
use super::raw;
use super::service::Service;
use super::snapshot::File;
use super::source::Source;
use crate::domain::{MethodName, NameError, ServiceName, one_line};
use bytes::Bytes;
use prost_reflect::DescriptorPool;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Services on their way into the next snapshot.
pub(super) struct Services<'d, 'o, 'f> {
    draft: &'d mut Draft<'o>,
    files: HashMap<&'f str, &'f File>,
    /// Which of the draft's files declares a service.
    declared: HashMap<Arc<str>, Arc<Source>>,
    /// Encoded services of files that were looked into, by file and simple name.
    raws: HashMap<Arc<str>, HashMap<String, Bytes>>,
    pub(super) new: BTreeMap<Arc<str>, Arc<Service>>,
    /// The same as before but for what their messages look like: nothing to be written down.
    pub(super) relinked: Vec<Arc<Service>>,
    now: i64,
    lenient: bool,
}

impl<'d, 'o, 'f> Services<'d, 'o, 'f> {
    /// * `files`: linked anew. `lenient`: leaves out what does not resolve, with a line in the log.
    pub(super) fn new(draft: &'d mut Draft<'o>, files: &'f [File], now: i64, lenient: bool) -> Self {
        let mut declared = HashMap::new();
        for source in draft.new.values() {
            declared.extend(source.services.iter().map(|service| (Arc::clone(service), Arc::clone(source))));
        }
        let files = files.iter().map(|file| (&*file.source.name, file)).collect();
        let (raws, new) = (HashMap::new(), BTreeMap::new());
        Self { draft, files, declared, raws, new, relinked: Vec::new(), now, lenient }
    }

    /// Resolves the registered services of affected files anew.
    pub(super) fn renew(&mut self, affected: &BTreeSet<Arc<str>>, gone: &[Arc<str>]) -> Result<(), RegistryError> {
        let old = self.draft.old;
        let of_old = affected.iter().filter_map(|name| old.files.get(&**name)).flat_map(|file| &file.source.services);
        let touched: BTreeSet<Arc<str>> = of_old.chain(self.declared.keys()).cloned().collect();
        for before in touched.iter().filter(|name| !gone.contains(name)).filter_map(|name| old.services.get(&**name)) {
            // Gone from its file: the comparison has said so.
            let Some(mut service) = self.resolve(&before.name, before.explicit)? else { continue };
            if service.raw == before.raw && service.file == before.file {
                service.updated_at = before.updated_at;
                self.relinked.push(Arc::new(service));
            } else {
                self.new.insert(Arc::clone(&before.name), Arc::new(service));
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, services: &[NewService]) -> Result<(), RegistryError> {
        for NewService { name, explicit, times } in services {
            let before = self.draft.old.services.get(name.as_str());
            let explicit = *explicit || before.is_some_and(|service| service.explicit);
            if before.is_some_and(|service| service.explicit == explicit) && !self.new.contains_key(name.as_str()) {
                continue; // the same again
            }
            let mut service = match self.resolve(name, explicit) {
                Ok(Some(service)) => service,
                Ok(None) if self.lenient => {
                    tracing::error!(service = name, "a stored service is declared in no file, so it is left out");
                    continue;
                }
                Ok(None) => return Err(RegistryError::Invalid(format!("no file declares the service {name}"))),
                Err(why) => return Err(why),
            };
            if let Some((created_at, updated_at)) = *times {
                (service.created_at, service.updated_at) = (created_at, updated_at);
            }
            self.relinked.retain(|service| *service.name != **name);
            self.new.insert(Arc::clone(&service.name), Arc::new(service));
        }
        Ok(())
    }

    fn resolve(&mut self, name: &str, explicit: bool) -> Result<Option<Service>, RegistryError> {
        let old = || self.draft.old.symbols.get(name).and_then(|file| self.draft.source(file));
        let Some(source) = self.declared.get(name).or_else(old).cloned() else { return Ok(None) };
        let pool = self.pool(&source)?;
        let Some(found) = pool.get_service_by_name(name) else { return Ok(None) };
        let raw = self.raw(&source, name.rsplit('.').next().unwrap_or(name));
        let file = self.files.get(&*source.name).copied();
        let file = file.or_else(|| self.draft.old.files.get(&*source.name));
        let service = file.zip(raw).and_then(|(file, raw)| Service::of(&found, raw, &file.shapes));
        let mut service = service.ok_or_else(|| RegistryError::Invalid(format!("{name} does not resolve")))?;
        callable(&service)?;
        let before = self.draft.old.services.get(name);
        service.explicit = explicit;
        service.created_at = before.map_or(self.now, |before| before.created_at);
        service.updated_at = self.now;
        Ok(Some(service))
    }

    fn raw(&mut self, source: &Source, simple: &str) -> Option<Bytes> {
        let all = self.raws.entry(Arc::clone(&source.name)).or_insert_with(|| {
            let services = raw::services(&source.raw).into_iter();
            services.map(|service| (service.proto.name().to_owned(), service.raw)).collect()
        });
        all.get(simple).cloned()
    }

    fn pool(&mut self, source: &Arc<Source>) -> Result<DescriptorPool, RegistryError> {
        if let Some(pool) = self.draft.pools.get(&source.name) {
            return Ok(pool.clone());
        }
        let pool = self.draft.link_one(source, &mut 0)?;
        self.draft.pools.insert(Arc::clone(&source.name), pool.clone());
        Ok(pool)
    }
}

/// A service whose name no call could carry would be there and out of reach.
fn callable(service: &Service) -> Result<(), RegistryError> {
    let wrong = |name: &str, why: NameError| RegistryError::Invalid(format!("{}: {why}", one_line(name, 64)));
    service.name.parse::<ServiceName>().map_err(|why| wrong(&service.name, why))?;
    for method in &service.methods {
        method.name.parse::<MethodName>().map_err(|why| wrong(&method.name, why))?;
    }
    Ok(())
}
