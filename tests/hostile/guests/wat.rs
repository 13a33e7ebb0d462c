//! Components that no compiler would make, as text.

/// Bytes of a component or module.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    ::wat::parse_str(text).map_err(|why| format!("the suite's own text: {why}"))
}

/// A `wasi:cli/run` command around the body of a core module that exports `run: [] -> [i32]` (0 is success).
pub fn command(body: &str) -> Result<Vec<u8>, String> {
    command_with("", body)
}

/// The same with more in the component, before the module and beside it.
pub fn command_with(component: &str, body: &str) -> Result<Vec<u8>, String> {
    bytes(&format!(
        r#"(component {component}
            (core module $m {body})
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#
    ))
}

/// What `body` exports as `run`, with two functions of the node: `drop` takes the handle of a pollable back, `block` waits
/// for one, `timer` makes one.
pub fn pollables(body: &str) -> Result<Vec<u8>, String> {
    bytes(&format!(
        r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $p (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $p))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $p))
                (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
            (core func $drop (canon resource.drop $pollable))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core func $timer (canon lower (func $clock "subscribe-duration")))
            (core module $m
                (import "node" "drop" (func $drop (param i32)))
                (import "node" "block" (func $block (param i32)))
                (import "node" "timer" (func $timer (param i64) (result i32)))
                (func (export "run") (result i32) {body} i32.const 0))
            (core instance $i (instantiate $m (with "node" (instance
                (export "drop" (func $drop)) (export "block" (func $block)) (export "timer" (func $timer))))))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#
    ))
}

/// The parts of a handler that can go wrong.
pub struct Handler {
    /// Body of `realloc`, which returns an address.
    pub realloc: &'static str,
    /// Body of `handle`; its parameters are method (0, 1) and input (2, 3), it returns the address of its result.
    pub handle: &'static str,
    /// Body of what runs after the result was read, if anything.
    pub post_return: Option<&'static str>,
}

impl Handler {
    /// Answers with the request.
    pub const ECHO: Self = Self {
        realloc: "i32.const 4096",
        handle: "(i32.store8 (i32.const 1024) (i32.const 0))
            (i32.store (i32.const 1028) (local.get 2))
            (i32.store (i32.const 1032) (local.get 3))
            i32.const 1024",
        post_return: None,
    };

    /// The component. It calls `log` (level, target, message) where its body says so.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let (realloc, handle) = (self.realloc, self.handle);
        let post = self.post_return.map(|body| format!(r#"(func (export "post") (param i32) {body})"#));
        let option = post.as_ref().map(|_| r#"(post-return (core func $i "post"))"#).unwrap_or_default();
        let post = post.unwrap_or_default();
        bytes(&format!(
            r#"(component
            (type $types (instance
                (type (enum "cancelled" "unknown" "invalid-argument" "deadline-exceeded" "not-found" "already-exists"
                    "permission-denied" "resource-exhausted" "failed-precondition" "aborted" "out-of-range"
                    "unimplemented" "internal" "unavailable" "data-loss" "unauthenticated"))
                (export "code" (type (eq 0)))
                (type (list u8))
                (type (record (field "code" 1) (field "message" string) (field "details" 2)))
                (export "fault" (type (eq 3)))))
            (import "collector:plugin/types@0.1.0" (instance $t (type $types)))
            (alias export $t "fault" (type $fault))
            (import "collector:plugin/log@0.1.0" (instance $log
                (type (enum "trace" "debug" "info" "warn" "error" "critical"))
                (export "level" (type (eq 0)))
                (export "write" (func (param "level" 1) (param "target" string) (param "message" string)))))
            (core module $memory
                (memory (export "memory") 2)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc}))
            (core instance $a (instantiate $memory))
            (alias core export $a "memory" (core memory $memory))
            (alias core export $a "realloc" (core func $realloc))
            (core func $write (canon lower (func $log "write") (memory $memory)))
            (core module $m
                (import "a" "memory" (memory 2))
                (import "a" "write" (func $log (param i32 i32 i32 i32 i32)))
                (func (export "handle") (param i32 i32 i32 i32) (result i32) {handle})
                {post})
            (core instance $i (instantiate $m (with "a" (instance
                (export "memory" (memory $memory)) (export "write" (func $write))))))
            (type $bytes (list u8))
            (type $handle (func (param "method" string) (param "input" $bytes) (result (result $bytes (error $fault)))))
            (func $handle (type $handle)
                (canon lift (core func $i "handle") (memory $memory) (realloc $realloc) {option}))
            (instance $handler (export "handle" (func $handle)))
            (export "collector:plugin/handler@0.1.0" (instance $handler)))"#
        ))
    }
}

/// A component with `count` core instances of a module.
pub fn instances(count: usize, body: &str) -> Result<Vec<u8>, String> {
    let more: String = (0..count).map(|_| "(core instance (instantiate $many))").collect();
    command_with(&format!("(core module $many {body}) {more}"), r#"(func (export "run") (result i32) i32.const 0)"#)
}
