//! The messages and services of `proto/`, generated.

#![allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/, where the docs stand"
)]

tonic::include_proto!("collector");

/// The package `collector.admin.v1`.
pub mod admin {
    /// Running a node.
    pub mod v1 {
        tonic::include_proto!("collector.admin.v1");
    }
}

/// The package `collector.mesh.v1`.
pub mod mesh {
    /// What collectors tell each other.
    pub mod v1 {
        tonic::include_proto!("collector.mesh.v1");
    }
}

/// The package `collector.plugin.v1`.
pub mod plugin {
    /// Deployments.
    pub mod v1 {
        tonic::include_proto!("collector.plugin.v1");
    }
}

/// The package `collector.record.v1`.
pub mod record {
    /// Looking after collections.
    pub mod v1 {
        tonic::include_proto!("collector.record.v1");
    }
}

/// The encoded `FileDescriptorSet` of `proto/`, with imports and comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/collector.binpb"));
