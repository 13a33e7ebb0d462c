//! `Serve` answered with its own input.

use collector::rpc::pb;
use pb::collective_dispatcher_server::{CollectiveDispatcher, CollectiveDispatcherServer};
use tonic::{Request, Response, Status};

pub(super) struct Echo;

#[tonic::async_trait]
impl CollectiveDispatcher for Echo {
    async fn serve(&self, request: Request<pb::ServeRequest>) -> Result<Response<pb::ServeResponse>, Status> {
        Ok(Response::new(pb::ServeResponse { output: request.into_inner().input, ..Default::default() }))
    }

    async fn connect(&self, _: Request<pb::ConnectRequest>) -> Result<Response<pb::ConnectResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn dispatch(&self, _: Request<pb::DispatchRequest>) -> Result<Response<pb::DispatchResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }
}

pub(super) fn service() -> CollectiveDispatcherServer<Echo> {
    CollectiveDispatcherServer::new(Echo).max_decoding_message_size(64 << 20)
}
