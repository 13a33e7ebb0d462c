//! What each RPC needs: one table, checked against the services that there are.
//!
//! The decision itself is [`Tenancy::authorize`](crate::tenancy::Tenancy::authorize)'s, in the module that knows the
//! namespace. This table says what that decision is about; the door opens to nothing that is not in it, and a test asks
//! every entry of a real node with every role.

use crate::tenancy::Verb;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What an RPC needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing; not even to be known.
    Nothing,
    /// To be known. What is shown depends on what the caller may do.
    Known,
    /// A verb in a namespace.
    Verb(Verb, Place),
    /// Two of them.
    Both(Verb, Verb, Place),
    /// To be a collector that the operator made a peer.
    Peer,
    /// The RPC is not there yet; this is what it will need.
    Later(Verb, Place),
}

/// Where a request says its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this field, dotted.
    Field(&'static str),
    /// In this field; empty, it is about all namespaces in which the caller may do it.
    Any(&'static str),
    /// In the metadata `collector-namespace`, else the node's own default.
    Metadata,
    /// In the bindings of the key that it is about.
    Key,
    /// Nowhere: it is about the whole node.
    Node,
}

/// What a native call needs: `/<package>.<Service>/<Method>` of what tenants deployed.
pub const NATIVE: Needs = Needs::Verb(Verb::Invoke, Place::Metadata);

/// Every RPC of the node's own services.
pub const TABLE: &[(&str, Needs)] = {
    use Needs::{Both, Known, Later, Nothing, Peer, Verb as One};
    use Place::{Any, Field, Key, Node};
    use Verb::{Define, Deploy, Discover, Invoke, Manage, Operate, Read, Write};
    const NAMESPACE: Place = Field("namespace");
    const COLLECTION: Place = Field("collection.namespace");
    const SOURCE: Place = Field("source_collection.namespace");
    &[
        ("/collector.CollectorRegistry/RegisterProto", One(Deploy, NAMESPACE)),
        ("/collector.CollectorRegistry/RegisterService", One(Deploy, NAMESPACE)),
        ("/collector.CollectorRegistry/LookupService", One(Discover, NAMESPACE)),
        // Its answer says that there is no such method.
        ("/collector.CollectorRegistry/ValidateMethod", Known),
        ("/collector.CollectorRegistry/ListServices", One(Discover, Any("namespace"))),
        // Code that comes with the call, or an image, needs Deploy.
        ("/collector.CollectiveDispatcher/Serve", One(Invoke, NAMESPACE)),
        // Peers may besides.
        ("/collector.CollectiveDispatcher/Connect", One(Operate, Node)),
        // What it is a call of is decided besides.
        ("/collector.CollectiveDispatcher/Dispatch", One(Invoke, NAMESPACE)),
        ("/collector.CollectionService/Create", One(Write, NAMESPACE)),
        ("/collector.CollectionService/Get", One(Read, NAMESPACE)),
        ("/collector.CollectionService/Update", One(Write, NAMESPACE)),
        ("/collector.CollectionService/Delete", One(Write, NAMESPACE)),
        ("/collector.CollectionService/List", One(Read, NAMESPACE)),
        ("/collector.CollectionService/Search", One(Read, NAMESPACE)),
        ("/collector.CollectionService/Batch", One(Write, NAMESPACE)),
        ("/collector.CollectionService/Describe", One(Discover, NAMESPACE)),
        ("/collector.CollectionService/Modify", One(Define, NAMESPACE)),
        ("/collector.CollectionService/Meta", Known),
        // The records first, then, if there is such a collection, the method.
        ("/collector.CollectionService/Invoke", Both(Read, Invoke, NAMESPACE)),
        ("/collector.CollectionRepo/CreateCollection", One(Define, COLLECTION)),
        ("/collector.CollectionRepo/Discover", One(Discover, Any("namespace"))),
        ("/collector.CollectionRepo/Route", One(Discover, COLLECTION)),
        ("/collector.CollectionRepo/SearchCollections", One(Read, NAMESPACE)),
        ("/collector.CollectionRepo/Clone", Later(Read, SOURCE)),
        ("/collector.CollectionRepo/Fetch", Later(Define, Field("dest_namespace"))),
        ("/collector.CollectionRepo/PushCollection", Later(Define, SOURCE)),
        ("/collector.CollectionRepo/PullCollection", Later(Read, SOURCE)),
        ("/collector.CollectionRepo/BackupCollection", Later(Read, COLLECTION)),
        ("/collector.CollectionRepo/ListBackups", Later(Read, Any("namespace"))),
        ("/collector.CollectionRepo/RestoreBackup", Later(Define, Node)),
        ("/collector.CollectionRepo/DeleteBackup", Later(Define, Node)),
        ("/collector.CollectionRepo/VerifyBackup", Later(Read, Node)),
        ("/collector.record.v1.Collections/DropCollection", One(Define, NAMESPACE)),
        ("/collector.record.v1.Collections/Reindex", One(Define, NAMESPACE)),
        ("/collector.record.v1.Collections/Explain", One(Read, Field("list.namespace"))),
        ("/collector.mesh.v1.Mesh/Link", Peer),
        ("/collector.mesh.v1.Mesh/Fetch", Peer),
        ("/collector.mesh.v1.Mesh/Place", Peer),
        ("/collector.plugin.v1.Plugins/Deploy", One(Deploy, Field("header.namespace"))),
        ("/collector.plugin.v1.Plugins/List", One(Discover, Any("namespace"))),
        ("/collector.plugin.v1.Plugins/Get", One(Discover, NAMESPACE)),
        ("/collector.plugin.v1.Plugins/Activate", One(Deploy, NAMESPACE)),
        ("/collector.plugin.v1.Plugins/Undeploy", One(Deploy, NAMESPACE)),
        ("/collector.plugin.v1.Plugins/Inspect", One(Discover, NAMESPACE)),
        ("/collector.plugin.v1.Plugins/Grant", One(Manage, NAMESPACE)),
        ("/collector.plugin.v1.Plugins/Revoke", One(Manage, NAMESPACE)),
        ("/collector.admin.v1.Secrets/SetSecret", One(Manage, NAMESPACE)),
        ("/collector.admin.v1.Secrets/ListSecrets", One(Manage, NAMESPACE)),
        ("/collector.admin.v1.Secrets/DeleteSecret", One(Manage, NAMESPACE)),
        ("/collector.admin.v1.Namespaces/Create", One(Operate, NAMESPACE)),
        ("/collector.admin.v1.Namespaces/List", Known),
        ("/collector.admin.v1.Namespaces/Get", One(Discover, NAMESPACE)),
        ("/collector.admin.v1.Namespaces/SetQuota", One(Operate, NAMESPACE)),
        ("/collector.admin.v1.Namespaces/Usage", One(Discover, NAMESPACE)),
        ("/collector.admin.v1.Peers/Add", One(Operate, Node)),
        ("/collector.admin.v1.Peers/List", One(Operate, Node)),
        ("/collector.admin.v1.Peers/Remove", One(Operate, Node)),
        ("/collector.admin.v1.Keys/Create", One(Manage, Key)),
        ("/collector.admin.v1.Keys/List", One(Manage, Any("namespace"))),
        ("/collector.admin.v1.Keys/Revoke", One(Manage, Key)),
        ("/collector.admin.v1.Keys/RevokeToken", One(Operate, Node)),
        // Of the node and its own services; of a tenant's to who may see it.
        ("/grpc.health.v1.Health/Check", Nothing),
        ("/grpc.health.v1.Health/Watch", Nothing),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Known),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Known),
    ]
};

/// What the RPC at this path needs; `None`: the node has none there.
pub(super) fn needs(path: &str) -> Option<Needs> {
    static BY_PATH: LazyLock<HashMap<&str, Needs>> = LazyLock::new(|| TABLE.iter().copied().collect());
    BY_PATH.get(path).copied()
}

/// Whether the RPC at this path is for those too who do not say who they are.
pub(super) fn is_open(path: &str) -> bool {
    needs(path) == Some(Needs::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::built_in;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;

    #[test]
    fn u02_every_rpc_of_the_node_is_in_the_table_and_nothing_else() {
        let built_in = built_in();
        let files = built_in.sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
        let mut served = BTreeSet::new();
        for file in files {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                if built_in.services.contains(&name) {
                    served.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
                }
            }
        }
        let listed: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed.len(), TABLE.len(), "an RPC is listed twice");
        let missing: Vec<_> = served.difference(&listed).collect();
        let stale: Vec<_> = listed.difference(&served).collect();
        assert!(missing.is_empty() && stale.is_empty(), "missing: {missing:?}, stale: {stale:?}");
        assert!(served.len() > 40);
    }

    #[test]
    fn only_health_is_open() {
        let open: Vec<_> = TABLE.iter().filter(|(path, _)| is_open(path)).map(|(path, _)| *path).collect();
        assert_eq!(open, ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]);
    }
}
