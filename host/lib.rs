//! Collector: a gRPC node that runs uploaded WebAssembly components as sandboxed methods.
//!
//! The modules in the order a call travels: bytes → [`rpc`] → [`tenancy`] (`Permit`) → [`registry`] (`ValidCall`) →
//! [`dispatch`] → [`exec`] (`Outcome`) → [`rpc`] → bytes. [`node`] puts them together; [`domain`] has the words they
//! share.

pub mod cli;
pub mod collections;
pub mod config;
mod data;
pub mod dispatch;
pub mod domain;
pub mod exec;
mod fair;
pub mod files;
mod guest_calls;
pub mod lifecycle;
pub mod mesh;
pub mod net;
pub mod node;
pub mod registry;
pub mod rpc;
mod selfcheck;
pub mod store;
pub mod telemetry;
pub mod tenancy;
