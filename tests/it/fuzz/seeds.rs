//! Seeds that are made, not found: host calls. Beside each, what the node answers to it, which says how far it gets.

use super::drive::guest::{CALLS, END, UNTOLD, URL_AT, WORDS_AT};

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
