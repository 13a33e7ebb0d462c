//! Black-box tests: real nodes, real components, real clients over loopback.

#![allow(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

mod artifacts;
mod audit;
mod auth;
mod build_guests;
mod cache;
mod collections;
mod collections_abuse;
mod collections_batch;
mod collections_cli;
mod collections_data;
mod collections_invoke;
mod collections_limits;
mod collections_query;
mod collections_races;
mod collections_repo;
mod collections_upkeep;
mod command_line;
mod compile;
mod container;
mod container_engine;
mod container_kept;
mod contract;
mod deploy;
mod deploy_cli;
mod discovery;
mod durability;
mod exec_streams;
mod fairness;
mod fetch;
mod fuzz;
mod grants;
mod hostile_native;
#[cfg(target_arch = "x86_64")] // its programs are machine code
mod jail;
mod layering;
mod limits;
mod memexec;
mod mesh_admin;
mod mesh_calls;
mod mesh_code;
mod mesh_links;
mod native;
mod natives;
mod node;
mod plugins;
mod quotas;
mod registry;
mod serve;
mod support;
mod tenants;
mod tls;
mod transport;
mod web;
mod wire_contract;
