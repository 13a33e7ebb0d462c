//! The floor: a plain tonic server that answers `Serve` with its own input.

use crate::hello::HelloEcho;
use collector::rpc::pb;
use pb::collective_dispatcher_server::{CollectiveDispatcher, CollectiveDispatcherServer};
use tonic::{Request, Response, Status};

struct Echo;

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

/// Serves on a free port until killed, and says where as JSON.
pub(crate) async fn serve() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "serving": format!("http://{}", listener.local_addr()?) }));
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let echo = CollectiveDispatcherServer::new(Echo).max_decoding_message_size(64 << 20);
    let server = tonic::transport::Server::builder().add_service(echo).add_service(HelloEcho);
    server.serve_with_incoming(incoming).await?;
    Ok(())
}
