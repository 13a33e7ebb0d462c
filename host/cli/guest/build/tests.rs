//! Crates made on the spot, really built.

use std::fs;
use std::path::Path;

use super::*;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn package(dir: &Path, name: &str, more: &str, files: &[(&str, &str)]) {
    fs::create_dir_all(dir.join("src")).unwrap();
    let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{more}\n");
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    for (file, text) in files {
        fs::write(dir.join("src").join(file), text).unwrap();
    }
}

/// A workspace of a handler, a command and a helper crate both use.
fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"a-handler\", \"command\", \"helper\"]\n")
        .unwrap();
    let uses = "[dependencies]\nhelper.path = \"../helper\"";
    let handler = format!("[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n{uses}");
    package(&at("a-handler"), "a-handler", &handler, &[("lib.rs", "pub use helper::four;\n")]);
    package(&at("command"), "command", uses, &[("main.rs", "fn main() { println!(\"{}\", helper::four()); }\n")]);
    package(&at("helper"), "helper", "", &[("lib.rs", "pub fn four() -> u8 { 4 }\n")]);
    dir
}

fn quiet() -> BuildOptions {
    BuildOptions { quiet: true, ..BuildOptions::default() }
}

#[test]
fn a_workspace_gives_its_plugins_as_components() {
    let dir = workspace();
    let built = build(dir.path(), None, &quiet(), &Ui::new(true)).unwrap();
    let kinds: Vec<_> = built.iter().map(|built| (built.package.as_str(), built.kind)).collect();
    assert_eq!(kinds, [("a-handler", BuiltKind::Handler), ("command", BuiltKind::Command)]);
    let release = dir.path().canonicalize().unwrap().join("target").join(TARGET).join("release");
    assert_eq!(built[0].path, release.join("a_handler.wasm"));
    assert_eq!(built[1].path, release.join("command.wasm"));
    for built in built {
        assert!(fs::read(built.path).unwrap().starts_with(COMPONENT));
    }
}

#[test]
fn a_native_build_runs_here_and_keeps_to_its_own_folder() {
    let dir = workspace();
    let options = BuildOptions { native: true, target_dir: Some(dir.path().join("out")), ..quiet() };
    let built = build(&dir.path().join("command"), None, &options, &Ui::new(true)).unwrap();
    assert_eq!(built.len(), 1);
    assert_eq!(built[0].kind, BuiltKind::NativeCommand);
    assert!(built[0].path.starts_with(dir.path().join("out/native")), "{}", built[0].path.display());
    assert_eq!(Command::new(&built[0].path).output().unwrap().stdout, b"4\n");
}

/// Builds the command of `dir` natively.
fn native(dir: &Path) -> Result<Built, BuildError> {
    build(&dir.join("command"), None, &BuildOptions { native: true, ..quiet() }, &Ui::new(true))
        .map(|mut built| built.remove(0))
}

/// Configures cargo for `dir`.
fn configure(dir: &Path, text: &str) {
    fs::create_dir_all(dir.join(".cargo")).unwrap();
    fs::write(dir.join(".cargo/config.toml"), text).unwrap();
}

/// Whether an executable asks for a dynamic linker, which is where shared libraries come from.
fn is_dynamic(executable: &Path) -> bool {
    use object::read::elf::{FileHeader as _, ProgramHeader as _};
    let bytes = fs::read(executable).unwrap();
    let header = object::elf::FileHeader64::<object::Endianness>::parse(&*bytes).unwrap();
    let segments = header.program_headers(object::Endianness::Little, &*bytes).unwrap();
    segments.iter().any(|segment| segment.p_type(object::Endianness::Little) == object::elf::PT_INTERP)
}

#[test]
fn a_native_build_is_static_whatever_the_crates_configuration_says() {
    let dir = workspace();
    // A build script and its flag: both run on this machine as it is, and neither may be lost.
    fs::write(dir.path().join("command/build.rs"), "fn main() { println!(\"cargo:rustc-env=MADE_BY=script\"); }\n")
        .unwrap();
    let main = "fn main() { println!(\"{} {}\", env!(\"MADE_BY\"), cfg!(chosen)); }\n";
    fs::write(dir.path().join("command/src/main.rs"), main).unwrap();
    for config in [
        "[build]\nrustflags = [\"--cfg\", \"chosen\"]\n",
        "[target.'cfg(unix)']\nrustflags = [\"--cfg\", \"chosen\", \"-C\", \"target-feature=-crt-static\"]\n",
    ] {
        configure(dir.path(), config);
        let built = native(dir.path()).unwrap();
        assert!(!is_dynamic(&built.path), "{config}");
        assert_eq!(Command::new(&built.path).output().unwrap().stdout, b"script true\n", "{config}");
    }
}

#[test]
fn a_linker_that_cannot_link_statically_is_named_with_what_to_install() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = workspace();
    let linker = dir.path().join("linker");
    fs::write(&linker, "#!/bin/sh\necho '/usr/bin/ld: cannot find -lc: No such file or directory' >&2\nexit 1\n")
        .unwrap();
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).unwrap();
    configure(dir.path(), &format!("[target.'cfg(unix)']\nlinker = {:?}\n", linker));
    let failed = native(dir.path()).unwrap_err();
    assert!(matches!(failed, BuildError::NoStaticLibc { .. }), "{failed}");
    assert!(failed.to_string().contains("install libc6-dev"), "{failed}");
}

#[test]
fn a_failed_build_says_what_the_compiler_said() {
    let dir = workspace();
    fs::write(dir.path().join("helper/src/lib.rs"), "pub fn four() -> u8 { nowhere() }\n").unwrap();
    let options = BuildOptions { native: true, packages: vec!["command".to_owned()], ..quiet() };
    let failed = build(dir.path(), None, &options, &Ui::new(true)).unwrap_err();
    assert!(matches!(failed, BuildError::Cargo { .. }));
    assert!(failed.to_string().contains("cannot find function `nowhere`"), "{failed}");
}

#[test]
fn a_folder_without_a_crate_is_cargos_error() {
    let dir = tempfile::tempdir().unwrap();
    let failed = build(dir.path(), None, &quiet(), &Ui::new(true)).unwrap_err();
    assert!(failed.to_string().contains("could not find `Cargo.toml`"), "{failed}");
}
