//! Registrations as the store keeps them: `RegisteredProto` and `RegisteredService` of `proto/collector/registry.proto`,
//! with the descriptors as bytes, so that nothing of them is lost on the way.

use super::service::Service;
use super::source::Source;
use crate::domain::{Namespace, micros, timestamp};
use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use std::collections::BTreeMap;

/// Collection of registered files, in `system`.
pub(super) const PROTOS: &str = "registered_protos";
/// Collection of registered services, in `system`.
pub(super) const SERVICES: &str = "registered_services";
/// Type of the records of [`PROTOS`].
pub(super) const PROTO_TYPE: &str = "type.googleapis.com/collector.RegisteredProto";
/// Type of the records of [`SERVICES`].
pub(super) const SERVICE_TYPE: &str = "type.googleapis.com/collector.RegisteredService";
/// Label of what was registered by name: it outlives deployments.
const EXPLICIT: &str = "collector.explicit";
/// Label of a service: the file that declares it.
const FILE: &str = "collector.file";

/// `collector.Metadata`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, tag = "1")]
    created_at: Option<Timestamp>,
    #[prost(message, tag = "2")]
    updated_at: Option<Timestamp>,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: BTreeMap<String, String>,
}

/// `collector.RegisteredProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoRecord {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) message_names: Vec<String>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) file_descriptor: Bytes,
    #[prost(string, repeated, tag = "5")]
    pub(super) dependencies: Vec<String>,
    #[prost(message, optional, tag = "6")]
    pub(super) metadata: Option<Metadata>,
}

/// `collector.RegisteredService`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceRecord {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) service_name: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) service_descriptor: Bytes,
    #[prost(string, repeated, tag = "5")]
    pub(super) method_names: Vec<String>,
    #[prost(message, optional, tag = "6")]
    pub(super) metadata: Option<Metadata>,
}

impl Metadata {
    fn new(created_at: i64, updated_at: i64, explicit: bool) -> Self {
        let labels = explicit.then(|| (EXPLICIT.to_owned(), "true".to_owned())).into_iter().collect();
        Self { created_at: Some(timestamp(created_at)), updated_at: Some(timestamp(updated_at)), labels }
    }

    pub(super) fn explicit(&self) -> bool {
        self.labels.contains_key(EXPLICIT)
    }

    pub(super) fn file(&self) -> Option<&str> {
        self.labels.get(FILE).map(String::as_str)
    }

    pub(super) fn times(&self) -> (i64, i64) {
        (micros(self.created_at), micros(self.updated_at))
    }
}

impl ProtoRecord {
    pub(super) fn of(namespace: &Namespace, source: &Source) -> Self {
        Self {
            id: format!("{namespace}/{}", source.name),
            namespace: namespace.to_string(),
            message_names: source.messages.clone(),
            file_descriptor: source.registered.clone(),
            dependencies: source.imports.iter().map(ToString::to_string).collect(),
            metadata: Some(Metadata::new(source.created_at, source.updated_at, source.explicit)),
        }
    }
}

impl ServiceRecord {
    pub(super) fn of(namespace: &Namespace, service: &Service) -> Self {
        let mut metadata = Metadata::new(service.created_at, service.updated_at, service.explicit);
        metadata.labels.insert(FILE.to_owned(), service.file.to_string());
        Self {
            id: format!("{namespace}/{}", service.name),
            namespace: namespace.to_string(),
            service_name: service.name.to_string(),
            service_descriptor: service.raw.clone(),
            method_names: service.methods.iter().map(|method| method.name.clone()).collect(),
            metadata: Some(metadata),
        }
    }
}
