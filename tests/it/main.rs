//! Black-box tests: real nodes, real components, real clients over loopback.

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
