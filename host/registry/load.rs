//! Starting: from the records of an earlier run to snapshots.

use super::base::BuiltIn;
use super::draft::{Edit, NewFile, NewService, apply};
use super::error::RegistryError;
use super::records::{PROTOS, ProtoRecord, SERVICES, ServiceRecord};
use super::snapshot::{Base, Snapshot};
use super::{Config, Registry, Space, WAITING_KIB, WORKERS, now, vet};
use crate::domain::Namespace;
use crate::lifecycle::Lifecycle;
use crate::store::{self, Store};
use bytes::Bytes;
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Semaphore, watch};

impl Registry {
    /// Reads what was registered before.
    ///
    /// * errors: the store cannot be read, or the node's own descriptors do not fit together. A namespace whose records
    ///   do not fit together (an older node was less strict) is left out and named in the log; the others serve.
    pub async fn open(
        store: Arc<dyn Store>,
        built_in: &BuiltIn,
        config: Config,
        lifecycle: Lifecycle,
    ) -> Result<Self, RegistryError> {
        let base = Base::of(built_in).map_err(RegistryError::Internal)?;
        for collection in [PROTOS, SERVICES] {
            store::ensure(&*store, &Namespace::system(), collection).await?;
        }
        let blank = Namespace::system();
        let registry = Self {
            blank: Snapshot::new(blank, Arc::new(base)),
            spaces: RwLock::new(HashMap::new()),
            store,
            config,
            workers: Arc::new(Semaphore::new(WORKERS)),
            waiting: Arc::new(Semaphore::new(WAITING_KIB)),
            changed: watch::Sender::new(0),
            lifecycle,
        };
        for (namespace, edit) in registry.stored().await? {
            let old = registry.blank(&namespace);
            match super::register::blocking(move || apply(&old, edit, None, now())).await? {
                Ok(applied) => {
                    let mut spaces = registry.spaces.write().unwrap_or_else(PoisonError::into_inner);
                    spaces.insert(namespace, Space::of(applied.snapshot));
                }
                Err(why) => tracing::error!(%namespace, %why, "the registrations of a namespace cannot be used"),
            }
        }
        Ok(registry)
    }

    async fn stored(&self) -> Result<BTreeMap<Namespace, Edit>, RegistryError> {
        let mut services: BTreeMap<Namespace, Vec<ServiceRecord>> = BTreeMap::new();
        let system = Namespace::system();
        for record in store::all(&*self.store, &system, SERVICES).await? {
            if let Ok(service) = ServiceRecord::decode(record.bytes)
                && let Ok(namespace) = service.namespace.parse()
            {
                services.entry(namespace).or_default().push(service);
            }
        }
        let mut edits: BTreeMap<Namespace, Edit> = BTreeMap::new();
        for record in store::all(&*self.store, &system, PROTOS).await? {
            let Ok(proto) = ProtoRecord::decode(record.bytes) else { continue };
            let Ok(namespace) = proto.namespace.parse::<Namespace>() else { continue };
            let extra = services.get(&namespace).map(|all| extra(all, &proto.id, &namespace)).unwrap_or_default();
            match new_file(proto, extra) {
                Ok(file) => edits.entry(namespace).or_default().files.push(file),
                Err(why) => tracing::error!(%namespace, %why, "a registered file cannot be used"),
            }
        }
        for (namespace, records) in services {
            let edit = edits.entry(namespace).or_default();
            edit.services.extend(records.into_iter().map(new_service));
        }
        Ok(edits)
    }
}

/// The services that were registered for a file; those that it declares itself are told apart later.
fn extra(services: &[ServiceRecord], id: &str, namespace: &Namespace) -> Vec<(String, Bytes)> {
    let file = id.strip_prefix(namespace.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let of_file = |service: &&ServiceRecord| service.metadata.as_ref().and_then(super::records::Metadata::file) == file;
    let simple = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let pairs = services.iter().filter(of_file);
    pairs.map(|service| (simple(&service.service_name), service.service_descriptor.clone())).collect()
}

fn new_file(record: ProtoRecord, extra: Vec<(String, Bytes)>) -> Result<NewFile, RegistryError> {
    let metadata = record.metadata.unwrap_or_default();
    let vetted = vet::vet(&record.file_descriptor)?;
    Ok(NewFile { vetted, explicit: metadata.explicit(), extra, times: Some(metadata.times()) })
}

fn new_service(record: ServiceRecord) -> NewService {
    let metadata = record.metadata.unwrap_or_default();
    NewService { name: record.service_name, explicit: metadata.explicit(), times: Some(metadata.times()) }
}
