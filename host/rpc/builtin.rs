//! The node's own services, as every namespace knows them.

use super::{CORE_SERVICES, pb};
use crate::registry::BuiltIn;
use bytes::Bytes;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::server::NamedService;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb::v1::server_reflection_server::ServerReflectionServer;
use tonic_reflection::pb::v1alpha::server_reflection_server::ServerReflectionServer as ServerReflectionAlphaServer;

/// What is served besides the core. `CollectiveWorker` and `CollectorConsole` have descriptors and no service.
const BESIDE: [&str; 10] = [
    "collector.admin.v1.Keys",
    "collector.admin.v1.Namespaces",
    "collector.admin.v1.Peers",
    "collector.admin.v1.Secrets",
    "collector.mesh.v1.Mesh",
    "collector.plugin.v1.Plugins",
    "collector.record.v1.Collections",
    HealthServer::<()>::NAME,
    ServerReflectionServer::<()>::NAME,
    ServerReflectionAlphaServer::<()>::NAME,
];

/// Descriptors and names of all that the node itself serves: the base of every namespace.
pub fn built_in() -> BuiltIn {
    let sets = vec![
        Bytes::from_static(pb::FILE_DESCRIPTOR_SET),
        at("grpc/health/v1/health.proto", tonic_health::pb::FILE_DESCRIPTOR_SET),
        at("grpc/reflection/v1/reflection.proto", tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET),
        at("grpc/reflection/v1alpha/reflection.proto", tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET),
    ];
    BuiltIn { sets, services: names().map(str::to_owned).collect() }
}

/// Whether the service is the node's own.
pub(super) fn is_built_in(full_name: &str) -> bool {
    names().any(|name| name == full_name)
}

fn names() -> impl Iterator<Item = &'static str> {
    CORE_SERVICES.into_iter().chain(BESIDE)
}

/// A set of one file, under the file's canonical name. tonic's crates call theirs `health.proto` and the like, which are
/// names that tenants may want.
fn at(name: &str, set: &'static [u8]) -> Bytes {
    let Ok(mut decoded) = FileDescriptorSet::decode(set) else { return Bytes::from_static(set) };
    if let [file] = decoded.file.as_mut_slice() {
        file.name = Some(name.to_owned());
    }
    decoded.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_service_of_the_node_has_its_descriptor_under_a_canonical_file_name() {
        let BuiltIn { sets, services } = built_in();
        let sets = sets.into_iter().map(|set| FileDescriptorSet::decode(set).unwrap());
        let files: Vec<_> = sets.flat_map(|set| set.file).collect();
        for file in &files {
            let folder = file.name().split('/').next().unwrap();
            assert!(["collector", "google", "grpc"].contains(&folder), "{}", file.name());
        }
        let declared = |file: &prost_types::FileDescriptorProto| -> Vec<String> {
            file.service.iter().map(|service| format!("{}.{}", file.package(), service.name())).collect()
        };
        let declared: BTreeSet<String> = files.iter().flat_map(declared).collect();
        let served: BTreeSet<String> = services.into_iter().collect();
        let idle: Vec<&String> = declared.difference(&served).collect();
        assert_eq!(idle, ["collector.CollectiveWorker", "collector.CollectorConsole"]);
        assert!(served.is_subset(&declared), "{served:?}");
    }
}
