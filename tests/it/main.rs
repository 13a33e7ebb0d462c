//! Black-box tests: real nodes, real components, real clients over loopback.

#![allow(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

mod artifacts;
mod build_guests;
mod cache;
mod command_line;
mod deploy;
mod deploy_cli;
mod discovery;
mod exec_streams;
mod layering;
mod limits;
mod native;
mod node;
mod plugins;
mod registry;
mod serve;
mod support;
mod tenants;
mod web;
mod wire_contract;
