//! Deployments as the store keeps them: `collector.plugin.v1.Deployment`.

use super::{Deployment, Version};
use crate::domain::{Kind, Namespace};
use crate::registry::{micros, timestamp};
use crate::store::{self, Change, Expect, Store, StoreError};
use prost::Message;
use prost_types::Timestamp;
use std::sync::Arc;

/// Collection of deployments, in `system`.
const COLLECTION: &str = "deployments";
const TYPE: &str = "type.googleapis.com/collector.plugin.v1.Deployment";

/// `collector.plugin.v1.Deployment`. Source: proto/collector/plugin/v1/plugins.proto.
#[derive(Clone, PartialEq, Message)]
struct DeploymentRecord {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    active_version: u32,
    #[prost(message, repeated, tag = "4")]
    versions: Vec<VersionRecord>,
    #[prost(message, optional, tag = "5")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    updated_at: Option<Timestamp>,
    #[prost(uint32, tag = "7")]
    newest_version: u32,
    #[prost(string, repeated, tag = "8")]
    grants: Vec<String>,
}

/// `collector.plugin.v1.Version`.
#[derive(Clone, PartialEq, Message)]
struct VersionRecord {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(string, tag = "2")]
    digest: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(uint64, tag = "4")]
    size_bytes: u64,
    #[prost(string, repeated, tag = "5")]
    services: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    imports: Vec<String>,
    #[prost(message, optional, tag = "7")]
    created_at: Option<Timestamp>,
    #[prost(string, repeated, tag = "8")]
    files: Vec<String>,
    #[prost(string, tag = "9")]
    image: String,
}

/// Reads all deployments of an earlier run.
pub(super) async fn all(store: &dyn Store) -> Result<Vec<Deployment>, StoreError> {
    let mut found = Vec::new();
    store::ensure(store, &Namespace::system(), COLLECTION).await?;
    for record in store::all(store, &Namespace::system(), COLLECTION).await? {
        match DeploymentRecord::decode(record.bytes).ok().and_then(read) {
            Some(deployment) => found.push(deployment),
            None => tracing::error!(id = record.id, "a stored deployment cannot be read"),
        }
    }
    Ok(found)
}

/// The change that keeps a deployment as it is now.
pub(super) fn put(deployment: &Deployment) -> Change {
    let strings = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
    let version = |version: &Version| VersionRecord {
        number: version.number,
        digest: format!("sha256:{}", version.digest),
        kind: version.kind.name().to_owned(),
        size_bytes: version.bytes,
        services: strings(&version.services),
        imports: version.imports.clone(),
        created_at: Some(timestamp(version.created_at)),
        files: strings(&version.files),
        image: version.image.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let record = DeploymentRecord {
        namespace: deployment.namespace.to_string(),
        name: deployment.name.to_string(),
        active_version: deployment.active,
        versions: deployment.versions.iter().map(version).collect(),
        created_at: Some(timestamp(deployment.created_at)),
        updated_at: Some(timestamp(deployment.updated_at)),
        newest_version: deployment.newest,
        grants: deployment.grants.iter().map(ToString::to_string).collect(),
    };
    Change::Put {
        collection: COLLECTION.to_owned(),
        id: id(deployment),
        type_url: TYPE.to_owned(),
        bytes: record.encode_to_vec().into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    }
}

/// The change that forgets a deployment.
pub(super) fn delete(deployment: &Deployment) -> Change {
    Change::Delete { collection: COLLECTION.to_owned(), id: id(deployment), expect: Expect::Any }
}

fn id(deployment: &Deployment) -> String {
    format!("{}/{}", deployment.namespace, deployment.name)
}

fn read(record: DeploymentRecord) -> Option<Deployment> {
    // One that cannot be read gives nothing.
    let grant = |text: &String| match text.parse() {
        Ok(grant) => Some(grant),
        Err(_) => {
            tracing::error!(deployment = record.name, "a stored grant cannot be read");
            None
        }
    };
    Some(Deployment {
        grants: record.grants.iter().filter_map(grant).collect(),
        namespace: record.namespace.parse().ok()?,
        name: record.name.parse().ok()?,
        active: record.active_version,
        newest: record.newest_version,
        versions: record.versions.into_iter().map(read_version).collect::<Option<_>>()?,
        created_at: micros(record.created_at),
        updated_at: micros(record.updated_at),
    })
}

fn read_version(record: VersionRecord) -> Option<Version> {
    let kind = Kind::from_name(&record.kind)?;
    let shared = |names: Vec<String>| names.into_iter().map(Into::into).collect();
    let image = match record.image.as_str() {
        "" => None,
        name => Some(name.parse().ok()?),
    };
    Some(Version {
        number: record.number,
        image,
        digest: record.digest.strip_prefix("sha256:")?.parse().ok()?,
        kind,
        bytes: record.size_bytes,
        services: shared(record.services),
        imports: record.imports,
        files: shared(record.files),
        created_at: micros(record.created_at),
    })
}
