//! Black-box tests: real nodes, real components, real clients over loopback.

#![allow(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

mod artifacts;
mod build_guests;
mod cache;
mod command_line;
mod layering;
mod limits;
mod node;
mod plugins;
mod serve;
mod support;
mod wire_contract;
