use super::*;

fn file(text: &str) -> FileDescriptorProto {
    super::super::testing::compile(&[("f.proto", text)]).into_iter().find(|file| file.name() == "f.proto").unwrap()
}

fn breaks(syntax: &str, old: &str, new: &str) -> Vec<String> {
    let whole = |body: &str| file(&format!("syntax = \"{syntax}\"; package p; {body}"));
    breaking(&whole(old), &whole(new))
}

fn check(syntax: &str, table: &[(&str, &str, &[&str])]) {
    for (old, new, want) in table {
        assert_eq!(breaks(syntax, old, new), *want, "{old} -> {new}");
        assert_eq!(breaks(syntax, old, old), Vec::<String>::new(), "{old}");
        assert_eq!(breaks(syntax, new, new), Vec::<String>::new(), "{new}");
    }
}

#[test]
fn d05_additions_are_fine() {
    check(
        "proto3",
        &[
            ("", "message M { string a = 1; } enum E { A = 0; } service S { rpc R(M) returns (M); }", &[]),
            ("message M { string a = 1; }", "message M { string a = 1; M b = 2; message N {} enum E { Z = 0; } }", &[]),
            ("enum E { A = 0; }", "enum E { A = 0; B = 1; }", &[]),
            ("message M { oneof o { int32 a = 1; } }", "message M { oneof o { int32 a = 1; int32 b = 2; } }", &[]),
            ("message M { reserved 2; }", "message M { reserved 1 to 3; reserved \"x\"; }", &[]),
            ("message M { reserved 1 to 4; }", "message M { reserved 1 to 2, 3 to 4; }", &[]),
            ("message M { int32 a = 1; int32 b = 2; }", "message M { int32 b = 2; int32 a = 1; }", &[]),
        ],
    );
}

#[test]
fn d05_fields() {
    let table: &[(&str, &str, &[&str])] = &[
        (
            "message Order { int64 total = 3; }",
            "message Order { string total = 3; }",
            &["p.Order.total (field 3): type changed from int64 to string"],
        ),
        (
            "message M { int32 a = 1; }",
            "message M {}",
            &["p.M.a (field 1): removed without reserving its number and name"],
        ),
        (
            "message M { int32 a = 1; }",
            "message M { reserved 1; }",
            &["p.M.a (field 1): removed without reserving its name"],
        ),
        (
            "message M { int32 a = 1; }",
            "message M { reserved \"a\"; }",
            &["p.M.a (field 1): removed without reserving its number"],
        ),
        ("message M { int32 a = 1; }", "message M { reserved 1; reserved \"a\"; }", &[]),
        (
            "message M { int32 a = 1; }",
            "message M { int32 a = 2; reserved 1; }",
            &["p.M.a (field 1): removed without reserving its name"],
        ),
        ("message M { int32 a = 1; }", "message M { int32 b = 1; }", &["p.M.a (field 1): renamed to b"]),
        (
            "message M { int32 a = 1; }",
            "message M { int32 a = 1 [json_name = \"x\"]; }",
            &["p.M.a (field 1): JSON name changed from a to x"],
        ),
        (
            "message M { int32 a = 1 [json_name = \"x\"]; }",
            "message M { int32 b = 1; }",
            &["p.M.a (field 1): renamed to b", "p.M.a (field 1): JSON name changed from x to b"],
        ),
        ("message M { int32 a_b = 1; }", "message M { int32 a_b = 1 [json_name = \"aB\"]; }", &[]),
        (
            "message M { int32 a = 1; }",
            "message M { repeated int32 a = 1; }",
            &["p.M.a (field 1): changed from singular to repeated"],
        ),
        (
            "message M { repeated int32 a = 1; }",
            "message M { int32 a = 1; }",
            &["p.M.a (field 1): changed from repeated to singular"],
        ),
        ("message M { int32 a = 1; }", "message M { optional int32 a = 1; }", &[]),
        ("message M { optional int32 a = 1; }", "message M { int32 a = 1; }", &[]),
        ("message M { repeated int32 a = 1; }", "message M { repeated int32 a = 1 [packed = false]; }", &[]),
        (
            "message M { M a = 1; message N {} }",
            "message M { N a = 1; message N {} }",
            &["p.M.a (field 1): type changed from message p.M to message p.M.N"],
        ),
        (
            "message M { E a = 1; } enum E { A = 0; } enum F { B = 0; }",
            "message M { F a = 1; } enum E { A = 0; } enum F { B = 0; }",
            &["p.M.a (field 1): type changed from enum p.E to enum p.F"],
        ),
        (
            "message M { message N { int32 a = 1; } }",
            "message M { message N { bool a = 1; } }",
            &["p.M.N.a (field 1): type changed from int32 to bool"],
        ),
    ];
    check("proto3", table);
}

#[test]
fn d05_scalar_types_change_within_their_group_only() {
    let types = [
        "int32", "uint32", "int64", "uint64", "fixed32", "sfixed32", "fixed64", "sfixed64", "sint32", "sint64", "bool",
        "string", "bytes", "double", "float",
    ];
    for (at, old) in types.iter().enumerate() {
        for (to, new) in types.iter().enumerate() {
            let fine = at == to || (at < 8 && to < 8 && at / 2 == to / 2);
            let found =
                breaks("proto3", &format!("message M {{ {old} a = 1; }}"), &format!("message M {{ {new} a = 1; }}"));
            assert_eq!(found.is_empty(), fine, "{old} {new} {found:?}");
        }
    }
}

#[test]
fn d05_maps() {
    let table: &[(&str, &str, &[&str])] = &[
        (
            "message M { map<string, int32> a = 1; }",
            "message M { map<int32, string> a = 1; }",
            &[
                "p.M.a (field 1): map key type changed from string to int32",
                "p.M.a (field 1): map value type changed from int32 to string",
            ],
        ),
        ("message M { map<string, int32> a = 1; }", "message M { map<string, uint32> a = 1; }", &[]),
        (
            "message M { map<string, int32> a = 1; }",
            "message M { map<string, int32> b = 1; }",
            &["p.M.a (field 1): renamed to b"],
        ),
        (
            "message M { map<string, int32> a = 1; }",
            "message M { repeated AE a = 1; message AE { string key = 1; int32 value = 2; } }",
            &["p.M.a (field 1): changed from map to repeated"],
        ),
        (
            "message M { repeated AE a = 1; message AE { string key = 1; int32 value = 2; } }",
            "message M { map<string, int32> a = 1; message AE { string key = 1; int32 value = 2; } }",
            &["p.M.a (field 1): changed from repeated to map"],
        ),
        (
            "message M { map<string, M> a = 1; }",
            "message M { map<string, N> a = 1; } message N {}",
            &["p.M.a (field 1): map value type changed from message p.M to message p.N"],
        ),
    ];
    check("proto3", table);
}

#[test]
fn d05_oneofs() {
    let table: &[(&str, &str, &[&str])] = &[
        (
            "message M { oneof o { int32 a = 1; int32 b = 2; } }",
            "message M { oneof o { int32 a = 1; } int32 b = 2; }",
            &["p.M.b (field 2): moved from oneof o to no oneof"],
        ),
        (
            "message M { int32 a = 1; int32 b = 2; }",
            "message M { oneof o { int32 a = 1; int32 b = 2; } }",
            &["p.M.a (field 1): moved from no oneof to oneof o", "p.M.b (field 2): moved from no oneof to oneof o"],
        ),
        (
            "message M { oneof o { int32 a = 1; int32 b = 2; } oneof q { int32 c = 3; } }",
            "message M { oneof o { int32 a = 1; } oneof q { int32 b = 2; int32 c = 3; } }",
            &["p.M.b (field 2): moved from oneof o to oneof q"],
        ),
        ("message M { int32 a = 1; }", "message M { oneof o { int32 a = 1; } }", &[]),
        ("message M { oneof o { int32 a = 1; } }", "message M { optional int32 a = 1; }", &[]),
        ("message M { optional int32 a = 1; }", "message M { oneof o { int32 a = 1; } }", &[]),
    ];
    check("proto3", table);
}

#[test]
fn d05_enums() {
    let table: &[(&str, &str, &[&str])] = &[
        ("enum E { A = 0; }", "", &["p.E: enum removed"]),
        (
            "enum E { A = 0; B = 1; }",
            "enum E { A = 0; }",
            &["p.E.B (value 1): removed without reserving its number and name"],
        ),
        (
            "enum E { A = 0; B = 1; }",
            "enum E { A = 0; reserved 1; }",
            &["p.E.B (value 1): removed without reserving its name"],
        ),
        (
            "enum E { A = 0; B = 1; }",
            "enum E { A = 0; reserved \"B\"; }",
            &["p.E.B (value 1): removed without reserving its number"],
        ),
        ("enum E { A = 0; B = 1; }", "enum E { A = 0; reserved 1; reserved \"B\"; }", &[]),
        ("enum E { A = 0; }", "enum E { B = 0; }", &["p.E.A (value 0): renamed to B"]),
        ("enum E { A = 0; }", "enum E { option allow_alias = true; B = 0; A = 0; }", &[]),
        (
            "enum E { option allow_alias = true; A = 0; B = 0; }",
            "enum E { A = 0; }",
            &["p.E.B (value 0): renamed to A"],
        ),
        ("enum E { A = 0; reserved -4 to -2; }", "enum E { A = 0; }", &["p.E: reserved range -4 to -2 removed"]),
        ("enum E { A = 0; reserved \"X\"; }", "enum E { A = 0; }", &["p.E: reserved name X removed"]),
        ("enum E { A = 0; reserved 5 to max; }", "enum E { A = 0; reserved 2 to max; }", &[]),
    ];
    check("proto3", table);
}

#[test]
fn d05_messages_and_ranges() {
    let table: &[(&str, &str, &[&str])] = &[
        ("message M { message N { enum E { A = 0; } } }", "", &["p.M: message removed"]),
        ("message M { message N {} }", "message M {}", &["p.M.N: message removed"]),
        ("message M { enum E { A = 0; } }", "message M {}", &["p.M.E: enum removed"]),
        ("message M { reserved 1 to 5; }", "message M { reserved 1 to 4; }", &["p.M: reserved range 1 to 5 removed"]),
        ("message M { reserved 9 to max; }", "message M {}", &["p.M: reserved range 9 to 536870911 removed"]),
        ("message M { reserved \"x\"; }", "message M {}", &["p.M: reserved name x removed"]),
    ];
    check("proto3", table);
}

#[test]
fn d05_proto2() {
    let table: &[(&str, &str, &[&str])] = &[
        (
            "message M { optional int32 a = 1; }",
            "message M { required int32 a = 1; }",
            &["p.M.a (field 1): changed from singular to required"],
        ),
        (
            "message M { required int32 a = 1; }",
            "message M { optional int32 a = 1; }",
            &["p.M.a (field 1): changed from required to singular"],
        ),
        ("message M {}", "message M { required int32 a = 1; }", &["p.M.a (field 1): required field added"]),
        (
            "message M { required int32 a = 1; }",
            "message M { reserved 1; reserved \"a\"; }",
            &["p.M.a (field 1): required field removed"],
        ),
        (
            "message M { optional int32 a = 1 [default = 4]; }",
            "message M { optional int32 a = 1 [default = 5]; }",
            &["p.M.a (field 1): default value changed from 4 to 5"],
        ),
        (
            "message M { optional int32 a = 1; }",
            "message M { optional int32 a = 1 [default = 5]; }",
            &["p.M.a (field 1): default value changed from none to 5"],
        ),
        (
            "message M { optional group G = 1 {} }",
            "message M { optional G g = 1; message G {} }",
            &["p.M.g (field 1): type changed from group p.M.G to message p.M.G"],
        ),
        ("message M { extensions 5 to 9; }", "message M {}", &["p.M: extension range 5 to 9 removed"]),
        (
            "message M { extensions 5 to 9; } extend M { optional int32 x = 5; }",
            "message M { extensions 5 to 9; }",
            &["p.x (extension 5 of p.M): removed"],
        ),
        (
            "message M { extensions 5 to 9; } message N { extend M { optional int32 x = 5; } }",
            "message M { extensions 5 to 9; } message N { extend M { repeated string y = 5; } }",
            &[
                "p.N.x (extension 5 of p.M): renamed to p.N.y",
                "p.N.x (extension 5 of p.M): changed from singular to repeated",
                "p.N.x (extension 5 of p.M): type changed from int32 to string",
            ],
        ),
    ];
    check("proto2", table);
}

#[test]
fn d05_services() {
    let m = "message M {} message N {} ";
    let table: &[(&str, &str, &[&str])] = &[
        ("service S { rpc R(M) returns (M); }", "", &["p.S: service removed"]),
        ("service S { rpc R(M) returns (M); }", "service S {}", &["p.S.R: method removed"]),
        (
            "service S { rpc R(M) returns (M); }",
            "service S { rpc R(N) returns (N); }",
            &["p.S.R: request type changed from p.M to p.N", "p.S.R: reply type changed from p.M to p.N"],
        ),
        (
            "service S { rpc R(M) returns (stream M); }",
            "service S { rpc R(stream M) returns (M); }",
            &[
                "p.S.R: request changed from one message to a stream",
                "p.S.R: reply changed from a stream to one message",
            ],
        ),
    ];
    let with: Vec<(String, String, &[&str])> =
        table.iter().map(|(old, new, want)| (format!("{m}{old}"), format!("{m}{new}"), *want)).collect();
    check("proto3", &with.iter().map(|(old, new, want)| (old.as_str(), new.as_str(), *want)).collect::<Vec<_>>());
}

#[test]
fn d05_file_wide_changes() {
    let three = file("syntax = \"proto3\"; package p; message M { repeated int32 a = 1; }");
    let two = file("package p; message M { repeated int32 a = 1; }");
    assert_eq!(breaking(&three, &two), ["f.proto: syntax changed from proto3 to proto2"]);
    let moved = file("syntax = \"proto3\"; package q; message M { repeated int32 a = 1; }");
    assert_eq!(breaking(&three, &moved), ["f.proto: package changed from p to q"]);
}

#[test]
fn names_mean_the_same_with_and_without_their_scope() {
    let full = file("syntax = \"proto3\"; package p; message M { N a = 1; message N {} } message N {}");
    let mut short = full.clone();
    short.message_type[0].field[0].type_name = Some("N".to_owned());
    assert_eq!(full.message_type[0].field[0].type_name(), ".p.M.N");
    assert_eq!(breaking(&full, &short), Vec::<String>::new());
    short.message_type[0].field[0].type_name = Some("p.N".to_owned());
    assert_eq!(breaking(&full, &short), ["p.M.a (field 1): type changed from message p.M.N to message p.N"]);
    short.message_type[0].field[0].type_name = Some(".other.T".to_owned());
    let mut bare = short.clone();
    bare.message_type[0].field[0].type_name = Some("other.T".to_owned());
    assert_eq!(breaking(&short, &bare), Vec::<String>::new());
}

#[test]
fn lines_are_bounded_ordered_and_single() {
    let fields = |count: usize| {
        let body: String = (1..=count).map(|n| format!("int32 f{n} = {n};")).collect();
        format!("message M {{ {body} }}")
    };
    assert_eq!(breaks("proto3", &fields(100), "message M {}").len(), 100);
    let lines = breaks("proto3", &fields(112), "message M {}");
    assert_eq!(lines.len(), 101);
    assert_eq!(lines[0], "p.M.f1 (field 1): removed without reserving its number and name");
    assert_eq!(lines[99], "p.M.f100 (field 100): removed without reserving its number and name");
    assert_eq!(lines[100], "and 12 more");

    let long = format!("message {0} {{ message {0} {{ message {0} {{ int32 a = 1; }} }} }}", "a".repeat(250));
    let lines = breaks("proto3", &long, &long.replace("int32", "bool"));
    assert!(lines[0].len() <= LINE + 4 && !lines[0].contains('\n'));
}

#[test]
fn unvetted_oddities_do_not_panic() {
    let mut odd =
        file("package p; message M { optional group G = 1 {} extensions 5 to 9; } extend M { optional M x = 5; }");
    odd.message_type[0].field[0].r#type = Some(99);
    odd.message_type[0].field[0].oneof_index = Some(-7);
    odd.message_type[0]
        .reserved_range
        .push(prost_types::descriptor_proto::ReservedRange { start: None, end: Some(i32::MIN) });
    odd.extension[0].type_name = Some("....".to_owned());
    let _ = breaking(&odd, &FileDescriptorProto::default());
    let _ = breaking(&FileDescriptorProto::default(), &odd);
    assert_eq!(breaking(&odd, &odd), Vec::<String>::new());
}

#[test]
fn service_changes_name_what_came_changed_and_went() {
    let whole = |body: &str| file(&format!("syntax = \"proto3\"; package p; message M {{}} message N {{}} {body}"));
    let old = whole(
        "service A { rpc X(M) returns (M); rpc Y(M) returns (M); rpc Z(M) returns (M); }
         service B { rpc X(M) returns (M); }",
    );
    let new = whole("service A { rpc W(M) returns (M); rpc Y(M) returns (N); rpc Z(M) returns (M); } service C {}");
    let told = |old, new| -> Vec<String> {
        service_changes(old, new).iter().map(|c| format!("{:?} {} {}", c.action, c.service, c.method)).collect()
    };
    assert_eq!(
        told(Some(&old), Some(&new)),
        ["Added p.A W", "Removed p.A X", "Changed p.A Y", "Removed p.B ", "Removed p.B X", "Added p.C "]
    );
    assert_eq!(told(Some(&old), Some(&old)), Vec::<String>::new());
    assert_eq!(told(None, Some(&new)), ["Added p.A ", "Added p.A W", "Added p.A Y", "Added p.A Z", "Added p.C "]);
    assert_eq!(told(Some(&new), None).len(), 5);
    assert_eq!(told(None, None), Vec::<String>::new());
    let streamed = whole(
        "service A { rpc X(M) returns (M); rpc Y(stream M) returns (M); rpc Z(M) returns (M); }
         service B { rpc X(M) returns (M); }",
    );
    assert_eq!(told(Some(&old), Some(&streamed)), ["Changed p.A Y"]);
}
