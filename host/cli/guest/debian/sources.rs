//! Reading the machine's own apt sources for the Debian mirrors they name, so that the code names none.

use std::path::{Path, PathBuf};

/// Suites that only Debian's archive, or a mirror of it, has in this spelling.
const DEBIAN_SUITES: [&str; 12] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// One archive, suite and its components, as a source entry names them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
    components: Vec<String>,
}

impl Entry {
    /// Other archives may use Debian's suite names too; apt's signature check tells them apart.
    fn may_be_debian(&self) -> bool {
        let has_main = self.components.iter().any(|component| component == "main");
        has_main && DEBIAN_SUITES.contains(&self.suite.as_str()) && !self.uri.starts_with("cdrom:")
    }
}

/// The archives that may be Debian mirrors, in apt's own order, each once.
/// * `etc`: apt's configuration folder, usually `/etc/apt`. What cannot be read there is passed over.
pub(super) fn debian_mirrors(etc: &Path) -> Vec<String> {
    let mut mirrors = Vec::new();
    for file in source_files(etc) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let entries =
            if file.extension().is_some_and(|kind| kind == "sources") { stanzas(&text) } else { lines(&text) };
        for entry in entries.into_iter().filter(Entry::may_be_debian) {
            if !mirrors.contains(&entry.uri) {
                mirrors.push(entry.uri);
            }
        }
    }
    mirrors
}

fn source_files(etc: &Path) -> Vec<PathBuf> {
    let parts = std::fs::read_dir(etc.join("sources.list.d"));
    let mut parts: Vec<PathBuf> = parts.into_iter().flatten().flatten().map(|part| part.path()).collect();
    parts.retain(|part| part.extension().is_some_and(|kind| kind == "list" || kind == "sources"));
    parts.sort();
    parts.insert(0, etc.join("sources.list"));
    parts
}

/// Entries of a `.list` file: `deb [options] uri suite component…`.
fn lines(text: &str) -> Vec<Entry> {
    let uncommented = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    uncommented.filter_map(line).collect()
}

fn line(line: &str) -> Option<Entry> {
    let rest = line.trim_start().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry { uri: words.next()?, suite: words.next()?, components: words.collect() })
}

/// Entries of a `.sources` file: stanzas of `Field: value` lines, each field possibly a list.
fn stanzas(text: &str) -> Vec<Entry> {
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    uncommented.split(|line| line.trim().is_empty()).flat_map(stanza).collect()
}

fn stanza(lines: &[&str]) -> Vec<Entry> {
    let disabled = field(lines, "Enabled").iter().any(|value| value.eq_ignore_ascii_case("no"));
    if disabled || !field(lines, "Types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let components = field(lines, "Components");
    let suites = field(lines, "Suites");
    let of_uri = |uri: String| {
        let entry = |suite: &String| Entry { uri: uri.clone(), suite: suite.clone(), components: components.clone() };
        suites.iter().map(entry).collect::<Vec<_>>()
    };
    field(lines, "URIs").into_iter().flat_map(of_uri).collect()
}

/// The words of a field's value, lines that continue it (they start with a blank) included.
fn field(lines: &[&str], name: &str) -> Vec<String> {
    let is_it = |line: &&str| line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
    let mut from_it = lines.iter().copied().skip_while(|line| !is_it(line));
    let first = from_it.next().and_then(|line| line.split_once(':')).map(|(_, value)| value);
    let more = from_it.take_while(|line| line.starts_with([' ', '\t']));
    first.into_iter().chain(more).flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_entries_with_and_without_options() {
        let text = "# deb http://a/debian sid main\ndeb-src http://a/debian bookworm main\n\
            deb http://a/debian bookworm main contrib # why\n deb [ arch=amd64 signed-by=/k ] http://b/debian sid main\n\
            debris http://c x y\ndeb cdrom:[disc]/ bookworm main\n";
        let read = lines(text);
        let expected =
            [("http://a/debian", "bookworm", 2), ("http://b/debian", "sid", 1), ("cdrom:[disc]/", "bookworm", 1)];
        let read: Vec<_> = read.iter().map(|e| (e.uri.as_str(), e.suite.as_str(), e.components.len())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn stanzas_with_lists_comments_and_continued_fields() {
        let text = "Types: deb deb-src\n# http://old\nURIs: http://a/debian\nSuites: bookworm\n bookworm-updates\n\
            Components: main\nSigned-By:\n -----BEGIN-----\n .\n URIs: x\n\nEnabled: no\nTypes: deb\nURIs: http://b\nSuites: sid\n\
            Components: main\n\ntypes: deb-src\nuris: http://c\nsuites: sid\ncomponents: main\n";
        let read: Vec<_> = stanzas(text).into_iter().map(|entry| (entry.uri, entry.suite)).collect();
        let expected = ["bookworm", "bookworm-updates"].map(|suite| ("http://a/debian".to_owned(), suite.to_owned()));
        assert_eq!(read, expected);
    }

    #[test]
    fn mirrors_are_those_of_debian_suites_in_order_and_once() {
        let etc = tempfile::tempdir().unwrap();
        let parts = etc.path().join("sources.list.d");
        std::fs::create_dir(&parts).unwrap();
        let list = "deb http://ubuntu noble main\ndeb http://sec bookworm-security main\ndeb cdrom:x bookworm main\n";
        std::fs::write(etc.path().join("sources.list"), list).unwrap();
        let stanza = "Types: deb\nURIs: http://first/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n";
        std::fs::write(parts.join("debian.sources"), stanza).unwrap();
        let list =
            "deb http://second bookworm main\ndeb http://first/debian/ sid main\ndeb http://third bookworm contrib\n";
        std::fs::write(parts.join("other.list"), list).unwrap();
        std::fs::write(parts.join("old.list.disabled"), "deb http://fourth sid main\n").unwrap();
        assert_eq!(debian_mirrors(etc.path()), ["http://first/debian/", "http://second"]);
    }

    #[test]
    fn no_sources_no_mirrors() {
        assert!(debian_mirrors(Path::new("/nonexistent")).is_empty());
    }
}
