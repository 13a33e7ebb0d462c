//! `collector plugin new`: a folder that builds as it is, on any machine.

use super::super::output::Output;
use anyhow::{Context as _, bail};
use include_dir::{Dir, DirEntry, include_dir};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// The SDK as this program was built with it: a new plugin gets a copy, until the SDK is on a registry.
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/guest-sdk");
/// Folder of the plugin that holds the copy.
const SDK_FOLDER: &str = "sdk";
/// Folder of the SDK that is the template itself.
const TEMPLATE: &str = "template";

/// `collector plugin new`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the plugin: lower-case letters, digits and dashes, a letter first
    name: String,
    /// Folder to make; by default the name
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Use the SDK in this folder instead of a copy in the plugin
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

pub(super) fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    check_name(&args.name)?;
    let folder = args.dir.unwrap_or_else(|| PathBuf::from(&args.name));
    if folder.exists() {
        bail!("{} exists already; choose another name, or another folder with --dir", folder.display());
    }
    let template = SDK.get_dir(TEMPLATE).context("this program was built without the plugin template")?;
    let sdk = match &args.sdk {
        Some(path) => path.canonicalize().with_context(|| format!("no SDK at {}", path.display()))?,
        None => PathBuf::from(SDK_FOLDER),
    };
    // Beside the target first: a failure half-way leaves nothing that looks like a plugin.
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new().prefix(".plugin-").tempdir_in(parent).context("cannot make the folder")?;
    let words = Words::of(&args.name, &sdk);
    write(template, template.path(), draft.path(), &|text| words.fill(text))?;
    if args.sdk.is_none() {
        write(&SDK, Path::new(""), &draft.path().join(SDK_FOLDER), &|text| text.to_owned())?;
    }
    let made = draft.keep();
    fs::rename(&made, &folder).context("cannot make the folder")?;
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;

    let (name, shown) = (&args.name, folder.display());
    let text = format!(
        "made {shown}\n\nnext:\n  edit {shown}/proto and {shown}/src/lib.rs\n  \
         collector dev --watch {shown}      a node that takes each version you save\n  \
         collector call {}/SayHello -d '{{\"name\": \"you\"}}'\nor, step by step:\n  \
         collector plugin build {shown}\n  collector plugin deploy {shown} --node URL",
        words.pascal
    );
    output.answer(&text, &json!({ "name": name, "folder": shown.to_string() }));
    Ok(())
}

/// Names that would not build: Rust's keywords, cargo's folders and crates, names in the template.
#[rustfmt::skip]
const TAKEN: [&str; 59] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
    "build", "deps", "examples", "incremental", "test", "core", "sdk", "std",
];
/// Words of the template and of what it uses.
const IN_TEMPLATE: [&str; 8] =
    ["alloc", "proc-macro", "collector-guest", "handler", "context", "fault", "code", "proto"];

/// cargo's own grammar, without what would make an odd protobuf package.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !fits {
        bail!(
            "{name:?} is no plugin name; use at most 64 lower-case letters, digits and single dashes, a letter first"
        );
    }
    if TAKEN.contains(&name) || IN_TEMPLATE.contains(&name) {
        bail!("{name:?} is a word of Rust, of cargo or of the SDK; choose another name");
    }
    Ok(())
}

struct Words {
    name: String,
    snake: String,
    pascal: String,
    sdk: String,
}

impl Words {
    fn of(name: &str, sdk: &Path) -> Self {
        let capital = |word: &str| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        };
        Self {
            name: name.to_owned(),
            snake: name.replace('-', "_"),
            pascal: name.split('-').map(capital).collect(),
            sdk: sdk.display().to_string(),
        }
    }

    fn fill(&self, text: &str) -> String {
        let pairs = [("name", &self.name), ("snake", &self.snake), ("Pascal", &self.pascal), ("sdk", &self.sdk)];
        pairs.into_iter().fold(text.to_owned(), |text, (key, word)| text.replace(&format!("{{{{{key}}}}}"), word))
    }
}

/// Copies a folder of this program's, with names and contents filled in. The template itself is no part of a copy.
fn write(folder: &Dir<'_>, root: &Path, to: &Path, fill: &dyn Fn(&str) -> String) -> anyhow::Result<()> {
    for entry in folder.entries() {
        let relative = entry.path().strip_prefix(root)?;
        match entry {
            DirEntry::Dir(_) if relative == Path::new(TEMPLATE) || relative.ends_with("target") => {}
            DirEntry::Dir(below) => write(below, root, to, fill)?,
            DirEntry::File(file) => {
                let name = fill(&relative.to_string_lossy());
                let name = name.strip_suffix(".tmpl").unwrap_or(&name);
                let path = to.join(if name == "gitignore" { ".gitignore" } else { name });
                fs::create_dir_all(path.parent().unwrap_or(to))?;
                let text = file.contents_utf8().with_context(|| format!("{} is not text", path.display()))?;
                fs::write(&path, fill(text)).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_cargo_and_protobuf_can_take() {
        for good in ["a", "hello", "my-plugin2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "Hello",
            "2a",
            "a_b",
            "a--b",
            "a-",
            "../x",
            "a/b",
            "core",
            "match",
            "build",
            "handler",
            &"a".repeat(65),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn placeholders_are_filled_in_every_spelling() {
        let words = Words::of("my-plugin", Path::new("sdk"));
        assert_eq!(words.fill("{{name}} {{snake}} {{Pascal}} {{sdk}}"), "my-plugin my_plugin MyPlugin sdk");
    }
}
