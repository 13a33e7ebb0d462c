//! What a node serves in a namespace, by gRPC server reflection: v1, or v1alpha where the node is older.

use super::client::{ClientError, NodeClient, request};
use super::descriptors::{RawFile, imports_first, is_bundled, link};
use super::native;
use crate::domain::some_of;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use std::collections::{HashMap, VecDeque};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Question;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Reply;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// Both versions say the same bytes under two names.
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The services of a namespace, and their types on demand.
#[derive(Debug)]
pub(super) struct Reflection {
    client: NodeClient,
    namespace: String,
    path: &'static str,
    services: Vec<String>,
}

impl Reflection {
    /// Asks for the list of services.
    ///
    /// * errors: the node has no reflection, or does not show this namespace.
    pub(super) async fn open(client: &NodeClient, namespace: &str) -> anyhow::Result<Self> {
        for path in PATHS {
            let mut opened =
                Self { client: client.clone(), namespace: namespace.to_owned(), path, services: Vec::new() };
            match opened.ask(Question::ListServices(String::new())).await {
                Ok(Some(Reply::ListServicesResponse(list))) => {
                    opened.services = list.service.into_iter().map(|service| service.name).collect();
                    opened.services.sort_unstable();
                    return Ok(opened);
                }
                Ok(_) => bail!("the node answered reflection with something else than a list of services"),
                Err(ClientError::Call(status)) if status.code() == Code::Unimplemented => {}
                Err(why) => return Err(why.into()),
            }
        }
        bail!(
            "this node offers no server reflection, so its services are not known; \
             call a plugin with --plugin FILE, or use a newer node"
        )
    }

    /// Full names of all services, ordered.
    pub(super) fn services(&self) -> &[String] {
        &self.services
    }

    /// The full name of a service by its full or last name.
    ///
    /// * errors: unknown, with the known ones; ambiguous, with the candidates.
    pub(super) fn resolve<'a>(&'a self, name: &'a str) -> anyhow::Result<&'a str> {
        resolve(&self.services, name, &self.namespace)
    }

    /// A service with all its types.
    pub(super) async fn service(&self, name: &str) -> anyhow::Result<ServiceDescriptor> {
        let name = self.resolve(name)?;
        let files = self.symbol(name).await?;
        let files = files.with_context(|| format!("the node lists {name} and does not describe it"))?;
        let found = self.pool(files).await?.get_service_by_name(name);
        found.with_context(|| format!("the node describes {name} by a file that does not declare it"))
    }

    /// A method with its types.
    pub(super) async fn method(&self, service: &str, method: &str) -> anyhow::Result<MethodDescriptor> {
        let service = self.service(service).await?;
        let found = service.methods().find(|known| known.name() == method);
        found.with_context(|| {
            let known: Vec<String> = service.methods().map(|method| method.name().to_owned()).collect();
            format!("{} has no method {method}; it has {}", service.full_name(), some_of(&known))
        })
    }

    /// The file with this name, as bytes; `None` if there is none.
    pub(super) async fn file(&self, name: &str) -> anyhow::Result<Option<RawFile>> {
        let files = self.files(Question::FileByFilename(name.to_owned())).await?;
        Ok(files.and_then(|files| files.into_iter().find(|file| file.name == name)))
    }

    /// The file that defines the symbol (full name), and maybe some that it imports; `None` if there is none.
    pub(super) async fn symbol(&self, name: &str) -> anyhow::Result<Option<Vec<RawFile>>> {
        self.files(Question::FileContainingSymbol(name.to_owned())).await
    }

    /// Links files with all that they import.
    pub(super) async fn pool(&self, files: Vec<RawFile>) -> anyhow::Result<DescriptorPool> {
        let mut known: HashMap<String, RawFile> = HashMap::new();
        let mut fresh = VecDeque::from(files);
        while let Some(file) = fresh.pop_front() {
            if file.is_bundled() || known.contains_key(&file.name) {
                continue;
            }
            let here =
                |name: &str| is_bundled(name) || known.contains_key(name) || fresh.iter().any(|file| file.name == name);
            let missing: Vec<&String> = file.imports.iter().filter(|import| !here(import)).collect();
            let mut found = Vec::new();
            for import in missing {
                let files = self.files(Question::FileByFilename(import.clone())).await?;
                found.extend(files.with_context(|| format!("the node serves {} without {import}", file.name))?);
            }
            fresh.extend(found);
            known.insert(file.name.clone(), file);
        }
        link(&imports_first(known.into_values().collect()))
    }

    async fn files(&self, question: Question) -> anyhow::Result<Option<Vec<RawFile>>> {
        match self.ask(question).await? {
            None => Ok(None),
            Some(Reply::FileDescriptorResponse(files)) => {
                let files = files.file_descriptor_proto.into_iter();
                files.map(|raw| RawFile::decode(Bytes::from(raw))).collect::<anyhow::Result<_>>().map(Some)
            }
            Some(_) => bail!("the node answered reflection with something else than files"),
        }
    }

    /// One question, one reply; `None` if there is no such thing.
    async fn ask(&self, question: Question) -> Result<Option<Reply>, ClientError> {
        let question = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let request = request(&self.namespace, tokio_stream::once(question))?;
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let mut replies = native::start(&self.client, self.path, request, codec).await?.into_inner();
        let reply = replies.message().await?.and_then(|reply| reply.message_response);
        match reply {
            None => Err(Status::internal("the node did not answer a question of reflection").into()),
            Some(Reply::ErrorResponse(why)) if why.error_code == i32::from(Code::NotFound) => Ok(None),
            Some(Reply::ErrorResponse(why)) => {
                Err(Status::new(Code::from_i32(why.error_code), why.error_message).into())
            }
            Some(reply) => Ok(Some(reply)),
        }
    }
}

fn resolve<'a>(services: &'a [String], name: &'a str, namespace: &str) -> anyhow::Result<&'a str> {
    if let Some(exact) = services.iter().find(|known| *known == name) {
        return Ok(exact);
    }
    let short = |known: &&String| known.rsplit('.').next() == Some(name);
    let found: Vec<&String> = services.iter().filter(short).collect();
    match found[..] {
        [only] => Ok(only),
        [] => {
            // The node's own are no help to somebody who misspelled one of the namespace's, so they come last.
            let (own, theirs): (Vec<String>, Vec<String>) = services
                .iter()
                .cloned()
                .partition(|known| known.starts_with("collector.") || known.starts_with("grpc."));
            let known = [theirs, own].concat();
            bail!("there is no service {name} in namespace {namespace}; there is {}", some_of(&known))
        }
        _ => {
            let found: Vec<String> = found.into_iter().cloned().collect();
            bail!("service {name} is ambiguous, say which: {}", some_of(&found))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_go_by_their_full_or_their_only_last_name() {
        let services = ["a.v1.One", "a.v1.Two", "b.v1.Two", "Two"].map(str::to_owned);
        let said = |name| resolve(&services, name, "acme").map(str::to_owned).map_err(|why| why.to_string());
        assert_eq!(said("One").as_deref(), Ok("a.v1.One"));
        assert_eq!(said("b.v1.Two").as_deref(), Ok("b.v1.Two"));
        assert_eq!(said("Two").as_deref(), Ok("Two"), "a full name of its own");
        assert!(said("Three").unwrap_err().contains("a.v1.One, a.v1.Two, b.v1.Two"));
        let ambiguous = resolve(&services[..3], "Two", "acme").unwrap_err().to_string();
        assert!(ambiguous.contains("say which: a.v1.Two, b.v1.Two"), "{ambiguous}");
    }
}
