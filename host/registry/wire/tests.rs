use super::{MOST_NESTED, ShapeId, Shapes};
use bytes::Bytes;
use proptest::prelude::*;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, Kind, MessageDescriptor};
use std::sync::LazyLock;

const THREE: &str = r#"
    syntax = "proto3";
    package t;
    enum Color { RED = 0; BLUE = 7; }
    message All {
        double f_double = 1; float f_float = 2; int32 f_int32 = 3; int64 f_int64 = 4; uint32 f_uint32 = 5;
        uint64 f_uint64 = 6; sint32 f_sint32 = 7; sint64 f_sint64 = 8; fixed32 f_fixed32 = 9; fixed64 f_fixed64 = 10;
        sfixed32 f_sfixed32 = 11; sfixed64 f_sfixed64 = 12; bool f_bool = 13; string f_string = 14;
        bytes f_bytes = 15; Color f_color = 16; All f_all = 17; optional string f_maybe = 18;
        repeated double r_double = 21; repeated float r_float = 22; repeated int32 r_int32 = 23;
        repeated sint64 r_sint64 = 24 [packed = false]; repeated fixed64 r_fixed64 = 25 [packed = false];
        repeated bool r_bool = 26; repeated string r_string = 27; repeated bytes r_bytes = 28;
        repeated Color r_color = 29; repeated All r_all = 30;
        map<string, string> m_text = 31; map<int32, All> m_all = 32; map<bool, bytes> m_bytes = 33;
        map<fixed64, Color> m_color = 34;
        oneof pick { int32 p_number = 41; string p_text = 42; All p_all = 43; }
        string far = 536870911;
        string mid = 5000;
    }
"#;

const TWO: &str = r#"
    syntax = "proto2";
    package u;
    import "three.proto";
    message Old {
        required int32 id = 1;
        optional string name = 2;
        repeated group Line = 3 { optional string sku = 1; repeated int32 n = 2; optional Old old = 4; }
        optional group Tree = 4 { optional Old old = 1; }
        repeated int32 loose = 5;
        repeated int32 tight = 6 [packed = true];
        repeated string names = 7;
        extensions 100 to 199, 1000 to max;
    }
    extend Old {
        optional string note = 100;
        repeated sint32 marks = 101;
        optional t.All all = 1000;
        repeated group Extra = 1001 { optional string why = 1; }
        optional Old nest = 1002;
    }
"#;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let file = super::super::testing::compile(&[("three.proto", THREE), ("two.proto", TWO)]);
    DescriptorPool::from_file_descriptor_set(prost_types::FileDescriptorSet { file }).unwrap()
});
static SHAPES: LazyLock<Shapes> = LazyLock::new(|| Shapes::of(&POOL));

fn id(name: &str) -> ShapeId {
    SHAPES.get(name).unwrap()
}

fn decodes(name: &str, bytes: &[u8]) -> bool {
    DynamicMessage::decode(POOL.get_message_by_name(name).unwrap(), bytes).is_ok()
}

/// Both must say the same, but for map fields that are not length-delimited, where prost does not look.
fn agree(name: &str, bytes: &[u8]) -> Result<bool, String> {
    let (ours, theirs) = (SHAPES.check(id(name), bytes), decodes(name, bytes));
    let map_only = ours.as_ref().is_err_and(|error| {
        let last = error.field.rsplit('.').next().unwrap_or_default();
        last.starts_with("m_") && (error.problem.starts_with("wire type") || error.problem.starts_with("a group ends"))
    });
    if ours.is_ok() == theirs || map_only {
        Ok(theirs)
    } else {
        Err(format!("{name} {bytes:02x?}: {ours:?}, prost {theirs}"))
    }
}

fn field(number: u32, wire: WireType, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, wire, &mut out);
    out.extend_from_slice(rest);
    out
}

fn run(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = field(number, WireType::LengthDelimited, &[]);
    encode_varint(inner.len() as u64, &mut out);
    out.extend_from_slice(inner);
    out
}

fn group(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = field(number, WireType::StartGroup, inner);
    out.extend(field(number, WireType::EndGroup, &[]));
    out
}

fn nested(levels: usize, start: Vec<u8>, wrap: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    (0..levels).fold(start, |inner, _| wrap(&inner))
}

#[test]
fn shapes_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&*SHAPES);
    assert_eq!(SHAPES.get("t.All"), Some(ShapeId(0)));
    assert_eq!(SHAPES.get(".t.All"), None);
    assert_eq!(SHAPES.get("t.Color"), None);
}

#[test]
fn an_id_of_another_set_is_an_error() {
    let error = SHAPES.check(ShapeId(u32::MAX), b"").unwrap_err();
    assert_eq!((error.field.as_str(), error.problem.as_str()), ("", "not a type of this set"));
}

#[test]
fn table_of_single_fields() {
    use WireType::{EndGroup, LengthDelimited as Len, SixtyFourBit, StartGroup, ThirtyTwoBit, Varint};
    let eleven = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let ten = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let over = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    let long_one = [0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
    let table: Vec<(&str, Vec<u8>, Result<(), &str>)> = vec![
        ("t.All", vec![], Ok(())),
        ("t.All", field(1, SixtyFourBit, &[0; 8]), Ok(())),
        ("t.All", field(1, SixtyFourBit, &[0; 7]), Err("f_double: ends in the middle")),
        ("t.All", field(2, ThirtyTwoBit, &[0; 4]), Ok(())),
        ("t.All", field(2, ThirtyTwoBit, &[0; 3]), Err("f_float: ends")),
        ("t.All", field(3, Varint, &ten), Ok(())),
        ("t.All", field(3, Varint, &long_one), Ok(())),
        ("t.All", field(3, Varint, &over), Err("f_int32: a varint")),
        ("t.All", field(3, Varint, &eleven), Err("f_int32: a varint")),
        ("t.All", field(3, Varint, &[0x80]), Err("f_int32: ends")),
        ("t.All", field(3, Varint, &[]), Err("f_int32: ends")),
        ("t.All", field(3, ThirtyTwoBit, &[0; 4]), Err("f_int32: wire type 5")),
        ("t.All", run(3, &[1]), Err("f_int32: wire type 2")),
        ("t.All", field(14, Varint, &[1]), Err("f_string: wire type 0")),
        ("t.All", run(14, "ünï\0".as_bytes()), Ok(())),
        ("t.All", run(14, &[0xff]), Err("f_string: not valid UTF-8")),
        ("t.All", run(14, &[0xed, 0xa0, 0x80]), Err("f_string: not valid UTF-8")),
        ("t.All", run(15, &[0xff]), Ok(())),
        ("t.All", vec![0x72, 0x05, b'a'], Err("f_string: ends")),
        ("t.All", field(14, Len, &ten), Err("f_string: ends")),
        ("t.All", run(16, &[]), Err("f_color: wire type 2")),
        ("t.All", field(16, Varint, &[99]), Ok(())),
        ("t.All", run(17, &run(14, &[0xff])), Err("f_all.f_string: not valid")),
        ("t.All", run(17, &[0x72, 0x05, b'a']), Err("f_all.f_string: ends")),
        ("t.All", [run(17, &[0x72, 0x02]), b"ab".to_vec()].concat(), Err("f_all.f_string: ends")),
        ("t.All", run(21, &[0; 16]), Ok(())),
        ("t.All", run(21, &[0; 15]), Err("r_double: a packed run")),
        ("t.All", field(21, SixtyFourBit, &[0; 8]), Ok(())),
        ("t.All", run(22, &[0; 6]), Err("r_float: a packed run")),
        ("t.All", run(23, &[]), Ok(())),
        ("t.All", run(23, &[1, 0x80, 1, 3]), Ok(())),
        ("t.All", run(23, &[1, 0x80]), Err("r_int32: ends")),
        ("t.All", run(23, &over), Err("r_int32: a varint")),
        ("t.All", field(23, Varint, &[1]), Ok(())),
        ("t.All", run(24, &[1, 2]), Ok(())),
        ("t.All", run(25, &[0; 8]), Ok(())),
        ("t.All", run(27, &[0xc0]), Err("r_string: not valid")),
        ("t.All", field(27, Varint, &[1]), Err("r_string: wire type 0")),
        ("t.All", run(31, &[run(1, b"k"), run(2, b"v")].concat()), Ok(())),
        ("t.All", run(31, &run(1, &[0xff])), Err("m_text.key: not valid")),
        ("t.All", run(31, &run(2, &[0xff])), Err("m_text.value: not valid")),
        ("t.All", run(31, &field(1, Varint, &[1])), Err("m_text.key: wire type 0")),
        ("t.All", run(31, &run(9, b"else")), Ok(())),
        ("t.All", run(31, &field(9, EndGroup, &[])), Err("m_text: a group ends")),
        ("t.All", run(31, &group(9, &group(8, &[]))), Ok(())),
        ("t.All", run(31, &field(9, StartGroup, &field(8, EndGroup, &[]))), Err("m_text: a group ends")),
        ("t.All", run(32, &run(2, &run(14, &[0xff]))), Err("m_all.value.f_string: not valid")),
        ("t.All", field(31, Varint, &[0]), Err("m_text: wire type 0")),
        ("t.All", run(42, &[0xff]), Err("p_text: not valid")),
        ("t.All", run(536_870_911, &[0xff]), Err("far: not valid")),
        ("t.All", run(5000, &[0xff]), Err("mid: not valid")),
        ("t.All", run(4999, &[0xff]), Ok(())),
        ("t.All", run(536_870_910, &[0xff]), Ok(())),
        ("t.All", vec![0x00, 0x00], Err(": a field number")),
        ("t.All", vec![0x07], Err(": a field number")),
        ("t.All", vec![0xff, 0xff, 0xff, 0xff, 0x1f, 0], Err(": a field number")),
        ("t.All", vec![0x0e], Err(": wire type 6")),
        ("t.All", vec![0x0f], Err(": wire type 7")),
        ("t.All", field(60, Varint, &eleven), Err(": a varint is longer than 64 bits (unknown field 60)")),
        ("t.All", field(60, SixtyFourBit, &[0; 7]), Err(": ends in the middle of a field (unknown field 60)")),
        ("t.All", field(60, ThirtyTwoBit, &[0; 3]), Err(": ends")),
        ("t.All", field(60, Len, &[3, 0]), Err(": ends")),
        ("t.All", field(60, EndGroup, &[]), Err(": a group ends")),
        ("t.All", group(60, &run(1, &[0xff])), Ok(())),
        ("t.All", field(60, StartGroup, &[]), Err(": ends")),
        ("t.All", field(60, StartGroup, &field(61, EndGroup, &[])), Err(": a group ends")),
        ("u.Old", vec![], Ok(())),
        ("u.Old", run(2, &[0xff]), Err("name: not valid")),
        ("u.Old", group(3, &run(1, b"x")), Ok(())),
        ("u.Old", group(3, &run(1, &[0xff])), Err("line.sku: not valid")),
        ("u.Old", run(3, b""), Err("line: wire type 2")),
        ("u.Old", field(3, StartGroup, &field(4, EndGroup, &[])), Err("line.old: a group ends")),
        ("u.Old", field(3, StartGroup, &[]), Err("line: ends")),
        ("u.Old", run(5, &[1, 2, 3]), Ok(())),
        ("u.Old", field(6, Varint, &[1]), Ok(())),
        ("u.Old", run(100, &[0xff]), Err("[u.note]: not valid")),
        ("u.Old", run(101, &[1, 2]), Ok(())),
        ("u.Old", run(101, &[0x80]), Err("[u.marks]: ends")),
        ("u.Old", run(1000, &run(14, &[0xff])), Err("[u.all].f_string: not valid")),
        ("u.Old", group(1001, &run(1, &[0xff])), Err("[u.extra].why: not valid")),
        ("t.All.MTextEntry", run(3, b"x"), Ok(())),
    ];
    for (name, bytes, want) in table {
        let got = SHAPES.check(id(name), &bytes).map_err(|e| format!("{}: {}", e.field, e.problem));
        match want {
            Ok(()) => assert_eq!(got, Ok(()), "{name} {bytes:02x?}"),
            Err(start) => {
                assert!(got.as_ref().is_err_and(|e| e.starts_with(start)), "{name} {bytes:02x?} {got:?} {start}")
            }
        }
        agree(name, &bytes).unwrap();
    }
}

#[test]
fn errors_read_as_one_line() {
    let error = SHAPES.check(id("t.All"), &run(17, &run(14, &[0xff]))).unwrap_err();
    assert_eq!(error.to_string(), "field f_all.f_string: not valid UTF-8");
    assert_eq!(SHAPES.check(id("t.All"), &[0]).unwrap_err().to_string(), "a field number is not within 1 to 536870911");
    let deep = nested(100, run(14, &[0xff]), |inner| run(17, inner));
    assert!(SHAPES.check(id("t.All"), &deep).unwrap_err().field.len() <= super::PATH_BYTES + 4);
}

#[test]
fn p01_nesting_is_accepted_up_to_the_limit_of_prost() {
    type Wrap = fn(&[u8]) -> Vec<u8>;
    let scalar = field(3, WireType::Varint, &[1]);
    let table: [(&str, &str, Wrap); 7] = [
        ("t.All", "messages", |inner| run(17, inner)),
        ("t.All", "maps", |inner| run(32, &run(2, inner))),
        ("t.All", "unknown groups", |inner| group(60, inner)),
        ("u.Old", "groups", |inner| group(3, &run(4, inner))),
        ("u.Old", "extension", |inner| run(1002, inner)),
        ("t.All", "repeated", |inner| run(30, inner)),
        ("t.All", "oneof", |inner| run(43, inner)),
    ];
    for (name, what, wrap) in table {
        for levels in [1, 49, 50, 51, 98, 99, 100, 101, 102, 200] {
            for start in [vec![], scalar.clone(), run(61, b"x"), group(61, b"")] {
                let bytes = nested(levels, start, wrap);
                agree(name, &bytes).unwrap_or_else(|why| panic!("{what} {levels}: {why:.200}"));
            }
        }
        assert!(SHAPES.check(id(name), &nested(10_000, vec![], wrap)).is_err(), "{what}");
    }
    let most = usize::try_from(MOST_NESTED).unwrap();
    assert!(SHAPES.check(id("t.All"), &nested(most, vec![], |inner| run(17, inner))).is_ok());
    let over = SHAPES.check(id("t.All"), &nested(most + 1, vec![], |inner| run(17, inner))).unwrap_err();
    assert_eq!(over.problem, "messages nest deeper than 100");
}

#[test]
fn p01_what_a_map_entry_does_not_know_counts_as_a_level() {
    for levels in [98, 99, 100] {
        for inner in [run(9, b""), field(9, WireType::Varint, &[1]), group(9, b""), group(9, &run(8, b"")), vec![]] {
            agree("t.All", &nested(levels, run(32, &inner), |inner| run(17, inner))).unwrap();
        }
    }
}

#[test]
fn p02_many_small_things_are_checked_in_linear_time() {
    let started = std::thread::spawn(|| {
        let empty = run(30, b"").repeat(1 << 20);
        let keys = run(31, &run(1, b"k")).repeat(1 << 19);
        let packed = run(23, &vec![1; 4 << 20]);
        for bytes in [empty, keys, packed] {
            SHAPES.check(id("t.All"), &bytes).unwrap();
        }
    });
    started.join().unwrap();
}

#[test]
fn p03_unknown_fields_are_skipped() {
    SHAPES.check(id("t.All"), &run(60, &[0xff; 300]).repeat(4000)).unwrap();
}

/// Decisions of the generator, from bytes so that proptest can shrink them.
struct Dice<'a>(std::slice::Iter<'a, u8>);

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        usize::from(*self.0.next().unwrap_or(&0)) % sides
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| *self.0.next().unwrap_or(&0))
    }
}

fn scalar(kind: &Kind, dice: &mut Dice<'_>, depth: usize) -> (WireType, Vec<u8>) {
    let mut out = Vec::new();
    let wire = kind.wire_type();
    match kind {
        Kind::String => out.extend_from_slice(["", "a", "grün", "a longer text than eight"][dice.roll(4)].as_bytes()),
        Kind::Bytes => out.extend_from_slice(&dice.bytes::<3>()),
        Kind::Message(inner) => out = message(inner, dice, depth + 1),
        _ => match wire {
            WireType::SixtyFourBit => out.extend_from_slice(&dice.bytes::<8>()),
            WireType::ThirtyTwoBit => out.extend_from_slice(&dice.bytes::<4>()),
            _ => encode_varint(u64::from_le_bytes(dice.bytes()) >> dice.roll(64), &mut out),
        },
    }
    (wire, out)
}

/// A valid message, driven by its descriptor.
fn message(desc: &MessageDescriptor, dice: &mut Dice<'_>, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut fields: Vec<_> = desc.fields().map(|f| (f.number(), f.kind(), f.is_group(), f.cardinality())).collect();
    fields.extend(desc.extensions().map(|f| (f.number(), f.kind(), f.is_group(), f.cardinality())));
    for _ in 0..if depth > 6 { 0 } else { dice.roll(7) } {
        let (number, kind, is_group, many) = &fields[dice.roll(fields.len())];
        let (wire, value) = scalar(kind, dice, depth);
        let scalars = wire != WireType::LengthDelimited;
        match wire {
            _ if dice.roll(16) == 15 => out.extend(group(900, &run(3, &value))),
            _ if *is_group => out.extend(group(*number, &value)),
            WireType::LengthDelimited => out.extend(run(*number, &value)),
            _ if scalars && *many == Cardinality::Repeated && dice.roll(2) == 1 => {
                out.extend(run(*number, &value.repeat(3)))
            }
            _ => out.extend(field(*number, wire, &value)),
        }
    }
    out
}

fn valid() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let names = prop::sample::select(vec!["t.All", "u.Old", "u.Old.Line", "t.All.MAllEntry"]);
    (names, prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(name, dice)| {
        let desc = POOL.get_message_by_name(name).unwrap();
        (name, message(&desc, &mut Dice(dice.iter()), 0))
    })
}

fn mutated() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let edit = (0..5u8, any::<prop::sample::Index>(), any::<u8>());
    (valid(), prop::collection::vec(edit, 1..6)).prop_map(|((name, mut bytes), edits)| {
        for (what, at, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match what {
                0 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                4 if at < bytes.len() => bytes[at] = byte,
                _ => bytes.extend_from_within(at..),
            }
        }
        (name, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000)
    ))]

    #[test]
    fn valid_messages_pass((name, bytes) in valid()) {
        prop_assert!(decodes(name, &bytes));
        prop_assert_eq!(SHAPES.check(id(name), &bytes), Ok(()));
    }

    #[test]
    fn p05_mutated_messages_are_judged_as_by_prost((name, bytes) in mutated()) {
        agree(name, &bytes).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn p05_random_bytes_are_judged_as_by_prost(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for message in POOL.all_messages() {
            agree(message.full_name(), &bytes).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn p05_random_small_bytes_are_judged_as_by_prost(bytes in prop::collection::vec(0u8..36, 0..24)) {
        for message in POOL.all_messages() {
            agree(message.full_name(), &bytes).map_err(TestCaseError::fail)?;
        }
    }
}

/// About 256 bytes with 20 fields, strings and nested messages among them.
fn typical() -> Bytes {
    let line = [run(14, b"sku-000-111"), field(3, WireType::Varint, &[4]), field(10, WireType::SixtyFourBit, &[1; 8])];
    let line = line.concat();
    let mut out = [run(14, b"order-2024-000017"), field(4, WireType::Varint, &[0x95, 0x9a, 0xef, 0x3a])].concat();
    out.extend(
        [run(17, &line), run(30, &line), run(30, &line), run(31, &[run(1, b"key"), run(2, b"value")].concat())]
            .concat(),
    );
    out.extend([run(23, &[1, 2, 3, 0x80, 1]), run(27, b"first tag"), run(27, b"second tag")].concat());
    out.extend([run(42, "a text of some forty bytes, nearly ascii é".as_bytes()), run(15, &[9; 32])].concat());
    out.into()
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture"]
fn measure_check() {
    let bytes = typical();
    let all = id("t.All");
    let desc = POOL.get_message_by_name("t.All").unwrap();
    let timed = |what: &str, rounds: u32, once: &dyn Fn()| {
        let mut best = f64::MAX;
        for _ in 0..7 {
            #[allow(clippy::disallowed_types, reason = "a measurement has no clock to pause")]
            let start = std::time::Instant::now();
            (0..rounds).for_each(|_| once());
            best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds));
        }
        println!("{what}: {best:.0} ns for {} bytes", bytes.len());
    };
    timed("check", 100_000, &|| std::hint::black_box(&*SHAPES).check(all, std::hint::black_box(&bytes)).unwrap());
    timed("DynamicMessage::decode", 10_000, &|| {
        std::hint::black_box(DynamicMessage::decode(desc.clone(), std::hint::black_box(bytes.clone())).unwrap());
    });
}
