//! Changing what a namespace knows: checked, then durable, then seen, one change at a time per namespace.

use super::compat::Change;
use super::draft::{Applied, Edit, NewFile, NewService, apply};
use super::error::RegistryError;
use super::raw;
use super::records::{PROTO_TYPE, PROTOS, ProtoRecord, SERVICE_TYPE, SERVICES, ServiceRecord};
use super::schema::Schema;
use super::service::Service;
use super::snapshot::Snapshot;
use super::source::{Source, joined};
use super::vet::{self, Vetted};
use super::{Registry, Space, now};
use crate::domain::Namespace;
use crate::store::{Change as StoreChange, Expect, Write};
use crate::tenancy::Permit;
use bytes::Bytes;
use prost::Message as _;
use prost_types::{FileDescriptorProto, ServiceDescriptorProto};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// A file that is registered now.
#[derive(Debug)]
pub struct RegisteredFile {
    /// The name that imports use.
    pub name: String,
    /// Simple names of its top-level messages, in order.
    pub messages: Vec<String>,
}

/// A change that was worked out and not made yet. Nobody else changes the namespace while it is held.
pub struct Staged {
    namespace: Namespace,
    applied: Applied,
    space: Arc<Space>,
    _turn: OwnedMutexGuard<()>,
}

impl Staged {
    /// Services and methods that differ.
    pub fn changes(&self) -> &[Change] {
        &self.applied.changes
    }

    /// Why the change cannot be made; empty when it can.
    pub fn breaking(&self) -> &[String] {
        &self.applied.breaking
    }

    /// * errors: `Breaking`.
    fn check(&self) -> Result<(), RegistryError> {
        match self.breaking() {
            [] => Ok(()),
            breaking => Err(RegistryError::Breaking(breaking.to_vec())),
        }
    }

    /// What the namespace would know.
    pub fn snapshot(&self) -> &Snapshot {
        &self.applied.snapshot
    }
}

impl Registry {
    /// Registers a file and the files that it comes with. All or nothing.
    ///
    /// * `file`, `dependencies`: encoded `FileDescriptorProto`s, nothing about them trusted.
    /// * `validate_only`: every check, no change.
    /// * cancel: goes on; only the answer is lost. Source: `RegisterProto`, proto/collector/registry.proto.
    pub async fn register_proto(
        self: &Arc<Self>,
        permit: &Permit,
        file: Bytes,
        dependencies: Vec<Bytes>,
        validate_only: bool,
    ) -> Result<RegisteredFile, RegistryError> {
        let bytes = dependencies.iter().map(Bytes::len).sum::<usize>() + file.len();
        let edit = move |_: &Snapshot| {
            let mut edit = Edit::default();
            if dependencies.len() >= Schema::MAX_FILES {
                let what = "files in one registration";
                return Err(RegistryError::TooMany { what, most: Schema::MAX_FILES });
            }
            let main = vet::vet(&file)?;
            let messages = main.proto.message_type.iter().map(|message| message.name().to_owned()).collect();
            let registered = RegisteredFile { name: main.proto.name().to_owned(), messages };
            for dependency in dependencies {
                edit.files.push(by_name(vet::vet(&dependency)?));
            }
            edit.files.push(by_name(main));
            check_twice(&edit.files)?;
            Ok((edit, registered))
        };
        self.change(permit, validate_only, bytes, edit).await.map(|(registered, _)| registered)
    }

    /// Registers a service. All or nothing.
    ///
    /// * `service`: an encoded `ServiceDescriptorProto`; `file`: an encoded `FileDescriptorProto` that gives its package
    ///   and types, or nothing if a registered file does; `validate_only`: every check, no change.
    /// * cancel: goes on; only the answer is lost. Source: `RegisterService`, proto/collector/registry.proto.
    pub async fn register_service(
        self: &Arc<Self>,
        permit: &Permit,
        service: Bytes,
        file: Option<Bytes>,
        validate_only: bool,
    ) -> Result<Arc<Service>, RegistryError> {
        let bytes = service.len() + file.as_ref().map_or(0, Bytes::len);
        let edit = move |snapshot: &Snapshot| {
            let proto = vetted_service(&service)?;
            let file = match file {
                Some(file) => with_file(&proto, service, &file)?,
                None => without_file(&proto, service, snapshot)?,
            };
            let name = joined(file.vetted.proto.package(), proto.name());
            let services = vec![NewService { name: name.clone(), explicit: true, times: None }];
            Ok((Edit { files: vec![file], services, ..Edit::default() }, name))
        };
        let (name, snapshot) = self.change(permit, validate_only, bytes, edit).await?;
        let unresolved = || RegistryError::Invalid(format!("{name} does not resolve"));
        snapshot.service(&name).cloned().ok_or_else(unresolved)
    }

    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        permit: &Permit,
        validate_only: bool,
        bytes: usize,
        edit: impl FnOnce(&Snapshot) -> Result<(Edit, T), RegistryError> + Send + 'static,
    ) -> Result<(T, Snapshot), RegistryError> {
        // Held until it is done, whether its caller waits for that or not.
        let held = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.waiting).try_acquire_many_owned(held).map_err(|_full| RegistryError::Busy)?;
        let (registry, permit) = (Arc::clone(self), permit.clone());
        let work = self.lifecycle.spawn(async move {
            let _room = room;
            let (staged, answer) = registry.stage(&permit, edit).await?;
            let snapshot = staged.snapshot().clone();
            match validate_only {
                true => staged.check()?,
                false => registry.commit(staged, Vec::new(), || ()).await?,
            }
            Ok((answer, snapshot))
        });
        work.await.map_err(|gone| RegistryError::Internal(gone.into()))?
    }

    /// Works a change out without making it. `edit` sees what is there, and nobody changes it in between.
    ///
    /// * errors: all but `Breaking` and `Store`.
    pub async fn stage<T: Send + 'static>(
        &self,
        permit: &Permit,
        edit: impl FnOnce(&Snapshot) -> Result<(Edit, T), RegistryError> + Send + 'static,
    ) -> Result<(Staged, T), RegistryError> {
        let namespace = permit.namespace().clone();
        let space = self.space(&namespace)?;
        let turn = Arc::clone(&space.turn).lock_owned().await;
        let old = space.live.load_full();
        let config = self.config.clone();
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        let worker = worker.map_err(|closed| RegistryError::Internal(closed.into()))?;
        let worked_out = blocking(move || {
            let _worker = worker;
            let (edit, answer) = edit(&old)?;
            apply(&old, edit, Some(&config), now()).map(|applied| (applied, answer))
        });
        let (applied, answer) = worked_out.await??;
        Ok((Staged { namespace, applied, space, _turn: turn }, answer))
    }

    /// A change of nothing, to hold the namespace's turn with.
    pub async fn hold(&self, permit: &Permit) -> Result<Staged, RegistryError> {
        let namespace = permit.namespace().clone();
        let space = self.space(&namespace)?;
        let turn = Arc::clone(&space.turn).lock_owned().await;
        let applied = Applied::unchanged(&space.live.load());
        Ok(Staged { namespace, applied, space, _turn: turn })
    }

    /// Makes a change: durable first, then seen by the next call.
    ///
    /// * `beside`: records of others that have to come with it or not at all.
    /// * `then`: what else changes at that moment, before anybody is told.
    /// * errors: `Breaking`, `Store`; nothing is changed then.
    pub async fn commit(
        &self,
        staged: Staged,
        beside: Vec<StoreChange>,
        then: impl FnOnce(),
    ) -> Result<(), RegistryError> {
        staged.check()?;
        let Staged { namespace, applied, space, _turn } = staged;
        if applied.is_unchanged() && beside.is_empty() {
            return Ok(());
        }
        let mut records = records(&namespace, &applied);
        records.extend(beside);
        self.store.write(&Namespace::system(), Write::together(records)).await?;
        if !applied.is_unchanged() {
            space.live.store(Arc::new(applied.snapshot));
        }
        then();
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

impl Edit {
    /// What a component brings: its files and services.
    ///
    /// * `named`: services of a component without descriptors, by full name; they have to be registered.
    /// * errors: a file that is broken.
    pub fn of_component(schema: Option<&Schema>, named: &[String]) -> Result<Self, RegistryError> {
        let mut edit = Self::default();
        let with = |name: String| NewService { name, explicit: false, times: None };
        if let Some(schema) = schema {
            for file in schema.files() {
                edit.files.push(NewFile { explicit: false, ..by_name(vet::vet(file)?) });
            }
            edit.services.extend(schema.services().iter().map(|service| with(service.name.to_string())));
        }
        edit.services.extend(named.iter().cloned().map(with));
        Ok(edit)
    }

    /// Takes these services and files away as well, those excepted that were registered by name, that the edit itself
    /// brings, or that others need.
    #[must_use]
    pub fn without(mut self, snapshot: &Snapshot, services: BTreeSet<Arc<str>>, files: BTreeSet<Arc<str>>) -> Self {
        let brought: HashSet<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
        let goes = |name: &Arc<str>| {
            !brought.contains(&**name) && snapshot.services.get(&**name).is_some_and(|service| !service.explicit)
        };
        self.gone_services = services.into_iter().filter(goes).collect();
        let files = files.into_iter().filter(|name| !self.brings(name));
        self.gone_files = Self::unneeded(snapshot, files);
        self
    }

    /// Also drops old files all of whose names the edit's own files define now: they were renamed.
    #[must_use]
    pub fn with_renames(mut self, snapshot: &Snapshot, old: BTreeSet<Arc<str>>) -> Self {
        let mut defined = HashSet::new();
        for file in &self.files {
            defined.extend(Source::new(file.vetted.clone(), &[], false, 0, 0).symbols);
        }
        let renamed = |name: &Arc<str>| {
            let file = snapshot.files.get(&**name).filter(|_| !self.brings(name));
            file.is_some_and(|file| file.source.symbols.iter().all(|symbol| defined.contains(symbol)))
        };
        let renamed: Vec<Arc<str>> = Self::unneeded(snapshot, old).into_iter().filter(renamed).collect();
        self.gone_files.extend(renamed);
        self
    }

    fn brings(&self, file: &str) -> bool {
        self.files.iter().any(|brought| brought.vetted.proto.name() == file)
    }

    /// Those of the files that were not registered by name.
    fn unneeded(snapshot: &Snapshot, files: impl IntoIterator<Item = Arc<str>>) -> Vec<Arc<str>> {
        let brought = |name: &Arc<str>| snapshot.files.get(&**name).is_some_and(|file| !file.source.explicit);
        files.into_iter().filter(brought).collect()
    }
}

fn by_name(vetted: Vetted) -> NewFile {
    NewFile { vetted, explicit: true, extra: Vec::new(), times: None }
}

fn check_twice(files: &[NewFile]) -> Result<(), RegistryError> {
    for (at, file) in files.iter().enumerate() {
        let before = files.iter().take(at).find(|before| before.vetted.proto.name() == file.vetted.proto.name());
        if before.is_some_and(|before| before.vetted.raw != file.vetted.raw) {
            return Err(RegistryError::Invalid(format!("{} was sent twice", file.vetted.proto.name())));
        }
    }
    Ok(())
}

/// A service on its own, held against the limits of a file.
fn vetted_service(service: &Bytes) -> Result<ServiceDescriptorProto, RegistryError> {
    let holder = FileDescriptorProto { name: Some("service.proto".to_owned()), ..Default::default() };
    let vetted = vet::vet(&raw::with_service(&holder.encode_to_vec().into(), "", service))?;
    let none = || RegistryError::Invalid("service_descriptor does not decode".to_owned());
    vetted.proto.service.into_iter().next().ok_or_else(none)
}

/// The file that came with a service, with the service in it.
fn with_file(proto: &ServiceDescriptorProto, service: Bytes, file: &Bytes) -> Result<NewFile, RegistryError> {
    let vetted = vet::vet(file)?;
    let declared = vetted.proto.service.iter().find(|declared| declared.name() == proto.name());
    match declared {
        Some(declared) if declared.method == proto.method => Ok(by_name(vetted)),
        Some(_) => Err(RegistryError::ServiceDiffers(proto.name().to_owned())),
        None => Ok(NewFile { extra: vec![(proto.name().to_owned(), service)], ..by_name(vetted) }),
    }
}

/// The registered file that declares the service, or one made for it.
fn without_file(proto: &ServiceDescriptorProto, service: Bytes, snapshot: &Snapshot) -> Result<NewFile, RegistryError> {
    let declares = |source: &Source| source.services.iter().any(|name| name.rsplit('.').next() == Some(proto.name()));
    let mut candidates: Vec<&Source> =
        snapshot.files.values().map(|file| &*file.source).filter(|source| declares(source)).collect();
    if candidates.len() > 1 {
        candidates.retain(|source| {
            raw::services(&source.raw).iter().any(|s| s.proto.name() == proto.name() && s.proto.method == proto.method)
        });
    }
    match candidates.as_slice() {
        [] => made_file(proto, service, snapshot),
        // Its imports follow from its methods.
        [only] if *only.name == *made_name(proto) => made_file(proto, service, snapshot),
        [only] => {
            let same = raw::services(&only.raw)
                .iter()
                .any(|s| s.proto.name() == proto.name() && s.proto.method == proto.method);
            let raw = if same {
                only.registered.clone()
            } else {
                raw::with_service(&only.registered, proto.name(), &service)
            };
            Ok(NewFile { explicit: only.explicit, ..by_name(vet::vet(&raw)?) })
        }
        several => {
            let files = several.iter().map(|source| source.name.to_string()).collect();
            Err(RegistryError::AmbiguousFile { service: proto.name().to_owned(), files })
        }
    }
}

/// Name of the file of a service that no file declares.
fn made_name(proto: &ServiceDescriptorProto) -> String {
    format!("services/{}.proto", proto.name())
}

/// A file for a service that no file declares. Its types are full names, so they say which files it needs.
fn made_file(proto: &ServiceDescriptorProto, service: Bytes, snapshot: &Snapshot) -> Result<NewFile, RegistryError> {
    let mut imports: Vec<String> = Vec::new();
    for method in &proto.method {
        for wanted in [method.input_type(), method.output_type()] {
            let name = wanted.trim_start_matches('.');
            let unresolved = || RegistryError::UnresolvedType {
                service: proto.name().to_owned(),
                method: method.name().to_owned(),
                wanted: crate::domain::one_line(name, 256),
            };
            let file = snapshot.definer(name).ok_or_else(unresolved)?;
            if !imports.iter().any(|import| **import == **file) {
                imports.push(file.to_string());
            }
        }
    }
    let file = FileDescriptorProto {
        name: Some(made_name(proto)),
        syntax: Some("proto3".to_owned()),
        dependency: imports,
        ..Default::default()
    };
    let raw = raw::with_service(&file.encode_to_vec().into(), proto.name(), &service);
    Ok(by_name(vet::vet(&raw)?))
}

/// The records that a change leaves.
fn records(namespace: &Namespace, applied: &Applied) -> Vec<StoreChange> {
    let put = |collection: &str, id: String, type_url: &str, bytes: Vec<u8>| StoreChange::Put {
        collection: collection.to_owned(),
        id,
        type_url: type_url.to_owned(),
        bytes: bytes.into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    };
    let delete = |collection: &str, name: &str| StoreChange::Delete {
        collection: collection.to_owned(),
        id: format!("{namespace}/{name}"),
        expect: Expect::Any,
    };
    let files = applied.files.iter().map(|source| {
        let record = ProtoRecord::of(namespace, source);
        put(PROTOS, record.id.clone(), PROTO_TYPE, record.encode_to_vec())
    });
    let services = applied.services.iter().map(|service| {
        let record = ServiceRecord::of(namespace, service);
        put(SERVICES, record.id.clone(), SERVICE_TYPE, record.encode_to_vec())
    });
    let gone_files = applied.gone_files.iter().map(|name| delete(PROTOS, name));
    let gone_services = applied.gone_services.iter().map(|name| delete(SERVICES, name));
    files.chain(services).chain(gone_files).chain(gone_services).collect()
}

/// Runs `work` where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await.map_err(|gone| RegistryError::Internal(gone.into()))
}
