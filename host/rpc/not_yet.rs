//! RPCs that are part of the contract and not there yet: UNIMPLEMENTED, saying what will bring them.

use tonic::{Code, Status};

pub(super) fn not_yet(rpc: &str, feature: &str) -> Status {
    let message = format!("{rpc} is not there yet, it comes with {feature}; see the table in README.md");
    super::status::plain(Code::Unimplemented, "NOT_YET", message)
}

/// Implements a service whose unary methods all answer "not yet", and whose streaming methods follow.
macro_rules! not_yet {
    (
        $trait:path, $service:ty;
        $($method:ident: $request:ident -> $response:ident = $rpc:literal, $feature:literal;)*
        ; { $($more:tt)* }
    ) => {
        #[tonic::async_trait]
        impl $trait for $service {
            $(
                async fn $method(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                    Err(not_yet($rpc, $feature))
                }
            )*
            $($more)*
        }
    };
}
pub(super) use not_yet as service;
