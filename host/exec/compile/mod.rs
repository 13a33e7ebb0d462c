//! The compiler of components as a process of its own: this program started anew, for one component, with nothing.
//!
//! ```text
//! node: Turns (one per namespace, few in all, bounded lines) ── child: order in on stdin, machine code out on stdout, exit
//! ```
//!
//! A compiler is large and its input hostile. So it runs where it can do nothing: no files, no network, no other process,
//! one thread, bounded processor time and memory (`confine`). One that hangs, aborts or explodes costs its tenant one
//! deployment. What comes back is bounded in size and read as an answer to one question only.
//!
//! What this does not give: machine code runs in the node's process, so a compiler that its input has taken over could
//! answer with code that takes over the node when that component is called. What it answers is kept under the digest of the
//! bytes it was given, and for no other. That is why compiled code stays shared between namespaces: whoever runs code made
//! from hostile bytes has uploaded these hostile bytes, and keeping a copy for each namespace would contain nothing as long
//! as guests of all namespaces run in one process. Source: threats.md B6, W03, W04, W09.

mod child;
mod confine;
mod parent;
mod protocol;
mod turns;

pub use child::{ARGUMENT, main};
pub(super) use parent::{Compiled, Compiler, Recipe};
pub(super) use turns::{Turn, Turns};
