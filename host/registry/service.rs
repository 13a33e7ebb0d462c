//! A service, resolved: its methods, and what their messages have to look like.

use super::wire::{ShapeId, Shapes, WireError};
use crate::domain::MethodName;
use bytes::Bytes;
use prost_reflect::{MessageDescriptor, ServiceDescriptor};
use std::collections::HashMap;
use std::sync::Arc;

/// A service of a namespace or of a component. Immutable.
#[derive(Debug)]
pub struct Service {
    /// Full protobuf name.
    pub name: Arc<str>,
    /// The file that declares it.
    pub file: Arc<str>,
    /// The encoded `ServiceDescriptorProto`, options and all.
    pub raw: Bytes,
    /// In declaration order.
    pub methods: Vec<Method>,
    /// Registered by name, not only brought along by a deployment.
    pub explicit: bool,
    /// Unix microseconds of the first revision.
    pub created_at: i64,
    /// Unix microseconds of this one.
    pub updated_at: i64,
    by_name: HashMap<Box<str>, usize>,
}

/// One method.
#[derive(Debug)]
pub struct Method {
    /// Simple name.
    pub name: String,
    /// What it takes.
    pub input: MessageType,
    /// What it answers.
    pub output: MessageType,
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

/// A message type as a check for bytes.
#[derive(Debug, Clone)]
pub struct MessageType {
    name: Arc<str>,
    shapes: Arc<Shapes>,
    id: ShapeId,
}

impl MessageType {
    fn of(message: &MessageDescriptor, shapes: &Arc<Shapes>) -> Option<Self> {
        Self::named(message.full_name(), shapes)
    }

    /// The type of that full name, if the shapes have it.
    pub(super) fn named(full_name: &str, shapes: &Arc<Shapes>) -> Option<Self> {
        let id = shapes.get(full_name)?;
        Some(Self { name: full_name.into(), shapes: Arc::clone(shapes), id })
    }

    /// The type of a pool that nobody registered.
    #[cfg(test)]
    pub(crate) fn alone(message: &MessageDescriptor) -> Self {
        Self::of(message, &Arc::new(Shapes::of(message.parent_pool()))).unwrap()
    }

    /// Full protobuf name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, to hold on to.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Whether `bytes` decode as this type. No I/O, no allocation when they do, linear in their number.
    ///
    /// * errors: where they depart from it.
    pub fn check(&self, bytes: &[u8]) -> Result<(), WireError> {
        self.shapes.check(self.id, bytes)
    }
}

impl Service {
    /// * `shapes`: of the pool that the service is from; `None` if they do not have its types.
    pub(super) fn of(service: &ServiceDescriptor, raw: Bytes, shapes: &Arc<Shapes>) -> Option<Self> {
        let method = |method: prost_reflect::MethodDescriptor| {
            Some(Method {
                name: method.name().to_owned(),
                input: MessageType::of(&method.input(), shapes)?,
                output: MessageType::of(&method.output(), shapes)?,
                client_streaming: method.is_client_streaming(),
                server_streaming: method.is_server_streaming(),
            })
        };
        let methods = service.methods().map(method).collect::<Option<Vec<_>>>()?;
        let by_name = methods.iter().enumerate().map(|(at, method)| (method.name.as_str().into(), at)).collect();
        Some(Self {
            name: service.full_name().into(),
            file: service.parent_file().name().into(),
            raw,
            methods,
            explicit: false,
            created_at: 0,
            updated_at: 0,
            by_name,
        })
    }

    /// The method with this simple name.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.get(*self.by_name.get(name)?)
    }

    /// The same, as something to hold on to.
    pub(super) fn pick(self: &Arc<Self>, name: &MethodName) -> Option<MethodRef> {
        let at = *self.by_name.get(name.as_str())?;
        Some(MethodRef { service: Arc::clone(self), at })
    }

    /// Last segment of the full name.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// A method of a service.
#[derive(Debug, Clone)]
pub struct MethodRef {
    service: Arc<Service>,
    at: usize,
}

impl MethodRef {
    /// Its service.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The method itself.
    #[expect(clippy::indexing_slicing, reason = "made by Service::pick from this service's own list")]
    pub fn method(&self) -> &Method {
        &self.service.methods[self.at]
    }
}
