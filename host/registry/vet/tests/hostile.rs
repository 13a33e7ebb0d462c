//! Files that are too large, too deep, or damaged.

use super::*;
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn option(parts: usize, value: usize) -> UninterpretedOption {
    let part = uninterpreted_option::NamePart { name_part: "x".into(), is_extension: false };
    UninterpretedOption { name: vec![part; parts], string_value: Some(vec![b'x'; value]), ..Default::default() }
}

/// What a file that passes was counted to have.
fn counted(file: &FileDescriptorProto) -> census::Census {
    census::count(&judge(file).unwrap().raw).unwrap()
}

#[test]
fn d06_ceilings_hold_at_and_above() {
    let wide = |count: i32| file((0..count).map(|n| message(&format!("M{n}"))).collect());
    assert_eq!(counted(&wide(2_000)).types, 2_000);
    assert_eq!(too_large(&wide(2_001)), ("messages, enums and services", 2_001));
    assert_eq!(counted(&file(vec![many_fields(10_000)])).fields, 10_000);
    assert_eq!(too_large(&file(vec![many_fields(10_001)])).1, 10_001);

    let deep = |levels: usize| {
        let wrap = |inner, _| DescriptorProto { nested_type: vec![inner], ..message("M") };
        file(vec![(1..levels).fold(message("M"), wrap)])
    };
    judge(&deep(32)).unwrap();
    assert_eq!(too_large(&deep(33)), ("levels of nested messages", 33));
    // Deeper than prost could write it.
    let nest = |inner: Vec<u8>, number| {
        let mut outer = Vec::new();
        prost::encoding::bytes::encode(number, &inner, &mut outer);
        outer
    };
    let raw = (0..10_000).fold(Vec::new(), |inner, level| nest(inner, if level == 9_999 { 4 } else { 3 }));
    assert!(matches!(vet(&raw.into()), Err(VetError::TooLarge { what: "levels of nested messages", .. })));

    let ranges = |count: i32| {
        let range = |n| descriptor_proto::ReservedRange { start: Some(n * 2), end: Some(n * 2 + 1) };
        file(vec![DescriptorProto { reserved_range: (1..=count).map(range).collect(), ..message("M") }])
    };
    judge(&ranges(2_000)).unwrap();
    assert_eq!(too_large(&ranges(2_001)).1, 2_001);

    let imports = |count: i32| FileDescriptorProto {
        dependency: (0..count).map(|n| format!("a/{n}.proto")).collect(),
        ..file(vec![])
    };
    judge(&imports(256)).unwrap();
    assert_eq!(too_large(&imports(257)), ("imports", 257));

    let places = |count: usize| FileDescriptorProto {
        source_code_info: Some(SourceCodeInfo { location: vec![source_code_info::Location::default(); count] }),
        ..file(vec![])
    };
    judge(&places(100_000)).unwrap();
    assert_eq!(too_large(&places(100_001)).1, 100_001);
}

#[test]
fn d06_bytes_are_limited_before_anything_is_read() {
    let mut raw = file(vec![]).encode_to_vec();
    raw.extend([0x9a, 0x06, 0xff, 0xff, 0x1f]); // unknown field 99
    raw.resize(MOST_BYTES, 0);
    assert!(matches!(vet(&raw.clone().into()), Err(VetError::Invalid(_))));
    let rest = raw.len() - file(vec![]).encode_to_vec().len() - 5;
    let at = file(vec![]).encode_to_vec().len() + 2;
    for (n, byte) in [(0, 0x80), (7, 0x80), (14, 0)] {
        raw[at + n / 7] = u8::try_from((rest >> n) & 0x7f).unwrap() | byte;
    }
    vet(&raw.clone().into()).unwrap();
    raw.push(0);
    let over = vet(&raw.into()).unwrap_err();
    assert_eq!(over, VetError::TooLarge { what: "bytes", found: MOST_BYTES + 1, most: MOST_BYTES });
    assert_eq!(over.to_string(), "the file has 524289 bytes, at most 524288 are allowed");
}

#[test]
fn d06_hostile_sizes_are_refused_within_200_ms() {
    let name = |bytes: &str| file(vec![message(bytes)]);
    let values = (0..100_000).map(|n| EnumValueDescriptorProto { number: Some(n), ..Default::default() }).collect();
    let hostile = [
        file(vec![many_fields(100_000)]),
        file((0..100_000).map(|_| message("")).collect()),
        FileDescriptorProto {
            enum_type: vec![EnumDescriptorProto { value: values, ..Default::default() }],
            ..file(vec![])
        },
        name(&"a".repeat(64 << 10)),
        name(&".".repeat(10_000)),
        name(&"a.".repeat(10_000)),
        FileDescriptorProto { package: Some("a.".repeat(5_000) + "a"), ..file(vec![]) },
        FileDescriptorProto { package: Some(".".repeat(10_000)), ..file(vec![]) },
        FileDescriptorProto { dependency: vec![String::new(); 200_000], ..file(vec![]) },
        FileDescriptorProto { public_dependency: vec![0; 100_000], ..file(vec![]) },
        file(vec![DescriptorProto { reserved_name: vec![String::new(); 200_000], ..message("M") }]),
    ];
    for (nth, file) in hostile.iter().enumerate() {
        let raw: Bytes = file.encode_to_vec().into();
        #[allow(clippy::disallowed_types, reason = "no runtime here whose clock could be paused")]
        let took = (0..3)
            .map(|_| {
                let start = std::time::Instant::now();
                assert!(vet(&raw).is_err(), "{nth}");
                start.elapsed()
            })
            .min();
        assert!(took.unwrap().as_millis() <= 200, "{nth}: {took:?}");
    }
}

#[test]
fn d07_options_are_limited() {
    let with = |options: FileOptions| FileDescriptorProto { options: Some(options), ..file(vec![]) };
    let text = |len: usize| with(FileOptions { java_package: Some("x".repeat(len)), ..Default::default() });
    judge(&text(MOST_OPTION_BYTES - 3)).unwrap();
    assert_eq!(too_large(&text(MOST_OPTION_BYTES - 2)), ("bytes of options in one place", MOST_OPTION_BYTES + 1));
    let by_hand = |all| with(FileOptions { uninterpreted_option: all, ..Default::default() });
    judge(&by_hand(vec![option(32, 10)])).unwrap();
    assert!(invalid(&by_hand(vec![option(33, 10)])).contains("33 parts"));
    assert!(invalid(&by_hand(vec![option(0, 10)])).contains("0 parts"));
    assert_eq!(too_large(&by_hand(vec![option(1, 3 << 20); 1])).0, "bytes");
    assert_eq!(too_large(&by_hand(vec![option(1, 5_000); 1])).0, "bytes of options in one place");
    assert_eq!(too_large(&by_hand(vec![option(1, 100); 60])).0, "bytes of options in one place");
    // An option no one declares is the compiler's to refuse, without a panic.
    assert!(build(&judge(&by_hand(vec![option(2, 1)])).unwrap()).is_err());

    let field_with = |count: usize| {
        let options = FieldOptions { uninterpreted_option: vec![option(0, 0); count], ..Default::default() };
        FieldDescriptorProto { options: Some(options), ..field("f", 1) }
    };
    let fields = (0..5).map(|_| field_with(201)).collect();
    assert_eq!(too_large(&file(vec![DescriptorProto { field: fields, ..message("M") }])).0, "uninterpreted options");
}

#[test]
fn d07_options_in_pieces_are_added_up() {
    let half = FileOptions { java_package: Some("x".repeat(3_000)), ..Default::default() };
    let piece = FileDescriptorProto { options: Some(half), ..Default::default() }.encode_to_vec();
    let raw = [file(vec![]).encode_to_vec(), piece.clone(), piece].concat();
    assert!(matches!(vet(&raw.into()), Err(VetError::TooLarge { what: "bytes of options in one place", .. })));
}

#[test]
fn d07_unknown_options_count_too() {
    // message_type { name: "M" options { 60000: 5,000 bytes } }, which decoding would drop.
    let mut options = Vec::new();
    prost::encoding::bytes::encode(60_000, &vec![0u8; 5_000], &mut options);
    let mut inner = message("M").encode_to_vec();
    prost::encoding::bytes::encode(7, &options, &mut inner);
    let mut raw = file(vec![]).encode_to_vec();
    prost::encoding::bytes::encode(4, &inner, &mut raw);
    assert!(matches!(vet(&raw.into()), Err(VetError::TooLarge { what: "bytes of options in one place", .. })));
}

/// Edits that hit names, numbers, lengths and structure alike.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edit = (0..6u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>());
    (0..2usize, prop::collection::vec(edit, 1..5)).prop_map(|(which, edits)| {
        let mut raw = FILES[which].encode_to_vec();
        for (what, at, from, byte) in edits {
            let at = at.index(raw.len());
            match what {
                0 => raw[at] ^= 1 << (byte % 8),
                1 => raw[at] = byte % 32,
                2 => raw[at] = raw[from.index(raw.len())],
                3 => raw.insert(at, byte),
                4 => raw[at] = b"\\x_.\x80\xff\0\x01"[usize::from(byte % 8)],
                _ => drop(raw.remove(at)),
            }
        }
        raw
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
    ))]

    #[test]
    fn d07_no_vetted_file_makes_the_pool_panic(raw in damaged()) {
        if let Ok(vetted) = vet(&raw.into()) {
            let built = catch_unwind(AssertUnwindSafe(|| build(&vetted)));
            prop_assert!(built.is_ok(), "{:?}", vetted.proto);
            if let Ok(Ok(pool)) = built {
                let shapes = super::super::super::wire::Shapes::of(&pool);
                for message in pool.all_messages() {
                    let bytes = [0x0a, 0x00, 0x12, 0x00, 0x22, 0x04, 0x0a, 0x00, 0x10, 0x00];
                    let _ = prost_reflect::DynamicMessage::decode(message.clone(), &bytes[..]);
                    let _ = shapes.get(message.full_name()).map(|id| shapes.check(id, &bytes));
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = vet(&raw.into());
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture"]
fn measure_the_largest_files() {
    let nested = |inner: DescriptorProto| {
        let wrap = |inner, _| DescriptorProto { nested_type: vec![inner], ..message("M") };
        let package = Some(vec!["p"; 32].join("."));
        FileDescriptorProto { package, ..file(vec![(1..31).fold(inner, wrap)]) }
    };
    let mut lost = many_fields(10_000);
    for field in &mut lost.field {
        field.r#type = Some(Type::Message.into());
        field.type_name = Some("No".into());
    }
    let range = |n| descriptor_proto::ReservedRange { start: Some(20_000 + n * 2), end: Some(20_001 + n * 2) };
    let ranges = DescriptorProto { reserved_range: (1..=2_000).map(range).collect(), ..many_fields(10_000) };
    let values = (0..10_000).rev().map(|n| EnumValueDescriptorProto {
        name: Some(format!("V{n}")),
        number: Some(n),
        ..Default::default()
    });
    let values = EnumDescriptorProto { name: Some("E".into()), value: values.collect(), ..Default::default() };
    let mut places = file(vec![lost.clone()]);
    places.source_code_info = Some(SourceCodeInfo { location: vec![source_code_info::Location::default(); 90_000] });
    let files = [
        ("lost names, deep", nested(DescriptorProto { field: lost.field.split_off(3_000), ..message("M") })),
        ("ranges", file(vec![ranges])),
        ("enum values", FileDescriptorProto { enum_type: vec![values], ..file(vec![]) }),
        ("errors and source locations", places),
    ];
    for (what, file) in files {
        let raw: Bytes = file.encode_to_vec().into();
        #[allow(clippy::disallowed_types, reason = "a measurement has no clock to pause")]
        let start = std::time::Instant::now();
        let vetted = vet(&raw).unwrap_or_else(|why| panic!("{what}: {why}"));
        let vetting = start.elapsed();
        let built = build(&vetted).is_ok();
        println!("{what}: {} bytes, vet {vetting:?}, with pool {:?}, built {built}", raw.len(), start.elapsed());
    }
}
