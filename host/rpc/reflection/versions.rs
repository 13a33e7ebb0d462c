//! The versions of the protocol: the same messages in two packages, so one adapter written once.

use super::answer::{Answer, Ask, Refusal, answer};
use super::{ReflectionService, status};
use crate::registry::Snapshot;
use futures_util::stream::BoxStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// Implements the version in `tonic_reflection::pb::$version`.
macro_rules! version {
    ($version:ident) => {
        pub(super) mod $version {
            use super::*;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version::server_reflection_server::ServerReflection;
            use tonic_reflection::pb::$version::{
                ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
                ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
            };

            #[tonic::async_trait]
            impl ServerReflection for ReflectionService {
                type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

                async fn server_reflection_info(
                    &self,
                    request: Request<Streaming<ServerReflectionRequest>>,
                ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                    let (caller, namespace) = (crate::rpc::edge::caller(&request)?, self.namespace(&request)?);
                    Ok(Response::new(self.answers(caller, namespace, request.into_inner(), respond)))
                }
            }

            /// * errors: INVALID_ARGUMENT for a request that asks nothing we know.
            pub(in super::super) fn respond(
                snapshot: &Snapshot,
                request: ServerReflectionRequest,
            ) -> Result<ServerReflectionResponse, Status> {
                let ask = match request.message_request.clone().ok_or_else(asks_nothing)? {
                    MessageRequest::FileByFilename(name) => Ask::File(name),
                    MessageRequest::FileContainingSymbol(name) => Ask::Symbol(name),
                    MessageRequest::FileContainingExtension(extension) => {
                        Ask::Extension { of: extension.containing_type, number: extension.extension_number }
                    }
                    MessageRequest::AllExtensionNumbersOfType(of) => Ask::Extensions { of },
                    MessageRequest::ListServices(_) => Ask::Services,
                };
                let answer = answer(snapshot, &ask);
                Ok(ServerReflectionResponse {
                    valid_host: request.host.clone(),
                    original_request: Some(request),
                    message_response: Some(answer.map_or_else(refused, answered)),
                })
            }

            fn answered(answer: Answer) -> MessageResponse {
                match answer {
                    Answer::Files(file_descriptor_proto) => {
                        MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto })
                    }
                    Answer::Extensions { of, numbers } => {
                        let numbers = ExtensionNumberResponse { base_type_name: of, extension_number: numbers };
                        MessageResponse::AllExtensionNumbersResponse(numbers)
                    }
                    Answer::Services(names) => {
                        let service = names.into_iter().map(|name| ServiceResponse { name }).collect();
                        MessageResponse::ListServicesResponse(ListServiceResponse { service })
                    }
                }
            }

            fn refused(Refusal { code, message }: Refusal) -> MessageResponse {
                MessageResponse::ErrorResponse(ErrorResponse { error_code: code.into(), error_message: message })
            }
        }
    };
}

version!(v1);
version!(v1alpha);

fn asks_nothing() -> Status {
    let message = "message_request is not set, or of a kind that this node does not know";
    status::plain(Code::InvalidArgument, "INVALID_ARGUMENT", message)
}
