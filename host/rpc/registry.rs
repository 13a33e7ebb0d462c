//! `CollectorRegistry`: convert, one domain call, convert.

use super::convert::{self, BadRequest};
use super::edge;
use super::{LISTING_MAX, pb, status, verdict};
use crate::domain::{MethodName, Namespace, ServiceName};
use crate::registry::{CallError, Registry, Service, timestamp};
use crate::tenancy::{Caller, Permit, Tenancy, Verb};
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

/// About what a listed service has beside its descriptor.
const BESIDE_DESCRIPTOR: usize = 256;

/// The service.
pub struct RegistryService {
    registry: Arc<Registry>,
    tenancy: Tenancy,
    default: Namespace,
}

impl RegistryService {
    /// * `default`: the namespace of those who name none; listed even when nothing is registered in it.
    pub fn new(registry: Arc<Registry>, tenancy: Tenancy, default: Namespace) -> Self {
        Self { registry, tenancy, default }
    }

    fn permit<T>(&self, request: &Request<T>, namespace: &str, verb: Verb) -> Result<Permit, Status> {
        let id = edge::request_id(request);
        let caller = edge::caller(request)?;
        let namespace: Namespace =
            convert::required("namespace", namespace).map_err(|why| status::bad_request(why, &id))?;
        self.tenancy.authorize(&caller, &namespace, verb).map_err(|why| status::dispatch(why.into(), &id))
    }

    /// Why a call of the method would be refused; `None` if it would not.
    fn objection(&self, caller: &Caller, request: &pb::ValidateMethodRequest) -> Option<(Code, String)> {
        let malformed = |why: BadRequest| (Code::InvalidArgument, why.to_string());
        let namespace = match convert::required::<Namespace>("namespace", &request.namespace) {
            Ok(namespace) => namespace,
            Err(why) => return Some(malformed(why)),
        };
        let service = match convert::required::<ServiceName>("service_name", &request.service_name) {
            Ok(service) => service,
            Err(why) => return Some(malformed(why)),
        };
        let method = match convert::required::<MethodName>("method_name", &request.method_name) {
            Ok(method) => method,
            Err(why) => return Some(malformed(why)),
        };
        let found = match self.tenancy.allows(caller, &namespace, Verb::Discover) {
            true => self.registry.snapshot(&namespace).find_method(&service, &method),
            // Like a namespace in which nothing is registered.
            false => self.registry.unused(&namespace).find_method(&service, &method),
        };
        found.err().map(|why| (verdict::call(&why).0, why.to_string()))
    }
}

#[tonic::async_trait]
impl pb::collector_registry_server::CollectorRegistry for RegistryService {
    async fn register_proto(
        &self,
        request: Request<pb::RegisterProtoRequest>,
    ) -> Result<Response<pb::RegisterProtoResponse>, Status> {
        let id = edge::request_id(&request);
        let permit = self.permit(&request, &request.get_ref().namespace, Verb::Deploy)?;
        let only_validate = convert::validate_only(request.metadata());
        let request = request.into_inner();
        let missing = |field| status::bad_request(BadRequest::Required(field), &id);
        let file = request.file_descriptor.ok_or_else(|| missing("file_descriptor"))?.bytes();
        if convert::descriptor_name(&file).is_none_or(|name| name.is_empty()) {
            return Err(missing("file_descriptor.name"));
        }
        let dependencies = request.dependencies.iter().map(super::RawDescriptor::bytes).collect();
        let registered = self.registry.register_proto(&permit, file, dependencies, only_validate).await;
        let registered = registered.map_err(|why| status::registry(why, &id))?;
        Ok(Response::new(pb::RegisterProtoResponse {
            status: convert::ok(),
            proto_id: format!("{}/{}", permit.namespace(), registered.name),
            registered_messages: registered.messages,
        }))
    }

    async fn register_service(
        &self,
        request: Request<pb::RegisterServiceRequest>,
    ) -> Result<Response<pb::RegisterServiceResponse>, Status> {
        let id = edge::request_id(&request);
        let permit = self.permit(&request, &request.get_ref().namespace, Verb::Deploy)?;
        let only_validate = convert::validate_only(request.metadata());
        let request = request.into_inner();
        let missing = |field| status::bad_request(BadRequest::Required(field), &id);
        let service = request.service_descriptor.ok_or_else(|| missing("service_descriptor"))?.bytes();
        if convert::descriptor_name(&service).is_none_or(|name| name.is_empty()) {
            return Err(missing("service_descriptor.name"));
        }
        let file = request.file_descriptor.map(|file| file.bytes());
        let registered = self.registry.register_service(&permit, service, file, only_validate).await;
        let registered = registered.map_err(|why| status::registry(why, &id))?;
        Ok(Response::new(pb::RegisterServiceResponse {
            status: convert::ok(),
            service_id: format!("{}/{}", permit.namespace(), registered.name),
            registered_methods: registered.methods.iter().map(|method| method.name.clone()).collect(),
        }))
    }

    async fn lookup_service(
        &self,
        request: Request<pb::LookupServiceRequest>,
    ) -> Result<Response<pb::LookupServiceResponse>, Status> {
        let id = edge::request_id(&request);
        let permit = self.permit(&request, &request.get_ref().namespace, Verb::Discover)?;
        let name = convert::required("service_name", &request.get_ref().service_name);
        let name: ServiceName = name.map_err(|why| status::bad_request(why, &id))?;
        let snapshot = self.registry.snapshot(permit.namespace());
        let found = snapshot.find_service(&name).map_err(|why| match why {
            CallError::NoService { .. } => status::plain(Code::NotFound, "NO_SERVICE", why.to_string()),
            other => status::dispatch(other.into(), &id),
        })?;
        let service = registered(permit.namespace(), found);
        Ok(Response::new(pb::LookupServiceResponse { status: convert::ok(), service: Some(service) }))
    }

    async fn validate_method(
        &self,
        request: Request<pb::ValidateMethodRequest>,
    ) -> Result<Response<pb::ValidateMethodResponse>, Status> {
        let objection = self.objection(&edge::caller(&request)?, request.get_ref());
        let is_valid = objection.is_none();
        let (code, message) = objection.unwrap_or((Code::Ok, String::new()));
        let message = crate::domain::one_line(&message, 1_024);
        let code = verdict::in_body(code).into();
        let status = Some(pb::Status { code, message: message.clone(), ..Default::default() });
        Ok(Response::new(pb::ValidateMethodResponse { status, is_valid, message }))
    }

    async fn list_services(
        &self,
        request: Request<pb::ListServicesRequest>,
    ) -> Result<Response<pb::ListServicesResponse>, Status> {
        let namespaces = match request.get_ref().namespace.as_str() {
            "" => self.visible(&edge::caller(&request)?),
            one => vec![self.permit(&request, one, Verb::Discover)?.namespace().clone()],
        };
        let mut services = Vec::new();
        let mut bytes = 0;
        for namespace in namespaces {
            let snapshot = self.registry.snapshot(&namespace);
            for service in snapshot.services() {
                bytes += service.raw.len() + BESIDE_DESCRIPTOR;
                services.push(registered(&namespace, service));
            }
            // Counted while it grows, not after it has.
            if bytes > LISTING_MAX {
                let message = "there are more services than one reply holds: name a namespace";
                return Err(status::plain(Code::ResourceExhausted, "LISTING_TOO_LARGE", message));
            }
        }
        services.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(Response::new(pb::ListServicesResponse { status: convert::ok(), services }))
    }
}

impl RegistryService {
    /// The namespaces that the caller may see: those in use, and the default one.
    fn visible(&self, caller: &Caller) -> Vec<Namespace> {
        let mut all = self.registry.namespaces();
        if !all.contains(&self.default) {
            all.push(self.default.clone());
        }
        all.retain(|namespace| self.tenancy.allows(caller, namespace, Verb::Discover));
        all
    }
}

fn registered(namespace: &Namespace, service: &Service) -> pb::RegisteredService {
    pb::RegisteredService {
        id: format!("{namespace}/{}", service.name),
        namespace: namespace.to_string(),
        service_name: service.name.to_string(),
        service_descriptor: Some(service.raw.clone().into()),
        method_names: service.methods.iter().map(|method| method.name.clone()).collect(),
        metadata: Some(pb::Metadata {
            created_at: Some(timestamp(service.created_at)),
            updated_at: Some(timestamp(service.updated_at)),
            ..Default::default()
        }),
    }
}
