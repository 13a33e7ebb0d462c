//! The messages of `google.rpc` that clients look for in a failed call's details.
//!
//! Written out by hand, so that a plugin needs no copy of those `.proto` files. Source: googleapis,
//! `google/rpc/{status,error_details}.proto`.

use prost::{Message, Name};
use prost_types::{Any, Duration};
use std::collections::BTreeMap;

/// `google.rpc.Status`: how details travel. Use [`Fault`](crate::Fault) instead of making one.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// gRPC code as a number.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// For programs.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.rpc.BadRequest`: which fields of the request are wrong. [`Fault::with_violation`](crate::Fault::with_violation) fills it.
#[derive(Clone, PartialEq, Message)]
pub struct BadRequest {
    /// All that is wrong with the request, not only the first finding.
    #[prost(message, repeated, tag = "1")]
    pub field_violations: Vec<FieldViolation>,
}

/// One wrong field of a [`BadRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct FieldViolation {
    /// Path of the field in proto names: `user.emails[0]`.
    #[prost(string, tag = "1")]
    pub field: String,
    /// What is wrong with it.
    #[prost(string, tag = "2")]
    pub description: String,
    /// The same for programs, in UPPER_SNAKE_CASE; may be empty.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// `google.rpc.ErrorInfo`: a stable name for what went wrong.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorInfo {
    /// In UPPER_SNAKE_CASE, unique in the domain.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// Whose reason it is, usually the service's name.
    #[prost(string, tag = "2")]
    pub domain: String,
    /// Facts about this one case.
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
}

/// `google.rpc.RetryInfo`: when to try again.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// How long to wait at least.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Duration>,
}

impl RetryInfo {
    /// Asks the client to wait `delay` before it tries again.
    #[must_use]
    pub fn after(delay: std::time::Duration) -> Self {
        Self { retry_delay: delay.try_into().ok() }
    }
}

macro_rules! named {
    ($($message:ident),+) => {$(
        impl Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = "google.rpc";
        }
    )+};
}

named!(Status, BadRequest, ErrorInfo, RetryInfo);
