//! The guest of the target `host_calls`, and how its calls are written.
//!
//! A call is words of four bytes, little-endian: which (of [`CALLS`], by number), what the guest's allocator gives, then the
//! arguments as the canonical ABI flattens them, with the address of the result last; a `u64` is two words. Words that are
//! not there are 0. The guest makes at most 16 and answers with a byte for each: 0 is well, else the fault's code and 1,
//! [`UNTOLD`] where there is nothing to tell. [`END`] instead of a call: the next word but one is the address of the guest's
//! own answer; 0 for the one with the bytes.

use std::fmt::Write as _;

/// A host call as a guest makes it.
#[derive(Debug, Clone, Copy)]
pub struct HostCall {
    /// Last part of the interface's name.
    interface: &'static str,
    /// The function's name in it.
    function: &'static str,
    /// Its flat parameters: `i` and `l` for numbers of 32 and 64 bits, `r` for the address of its result.
    params: &'static str,
    returns: Returns,
}

/// What comes back of a host call.
#[derive(Debug, Clone, Copy)]
enum Returns {
    /// Nothing that can be a fault.
    Plain,
    /// A number of 64 bits.
    Long,
    /// At the address of the result, with the fault so many bytes behind it.
    OrFault(u32),
    /// The same; the fault may be another guest's, and whatever that likes.
    OrTheirs(u32),
}

use Returns::{Long, OrFault, OrTheirs, Plain};

const fn call(interface: &'static str, function: &'static str, params: &'static str, returns: Returns) -> HostCall {
    HostCall { interface, function, params, returns }
}

/// All that a guest can call. Seeds know them by number: new ones go to the end. Source: guest-sdk/wit/collector.wit.
pub const CALLS: [HostCall; 26] = [
    call("log", "write", "iiiii", Plain),
    call("context", "namespace", "r", Plain),
    call("context", "service", "r", Plain),
    call("context", "metadata", "r", Plain),
    call("context", "deadline-ms", "", Long),
    call("streaming", "[method]exchange.next", "ir", OrFault(4)),
    call("streaming", "[method]exchange.send", "iiir", OrFault(4)),
    call("streaming", "[drop]exchange", "i", Plain),
    call("config", "get", "iir", Plain),
    call("config", "keys", "r", Plain),
    call("secret", "[static]secret.open", "iir", OrFault(4)),
    call("secret", "[drop]secret", "i", Plain),
    call("collections", "get", "iiiir", OrFault(8)),
    call("collections", "create", "iiiiiiiiiiir", OrFault(8)),
    call("collections", "update", "iiiiiiiiiiilr", OrFault(8)),
    call("collections", "delete", "iiiiilr", OrFault(4)),
    call("collections", "list", "iiiiiiiiir", OrFault(8)),
    call("collections", "search", "iiiiiiiiir", OrFault(4)),
    call("files", "read", "iiiilir", OrFault(4)),
    call("files", "write", "iiiiiliir", OrFault(4)),
    call("files", "stat", "iiiir", OrFault(8)),
    call("files", "list", "iiiiiiir", OrFault(4)),
    call("files", "delete", "iiiir", OrFault(4)),
    call("files", "rename", "iiiiiir", OrFault(4)),
    call("dispatch", "call", "iiiiiir", OrTheirs(4)),
    call("http", "fetch", "iiiiiiiir", OrFault(4)),
];

/// Stands where the number of a call does, after the last one.
pub const END: u32 = CALLS.len() as u32;
/// Becomes of a call whose result says nothing.
pub const UNTOLD: u8 = 255;
/// Where the guest has the URL of a server that it may reach.
pub const URL_AT: u32 = 2_048;
/// Where its words are in its memory.
pub const WORDS_AT: u32 = 4_096 + HEAD as u32;
/// Bytes before the words in a message of the guest's.
const HEAD: usize = 8;
/// The guest's answer where a host call told it that the node is to blame.
pub const BLAME: &str = "a host call said that the node is to blame";

/// Words as the message that the guest takes: a field of bytes, whose length is always written with seven bytes.
pub fn message(words: &[u8]) -> Vec<u8> {
    let mut message = vec![0x0a];
    message.extend((0..7).map(|n| (words.len() >> (7 * n)) as u8 & 0x7f | if n < 6 { 0x80 } else { 0 }));
    message.extend(words);
    message
}

/// The component, as text.
///
/// * `url`: of a server that it may reach.
/// * `descriptors`: of the service that it answers, encoded.
pub fn text(url: &str, descriptors: &[u8]) -> String {
    let (mut lowered, mut imported, mut host, mut cases) = (String::new(), String::new(), String::new(), String::new());
    for (number, call) in CALLS.iter().enumerate() {
        let id = call.id();
        writeln!(lowered, "(core func {id} (canon {}))", call.canonical()).unwrap();
        writeln!(imported, r#"(import "host" "{number}" (func {id} {}))"#, call.core_type()).unwrap();
        writeln!(host, r#"(export "{number}" (func {id}))"#).unwrap();
        writeln!(cases, "(if (i32.eq (local.get $which) (i32.const {number})) (then {}))", call.made()).unwrap();
    }
    // No call, and the way out.
    let end = "(global.set $made (i32.sub (global.get $made) (i32.const 1))) (return (call $word))";
    writeln!(cases, "(if (i32.eq (local.get $which) (i32.const {END})) (then {end}))").unwrap();
    let descriptors = descriptors.iter().fold(String::new(), |all, byte| format!("{all}\\{byte:02x}"));
    include_str!("guest.wat")
        .replace("@LOWERED@", &lowered)
        .replace("@IMPORTED@", &imported)
        .replace("@HOST@", &host)
        .replace("@CASES@", &cases)
        .replace("@COUNT@", &(CALLS.len() + 1).to_string())
        .replace("@BLAME@", BLAME)
        .replace("@BLAME_LENGTH@", &BLAME.len().to_string())
        .replace("@URL@", url)
        .replace("@DESCRIPTORS@", &descriptors)
}

impl HostCall {
    /// Whether it is this function of this interface.
    pub fn is(&self, interface: &str, function: &str) -> bool {
        (self.interface, self.function) == (interface, function)
    }

    fn id(&self) -> String {
        format!("${}.{}", self.interface, self.function.replace(['[', ']'], "_"))
    }

    /// How the component lowers it.
    fn canonical(&self) -> String {
        match self.function.strip_prefix("[drop]") {
            Some(resource) => format!("resource.drop ${resource}"),
            None => {
                let Self { interface, function, .. } = self;
                format!(r#"lower (func ${interface} "{function}") (memory $memory) (realloc $realloc)"#)
            }
        }
    }

    fn core_type(&self) -> String {
        let params: String = self.params.chars().map(|one| if one == 'l' { "i64 " } else { "i32 " }).collect();
        let result = if matches!(self.returns, Long) { "(result i64)" } else { "" };
        format!("(param {params}) {result}")
    }

    /// Makes it with words of the input.
    fn made(&self) -> String {
        let argument = |one| match one {
            'l' => "(call $long)",
            'r' => "(local.tee $result (call $word))",
            _ => "(call $word)",
        };
        let arguments: String = self.params.chars().map(argument).collect();
        let made = format!("(call {} {arguments})", self.id());
        match self.returns {
            Plain => made,
            Long => format!("(drop {made})"),
            OrFault(at) => format!("{made} (call $note (local.get $result) (i32.const {at}) (i32.const 1))"),
            OrTheirs(at) => {
                let made = format!("{made} (call $note (local.get $result) (i32.const {at}) (i32.const 0))");
                format!("(if (global.get $called) (then unreachable)) (global.set $called (i32.const 1)) {made}")
            }
        }
    }
}
