//! `Dispatch`: one method wherever the mesh has it: by code that is deployed here, by a service of the node's own, or by
//! a peer.

use super::convert::BadRequest;
use super::mesh::{Errand, Forwarder, Handover, Spread, framed, whole};
use super::{Door, REPLY_MAX, convert, dispatcher, edge, pb, status};
use crate::dispatch::{DispatchError, Dispatcher, Here, Served};
use crate::domain::{Call, CollectorId, Deadline};
use crate::mesh::NoRoute;
use crate::registry::{self, CallError, MethodRef};
use crate::tenancy::{Permit, Tenancy, Verb};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use prost::Message as _;
use prost_types::Any;
use std::sync::Arc;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

/// Key of the hint that code is to be brought.
const PLACE: &str = "place";
/// Its path.
pub(super) const PATH: &str = "/collector.CollectiveDispatcher/Dispatch";

/// Services of the node's own that are called themselves: dispatching a dispatch would go in circles, and a link is
/// between two.
const NOT_DISPATCHED: [&str; 2] = ["collector.CollectiveDispatcher", "collector.mesh.v1.Mesh"];

/// Answers Dispatch.
pub(super) struct Anywhere {
    dispatcher: Arc<Dispatcher>,
    tenancy: Tenancy,
    forwarder: Forwarder,
    spread: Spread,
}

/// One request, its names parsed.
struct Asked {
    permit: Permit,
    call: Call,
    request: pb::DispatchRequest,
    metadata: MetadataMap,
    extensions: http::Extensions,
    deadline: Deadline,
    id: edge::RequestId,
}

type Answered = Result<Response<pb::DispatchResponse>, Status>;

impl Anywhere {
    /// * `forwarder`: where calls go that nothing here answers.
    /// * `spread`: brings code here, for those who wish it.
    pub(super) fn new(dispatcher: Arc<Dispatcher>, tenancy: Tenancy, forwarder: Forwarder, spread: Spread) -> Self {
        Self { dispatcher, tenancy, forwarder, spread }
    }

    /// Answers one request.
    pub(super) async fn dispatch(&self, request: Request<pb::DispatchRequest>) -> Answered {
        let (id, caller, deadline) = (edge::request_id(&request), edge::caller(&request)?, edge::deadline(&request)?);
        let (metadata, extensions, request) = request.into_parts();
        let call = convert::dispatched(&request, &metadata, deadline).map_err(|why| status::bad_request(why, &id))?;
        let permit = self.tenancy.authorize(&caller, &call.namespace, Verb::Invoke);
        let permit = permit.map_err(|why| status::refused(&why, &id))?;
        let asked = Asked { permit, call, request, metadata, extensions, deadline, id };
        let target = match asked.request.target_collector_id.as_str() {
            "" => None,
            own if own == self.forwarder.own().as_str() => {
                self.bring(&asked).await?;
                return self.here(asked).await;
            }
            // What is no id is nobody's.
            other => Some(other.parse().map_err(|_| asked.nobody(NoRoute::Unlinked))?),
        };
        if target.is_some() {
            return self.there(asked, target, None).await;
        }
        self.bring(&asked).await?;
        match self.dispatcher.here(&asked.permit, &asked.call.service, &asked.call.method) {
            Ok(Here::Nowhere(types)) => self.there(asked, None, types).await,
            _ => self.here(asked).await,
        }
    }

    /// Deploys here what the call needs, if its caller wishes that, nothing here answers it, and a peer has it.
    async fn bring(&self, asked: &Asked) -> Result<(), Status> {
        match asked.request.routing_hints.get(PLACE).map(String::as_str) {
            None => return Ok(()),
            Some("here") => {}
            Some(_) => {
                let (field, problem) = (format!("routing_hints.{PLACE}"), "can be nothing but here".to_owned());
                return Err(status::bad_request(BadRequest::Field { field, problem }, &asked.id));
            }
        }
        let Asked { permit, call, id, .. } = asked;
        let here = self.dispatcher.here(permit, &call.service, &call.method);
        if !matches!(here, Ok(Here::Nowhere(_))) || self.dispatcher.is_draining() {
            return Ok(());
        }
        let permit = self.tenancy.authorize(permit.caller(), permit.namespace(), Verb::Deploy);
        let permit = permit.map_err(|why| status::refused(&why, id))?;
        let brought = Box::pin(self.spread.here(&permit, &call.service)).await;
        brought.map_err(|why| status::place(why, id))
    }

    /// By this node.
    async fn here(&self, asked: Asked) -> Answered {
        if self.dispatcher.turns_away(asked.permit.caller()) {
            return Err(status::never_began(status::dispatch(DispatchError::Draining, &asked.id)));
        }
        match self.dispatcher.here(&asked.permit, &asked.call.service, &asked.call.method) {
            Ok(Here::BuiltIn(method)) => Box::pin(self.built_in(asked, &method)).await,
            Ok(Here::Deployed) => self.deployed(asked).await,
            Ok(Here::Nowhere(_)) => Err(asked.nobody(NoRoute::Nobody)),
            Err(why) => Err(status::dispatch(why, &asked.id)),
        }
    }

    /// By code that is deployed here: as Serve.
    async fn deployed(&self, asked: Asked) -> Answered {
        dispatcher::refuse_promises(&asked.metadata)?;
        let Asked { permit, call, id, .. } = asked;
        let served = self.dispatcher.serve(permit.caller(), call).await;
        let Served { outcome, output_type } = served.map_err(|why| status::dispatch(why, &id))?;
        let reply = outcome.reply.map_err(|fault| status::fault(fault, &outcome.receipt))?;
        let mut response = self.answer(output_type.as_deref(), reply);
        response.extensions_mut().insert(edge::ReceiptSlot::of(outcome.receipt));
        Ok(response)
    }

    /// By a service of the node's own, in memory, as if it had been called: it decides for itself who may.
    async fn built_in(&self, asked: Asked, method: &MethodRef) -> Answered {
        let Asked { call, metadata, mut extensions, deadline, id, .. } = asked;
        let (service, method) = (&method.service().name, method.method());
        if NOT_DISPATCHED.contains(&&**service) {
            let message = format!("{service} is called itself, not dispatched");
            return Err(status::plain(Code::Unimplemented, "NOT_DISPATCHED", message));
        }
        fits(&call, method).map_err(|why| status::dispatch(why.into(), &id))?;
        let lost = || status::plain(Code::Internal, "INTERNAL", "the node's own services are out of reach");
        let door = extensions.remove::<Door>().ok_or_else(lost)?;
        let mut headers = metadata.into_headers();
        ["content-length", "grpc-encoding"].into_iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
        let mut request = http::Request::new(Body::new(Full::new(framed(&call.input).ok_or_else(lost)?)));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = format!("/{service}/{}", method.name).parse().map_err(|_| lost())?;
        (*request.headers_mut(), *request.extensions_mut()) = (headers, extensions);
        let mut response = door.call(request).await;
        let receipt = response.extensions_mut().remove::<edge::ReceiptSlot>();
        let answer = whole(response, REPLY_MAX, deadline).await.map_err(|why| status::handover(why, &id))?;
        let mut response = self.answer(Some(method.output.name()), answer.reply()?);
        if let Some(receipt) = receipt {
            response.extensions_mut().insert(receipt);
        }
        Ok(response)
    }

    /// By a peer.
    async fn there(&self, asked: Asked, target: Option<CollectorId>, types: Option<MethodRef>) -> Answered {
        let Asked { permit, call, mut request, metadata, extensions, id, .. } = asked;
        if target.is_none() {
            request.routing_hints.remove(PLACE); // here, not there
        }
        let errand = Errand::new(permit, (call.service, call.method), &extensions)?;
        let errand = errand.to(target).typed(types);
        let (headers, message) = (metadata.into_headers(), request.encode_to_vec());
        drop((request, call.input));
        let answer = self.forwarder.unary(&errand, PATH, &headers, &message).await;
        let mut answer = answer.map_err(|why| status::handover(why, &id))?;
        let response = read(&answer.reply()?, &errand);
        let response = response.map_err(|why| status::handover(answer.unusable(why), &id))?;
        let mut response = Response::new(response);
        response.extensions_mut().insert(edge::Trailing(answer.receipt()));
        Ok(response)
    }

    fn answer(&self, output_type: Option<&str>, reply: Bytes) -> Response<pb::DispatchResponse> {
        let type_url = output_type.map(convert::type_url).unwrap_or_default();
        Response::new(pb::DispatchResponse {
            status: convert::ok(),
            output: Some(Any { type_url, value: reply.into() }),
            handled_by_collector_id: self.forwarder.own().to_string(),
        })
    }
}

impl Asked {
    fn nobody(&self, why: NoRoute) -> Status {
        status::handover(Handover::Route(why), &self.id)
    }
}

/// Whether a call fits a method of the node's own. What its bytes are the service itself finds out.
fn fits(call: &Call, method: &registry::Method) -> Result<(), CallError> {
    if method.streams() {
        return Err(CallError::Streaming { method: method.name.clone() });
    }
    let named = call.input_type_url.as_deref().map(|url| url.rsplit('/').next().unwrap_or(url));
    match named {
        Some(found) if found != method.input.name() => Err(CallError::WrongInputType {
            wanted: method.input.name().to_owned(),
            found: crate::domain::one_line(found, 256),
        }),
        _ => registry::check_input(method, &call.input),
    }
}

/// What a peer answered. Who it says has answered is believed, unless somebody else was asked.
fn read(reply: &[u8], errand: &Errand) -> Result<pb::DispatchResponse, &'static str> {
    let odd = || "it is no DispatchResponse";
    let response = pb::DispatchResponse::decode(reply).map_err(|_| odd())?;
    let by: CollectorId = response.handled_by_collector_id.parse().map_err(|_| odd())?;
    if errand.target().is_some_and(|target| *target != by) {
        return Err("it is of another collector than the one asked");
    }
    let output = response.output.as_ref().ok_or("it has no output")?;
    if let Some(method) = errand.types() {
        if output.type_url.rsplit('/').next() != Some(method.output.name()) {
            return Err("it is not of the method's type");
        }
        let checked = registry::check_output(method, &output.value);
        checked.map_err(|_| "it is not of the method's type")?;
    }
    Ok(response)
}
