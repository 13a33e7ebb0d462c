//! `collector auth`, from the first key on.

use crate::support::{NodeProcess, text};
use serde_json::Value;
use std::process::{Command, Output};

fn collector(args: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(args).env_remove("COLLECTOR_NODE").env_remove("COLLECTOR_TOKEN");
    if let Some(token) = token {
        command.env("COLLECTOR_TOKEN", token);
    }
    command.output().unwrap()
}

fn json(args: &[&str], token: Option<&str>) -> Value {
    let done = collector(&[&["--json"], args].concat(), token);
    assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn the_first_key_comes_from_the_folder_and_the_others_from_the_node() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let folder = data.to_str().unwrap();
    let key = ["auth", "key"];
    let made = json(&[&key[..], &["create", "--data", folder, "--role", "admin", "--namespace", "*"]].concat(), None);
    let admin = made["secret"].as_str().unwrap().to_owned();
    assert!(admin.starts_with("clk_") && made["bindings"] == serde_json::json!(["*:admin"]));
    let shown = text(&collector(&["auth", "key", "list", "--data", folder], None).stdout);
    assert!(shown.contains("*:admin") && !shown.contains(&admin), "{shown}");

    let node = NodeProcess::start(&data, &["auth.mode=required"]);
    let locked = collector(&["auth", "key", "list", "--data", folder], None);
    assert!(!locked.status.success() && text(&locked.stderr).contains("another node is using"), "{locked:?}");
    let at = ["--node", node.address.as_str()];
    let nobody = collector(&[&key[..], &["list"], &at].concat(), None);
    assert_eq!(nobody.status.code(), Some(64 + 16), "{}", text(&nobody.stderr));
    let bind = ["create", "--bind", "acme:reader", "--bind", "globex:writer", "--label", "ci", "--expires-in", "1h"];
    let made = json(&[&key[..], &bind, &at].concat(), Some(&admin));
    let id = made["id"].as_str().unwrap();
    assert!(made["expires_at"].is_string() && made["ends_with"].as_str().unwrap().len() == 4);
    let listed = json(&[&key[..], &["list", "-n", "acme"], &at].concat(), Some(&admin));
    assert_eq!(listed["keys"][0]["id"], id);
    assert!(!listed.to_string().contains(made["secret"].as_str().unwrap()));
    let shown = text(&collector(&[&key[..], &["list"], &at].concat(), Some(&admin)).stdout);
    assert!(shown.contains("ci") && shown.contains("until ") && shown.contains("good"), "{shown}");
    json(&[&key[..], &["revoke", id], &at].concat(), Some(&admin));
    let over = collector(&[&key[..], &["list"], &at].concat(), made["secret"].as_str());
    assert_eq!(over.status.code(), Some(64 + 16));
    let tokens =
        collector(&[&["auth", "token", "revoke", "--id", "x", "--expires-in", "1d"], &at[..]].concat(), Some(&admin));
    assert!(text(&tokens.stderr).contains("NO_TOKENS"), "{}", text(&tokens.stderr));
    let log = node.log();
    assert!(!log.contains(&admin) && !log.contains("clk_"), "{log}");
}

#[test]
fn every_command_that_talks_to_a_node_shows_the_key() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let make = ["auth", "key", "create", "--data", data.to_str().unwrap(), "--role", "admin", "--namespace", "*"];
    let admin = json(&make, None)["secret"].as_str().unwrap().to_owned();
    let node = NodeProcess::start(&data, &["auth.mode=required"]);
    let at = ["--node", node.address.as_str()];
    for (args, wanted) in [
        (&["ns", "create", "acme"][..], 0),
        (&["ns", "quota", "acme", "--weight", "2"], 0),
        (&["ns", "usage", "acme"], 0),
        (&["ns", "list"], 0),
        (&["secret", "list", "-n", "acme"], 0),
        (&["secret", "delete", "none", "-n", "acme"], 64 + 5),
        (&["plugin", "grant", "none", "http=https://a.example", "-n", "acme"], 64 + 5),
        (&["plugin", "revoke", "none", "http", "-n", "acme"], 64 + 5),
        (&["collection", "list", "-n", "acme"], 0),
        (&["schema", "list", "-n", "acme"], 0),
        (&["plugin", "list", "-n", "acme"], 0),
    ] {
        let args = [args, &at].concat();
        let done = collector(&args, Some(&admin));
        assert_eq!(done.status.code(), Some(wanted), "{args:?}: {}", text(&done.stderr));
        let nobody = collector(&args, None);
        assert_eq!(nobody.status.code(), Some(64 + 16), "{args:?}: {}", text(&nobody.stderr));
    }
}
