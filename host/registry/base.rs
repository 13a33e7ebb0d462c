//! What every namespace starts with.

use super::service::Service;
use super::snapshot::{Base, File};
use super::source::Source;
use super::vet::Vetted;
use super::wire::Shapes;
use super::{link, raw};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use std::collections::HashSet;
use std::sync::Arc;

/// The node's own services.
#[derive(Debug, Clone, Default)]
pub struct BuiltIn {
    /// Encoded `FileDescriptorSet`s; a file that is in several counts once.
    pub sets: Vec<Bytes>,
    /// Full names of those of their services that the node serves.
    pub services: Vec<String>,
}

impl Base {
    /// * errors: the node's own descriptors do not fit together, which a test would have found.
    pub(super) fn of(built_in: &BuiltIn) -> Result<Self, anyhow::Error> {
        let mut base = Self::default();
        let bundled = DescriptorPool::global();
        let bundled = bundled.files().map(|file| Bytes::from(file.encode_to_vec()));
        let own = built_in.sets.iter().flat_map(raw::files);
        let mut sources = Vec::new();
        let mut seen = HashSet::new();
        for raw in bundled.chain(own) {
            let proto = FileDescriptorProto::decode(raw.clone())?;
            if seen.insert(proto.name().to_owned()) {
                let vetted = Vetted { proto, raw };
                sources.push(Arc::new(Source::new(vetted, &[], true, 0, 0)));
            }
        }
        // All of it is one pool: there is little of it, and every namespace shares it.
        let pool = link::pool(DescriptorPool::new(), link::set(&sources)).map_err(anyhow::Error::msg)?;
        let shapes = Arc::new(Shapes::of(&pool));
        for source in sources {
            for symbol in &source.symbols {
                base.symbols.insert(Arc::clone(symbol), Arc::clone(&source.name));
            }
            for (name, raw) in source.services.iter().zip(raw::services(&source.raw)) {
                if built_in.services.iter().any(|served| **served == **name) {
                    let found = pool.get_service_by_name(name);
                    let service = found.and_then(|found| Service::of(&found, raw.raw, &shapes));
                    let service = service.ok_or_else(|| anyhow::anyhow!("{name} does not resolve"))?;
                    base.services.insert(Arc::clone(name), Arc::new(service));
                }
            }
            let file = File { source: Arc::clone(&source), shapes: Arc::clone(&shapes), weight: 0 };
            base.files.insert(Arc::clone(&source.name), file);
        }
        let missing = built_in.services.iter().find(|name| !base.services.contains_key(name.as_str()));
        missing.map_or(Ok(()), |name| Err(anyhow::anyhow!("no descriptor of {name}")))?;
        Ok(base)
    }
}
