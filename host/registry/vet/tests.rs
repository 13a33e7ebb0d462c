use super::*;
use prost_reflect::DescriptorPool;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::*;
use std::sync::LazyLock;

mod hostile;

const SHOP: &str = r#"
    syntax = "proto3";
    package shop.v1;
    import "google/protobuf/timestamp.proto";
    // An order.
    message Order {
        string id = 1;
        optional string note = 2;
        repeated Line lines = 3;
        map<string, int64> totals = 4;
        oneof by { string mail = 5; string phone = 6; }
        google.protobuf.Timestamp at = 7;
        State state = 8;
        message Line { string sku = 1 [deprecated = true]; sint32 n = 2; enum Kind { KIND_NONE = 0; } }
        reserved 20 to 29, 40;
        reserved "gone";
    }
    enum State { option allow_alias = true; STATE_NONE = 0; STATE_OPEN = 1; STATE_LIVE = 1; reserved 5 to 9; }
    service Shop { rpc Get(Order) returns (Order); rpc Watch(stream Order) returns (stream Order); }
"#;

const OLD: &str = r#"
    syntax = "proto2";
    package old;
    message Bag {
        required int32 id = 1 [default = -4];
        optional bytes raw = 2 [default = "a\x01\377\\"];
        repeated group Item = 3 { optional string sku = 1; }
        extensions 100 to 199, 1000 to max;
    }
    extend Bag { optional string tag = 100; }
    message Scope { extend Bag { repeated int32 marks = 101 [packed = true]; } }
"#;

static FILES: LazyLock<[FileDescriptorProto; 2]> = LazyLock::new(|| {
    [("shop.proto", SHOP), ("old.proto", OLD)]
        .map(|file| super::super::testing::compile(&[file]).into_iter().find(|f| f.name() == file.0).unwrap())
});

fn shop() -> FileDescriptorProto {
    FILES[0].clone()
}

fn old() -> FileDescriptorProto {
    FILES[1].clone()
}

fn judge(file: &FileDescriptorProto) -> Result<Vetted, VetError> {
    vet(&file.encode_to_vec().into())
}

fn invalid(file: &FileDescriptorProto) -> String {
    match judge(file) {
        Err(VetError::Invalid(why)) => why,
        other => panic!("{:?}", other.map(|vetted| vetted.proto)),
    }
}

fn too_large(file: &FileDescriptorProto) -> (&'static str, usize) {
    match judge(file) {
        Err(VetError::TooLarge { what, found, .. }) => (what, found),
        other => panic!("{:?}", other.map(|vetted| vetted.proto)),
    }
}

fn message(name: &str) -> DescriptorProto {
    DescriptorProto { name: Some(name.into()), ..Default::default() }
}

fn field(name: &str, number: i32) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::Int32.into()),
        ..Default::default()
    }
}

fn many_fields(count: i32) -> DescriptorProto {
    let numbers = (1..).filter(|n| !(19_000..20_000).contains(n));
    let fields = numbers.take(usize::try_from(count).unwrap()).map(|n| field(&format!("f{n}"), n)).collect();
    DescriptorProto { field: fields, ..message("M") }
}

fn file(messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto { name: Some("f.proto".into()), message_type: messages, ..Default::default() }
}

/// What the node does with a vetted file, as far as panics go.
fn build(vetted: &Vetted) -> Result<DescriptorPool, String> {
    let mut pool = DescriptorPool::global();
    pool.decode_file_descriptor_proto(without_sources(&vetted.raw)).map_err(|why| why.to_string())?;
    Ok(pool)
}

#[test]
fn real_files_pass_and_are_counted() {
    let vetted = judge(&shop()).unwrap();
    assert_eq!(vetted.proto, shop());
    // Order, its map entry, Line, Kind, State, Shop.
    let counted = census::count(&vetted.raw).unwrap();
    assert_eq!(counted.types, 6);
    // 8 fields of Order and 2 oneofs, 2 of the entry, 2 of Line, 1 + 3 values, 2 methods.
    assert_eq!(counted.fields, 8 + 2 + 2 + 2 + 4 + 2);
    assert!(build(&vetted).unwrap().get_message_by_name("shop.v1.Order").is_some());
    build(&judge(&old()).unwrap()).unwrap();
    for file in DescriptorPool::global().files() {
        let raw = file.encode_to_vec().into();
        let vetted = vet(&raw).unwrap_or_else(|why| panic!("{}: {why}", file.name()));
        assert_eq!(vetted.raw, raw);
    }
}

#[test]
fn custom_options_survive() {
    let text = r#"syntax = "proto3"; package o; import "google/protobuf/descriptor.proto";
        extend google.protobuf.MessageOptions { optional string owner = 50001; }
        message M { option (owner) = "me"; }"#;
    let files = super::super::testing::compile(&[("o.proto", text)]);
    let mut raw = files.iter().find(|f| f.name() == "o.proto").unwrap().encode_to_vec();
    // prost drops what it does not know, so the option is put back by hand: message_type { options { 50001: "me" } }.
    raw.extend([0x22, 0x0b, 0x0a, 0x01, b'N', 0x3a, 0x06, 0x8a, 0xb5, 0x18, 0x02, b'm', b'e']);
    let pool = build(&vet(&raw.into()).unwrap()).unwrap();
    let extension = pool.get_extension_by_name("o.owner").unwrap();
    let message = pool.get_message_by_name("o.N").unwrap();
    assert_eq!(message.options().get_extension(&extension).as_str(), Some("me"));
}

#[test]
fn file_names_are_plain_relative_paths() {
    let named = |name: &str| judge(&FileDescriptorProto { name: Some(name.into()), ..file(vec![]) });
    let long = "a".repeat(255);
    for good in ["a", "a.proto", "a/b/c.proto", "..a", "a..", "ü.proto", "a b", &long] {
        assert!(named(good).is_ok(), "{good}");
    }
    let longer = "a".repeat(256);
    for bad in ["", "/a", "a/", "a//b", ".", "..", "./a", "a/../b", "a/.", "a\\b", "a\0", "a\nb", "a\u{85}", &longer] {
        assert!(matches!(named(bad), Err(VetError::Invalid(_))), "{bad:?}");
    }
    assert!(vet(&Bytes::new()).is_err());
}

#[test]
fn identifiers_follow_the_grammar() {
    let long = "a".repeat(255);
    for good in ["a", "_", "A9_", &long] {
        judge(&file(vec![message(good)])).unwrap();
        judge(&FileDescriptorProto { package: Some(good.into()), ..file(vec![]) }).unwrap();
    }
    let longer = "a".repeat(256);
    for bad in ["9", "a-b", "a b", "é", "a.b", "a\n", &longer] {
        assert!(invalid(&file(vec![message(bad)])).starts_with("f.proto: "), "{bad:?}");
    }
    assert!(judge(&file(vec![message("")])).is_err());
    for bad in [".", "a.", ".a", "a..b", "a.9"] {
        let why = invalid(&FileDescriptorProto { package: Some(bad.into()), ..file(vec![]) });
        assert!(why.starts_with("f.proto: package: "), "{why}");
    }
    let parts = |n: usize| FileDescriptorProto { package: Some(vec!["a"; n].join(".")), ..file(vec![]) };
    judge(&parts(32)).unwrap();
    assert!(invalid(&parts(33)).contains("more than 32 parts"));
}

#[test]
fn full_names_are_limited() {
    let of = |last: usize| {
        let nest = |inner, _| DescriptorProto { nested_type: vec![inner], ..message(&"a".repeat(249)) };
        file(vec![(0..3).fold(message(&"b".repeat(last)), nest)])
    };
    judge(&of(250)).unwrap();
    assert!(invalid(&of(251)).contains("more than 1000 bytes"));
}

/// A field, message or file made wrong in one place, and what is said of it.
#[test]
fn every_rule_refuses_its_own_breach() {
    type Break = fn(&mut FileDescriptorProto);
    fn order(file: &mut FileDescriptorProto) -> &mut DescriptorProto {
        &mut file.message_type[0]
    }
    fn entry(file: &mut FileDescriptorProto) -> &mut DescriptorProto {
        file.message_type[0].nested_type.iter_mut().find(|m| m.name() == "TotalsEntry").unwrap()
    }
    let table: Vec<(Break, &str)> = vec![
        (|f| f.syntax = Some("editions".into()), "shop.proto: editions are not supported"),
        (|f| f.syntax = Some("proto4".into()), "neither proto2 nor proto3"),
        (|f| f.syntax = Some(String::new()), "neither proto2 nor proto3"),
        (|f| f.dependency.push("shop.proto".into()), "imports itself"),
        (|f| f.dependency.push("google/protobuf/timestamp.proto".into()), "is used twice"),
        (|f| f.dependency.push("../a.proto".into()), "an import's name"),
        (|f| f.public_dependency.push(1), "a public import is not among"),
        (|f| f.public_dependency.push(-1), "a public import is not among"),
        (|f| f.public_dependency.extend([0, 0]), "public import 0 is used twice"),
        (|f| f.weak_dependency.push(1), "a weak import is not among"),
        (|f| order(f).field[0].number = Some(0), "shop.v1.Order.id: field number 0"),
        (|f| order(f).field[0].number = Some(-1), "field number -1"),
        (|f| order(f).field[0].number = None, "field number 0"),
        (|f| order(f).field[0].number = Some(536_870_912), "field number 536870912"),
        (|f| order(f).field[0].number = Some(19_000), "field number 19000 is one that"),
        (|f| order(f).field[0].number = Some(19_999), "field number 19999 is one that"),
        (|f| order(f).field[0].number = Some(2), "shop.v1.Order: field number 2 is used twice"),
        (|f| order(f).field[0].name = Some("note".into()), "shop.v1.Order: name note is used twice"),
        (|f| order(f).field[0].r#type = None, "no known type"),
        (|f| order(f).field[0].r#type = Some(0), "no known type"),
        (|f| order(f).field[0].r#type = Some(19), "no known type"),
        (|f| order(f).field[0].label = Some(9), "no known label"),
        (|f| order(f).field[0].type_name = Some(".shop.v1.Order".into()), "a scalar field names a type"),
        (|f| order(f).field[2].type_name = None, "has no type name"),
        (|f| order(f).field[2].type_name = Some(String::new()), "has no type name"),
        (|f| order(f).field[2].type_name = Some("a..b".into()), "type name: "),
        (|f| order(f).field[2].type_name = Some("..b".into()), "type name: "),
        (|f| order(f).field[0].extendee = Some(".shop.v1.Order".into()), "has no extendee"),
        (|f| order(f).field[0].label = Some(Label::Required.into()), "are proto2"),
        (|f| order(f).field[0].default_value = Some("x".into()), "are proto2"),
        (|f| order(f).field[2].r#type = Some(Type::Group.into()), "are proto2"),
        (|f| order(f).field[0].json_name = Some("a\n".into()), "the JSON name has a control"),
        (|f| order(f).field[0].json_name = Some("a".repeat(256)), "the JSON name has 256"),
        (|f| order(f).field[0].oneof_index = Some(2), "oneof 2 is not declared"),
        (|f| order(f).field[0].oneof_index = Some(-1), "oneof -1 is not declared"),
        (|f| order(f).field[2].oneof_index = Some(0), "must be optional"),
        (|f| order(f).field[0].proto3_optional = Some(true), "needs a oneof"),
        (|f| order(f).field[0].oneof_index = Some(1), "the oneof has 2 fields"),
        (|f| order(f).oneof_decl.push(OneofDescriptorProto { name: Some("none".into()), options: None }), "0 fields"),
        (|f| order(f).oneof_decl[0].name = Some("9".into()), "not an identifier"),
        (|f| order(f).reserved_range[0].start = Some(0), "the range from 0"),
        (|f| order(f).reserved_range[0].end = Some(20), "the range from 20"),
        (|f| order(f).reserved_range[0].end = Some(i32::MIN), "the range from 20"),
        (|f| order(f).reserved_range[0].end = Some(536_870_913), "the range from 20"),
        (|f| order(f).reserved_range[0].end = Some(41), "overlap"),
        (|f| order(f).reserved_name.push("a\0".into()), "reserved name has a control"),
        (
            |f| order(f).options = Some(MessageOptions { message_set_wire_format: Some(true), ..Default::default() }),
            "message_set",
        ),
        (|f| order(f).options = Some(MessageOptions { map_entry: Some(true), ..Default::default() }), "a map entry"),
        (|f| entry(f).field.truncate(1), "a map entry has a key"),
        (|f| entry(f).field[0].number = Some(3), "a map entry is nested"),
        (|f| entry(f).field[0].name = Some("k".into()), "a map entry is nested"),
        (|f| entry(f).field[1].label = Some(Label::Repeated.into()), "a map entry is nested"),
        (|f| entry(f).field[0].r#type = Some(Type::Float.into()), "a map key"),
        (|f| entry(f).field[0].r#type = Some(Type::Bytes.into()), "a map key"),
        (|f| entry(f).nested_type.push(message("X")), "a map entry is nested"),
        (
            |f| {
                let e = entry(f).clone();
                f.message_type.push(e)
            },
            "shop.v1.TotalsEntry: a map entry is nested",
        ),
        (|f| f.enum_type[0].value.clear(), "shop.v1.State: the enum has no value"),
        (|f| f.enum_type[0].value[0].number = Some(1), "must be 0"),
        (|f| f.enum_type[0].value[1].name = Some("-".into()), "not an identifier"),
        (|f| f.enum_type[0].reserved_range[0].end = Some(4), "ends before it starts"),
        (
            |f| {
                let r = f.enum_type[0].reserved_range[0];
                f.enum_type[0].reserved_range.push(r)
            },
            "overlap",
        ),
        (|f| f.enum_type[0].reserved_name.push("a\n".into()), "reserved name"),
        (|f| f.service[0].method[0].input_type = None, "shop.v1.Shop.Get: has no input type"),
        (|f| f.service[0].method[0].output_type = Some(String::new()), "has no output type"),
        (|f| f.service[0].method[1].name = Some("Get".into()), "shop.v1.Shop: name Get is used twice"),
        (|f| f.service[0].name = None, "not an identifier"),
    ];
    for (breach, want) in table {
        let mut file = shop();
        breach(&mut file);
        let why = invalid(&file);
        assert!(why.starts_with("shop.proto: ") && why.contains(want), "{want:?} {why:?}");
        assert!(!why.contains('\n') && why.len() <= LINE + 4, "{why}");
    }
}

#[test]
fn every_rule_of_proto2_refuses_its_own_breach() {
    type Break = fn(&mut FileDescriptorProto);
    let table: Vec<(Break, &str)> = vec![
        (|f| f.extension[0].extendee = None, "old.tag: has no extendee"),
        (|f| f.extension[0].extendee = Some("a b".into()), "extendee: "),
        (|f| f.extension[0].label = Some(Label::Required.into()), "neither required"),
        (|f| f.extension[0].oneof_index = Some(0), "neither required"),
        (|f| f.message_type[1].extension[0].number = Some(100), "field number 100 of old.Bag is used twice"),
        (|f| f.message_type[0].field[0].proto3_optional = Some(true), "proto3_optional is proto3"),
        (|f| f.message_type[0].field[1].default_value = Some("\\xa\u{e9}".into()), "not ASCII"),
        (|f| f.message_type[0].field[1].default_value = Some("\\400".into()), "octal escape"),
        (|f| f.message_type[0].field[1].default_value = Some("\\\\\\777".into()), "octal escape"),
        (|f| f.message_type[0].field[1].default_value = Some("a".repeat(4_097)), "more than 4096 bytes"),
        (|f| f.message_type[0].extension_range[0].end = Some(1_001), "overlap"),
        (|f| f.message_type[0].extension_range[0].start = Some(0), "the range from 0"),
        (|f| f.message_type[0].extension_range[0].end = Some(i32::MAX), "the range from 100"),
        (
            |f| {
                let name = uninterpreted_option::NamePart { name_part: "map_entry".into(), is_extension: false };
                let option = UninterpretedOption {
                    name: vec![name],
                    identifier_value: Some("true".into()),
                    ..Default::default()
                };
                let options = MessageOptions { uninterpreted_option: vec![option], ..Default::default() };
                f.message_type[0].options = Some(options);
            },
            "may not be set by hand",
        ),
    ];
    for (breach, want) in table {
        let mut file = old();
        breach(&mut file);
        let why = invalid(&file);
        assert!(why.contains(want), "{want:?} {why:?}");
    }
    for fine in ["\\377", "\\\\777", "\\\\400", "\\xff", "a".repeat(4_096).as_str()] {
        let mut file = old();
        file.message_type[0].field[1].default_value = Some(fine.into());
        build(&judge(&file).unwrap()).unwrap();
    }
}

#[test]
fn field_numbers_at_their_limits_pass() {
    for number in [1, 18_999, 20_000, 536_870_911] {
        judge(&file(vec![DescriptorProto { field: vec![field("f", number)], ..message("M") }])).unwrap();
    }
}

#[test]
fn d02_names_of_the_node_are_reserved() {
    for (name, package) in [
        ("google/protobuf/any.proto", "x"),
        ("google/protobuf/", "x"),
        ("collector/a.proto", ""),
        ("a", "google.protobuf"),
        ("a", "google.protobuf.compiler"),
        ("a", "collector"),
        ("a", "collector.record.v1"),
        ("a", "grpc.health.v1"),
    ] {
        assert!(matches!(reserved(name, package), Err(VetError::Reserved { .. })), "{name} {package}");
    }
    for (name, package) in [
        ("google/type/date.proto", "google.type"),
        ("my/google/protobuf/any.proto", ""),
        ("collector.proto", "collectors"),
        ("collectors/a", "my.collector"),
        ("a", "google.protobuffer"),
        ("a", "grpcish.v1"),
        ("a", ""),
    ] {
        assert_eq!(reserved(name, package), Ok(()), "{name} {package}");
    }
    assert_eq!(reserved("a", "grpc.x").unwrap_err().to_string(), "package grpc.x belongs to the node");
}

#[test]
fn d02_a_message_may_not_pose_as_a_package_of_the_node() {
    let own = |package: &str, name: &str| {
        judge(&FileDescriptorProto { package: Some(package.into()), ..file(vec![message(name)]) })
    };
    for (package, name) in [("", "collector"), ("google", "protobuf"), ("", "grpc")] {
        assert!(matches!(own(package, name), Err(VetError::Reserved { .. })), "{package} {name}");
    }
    own("x", "collector").unwrap();
    own("google", "Protobuf").unwrap();
}

#[test]
fn d02_same_shape_looks_past_options_comments_and_default_names() {
    let ours = shop();
    let mut theirs = shop();
    theirs.options = Some(FileOptions { go_package: Some("x".into()), ..Default::default() });
    theirs.source_code_info = None;
    theirs.message_type[0].field[0].json_name = None;
    theirs.message_type[0].field[0].options = Some(FieldOptions { deprecated: Some(true), ..Default::default() });
    theirs.service[0].method[0].client_streaming = None;
    assert!(same_shape(&ours, &theirs));
    type Change = fn(&mut FileDescriptorProto);
    let changes: [Change; 9] = [
        |f| f.name = Some("x".into()),
        |f| f.package = Some("x".into()),
        |f| f.message_type[0].field[0].json_name = Some("ID".into()),
        |f| f.message_type[0].field[0].number = Some(99),
        |f| f.message_type[0].nested_type[0].name = Some("X".into()),
        |f| f.enum_type[0].value[0].name = Some("X".into()),
        |f| f.service[0].method[0].server_streaming = Some(true),
        |f| f.message_type[0].reserved_range.clear(),
        |f| f.syntax = None,
    ];
    for (nth, change) in changes.iter().enumerate() {
        let mut theirs = shop();
        change(&mut theirs);
        assert!(!same_shape(&ours, &theirs), "{nth}");
    }
}

#[test]
fn json_names_are_made_as_protoc_makes_them() {
    for (name, json) in [("a", "a"), ("foo_bar", "fooBar"), ("_a", "A"), ("a__b1", "aB1"), ("a_", "a"), ("A_b", "AB")] {
        assert_eq!(json_name(name), json);
    }
}

#[test]
fn the_pool_gets_no_source_locations_and_all_else() {
    let mut with = shop();
    with.source_code_info = Some(SourceCodeInfo { location: vec![source_code_info::Location::default(); 3] });
    let mut raw = with.encode_to_vec();
    raw.extend([0x9a, 0x06, 0x01, b'x']); // unknown field 99, after the locations
    let pool = without_sources(&vet(&raw.into()).unwrap().raw);
    let mut want = FileDescriptorProto { source_code_info: None, ..shop() }.encode_to_vec();
    want.extend([0x9a, 0x06, 0x01, b'x']);
    assert_eq!(FileDescriptorProto::decode(pool.clone()).unwrap().source_code_info, None);
    assert_eq!(pool.len(), want.len());
}

fn importing(name: &str, of: &[&str], public: bool) -> FileDescriptorProto {
    let public_dependency = if public { (0..).take(of.len()).collect() } else { vec![] };
    FileDescriptorProto {
        name: Some(name.into()),
        dependency: of.iter().map(|name| (*name).to_owned()).collect(),
        public_dependency,
        ..Default::default()
    }
}

#[test]
fn d01_import_circles_are_refused_and_named() {
    let [a, b, c] = [importing("a", &["b"], true), importing("b", &["c", "gone"], true), importing("c", &["a"], false)];
    let why = imports(&[&importing("z", &["a"], false), &a, &b, &c]).unwrap_err().to_string();
    assert_eq!(why, "imports go in a circle: a imports b imports c imports a");
    assert_eq!(imports(&[&a, &b]), Ok(()));
    assert_eq!(imports(&[]), Ok(()));
    assert!(imports(&[&importing("a", &["a"], true)]).is_err());

    let names: Vec<String> = (0..200).map(|n| format!("f{n}")).collect();
    let ring: Vec<_> = (0..200).map(|n| importing(&names[n], &[&names[(n + 1) % 200]], true)).collect();
    assert!(imports(&ring.iter().collect::<Vec<_>>()).is_err());
    assert_eq!(imports(&ring.iter().skip(1).collect::<Vec<_>>()), Ok(()));
}

#[test]
fn d01_public_imports_that_fan_out_are_refused() {
    let ladder = |count: usize, public: bool| {
        let names: Vec<String> = (0..count).map(|n| format!("f{n}")).collect();
        let two = |n: usize| names[n.saturating_sub(2)..n].iter().map(String::as_str).collect::<Vec<_>>();
        let files: Vec<_> = (0..count).map(|n| importing(&names[n], &two(n), public)).collect();
        imports(&files.iter().collect::<Vec<_>>())
    };
    assert_eq!(ladder(20, true), Ok(()));
    assert_eq!(ladder(256, false), Ok(()));
    assert!(matches!(ladder(256, true), Err(VetError::TooLarge { what: "paths of public imports", .. })));
}
