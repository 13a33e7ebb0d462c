//! The floors: plain tonic servers of prost types that answer with what they got, and a plain hyper answer of JSON.

mod hello;
mod records;
mod serve;

pub(crate) use hello::{Hello, HelloClient, PATH as HELLO};

use crate::Failure;

/// Serves all of them on a free port until killed, and says where.
pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder().accept_http1(true);
    let mut server = server;
    let server = server.add_service(serve::service()).add_service(hello::HelloEcho).add_service(records::service());
    server.serve_with_incoming(incoming).await?;
    Ok(())
}
