//! Ways to call the greeter, and how much at a time.

use super::Stage;
use crate::Failure;
use crate::echo::{HELLO, Hello};
use crate::load::{Job, Kind};
use crate::options::Options;
use collector::domain::Digest;
use collector::rpc::pb;
use pb::serve_request::ServiceDef;
use prost::Message as _;

pub(super) const NAMESPACE: &str = "bench";
const SERVE: &str = "/collector.CollectiveDispatcher/Serve";

/// How, and by whom.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    EchoMessage,
    Native,
    Connect,
    GrpcWeb,
    EchoServe,
    Digest,
    EchoBinary,
    Binary,
}

/// How much at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    in_flight: usize,
    connections: usize,
    /// Of the name that is greeted.
    bytes: usize,
}

const fn shape(in_flight: usize, connections: usize, bytes: usize) -> Shape {
    Shape { in_flight, connections, bytes }
}

/// What the bars are about.
pub(super) const ALONE: Shape = shape(1, 1, 256);
pub(super) const CROWD: Shape = shape(64, 8, 256);

const ALL: [Shape; 8] = [
    ALONE,
    shape(1, 1, 16 << 10),
    shape(1, 1, 1 << 20),
    shape(64, 1, 256),
    shape(64, 4, 256),
    CROWD,
    shape(64, 8, 16 << 10),
    shape(64, 8, 1 << 20),
];
/// Of what differs in its framing alone.
const SOME: [Shape; 3] = [ALONE, shape(1, 1, 16 << 10), CROWD];
/// Of what is large by itself.
const FEW: [Shape; 2] = [ALONE, CROWD];

impl Shape {
    /// So many that a round takes about a second, on the machine that this was sized on.
    fn calls(self, options: &Options) -> usize {
        let (usual, quick) = match (self.in_flight, self.bytes) {
            (1, 256) => (2_000, 50),
            (1, 1_048_576) => (100, 5),
            (1, _) => (1_000, 20),
            (_, 256) => (8_000, 256),
            (_, 1_048_576) => (192, 64),
            (..) => (4_000, 128),
        };
        options.pick(usual, quick)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.in_flight, self.connections) {
            (1, _) => write!(to, "alone")?,
            (many, connections) => write!(to, "{many} over {connections}")?,
        }
        match self.bytes {
            bytes if bytes >= 1 << 20 => write!(to, ", {} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => write!(to, ", {} KiB", bytes >> 10),
            bytes => write!(to, ", {bytes} B"),
        }
    }
}

impl Way {
    /// What it is measured at.
    pub(super) fn shapes(self) -> &'static [Shape] {
        match self {
            Self::EchoMessage | Self::Native | Self::EchoServe | Self::Digest => &ALL,
            Self::Connect | Self::GrpcWeb => &SOME,
            Self::EchoBinary | Self::Binary => &FEW,
        }
    }

    pub(super) fn is_floor(self) -> bool {
        matches!(self, Self::EchoMessage | Self::EchoServe | Self::EchoBinary)
    }

    pub(super) fn at(self, shape: Shape) -> String {
        let name = match self {
            Self::EchoMessage => "plain tonic echo of a message",
            Self::Native => "native call, gRPC",
            Self::Connect => "native call, Connect JSON",
            Self::GrpcWeb => "native call, gRPC-Web",
            Self::EchoServe => "plain tonic echo of Serve",
            Self::Digest => "Serve by digest",
            Self::EchoBinary => "plain tonic echo of the binary",
            Self::Binary => "Serve with the binary attached",
        };
        format!("{name}, {shape}")
    }

    /// Its floor: the message echoed over gRPC, or, where that is not among what is measured, `Serve` echoed.
    pub(super) fn floor(self, cells: &[(Self, Shape)], shape: Shape) -> String {
        let floor = match self {
            Self::EchoMessage | Self::Native | Self::Connect | Self::GrpcWeb => Self::EchoMessage,
            Self::EchoServe | Self::Digest => Self::EchoServe,
            Self::EchoBinary | Self::Binary => Self::EchoBinary,
        };
        if cells.contains(&(floor, shape)) { floor.at(shape) } else { Self::EchoServe.at(shape) }
    }

    pub(super) fn job(self, stage: &Stage, shape: Shape, options: &Options) -> Result<Job, Failure> {
        let name = "x".repeat(shape.bytes);
        let message = Hello { text: name.clone() }.encode_to_vec();
        let (path, kind, body) = match self {
            Self::EchoMessage | Self::Native => (HELLO, Kind::Grpc, message),
            Self::GrpcWeb => (HELLO, Kind::GrpcWeb, message),
            Self::Connect => (HELLO, Kind::Json, serde_json::to_vec(&serde_json::json!({ "name": name }))?),
            Self::EchoServe | Self::Digest | Self::EchoBinary | Self::Binary => {
                (SERVE, Kind::Grpc, self.request(stage, message).encode_to_vec())
            }
        };
        let mut job = Job::new(&stage.server(self).address, path, kind)
            .message(&body)
            .header("collector-namespace", NAMESPACE)
            .header("authorization", &format!("Bearer {}", stage.token));
        (job.in_flight, job.connections) = (shape.in_flight, shape.connections);
        (job.calls, job.least) = (shape.calls(options), shape.bytes);
        Ok(job)
    }

    fn request(self, stage: &Stage, message: Vec<u8>) -> pb::ServeRequest {
        let code = match self {
            Self::EchoBinary | Self::Binary => ServiceDef::ServiceBinary(stage.greeter.clone()),
            _ => ServiceDef::ServiceUri(format!("sha256:{}", Digest::of(&stage.greeter))),
        };
        let service_name = "greeter.v1.Greeter".to_owned();
        let type_url = "type.googleapis.com/greeter.v1.HelloRequest".to_owned();
        pb::ServeRequest {
            namespace: NAMESPACE.to_owned(),
            service: Some(pb::ServiceTypeRef { namespace: NAMESPACE.to_owned(), service_name }),
            method_name: "SayHello".to_owned(),
            input: Some(prost_types::Any { type_url, value: message }),
            service_def: Some(code),
            ..Default::default()
        }
    }
}
