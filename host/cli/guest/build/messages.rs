//! Finding what was built in cargo's JSON messages, so that no path is guessed.

use std::path::PathBuf;

use serde_json::Value;

use super::BuiltKind;
use super::metadata::{Plan, has, list, text};

/// The file that a line of `--message-format=json-render-diagnostics` names, if it is what `plan` asked for.
pub(super) fn artifact(line: &str, plan: &Plan) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if text(&message, "reason") != "compiler-artifact" || text(&message, "package_id") != plan.id {
        return None;
    }
    let target = message.get("target")?;
    let kind = if plan.kind == BuiltKind::Handler { "cdylib" } else { "bin" };
    if !has(target, "kind", kind) || text(target, "name") != plan.target {
        return None;
    }
    let path = match plan.kind {
        BuiltKind::NativeCommand => text(&message, "executable"),
        BuiltKind::Handler | BuiltKind::Command => {
            let files = list(&message, "filenames").iter().filter_map(Value::as_str);
            files.into_iter().find(|file| file.ends_with(".wasm")).unwrap_or_default()
        }
    };
    (!path.is_empty()).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(kind: &str, files: &[&str], executable: Option<&str>) -> String {
        let target = json!({"name": "echo", "kind": [kind], "crate_types": [kind]});
        json!({"reason": "compiler-artifact", "package_id": "path+file:///w#echo@0.1.0", "target": target,
            "filenames": files, "executable": executable})
        .to_string()
    }

    fn plan(kind: BuiltKind) -> Plan {
        let id = "path+file:///w#echo@0.1.0".to_owned();
        Plan { package: "echo".to_owned(), id, kind, target: "echo".to_owned() }
    }

    #[test]
    fn each_kind_finds_its_own_file() {
        let wasm = Some(PathBuf::from("/t/echo.wasm"));
        let handler = message("cdylib", &["/t/libecho.rlib", "/t/echo.wasm"], None);
        assert_eq!(artifact(&handler, &plan(BuiltKind::Handler)), wasm);
        assert_eq!(artifact(&handler, &plan(BuiltKind::Command)), None);
        let command = message("bin", &["/t/echo.wasm"], Some("/t/echo.wasm"));
        assert_eq!(artifact(&command, &plan(BuiltKind::Command)), wasm);
        let native = message("bin", &["/t/echo"], Some("/t/echo"));
        assert_eq!(artifact(&native, &plan(BuiltKind::NativeCommand)), Some("/t/echo".into()));
    }

    #[test]
    fn other_lines_are_passed_over() {
        let other = message("cdylib", &["/t/echo.wasm"], None).replace("echo@", "other@");
        for line in [other.as_str(), "{\"reason\":\"build-finished\"}", "not json", ""] {
            assert_eq!(artifact(line, &plan(BuiltKind::Handler)), None, "{line}");
        }
    }
}
