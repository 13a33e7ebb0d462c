//! apt run on a private state folder: it resolves, fetches and verifies as always, and the system's state stays as it is.
//!
//! The machine's apt configuration still counts (proxies, timeouts), except its sources, its pins and its hooks.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::process;
use super::super::ui::Ui;
use super::{DebianError, Tool, at};

/// The release whose packages hold the compiler.
pub(super) const SUITE: &str = "trixie";
/// Debian's archive keys, as its own package installs them; the second name is the newer one.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
/// Hooks are for the system's own state, and pins for its own packages.
const CONFIG: &str = "\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture \"amd64\";
APT::Architectures { \"amd64\"; };
APT::Update::Error-Mode \"any\";
Acquire::Languages \"none\";
Dir::Cache::pkgcache \"pkgcache.bin\";
Dir::Cache::srcpkgcache \"srcpkgcache.bin\";
Dir::Etc::SourceParts \"/dev/null\";
Dir::Etc::Preferences \"/dev/null\";
Dir::Etc::PreferencesParts \"/dev/null\";
";
const POLL: Duration = Duration::from_millis(200);

/// One package file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deb {
    /// Its name in the download folder.
    pub(super) file: String,
    /// Its size, in bytes.
    pub(super) size: u64,
    /// In hex; empty if apt names another kind of hash only.
    sha256: String,
}

/// A private apt folder, used by one process at a time.
pub(super) struct Apt<'a> {
    folder: PathBuf,
    /// Handed to each child as its stdin: should we be killed, the lock lasts until they end too.
    lock: &'a File,
}

impl<'a> Apt<'a> {
    /// Lays out an empty state in `folder`.
    /// * `lock`: what keeps other processes out of `folder`, held by the caller.
    pub(super) fn new(folder: PathBuf, lock: &'a File) -> Result<Self, DebianError> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).map_err(at(&part))?;
        }
        let apt = Self { folder, lock };
        apt.write("status", "")?;
        apt.write("apt.conf", CONFIG)?;
        Ok(apt)
    }

    /// Fetches and verifies the package index of `SUITE` from `mirror`.
    pub(super) fn update(&self, mirror: &str) -> Result<(), DebianError> {
        let keyring = KEYRINGS.iter().find(|keyring| Path::new(keyring).exists()).ok_or(DebianError::NoKeyring)?;
        let source = format!("deb [arch=amd64 target=Packages signed-by={keyring}] {mirror} {SUITE} main\n");
        self.write("sources.list", &source)?;
        self.watch(Tool::AptGet, self.apt_get(&self.folder).args(["-q", "update"]), || {})
    }

    /// The files of `packages`, as the index has them.
    pub(super) fn locate(&self, packages: &[&str]) -> Result<Vec<Deb>, DebianError> {
        // In a folder without package files: those already in the current one are not printed.
        let mut command = self.apt_get(&self.folder);
        command.args(["-qq", "--print-uris", "download"]).args(packages);
        let output = command.output().map_err(|source| DebianError::Start { tool: Tool::AptGet, source })?;
        if !output.status.success() {
            let tail = process::last_lines(&String::from_utf8_lossy(&output.stderr));
            return Err(DebianError::Failed { tool: Tool::AptGet, status: output.status, tail });
        }
        let debs: Vec<Deb> = String::from_utf8_lossy(&output.stdout).lines().filter_map(deb).collect();
        if debs.len() == packages.len() { Ok(debs) } else { Err(DebianError::Incomplete(packages.len(), debs.len())) }
    }

    /// Has all of `debs`, the files of `packages`, in `folder`, fetching only what is absent or damaged there.
    pub(super) fn download(&self, packages: &[&str], debs: &[Deb], folder: &Path, ui: &Ui) -> Result<(), DebianError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        self.drop_damaged(debs, folder)?;
        let bar = ui.bytes("Fetching the Rust compiler from Debian", total(debs));
        let mut command = self.apt_get(folder);
        self.watch(Tool::AptGet, command.args(["-q", "download"]).args(packages), || bar.set(fetched(debs, folder)))?;
        bar.set(fetched(debs, folder));
        Ok(())
    }

    /// Unpacks one package file into `prefix`, which must exist.
    pub(super) fn unpack(&self, file: &Path, prefix: &Path) -> Result<(), DebianError> {
        let mut command = self.child("dpkg-deb", &self.folder);
        self.watch(Tool::DpkgDeb, command.arg("-x").arg(file).arg(prefix), || {})
    }

    /// apt checks what it fetches, but takes a file that lies there with the right size for good.
    fn drop_damaged(&self, debs: &[Deb], folder: &Path) -> Result<(), DebianError> {
        let present: Vec<&Deb> = debs.iter().filter(|deb| folder.join(&deb.file).exists()).collect();
        if present.is_empty() {
            return Ok(());
        }
        let mut command = self.child("sha256sum", folder);
        command.arg("--").args(present.iter().map(|deb| &deb.file));
        let output = command.output().map_err(|source| DebianError::Start { tool: Tool::Sha256sum, source })?;
        let sums = String::from_utf8_lossy(&output.stdout);
        let sums: HashSet<(&str, &str)> = sums.lines().filter_map(|line| line.split_once("  ")).collect();
        for deb in present {
            if !sums.contains(&(deb.sha256.as_str(), deb.file.as_str())) {
                let damaged = folder.join(&deb.file);
                fs::remove_file(&damaged).map_err(at(&damaged))?;
            }
        }
        Ok(())
    }

    fn apt_get(&self, current: &Path) -> Command {
        let mut command = self.child("apt-get", current);
        command.arg("-c").arg(self.folder.join("apt.conf"));
        let own = [
            ("Dir::State=", "state/"),
            ("Dir::State::status=", "status"),
            ("Dir::Cache=", "cache/"),
            ("Dir::Etc::SourceList=", "sources.list"),
        ];
        for (option, path) in own {
            let mut setting = std::ffi::OsString::from(option);
            setting.push(self.folder.join(path));
            command.arg("-o").arg(setting);
        }
        if is_root() {
            // apt's own user for downloads cannot enter a folder in root's home.
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command
    }

    fn child(&self, program: &str, current: &Path) -> Command {
        let mut command = Command::new(program);
        let input = self.lock.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
        command.current_dir(current).env("LC_ALL", "C").stdin(input);
        command
    }

    fn watch(&self, tool: Tool, command: &mut Command, mut poll: impl FnMut()) -> Result<(), DebianError> {
        let patient = || {
            poll();
            true
        };
        let ended = process::watch(command, POLL, patient).map_err(|source| DebianError::Start { tool, source })?;
        match ended {
            Some(ended) if !ended.status.success() => {
                Err(DebianError::Failed { tool, status: ended.status, tail: ended.tail })
            }
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), DebianError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(at(&path))
    }
}

/// The size of all `debs` together, in bytes.
pub(super) fn total(debs: &[Deb]) -> u64 {
    debs.iter().map(|deb| deb.size).sum()
}

/// The bytes of `debs` that are in `folder` so far.
fn fetched(debs: &[Deb], folder: &Path) -> u64 {
    debs.iter().filter_map(|deb| fs::metadata(folder.join(&deb.file)).ok()).map(|file| file.len()).sum()
}

/// One line of `--print-uris`: `'uri' file size hash`.
fn deb(line: &str) -> Option<Deb> {
    let mut words = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ');
    let (file, size, hash) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    let sha256 = hash.strip_prefix("SHA256:").unwrap_or_default();
    Some(Deb { file: file.to_owned(), size: size.parse().ok()?, sha256: sha256.to_owned() })
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
'http://a/pool/libz_1%3a1.3_amd64.deb' libz_1%3a1.3_amd64.deb 88892 SHA256:015b
W: something
'http://a/pool/rustc_1.85.1%2bd_amd64.deb' rustc_1.85.1+d_amd64.deb 3855660 SHA512:beef
";

    #[test]
    fn printed_uris_name_files_sizes_and_hashes() {
        let debs: Vec<Deb> = PRINTED.lines().filter_map(deb).collect();
        assert_eq!(
            debs.iter().map(|deb| deb.file.as_str()).collect::<Vec<_>>(),
            ["libz_1%3a1.3_amd64.deb", "rustc_1.85.1+d_amd64.deb"]
        );
        assert_eq!((debs[0].sha256.as_str(), debs[1].sha256.as_str()), ("015b", ""));
        assert_eq!(total(&debs), 88_892 + 3_855_660);
    }

    #[test]
    fn damaged_files_are_dropped_and_whole_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        let lock = tempfile::tempfile().unwrap();
        let apt = Apt::new(folder.path().join("apt"), &lock).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let deb = |file: &str| Deb { file: file.to_owned(), size: 3, sha256: abc.to_owned() };
        fs::write(folder.path().join("whole"), "abc").unwrap();
        fs::write(folder.path().join("damaged"), "abd").unwrap();
        apt.drop_damaged(&[deb("whole"), deb("damaged"), deb("absent")], folder.path()).unwrap();
        assert_eq!(fetched(&[deb("whole"), deb("damaged")], folder.path()), 3);
    }
}
