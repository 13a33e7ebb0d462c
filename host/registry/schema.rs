//! The services and methods of one descriptor set, resolved once.

use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Services with their methods, and the types they speak. Immutable.
#[derive(Debug)]
pub struct Schema {
    pool: DescriptorPool,
    services: Vec<Service>,
    encoded_bytes: usize,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Full protobuf name.
    pub name: String,
    /// In declaration order.
    pub methods: Vec<Method>,
}

/// One method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Simple name.
    pub name: String,
    /// Full name of the request message.
    pub input: String,
    /// Full name of the reply message.
    pub output: String,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server sends a stream.
    pub server_streaming: bool,
}

impl Method {
    /// Whether either side streams.
    pub fn streams(&self) -> bool {
        self.client_streaming || self.server_streaming
    }
}

/// A descriptor set that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Above a ceiling of this node.
    #[error("the descriptors have {found} {what}, at most {most} are allowed")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many.
        found: usize,
        /// The ceiling.
        most: usize,
    },
    /// Not a `FileDescriptorSet`, or one whose files do not fit together.
    #[error("the descriptors are not valid: {0}")]
    Invalid(String),
}

impl Schema {
    /// Bytes of an encoded set. Source: threats.md B3.
    pub const MAX_BYTES: usize = 512 << 10;
    /// Files of a set. Source: threats.md B3.
    pub const MAX_FILES: usize = 256;

    /// Reads an encoded `google.protobuf.FileDescriptorSet` in which `google/protobuf/*` imports may be left out.
    ///
    /// * errors: `TooLarge`, `Invalid`. Hostile bytes are expected here; nothing of them is trusted.
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        Self::within("bytes", bytes.len(), Self::MAX_BYTES)?;
        let set = FileDescriptorSet::decode(bytes)
            .map_err(|why| SchemaError::Invalid(crate::domain::one_line(&why.to_string(), 512)))?;
        Self::within("files", set.file.len(), Self::MAX_FILES)?;
        // prost-reflect panics on some odd option paths; a set that makes it do so is not valid.
        let built = catch_unwind(AssertUnwindSafe(|| build(bytes)));
        built.unwrap_or_else(|_| Err(SchemaError::Invalid("the files do not fit together".to_owned())))
    }

    /// All services, by file and declaration order.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The types, for JSON and for looking inside messages.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// Size of the set that this was read from.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    fn within(what: &'static str, found: usize, most: usize) -> Result<(), SchemaError> {
        if found > most { Err(SchemaError::TooLarge { what, found, most }) } else { Ok(()) }
    }
}

fn build(bytes: &[u8]) -> Result<Schema, SchemaError> {
    // A copy of the pool that prost-reflect starts with: the well-known types and nothing else.
    let mut pool = DescriptorPool::global();
    let known = pool.files().len();
    // From the raw bytes, so that custom options survive.
    pool.decode_file_descriptor_set(bytes)
        .map_err(|why| SchemaError::Invalid(crate::domain::one_line(&why.to_string(), 512)))?;
    let own = pool.files().skip(known).flat_map(|file| file.services().collect::<Vec<_>>());
    let services = own
        .map(|service| Service {
            name: service.full_name().to_owned(),
            methods: service
                .methods()
                .map(|method| Method {
                    name: method.name().to_owned(),
                    input: method.input().full_name().to_owned(),
                    output: method.output().full_name().to_owned(),
                    client_streaming: method.is_client_streaming(),
                    server_streaming: method.is_server_streaming(),
                })
                .collect(),
        })
        .collect();
    Ok(Schema { pool, services, encoded_bytes: bytes.len() })
}
