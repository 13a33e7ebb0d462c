//! Seeds that are made, not found: components, and host calls with arguments that are good. Beside each, what the node
//! answers to it, which says how far it gets.

use super::drive::guest::{CALLS, END, UNTOLD, URL_AT, WORDS_AT};

/// A component, as text, and the words of the node's refusal; none: it is taken.
pub struct Upload {
    pub name: &'static str,
    text: String,
    pub refused: Option<&'static str>,
}

impl Upload {
    pub fn bytes(&self) -> Vec<u8> {
        wat::parse_str(&self.text).unwrap()
    }
}

/// What a component needs to be a command.
const RUN: &str = r#"(core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $run (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $run))"#;
/// A module of each section that there is, and of most kinds of instructions.
const MODULE: &str = r#"(core module $m
    (@custom "note" "text")
    (type $binary (func (param i32 i32) (result i32)))
    (import "host" "f" (func $f (param i32)))
    (table $t 4 8 funcref)
    (memory (export "memory") 1 2)
    (global $g (mut i64) (i64.const 7))
    (export "add" (func $add))
    (start $begin)
    (elem (table $t) (i32.const 0) func $add $add)
    (elem declare func $begin)
    (func $begin (call $f (i32.const 1)))
    (func $add (type $binary) (local i64 f32 f64 v128)
        (block $out
            (loop $again
                (br_table $out $again $out (local.get 0))))
        (if (result i32) (local.get 1)
            (then (i32.trunc_sat_f64_s (f64.sqrt (f64.const 2))))
            (else (call_indirect $t (type $binary) (i32.const 1) (i32.const 2) (i32.const 0))))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))
        (v128.store (i32.const 16) (i8x16.swizzle (v128.load (i32.const 0)) (v128.const i64x2 1 2)))
        (global.set $g (i64.extend32_s (global.get $g)))
        (drop (ref.is_null (table.get $t (i32.const 3))))
        (drop (memory.grow (i32.const 0))))
    (data (i32.const 8) "data")
    (data "passive"))"#;
/// The types of a handler, and its function as one that is never called.
const HANDLER: &str = r#"(core module $h
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 64)
        (func (export "handle") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "after") (param i32)))
    (core instance $h (instantiate $h))
    (type $code (enum "cancelled" "unknown"))
    (export $code_ "code" (type $code))
    (type $fault (record (field "code" $code_) (field "message" string)))
    (export $fault_ "fault" (type $fault))
    (func $handle (param "method" string) (param "input" (list u8)) (result (result (list u8) (error $fault_)))
        (canon lift (core func $h "handle") (memory (core memory $h "memory"))
            (realloc (core func $h "realloc"))
            (post-return (core func $h "after"))))
    (instance $handler (export "handle" (func $handle)))"#;

/// A file with a service in it, `t.T`, as a linker leaves it in a module. By hand: name, package, service.
const DESCRIPTORS: &str = r#"(core module
    (@custom "collector:descriptors" "\0a\11\0a\07t.proto\12\01t2\03\0a\01T"))"#;

pub fn uploads() -> Vec<Upload> {
    let upload = |name, text: &str, refused| Upload { name, text: format!("(component {text})"), refused };
    let unnamed = Some("carries no descriptors");
    let no_entry = Some("exports neither");
    let handler =
        |more: &str| format!(r#"{HANDLER} {more} (export "collector:plugin/handler@0.1.0" (instance $handler))"#);
    vec![
        upload("command", RUN, unnamed),
        upload("described", &format!("{DESCRIPTORS} {RUN}"), None),
        upload("handler", &handler(""), unnamed),
        upload("handler_described", &handler(DESCRIPTORS), None),
        upload(
            "descriptors_broken",
            &format!(r#"(core module (@custom "collector:descriptors" "\0a\ff")) {RUN}"#),
            Some("descriptors"),
        ),
        upload("other_version", &handler("").replace("handler@0.1.0", "handler@0.2.0"), Some("this node speaks")),
        upload(
            "import",
            &format!(
                r#"(import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
                (import "collector:plugin/config@0.1.0" (instance $config
                    (export "get" (func (param "key" string) (result (option string))))))
                (core func $exit (canon lower (func $exit "exit"))) {DESCRIPTORS} {RUN}"#
            ),
            None,
        ),
        upload("module", MODULE, no_entry),
        upload(
            "nested",
            r#"(component $c (core module) (export "a" (core module 0))) (instance $i (instantiate $c)) (export "b" (instance $i))"#,
            no_entry,
        ),
        upload(
            "instance",
            r#"(core module $m (func (export "f") (param i32)) (func (export "r") (result i32) i32.const 0))
                (core instance $one (instantiate $m))
                (alias core export $one "f" (core func $f))
                (core instance $two (export "f" (func $f)))
                (func $f (param "a" bool) (canon lift (core func $f)))
                (type $t (record (field "a" u8) (field "b" (list (option string)))))
                (instance $exports (export "f" (func $f)) (export "t" (type $t)))
                (export "a:b/c" (instance $exports))"#,
            no_entry,
        ),
        upload(
            "types",
            r#"(type (tuple u8 s64 float64 char string)) (type (variant (case "a" u8) (case "b"))) (type (flags "a" "b"))
                (type $r (resource (rep i32))) (type (own $r)) (type (borrow $r)) (core func (canon resource.new $r))
                (core func (canon resource.drop $r)) (core func (canon resource.rep $r))
                (type (component (import "a" (func (param "b" u8))) (export "c" (instance (export "d" (type (sub resource)))))))
                (core type (module (import "a" "b" (func (param i32))) (export "c" (memory 1)))) (core type (func (result f64)))"#,
            no_entry,
        ),
        upload("levels", "(component (component))", Some("levels")),
        upload(
            "instances",
            &format!("(core module $m) {}", "(core instance (instantiate $m))".repeat(9)),
            Some("core instances"),
        ),
        upload("memories", "(core module (memory 1) (memory 1))", Some("multi-memory")),
        upload("shared", "(core module (memory 1 1 shared))", Some("threads")),
        upload("sixty_four", "(core module (memory i64 1))", Some("memory64")),
        upload("exceptions", "(core module (tag))", Some("exceptions")),
        upload("structs", "(core module (type (struct)))", Some("GC")),
        upload("streams", "(type (stream u8))", Some("async")),
        upload("invalid", "(core module (func (result i32)))", Some("not valid")),
    ]
}

/// One argument of a host call.
enum Arg {
    Word(u32),
    Long(u64),
    /// Its address and length.
    Text(&'static str),
    Bytes(Vec<u8>),
    /// Address and count of elements.
    List(Vec<Vec<Arg>>),
    /// An option that is given.
    Some(Box<Arg>),
}

use Arg::{Bytes, List, Long, Text, Word};

impl Arg {
    fn words(&self) -> usize {
        match self {
            Word(_) => 1,
            Long(_) | Text(_) | Bytes(_) | List(_) => 2,
            Self::Some(inner) => 1 + inner.words(),
        }
    }
}

/// Words, and behind them what they point to.
struct Layout {
    /// Where the next bytes go.
    free: u32,
    heap: Vec<u8>,
}

impl Layout {
    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.free;
        self.heap.extend(bytes);
        self.heap.resize(self.heap.len().next_multiple_of(8), 0);
        self.free = at + u32::try_from(bytes.len().next_multiple_of(8)).unwrap();
        at
    }

    fn argument(&mut self, argument: &Arg, words: &mut Vec<u8>) {
        let mut pointer = |at: u32, count: usize| {
            words.extend(at.to_le_bytes());
            words.extend(u32::try_from(count).unwrap().to_le_bytes());
        };
        match argument {
            Word(word) => words.extend(word.to_le_bytes()),
            Long(long) => words.extend(long.to_le_bytes()),
            Text(text) => pointer(self.put(text.as_bytes()), text.len()),
            Bytes(bytes) => pointer(self.put(bytes), bytes.len()),
            List(elements) => {
                let mut flat = Vec::new();
                elements.iter().flatten().for_each(|part| self.argument(part, &mut flat));
                pointer(self.put(&flat), elements.len());
            }
            Arg::Some(inner) => {
                words.extend(1_u32.to_le_bytes());
                self.argument(inner, words);
            }
        }
    }
}

/// Where the allocator of the seeds' guest gives room: behind all that they have.
const ROOM: u32 = 128 << 10;
/// Where results go.
const RESULT: u32 = 3_072;

/// Host calls: what each comes to, or the words with which the guest's call ends.
pub struct Calls {
    pub name: &'static str,
    streams: bool,
    /// Number, what the allocator gives, arguments.
    calls: Vec<(u32, u32, Vec<Arg>)>,
    /// Where the guest's answer is; 0: where it is.
    answer: u32,
    pub come_to: Result<Vec<u8>, &'static str>,
}

impl Calls {
    /// Of the host calls that it makes.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.calls.iter().map(|(number, ..)| *number as usize)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let words: usize = self.calls.iter().flat_map(|(.., call)| call).map(Arg::words).sum();
        let words = 4 * (words + 2 * self.calls.len() + 3);
        let mut layout =
            Layout { free: WORDS_AT + u32::try_from(words.next_multiple_of(8)).unwrap(), heap: Vec::new() };
        let mut bytes = Vec::new();
        for (number, room, arguments) in &self.calls {
            bytes.extend(number.to_le_bytes());
            bytes.extend(room.to_le_bytes());
            arguments.iter().for_each(|argument| layout.argument(argument, &mut bytes));
        }
        [END, ROOM, self.answer].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.resize(words.next_multiple_of(8), 0);
        bytes.extend(layout.heap);
        [vec![u8::from(self.streams)], bytes].concat()
    }
}

fn item() -> [Arg; 2] {
    // A Struct without fields.
    [Text("type.googleapis.com/google.protobuf.Struct"), Bytes(Vec::new())]
}

fn labels() -> Arg {
    List(vec![vec![Text("kind"), Text("seed")], vec![Text("n"), Text("1")]])
}

fn filters() -> Arg {
    // Path, operator, value: an element has five words.
    List(vec![vec![Text("n"), Word(2), Text("1")], vec![Text("title"), Word(8), Text("")]])
}

fn number(interface: &str, function: &str) -> u32 {
    let found = CALLS.iter().position(|call| call.is(interface, function));
    u32::try_from(found.unwrap_or_else(|| panic!("{interface}.{function}"))).unwrap()
}

/// One host call with good arguments, and what it comes to.
fn one(name: &'static str, call: (&str, &str), arguments: impl IntoIterator<Item = Arg>, comes_to: u8) -> Calls {
    let call = (number(call.0, call.1), ROOM, arguments.into_iter().collect());
    Calls { name, streams: false, calls: vec![call], answer: 0, come_to: Ok(vec![comes_to]) }
}

/// The second after the first.
fn then(first: Calls, second: Calls) -> Calls {
    let calls = first.calls.into_iter().chain(second.calls).collect();
    let come_to = first.come_to.and_then(|first| second.come_to.map(|second| [first, second].concat()));
    Calls { calls, come_to, ..second }
}

const OK: u8 = 0;
const NOT_FOUND: u8 = 5;
const DENIED: u8 = 7;

pub fn host_calls() -> Vec<Calls> {
    let result = || Word(RESULT);
    let plain = |name, call, arguments: Vec<Arg>| one(name, call, arguments, UNTOLD);
    let open =
        |name, secret, comes_to| one(name, ("secret", "[static]secret.open"), [Text(secret), result()], comes_to);
    let create = |name, id: Option<&'static str>| {
        let id = id.map_or_else(|| vec![Word(0), Long(0)], |id| vec![Arg::Some(Box::new(Text(id)))]);
        let arguments = [Text("notes")].into_iter().chain(id).chain(item()).chain([labels(), result()]);
        one(name, ("collections", "create"), arguments, OK)
    };
    let write = |name, file, offset: Option<u64>| {
        let offset = offset.map_or_else(|| vec![Word(0), Long(0)], |at| vec![Arg::Some(Box::new(Long(at)))]);
        let arguments = [Text("shared"), Text(file)].into_iter().chain(offset).chain([Text("some bytes"), result()]);
        one(name, ("files", "write"), arguments, OK)
    };
    let fetch = |name, headers: Vec<Vec<Arg>>, url: Vec<Arg>, comes_to| {
        let arguments = [Text("POST")].into_iter().chain(url).chain([List(headers), Text("body"), result()]);
        one(name, ("http", "fetch"), arguments, comes_to)
    };
    let mirror = || vec![Word(URL_AT), Word(u32::try_from("http://127.0.0.1:12345/".len()).unwrap())];
    // Discriminant, then what either case has room for.
    let text = |name, value| vec![Text(name), Word(0), Text(value), Word(0)];
    let secret = |name, handle| vec![Text(name), Word(1), Text("Bearer "), Word(handle)];
    // One that ends the guest: what its allocator gives, its words, what is said of it.
    let hostile = |name, call: (&str, &str), room, words: &[u32], said| Calls {
        name,
        streams: false,
        calls: vec![(number(call.0, call.1), room, words.iter().map(|&word| Word(word)).collect())],
        answer: 0,
        come_to: Err(said),
    };
    vec![
        plain("log", ("log", "write"), vec![Word(2), Text("seed"), Text("a line")]),
        plain("context_namespace", ("context", "namespace"), vec![result()]),
        plain("context_service", ("context", "service"), vec![result()]),
        plain("context_metadata", ("context", "metadata"), vec![result()]),
        plain("context_deadline", ("context", "deadline-ms"), vec![]),
        plain("config_get", ("config", "get"), vec![Text("color"), result()]),
        plain("config_keys", ("config", "keys"), vec![result()]),
        open("secret_open", "token", OK),
        open("secret_unset", "unset", NOT_FOUND),
        open("secret_denied", "other", DENIED),
        then(open("", "token", OK), plain("secret_drop", ("secret", "[drop]secret"), vec![Word(1)])),
        one("collections_get", ("collections", "get"), [Text("notes"), Text("one"), result()], OK),
        create("collections_create", None),
        one(
            "collections_update",
            ("collections", "update"),
            [Text("notes"), Text("one")].into_iter().chain(item()).chain([labels(), Word(0), Long(0), result()]),
            OK,
        ),
        one(
            "collections_delete",
            ("collections", "delete"),
            [Text("notes"), Text("never"), Word(0), Long(0), result()],
            OK,
        ),
        one(
            "collections_list",
            ("collections", "list"),
            [Text("notes"), filters(), Text("n desc"), Word(10), Text(""), result()],
            OK,
        ),
        one(
            "collections_search",
            ("collections", "search"),
            [Text("notes"), Text("quoted"), filters(), Text(""), Word(10), result()],
            OK,
        ),
        one("collections_denied", ("collections", "get"), [Text("others"), Text("one"), result()], DENIED),
        write("files_write", "w/a", None),
        then(write("", "w/b", None), write("files_write_at", "w/b", Some(4))),
        then(
            write("", "r/a", None),
            one("files_read", ("files", "read"), [Text("shared"), Text("r/a"), Long(2), Word(100), result()], OK),
        ),
        then(write("", "s/a", None), one("files_stat", ("files", "stat"), [Text("shared"), Text("s/a"), result()], OK)),
        one("files_list", ("files", "list"), [Text("shared"), Text("r"), Word(1), Text(""), result()], OK),
        then(
            write("", "d/a", None),
            one("files_delete", ("files", "delete"), [Text("shared"), Text("d/a"), result()], OK),
        ),
        then(
            write("", "m/a", None),
            one("files_rename", ("files", "rename"), [Text("shared"), Text("m/a"), Text("m/b"), result()], OK),
        ),
        one("files_missing", ("files", "stat"), [Text("shared"), Text("never"), result()], NOT_FOUND),
        one(
            "dispatch",
            ("dispatch", "call"),
            [Text("fuzz.v1.Guest"), Text("Call"), Bytes(super::drive::guest::message(&[0; 16])), result()],
            OK,
        ),
        fetch("http_fetch", vec![text("x-color", "green")], mirror(), OK),
        then(open("", "token", OK), fetch("http_secret", vec![secret("authorization", 1)], mirror(), OK)),
        fetch("http_forbidden", vec![], vec![Text("http://10.0.0.1/")], DENIED),
        Calls {
            streams: true,
            come_to: Ok(b"\x80\x80\x80\x80\x80\x00sent".to_vec()),
            ..then(
                one("", ("streaming", "[method]exchange.next"), [Word(1), result()], OK),
                one(
                    "streaming",
                    ("streaming", "[method]exchange.send"),
                    [Word(1), Bytes(super::drive::guest::message(b"sent")), result()],
                    OK,
                ),
            )
        },
        Calls {
            streams: true,
            come_to: Ok(vec![]),
            ..plain("streaming_drop", ("streaming", "[drop]exchange"), vec![Word(1)])
        },
        hostile("handle_none", ("streaming", "[method]exchange.next"), ROOM, &[1, RESULT], "handle"),
        hostile("handle_dropped", ("secret", "[drop]secret"), ROOM, &[u32::MAX], "handle"),
        hostile("far", ("log", "write"), ROOM, &[2, u32::MAX, 8, 0, 0], "out of bounds"),
        hostile("long", ("config", "get"), ROOM, &[0, u32::MAX, RESULT], "out of bounds"),
        hostile("odd_list", ("collections", "list"), ROOM, &[4_104, 0, 4_105, 1, 0, 0, 0, 0, 0, RESULT], "align"),
        hostile("odd_result", ("context", "namespace"), ROOM, &[RESULT + 1], "align"),
        hostile("level", ("log", "write"), ROOM, &[99, 0, 0, 0, 0], "discriminant"),
        hostile("no_text", ("config", "get"), ROOM, &[4_104 + 20, 4, RESULT, u32::MAX], "utf-8"),
        hostile("room_far", ("context", "namespace"), u32::MAX - 7, &[RESULT], "beyond end of memory"),
        hostile("room_trap", ("context", "namespace"), u32::MAX, &[RESULT], "unreachable"),
        hostile("room_calls", ("context", "namespace"), u32::MAX - 1, &[RESULT], "leave"),
        Calls {
            answer: u32::MAX - 3,
            come_to: Err("out of bounds"),
            ..plain("answer_far", ("context", "deadline-ms"), vec![])
        },
    ]
}
