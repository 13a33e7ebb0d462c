//! Connects to wherever it is told. A node refuses the component, because it imports `wasi:sockets`.

use collector_guest::{Context, Fault};
use proto::{ConnectReply, ConnectRequest, Sockets, SocketsService};
use std::net::TcpStream;

/// What `proto/sockets.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("misbehave.sockets.v1");
}

/// The handler.
pub struct Caller;

impl Sockets for Caller {
    fn connect(_: &Context, request: ConnectRequest) -> Result<ConnectReply, Fault> {
        let outcome = TcpStream::connect(&request.address);
        Ok(ConnectReply {
            connected: outcome.is_ok(),
            error: outcome.err().map(|error| error.to_string()).unwrap_or_default(),
        })
    }
}

collector_guest::export!(SocketsService<Caller>);
