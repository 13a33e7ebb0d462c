//! Collections and records on the command line, as people and scripts use them.

use crate::support::*;
use serde_json::{Value, json};

const TYPES: &str = r#"
    syntax = "proto3";
    package shop.v1;
    import "google/protobuf/timestamp.proto";
    message Order {
      string customer = 1;
      int64 total = 2;
      repeated string tags = 3;
      Address address = 4;
      optional bool paid = 5;
      map<string, string> notes = 6;
      google.protobuf.Timestamp at = 7;
      repeated float near = 8;
    }
    message Address { string city = 1; }
"#;

/// A node that knows orders, and a collection of them.
fn shop() -> Cli {
    let cli = Cli::start();
    let types = cli.write("types.proto", TYPES);
    cli.says(&["schema", "push", &types, "--namespace", "shop"]);
    let orders = ["collection", "create", "shop/orders", "--type", "shop.v1.Order", "--index", "customer"];
    cli.says(&[&orders[..], &["--vector", "near", "--label", "team=sales"]].concat());
    cli
}

/// Three orders, the oldest first.
const ORDERS: [(&str, &str); 3] = [
    ("a", r#"{"customer":"Ann","total":"5","tags":["new","red"],"address":{"city":"Bern"},"near":[1,0]}"#),
    ("b", r#"{"customer":"Bob","total":"9007199254740993","paid":false,"notes":{"door":"blue bell"},"near":[0,1]}"#),
    ("c", r#"{"customer":"Cleo","tags":["used"],"paid":true,"at":"2024-05-01T00:00:00Z"}"#),
];

fn filled() -> Cli {
    let cli = shop();
    for (id, item) in ORDERS {
        cli.says(&["record", "create", "shop/orders", "-d", item, "--id", id, "--label", &format!("id={id}")]);
    }
    cli
}

/// Ids of what a command lists as JSON lines.
fn ids(cli: &Cli, args: &[&str]) -> Vec<String> {
    let said = cli.says(&[args, &["-o", "jsonl"]].concat());
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    said.lines().map(id).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_collection_is_made_listed_described_changed_and_dropped() {
    let cli = shop();
    assert!(cli.fails(64 + 6, &["collection", "create", "shop/orders"]).contains("already exists"));
    cli.says(&["collection", "create", "notes", "--no-full-text", "--endpoint", "example.com:1"]);

    let list = cli.says(&["collection", "list", "shop"]);
    assert!(list.contains("shop/orders") && list.contains("shop.v1.Order") && list.contains("team=sales"), "{list}");
    assert!(!list.contains("notes"), "{list}");
    let all = cli.json(&["collection", "list", "-A"]);
    let names: Vec<&str> =
        all["collections"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"orders") && names.contains(&"notes"), "{all}");
    let found = |args: &[&str]| cli.says(&[&["collection", "list", "shop", "-o", "jsonl"], args].concat());
    assert_eq!(lines(&found(&["--label", "team=sales"]))[0]["name"], "orders");
    assert_eq!(found(&["--label", "team=other"]), "");
    assert_eq!(found(&["--type", "shop.v1.Order"]).lines().count(), 1);
    assert!(cli.says(&["collection", "list", "nobody"]).contains("no collections in namespace nobody"));

    cli.says(&["record", "create", "shop/orders", "-d", ORDERS[0].1]);
    let described = cli.says(&["collection", "describe", "shop/orders"]);
    for part in
        ["collection  shop/orders", "type        shop.v1.Order", "indexes     customer, near:vector", "records     1"]
    {
        assert!(described.contains(part), "{part} in {described}");
    }
    let notes = cli.json(&["collection", "describe", "notes"]);
    assert_eq!((&notes["type"], &notes["full_text"], &notes["records"]), (&Value::Null, &json!(false), &json!(0)));
    assert_eq!(notes["endpoint"], "example.com:1");

    assert!(cli.fails(1, &["collection", "modify", "shop/orders"]).contains("--no-indexes"));
    cli.says(&["collection", "modify", "shop/orders", "--index", "total", "--index", "address.city"]);
    let indexes = || cli.json(&["collection", "describe", "shop/orders"])["indexed_fields"].clone();
    assert_eq!(indexes(), json!(["total", "address.city"]));
    cli.says(&["collection", "modify", "shop/orders", "--no-indexes"]);
    assert_eq!(indexes(), json!([]));
    assert!(cli.fails(64 + 3, &["collection", "modify", "shop/orders", "--index", "nope"]).contains("nope"));

    let reindexed = cli.json(&["collection", "reindex", "shop/orders"]);
    assert_eq!(reindexed, json!({ "collection": "shop/orders", "records": 1, "skipped": 0 }));

    let refused = cli.fails(1, &["collection", "drop", "shop/orders"]);
    assert!(refused.contains("1 records") && refused.contains("--yes"), "{refused}");
    assert_eq!(cli.json(&["collection", "drop", "shop/orders", "--yes"])["records"], 1);
    assert!(cli.fails(64 + 5, &["collection", "describe", "shop/orders"]).contains("NotFound"));
}

#[test]
fn a_record_is_made_read_changed_and_deleted() {
    let cli = shop();
    let made = cli.json(&["record", "create", "shop/orders", "-d", ORDERS[0].1, "--id", "a", "--label", "k=v"]);
    assert_eq!((&made["collection"], &made["id"]), (&json!("shop/orders"), &json!("a")));
    let file = cli.write("order.json", ORDERS[1].1);
    let own_id = cli.says(&["record", "create", "shop/orders", "-f", &file]);
    let fed = cli.fed(&["record", "create", "orders", "--namespace", "shop", "-"], ORDERS[2].1);
    assert!(fed.status.success(), "{}", text(&fed.stderr));
    assert_eq!(ids(&cli, &["record", "list", "shop/orders"]), [text(&fed.stdout).trim(), own_id.trim(), "a"]);

    let got = cli.json(&["record", "get", "shop/orders", "a"]);
    assert_eq!((&got["etag"], &got["labels"], &got["item"]["total"]), (&made["etag"], &json!({"k": "v"}), &json!("5")));
    assert!(got["createdAt"].as_str().unwrap().starts_with("20"), "{got}");
    let shown = cli.run(&["record", "get", "shop/orders", "a"]);
    let item: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(item["address"]["city"], "Bern");
    assert!(text(&shown.stderr).contains("k=v"));

    let etag = made["etag"].as_str().unwrap();
    let update = ["record", "update", "shop/orders", "a", "-d", r#"{"total":6}"#, "--mask", "total,address.city"];
    let updated = cli.json(&[&update[..], &["--if-match", etag]].concat());
    assert_ne!(updated["etag"], made["etag"]);
    let item = cli.json(&["record", "get", "shop/orders", "a"])["item"].clone();
    assert_eq!((&item["total"], &item["customer"], &item["address"]["city"]), (&json!("6"), &json!("Ann"), &json!("")));
    cli.fails(64 + 10, &[&update[..], &["--if-match", etag]].concat());
    cli.says(&["record", "update", "shop/orders", "a", "-d", r#"{"customer":"Zoe"}"#]);
    assert_eq!(cli.json(&["record", "get", "shop/orders", "a"])["item"]["total"], "0");

    cli.fails(64 + 10, &["record", "delete", "shop/orders", "a", "--if-match", etag]);
    cli.says(&["record", "delete", "shop/orders", "a"]);
    cli.says(&["record", "delete", "shop/orders", "a"]);
    assert!(cli.fails(64 + 5, &["record", "get", "shop/orders", "a"]).contains("NotFound"));
}

#[test]
fn what_is_no_record_says_why() {
    let cli = shop();
    let wrong = cli.fails(1, &["record", "create", "shop/orders", "-d", r#"{"totl":1}"#]);
    assert!(wrong.contains("shop.v1.Order") && wrong.contains("totl"), "{wrong}");
    assert!(cli.fails(1, &["record", "create", "shop/orders"]).contains("-d JSON"));
    assert!(cli.fails(1, &["record", "create", "a/b/c", "-d", "{}"]).contains("NAMESPACE/NAME"));
    assert!(cli.fails(1, &["record", "create", "shop/orders", "-d", "{}", "--type", "a.Nope"]).contains("schema push"));
    cli.fails(64 + 3, &["record", "create", "shop/orders", "-d", "{}", "--type", "shop.v1.Address"]);
    cli.fails(64 + 5, &["record", "create", "shop/nope", "-d", "{}"]);
    cli.says(&["record", "create", "shop/orders", "-d", "{}", "--id", "a"]);
    cli.fails(64 + 6, &["record", "create", "shop/orders", "-d", "{}", "--id", "a"]);
    let wrong = cli.fails(2, &["record", "list", "shop/orders", "--where", "total==5"]);
    assert!(wrong.contains("FIELD in A,B"), "{wrong}");
    assert!(cli.fails(64 + 3, &["record", "list", "shop/orders", "--where", "nope=5"]).contains("nope"));
}

#[test]
fn conditions_find_what_they_say() {
    let cli = filled();
    for (condition, found) in [
        ("customer=Ann", "a"),
        ("customer!=Ann", "bc"),
        ("total>5", "b"),
        ("total>=5", "ab"),
        ("total<5", "c"),
        ("total<=5", "ac"),
        ("total=9007199254740993", "b"),
        ("total=9007199254740992", ""),
        ("customer~le", "c"),
        ("tags~red", "a"),
        ("tags=used", "c"),
        ("customer in Ann,Bob", "ab"),
        ("total in 5, 0", "ac"),
        ("paid exists", "bc"),
        ("paid not exists", "a"),
        ("paid=false", "b"),
        ("address.city=Bern", "a"),
        ("notes.door~bell", "b"),
        ("at>2024-01-01T00:00:00Z", "c"),
    ] {
        let order = ["--order", "id", "--where", condition];
        let listed = ids(&cli, &[&["record", "list", "shop/orders"], &order[..]].concat());
        assert_eq!(listed.concat(), found, "list {condition}");
        let searched = ids(&cli, &[&["record", "search", "shop/orders"], &order[..]].concat());
        assert_eq!(searched.concat(), found, "search {condition}");
    }
    let both = ["record", "list", "shop/orders", "--where", "total>=5", "--where", "paid not exists"];
    assert_eq!(ids(&cli, &both), ["a"]);
    assert!(
        cli.fails(1, &["record", "list", "shop/orders", "-w", "total>1", "-w", "total<9"]).contains("two conditions")
    );
}

#[test]
fn records_are_searched_and_shown_in_every_form() {
    let cli = filled();
    assert_eq!(ids(&cli, &["record", "search", "shop/orders", "blue AND bell"]), ["b"]);
    assert_eq!(ids(&cli, &["record", "search", "shop/orders", "--label", "id=c"]), ["c"]);
    let by_total = ["record", "search", "shop/orders", "--order", "total"];
    assert_eq!(ids(&cli, &by_total), ["c", "a", "b"]);
    assert_eq!(ids(&cli, &[&by_total[..], &["--desc"]].concat()), ["b", "a", "c"]);
    assert_eq!(ids(&cli, &[&by_total[..], &["--offset", "1", "--limit", "1"]].concat()), ["a"]);
    assert_eq!(ids(&cli, &["record", "list", "shop/orders", "--order", "customer desc", "--limit", "2"]), ["c", "b"]);

    let near = ["record", "search", "shop/orders", "--vector", "1,0.1", "--threshold", "0.5", "-o", "json"];
    let near: Value = serde_json::from_str(&cli.says(&near)).unwrap();
    assert_eq!((&near["total"], &near["records"][0]["id"]), (&json!(1), &json!("a")));
    assert!(near["records"][0]["score"].as_f64().unwrap() > 0.99, "{near}");

    let table = cli.says(&["record", "list", "shop/orders"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows[0].split_whitespace().collect::<Vec<_>>(), ["ID", "CREATED", "customer", "total", "paid", "at"]);
    assert!(rows[1].starts_with("c ") && rows[2].contains("9007199254740993"), "{table}");
    let list = cli.json(&["record", "list", "shop/orders", "--limit", "1"]);
    assert_eq!((&list["total"], list["records"].as_array().unwrap().len()), (&json!(3), 1));
    let line = cli.says(&["record", "list", "shop/orders", "-o", "jsonl", "--limit", "1"]);
    assert!(line.starts_with(r#"{"id":"c","etag":""#), "{line}");
    assert!(line.contains(r#""labels":{"id":"c"},"item":{"customer":"Cleo","#), "{line}");

    let plan = cli.json(&["record", "search", "shop/orders", "--where", "customer=Ann", "--explain"]);
    assert_eq!(plan["indexed_fields"], json!(["customer"]), "{plan}");
    assert!(cli.says(&["record", "list", "shop/orders", "--explain"]).contains("indexed fields used: none"));
}

#[test]
fn a_namespace_is_searched_across_its_collections() {
    let cli = filled();
    cli.says(&["collection", "create", "shop/notes"]);
    cli.says(&["record", "create", "shop/notes", "-d", r#"{"text":"a blue bell"}"#, "--id", "n"]);
    let found = cli.json(&["collection", "search", "shop", "bell"]);
    assert_eq!(found["total"], 2, "{found}");
    let only = cli.says(&["collection", "search", "shop", "bell", "--collection", "notes", "-o", "jsonl"]);
    let only = lines(&only);
    assert_eq!((only.len(), &only[0]["id"], &only[0]["collection"]), (1, &json!("n"), &json!("notes")));
    assert_eq!(cli.json(&["collection", "search", "shop", "--where", "customer=Bob"])["total"], 1);
    let people = cli.says(&["collection", "search", "shop", "bell"]);
    assert!(people.starts_with("2 matches in shop") && people.contains("\nnotes\n"), "{people}");
}

#[test]
fn json_and_unknown_bytes_come_back_as_they_were() {
    let cli = Cli::start();
    cli.says(&["collection", "create", "notes"]);
    cli.says(&["record", "create", "notes", "-d", r#"{"b":1.50,"a":{"c":[1]}}"#, "--id", "json"]);
    assert_eq!(ids(&cli, &["record", "list", "notes", "--where", "a.c=1"]), ["json"]);
    assert!(cli.says(&["record", "list", "notes", "-o", "jsonl"]).contains(r#""item":{"b":1.50,"a":{"c":[1]}}"#));
    assert!(cli.fails(1, &["record", "create", "notes", "-d", "[1]"]).contains("no JSON object"));
    let file = cli.home.path().join("bytes");
    std::fs::write(&file, [0, 255]).unwrap();
    cli.says(&["record", "create", "notes", "--raw", "image/png", "-f", file.to_str().unwrap(), "--id", "raw"]);
    let got = cli.json(&["record", "get", "notes", "raw"]);
    assert_eq!((&got["raw"], &got["typeUrl"], got.get("item")), (&json!("AP8="), &json!("image/png"), None));
}

/// What there is of a record that an import can give back.
fn kept(export: &str) -> Vec<Value> {
    let mut lines = lines(export);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        for own in ["etag", "createdAt", "updatedAt"] {
            line.remove(own).unwrap();
        }
    }
    lines
}

#[test]
fn an_export_is_imported_again() {
    let cli = filled();
    // Field 15 is none of an order's: JSON would lose it.
    let file = cli.home.path().join("unknown");
    std::fs::write(&file, [0x10, 3, 0x78, 1]).unwrap();
    let raw = ["record", "create", "shop/orders", "--id", "d", "--raw", "other.example/shop.v1.Order", "-f"];
    cli.says(&[&raw[..], &[file.to_str().unwrap()]].concat());
    let exported = cli.says(&["collection", "export", "shop/orders"]);
    assert_eq!(ids(&cli, &["record", "list", "shop/orders", "--order", "created_at"]), ["a", "b", "c", "d"]);
    assert!(exported.lines().last().unwrap().contains(r#""raw":"EAN4AQ==""#), "{exported}");

    let import = ["collection", "import", "shop/copy", "-", "--create", "--type", "shop.v1.Order", "--batch", "2"];
    let done = cli.fed(&[&import[..], &["--in-flight", "1"]].concat(), &exported);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(kept(&cli.says(&["collection", "export", "shop/copy"])), kept(&exported));
    let again = cli.fed(&[&import[..], &["--skip-existing", "--json"]].concat(), &exported);
    let counts: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&counts["made"], &counts["already_there"], &counts["rejected"]), (&json!(0), &json!(4), &json!(0)));

    let part = cli.home.path().join("part.jsonl");
    let part = part.to_str().unwrap();
    let said = cli.json(&["collection", "export", "shop/orders", part, "--where", "paid=true"]);
    assert_eq!(said["records"], 1);
    assert_eq!(lines(&std::fs::read_to_string(part).unwrap())[0]["id"], "c");
}

#[test]
fn lines_that_are_no_records_are_set_aside() {
    let cli = filled();
    let too_long = format!(r#"{{"customer":"{}"}}"#, "x".repeat(9 << 20));
    let input = [
        r#"{"customer":"Dan"}"#,
        r#"{"customer": broken"#,
        "",
        r#"{"customer":7}"#,
        &too_long,
        r#"{"id":"a","item":{"customer":"again"}}"#,
        r#"{"id":"new","item":{"customer":"Eve"},"labels":{"k":"v"}}"#,
    ];
    let (file, bad) = (cli.write("in.jsonl", &input.join("\n")), cli.home.path().join("bad.jsonl"));
    let said = cli.run(&["collection", "import", "shop/orders", &file, "--rejects", bad.to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(text(&said.stdout).contains("2 made, 0 already there, 4 rejected"), "{said:?}");
    assert!(text(&said.stderr).contains("bad.jsonl"), "{said:?}");
    let mut rejects = lines(&std::fs::read_to_string(&bad).unwrap());
    rejects.sort_by_key(|reject| reject["line"].as_u64());
    let numbers: Vec<u64> = rejects.iter().map(|reject| reject["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 4, 5, 6]);
    assert_eq!((rejects[0]["text"].as_str(), rejects[1]["text"].as_str()), (Some(input[1]), Some(input[3])));
    let errors: Vec<&str> = rejects.iter().map(|reject| reject["error"].as_str().unwrap()).collect();
    assert!(errors[1].contains("shop.v1.Order") && errors[2].contains("longer than"), "{errors:?}");
    assert!(errors[3].contains("ALREADY_EXISTS"), "{errors:?}");
    assert_eq!((rejects[2]["cut"].as_bool(), rejects[3]["text"].as_str()), (Some(true), Some(input[5])));
    assert_eq!(cli.json(&["record", "get", "shop/orders", "new"])["labels"], json!({ "k": "v" }));
    assert_eq!(cli.json(&["collection", "describe", "shop/orders"])["records"], 5);

    let by_name = cli.fed(&["collection", "import", "shop/orders", "-", "--id-field", "address.city"], ORDERS[0].1);
    assert!(by_name.status.success(), "{}", text(&by_name.stderr));
    assert_eq!(cli.json(&["record", "get", "shop/orders", "Bern"])["item"]["customer"], "Ann");
    let none = cli.fed(&["collection", "import", "shop/orders", "-", "--id-field", "sku"], ORDERS[0].1);
    assert!(text(&none.stderr).contains("line 1: there is no text or number in sku"), "{}", text(&none.stderr));
    assert!(cli.fails(1, &["collection", "import", "shop/orders", "-", "--index", "a"]).contains("--create"));
    cli.fails(64 + 5, &["collection", "import", "shop/nope", &file]);
}
