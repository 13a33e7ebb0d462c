//! Write a Collector plugin in Rust: code that a node runs as a typed gRPC service.
//!
//! A plugin is four pieces:
//!
//! 1. **The contract**, `proto/greeter.proto`:
//!    ```proto
//!    syntax = "proto3";
//!    package greeter.v1;
//!    service Greeter { rpc SayHello(HelloRequest) returns (HelloReply); }
//!    message HelloRequest { string name = 1; }
//!    message HelloReply { string text = 1; }
//!    ```
//! 2. **One line in `build.rs`** that turns it into Rust (build dependency `collector-guest-build`; no `protoc` needed):
//!    ```text
//!    fn main() { collector_guest_build::compile("proto/greeter.proto"); }
//!    ```
//! 3. **The code**: an implementation of the trait that was made for the service.
//! 4. **One line that exports it**, [`export!`].
//!
//! The last two are all of `src/lib.rs`:
//!
//! ```
//! # // What `collector_guest::include_proto!("greeter.v1")` brings in, written out: a doc test has no build script.
//! # mod proto {
//! #     use collector_guest::prost;
//! #     #[derive(Clone, PartialEq, prost::Message)]
//! #     pub struct HelloRequest { #[prost(string, tag = "1")] pub name: String }
//! #     #[derive(Clone, PartialEq, prost::Message)]
//! #     pub struct HelloReply { #[prost(string, tag = "1")] pub text: String }
//! #     pub trait Greeter {
//! #         fn say_hello(context: &collector_guest::Context, request: HelloRequest) -> Result<HelloReply, collector_guest::Fault>;
//! #     }
//! #     pub struct GreeterService<T>(std::marker::PhantomData<T>);
//! #     impl<T: Greeter> collector_guest::Plugin for GreeterService<T> {
//! #         const NAME: &'static str = "greeter.v1.Greeter";
//! #         fn call(context: &collector_guest::Context, method: &str, input: &[u8]) -> Result<Vec<u8>, collector_guest::Fault> {
//! #             match method {
//! #                 "SayHello" => collector_guest::codegen::answer("greeter.v1.HelloRequest", context, input, T::say_hello),
//! #                 _ => Err(collector_guest::codegen::unknown_method(Self::NAME, method, &["SayHello"])),
//! #             }
//! #         }
//! #     }
//! # }
//! # /*
//! mod proto { collector_guest::include_proto!("greeter.v1"); }
//! # */
//! use collector_guest::{Context, Fault, log};
//! use proto::{Greeter, GreeterService, HelloReply, HelloRequest};
//!
//! struct Hello;
//!
//! impl Greeter for Hello {
//!     fn say_hello(context: &Context, request: HelloRequest) -> Result<HelloReply, Fault> {
//!         if request.name.is_empty() {
//!             return Err(Fault::invalid_argument("nobody to greet").with_violation("name", "must not be empty"));
//!         }
//!         log::info!("greeting {} in {}", request.name, context.namespace());
//!         Ok(HelloReply { text: format!("Hello, {}!", request.name) })
//!     }
//! }
//!
//! collector_guest::export!(GreeterService<Hello>);
//!
//! // A handler is a plain function, and so is its test:
//! let context = Context::new("acme", "greeter.v1.Greeter", "SayHello");
//! let reply = Hello::say_hello(&context, HelloRequest { name: "Ann".into() }).unwrap();
//! assert_eq!(reply.text, "Hello, Ann!");
//! let fault = Hello::say_hello(&context, HelloRequest::default()).unwrap_err();
//! assert_eq!(fault.to_string(), "INVALID_ARGUMENT: nobody to greet");
//! # // The same through the bytes that the node hands over.
//! # use collector_guest::{Plugin, prost::Message};
//! # let input = HelloRequest { name: "Bo".into() }.encode_to_vec();
//! # let output = GreeterService::<Hello>::call(&context, "SayHello", &input).unwrap();
//! # assert_eq!(HelloReply::decode(output.as_slice()).unwrap().text, "Hello, Bo!");
//! ```
//!
//! Build it with `cargo build --release --lib --target wasm32-wasip2` (the package's `[lib]` says
//! `crate-type = ["cdylib", "rlib"]`), upload the `.wasm`, call it with any gRPC client. The component carries its
//! own descriptors, so the node knows its types without running it.
//!
//! # Streaming
//!
//! A method of the contract that says `stream` is a method of the trait like any other:
//!
//! | `rpc` | its function |
//! |---|---|
//! | `Say(Ask) returns (Reply)` | `fn say(&Context, Ask) -> Result<Reply, Fault>` |
//! | `Watch(Ask) returns (stream Reply)` | `fn watch(&Context, Ask, &mut Sender<Reply>) -> Result<(), Fault>` |
//! | `Sum(stream Ask) returns (Reply)` | `fn sum(&Context, &mut Receiver<Ask>) -> Result<Reply, Fault>` |
//! | `Chat(stream Ask) returns (stream Reply)` | `fn chat(&Context, &mut Receiver<Ask>, &mut Sender<Reply>) -> Result<(), Fault>` |
//!
//! [`Receiver`] is an iterator that waits for the client's next message; [`Sender::send`] waits while the client does not
//! read. Nothing piles up on either side, so a stream may be longer than memory. What was sent before a fault has been
//! sent: the client gets those messages, then the status.
//!
//! ```
//! # use collector_guest::prost;
//! # #[derive(Clone, PartialEq, prost::Message)]
//! # struct Line { #[prost(string, tag = "1")] text: String }
//! use collector_guest::{Context, Fault, Receiver, Sender};
//!
//! fn chat(_: &Context, lines: &mut Receiver<Line>, replies: &mut Sender<Line>) -> Result<(), Fault> {
//!     for line in lines {
//!         let Line { text } = line?; // a message that is no `Line` is a fault
//!         replies.send(Line { text: text.to_uppercase() })?; // nobody reads any more: a fault too
//!     }
//!     Ok(())
//! }
//!
//! // A test brings its own streams:
//! let context = Context::new("acme", "chat.v1.Chat", "Chat");
//! let mut replies = Sender::collecting();
//! chat(&context, &mut Receiver::from(vec![Line { text: "hi".into() }]), &mut replies).unwrap();
//! assert_eq!(replies.sent(), [Line { text: "HI".into() }]);
//! ```
//!
//! # The life of a call
//!
//! Every call gets a fresh instance, which is gone after it: nothing in memory outlives a call, and two calls never
//! meet. [`Context`] tells what call it is and how much time is left. A handler that returns a [`Fault`] fails with
//! that gRPC status; one that panics leaves one line of level `critical` in the node's log, which its caller sees.
//!
//! # Logging
//!
//! Lines of the [`log`] crate reach the node's log from the first line of the handler on, levels `debug` and up
//! ([`log::set_max_level`] changes that). For `tracing`, depend on it with its own feature `log`: without a subscriber it
//! hands its events to [`log`], and nothing else is needed.
//!
//! ```toml
//! tracing = { version = "0.1", default-features = false, features = ["log"] }
//! ```
//!
//! # Beyond the call
//!
//! [`config`], [`Secret`], [`collections`], [`files`], [`dispatch`] and [`http`] reach the node and the world outside. Each needs a
//! grant of the deployment, given by whoever manages the namespace; without it the answer is a [`Fault`] with
//! PERMISSION_DENIED. A plugin that uses one of them is not deployed before anything of its kind is granted, and a grant
//! that is taken away is gone with the next use. Outside of a node they answer UNAVAILABLE.
//!
//! # The same source as a native command
//!
//! On every target but wasm, [`export!`] makes a function that speaks the command contract: argv is namespace, service
//! and method, standard input is the request, standard output the reply. So a `src/main.rs` of one line runs the plugin
//! on the desk, and on nodes that run native code:
//!
//! ```text
//! fn main() -> std::process::ExitCode { greeter::command_main() }
//! ```
//!
//! A command answers unary calls only. It has no request metadata, and of a fault only code and message arrive, not the
//! details. Its standard output *is* the reply: what a component may `println!` as a line for the log would spoil it, so
//! log with [`log`].

// The doc tests and the generated code say `collector_guest`, and so does code of this crate that uses them.
extern crate self as collector_guest;

#[doc(hidden)]
pub mod codegen;
pub mod collections;
#[cfg(not(target_family = "wasm"))]
mod command;
#[cfg(target_family = "wasm")]
mod component;
pub mod config;
mod context;
pub mod dispatch;
mod fault;
pub mod files;
pub mod http;
mod logging;
mod plugin;
pub mod rpc;
mod secret;
mod stream;

pub use context::{Context, Metadata};
pub use fault::{Code, Fault};
pub use plugin::Plugin;
pub use secret::Secret;
pub use stream::{Exchange, Receiver, Sender};

// So that a plugin needs no dependency but this crate.
pub use log;
pub use prost;
pub use prost_types;

/// Why something of a node is not there: natively and in tests nobody answers.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn not_on_a_node(what: &str) -> Fault {
    Fault::unavailable([what, " is there only for a component on a node"].concat())
}

/// Brings in the code that `collector-guest-build` made for one proto package; `"_"` for files without a package.
///
/// ```text
/// mod proto { collector_guest::include_proto!("greeter.v1"); }
/// ```
///
/// Where packages use each other's messages they must stand in modules named like them; [`include_protos!`] makes those.
#[macro_export]
macro_rules! include_proto {
    ($package:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
    };
}

/// Brings in the code of all proto packages, each in its module: `greeter::v1`, `common::v1`.
///
/// ```text
/// mod proto { collector_guest::include_protos!(); }
/// use proto::greeter::v1::HelloRequest;
/// ```
#[macro_export]
macro_rules! include_protos {
    () => {
        include!(concat!(env!("OUT_DIR"), "/collector.protos.rs"));
    };
}

/// Exports one or more services ([`Plugin`]s) of this crate. Stands once, at the root of the crate.
///
/// A call goes to the service it names, by full name (`greeter.v1.Greeter`) or by last segment (`Greeter`).
///
/// On wasm this makes the component's exports. Elsewhere it makes `pub fn command_main() -> ExitCode`, which serves one
/// call by the command contract.
///
/// ```
/// # use collector_guest::{Context, Fault, Plugin};
/// # struct A;
/// # impl Plugin for A {
/// #     const NAME: &'static str = "demo.v1.A";
/// #     fn call(_: &Context, _: &str, _: &[u8]) -> Result<Vec<u8>, Fault> { Ok(vec![]) }
/// # }
/// # struct B<T>(T);
/// # impl<T> Plugin for B<T> {
/// #     const NAME: &'static str = "demo.v1.B";
/// #     fn call(_: &Context, _: &str, _: &[u8]) -> Result<Vec<u8>, Fault> { Ok(vec![]) }
/// # }
/// collector_guest::export!(A, B<String>);
/// ```
///
/// The handler alone is no service; the type that was made for the service is, with the handler in it:
///
/// ```compile_fail,E0277
/// struct Hello;
/// collector_guest::export!(Hello);
/// ```
#[macro_export]
macro_rules! export {
    ($($plugin:ty),+ $(,)?) => {
        /// Serves one call as a native command: arguments NAMESPACE SERVICE METHOD, the request on standard input.
        #[cfg(not(target_family = "wasm"))]
        #[must_use]
        pub fn command_main() -> ::std::process::ExitCode {
            $crate::codegen::command_main(&[$($crate::codegen::Route::to::<$plugin>()),+])
        }

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "crossing into the node is unsafe by nature")]
        const _: () = {
            struct Component;
            impl $crate::codegen::Services for Component {
                const ROUTES: &'static [$crate::codegen::Route] = &[$($crate::codegen::Route::to::<$plugin>()),+];
            }
            $crate::codegen::bindings::export!(Component with_types_in $crate::codegen::bindings);
        };
    };
}
