//! The log as somebody meets it who can write to its folder.

use super::*;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("audit")
    }

    fn open(&self, config: &Config) -> Audit {
        Audit::open(&self.folder(), config).unwrap()
    }

    /// A log of `changes`, each of two lines.
    fn with(changes: usize) -> Self {
        let place = Self::new();
        let audit = place.open(&Config::default());
        (0..changes).for_each(|n| change(&audit, n));
        place
    }

    fn file(&self) -> PathBuf {
        files(&self.folder()).unwrap().pop().unwrap()
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.file()).unwrap().lines().map(str::to_owned).collect()
    }

    fn rewrite(&self, lines: &[String]) {
        fs::write(self.file(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    #[track_caller]
    fn problem(&self) -> (u64, String) {
        let problem = verify(&self.folder()).unwrap().problem.expect("something is wrong");
        (problem.line, problem.what)
    }

    #[track_caller]
    fn is_good(&self) -> Verified {
        let found = verify(&self.folder()).unwrap();
        assert_eq!(found.problem, None);
        found
    }
}

fn entry(namespace: &str) -> Entry<'_> {
    let source = Some([127, 0, 0, 1].into());
    Entry { request: Some(Uuid::nil()), caller: "alice", source, action: "/a.B/C", verb: "write", namespace }
}

fn change(audit: &Audit, n: usize) {
    audit.begin(&entry(&format!("acme-{n}"))).unwrap().end("OK");
}

#[test]
fn what_was_written_verifies() {
    let place = Place::with(10);
    let found = place.is_good();
    // A file begins, the node starts, ten changes and their ends.
    assert_eq!((found.files, found.first, found.last, found.notes.len()), (1, 1, 22, 0));
    let begin = Record::read(place.lines()[2].as_bytes()).unwrap();
    assert_eq!(
        (begin.kind(), begin.caller.as_deref(), begin.namespace.as_deref()),
        ("begin", Some("alice"), Some("acme-0"))
    );
    let end = Record::read(place.lines()[3].as_bytes()).unwrap();
    assert_eq!((end.kind(), end.of, end.outcome.as_deref()), ("end", Some(3), Some("OK")));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(place.file()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn u08_an_edited_line_is_named() {
    let place = Place::with(5);
    let whole = place.lines();
    for (at, (from, to)) in
        [("alice", "mallo"), ("\"seq\":", "\"seq\":1"), ("T", "t"), ("begin", "begun"), ("hash", "hush")]
            .into_iter()
            .enumerate()
            .map(|(n, edit)| (4 + 2 * (n % 2), edit))
    {
        let mut lines = whole.clone();
        let edited = lines[at].replacen(from, to, 1);
        assert_ne!(edited, lines[at], "{from}");
        lines[at] = edited;
        place.rewrite(&lines);
        assert_eq!(place.problem().0, at as u64 + 1, "{from} to {to}");
    }
    // Each bit of one line.
    let bytes = whole.join("\n").into_bytes();
    let start = whole[..6].iter().map(|line| line.len() + 1).sum::<usize>();
    for at in start..start + whole[6].len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        changed.push(b'\n');
        fs::write(place.file(), changed).unwrap();
        assert_eq!(place.problem().0, 7, "byte {at}");
    }
}

#[test]
fn u08_dropped_moved_doubled_and_added_lines_are_named() {
    let place = Place::with(5);
    let whole = place.lines();
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = whole.clone();
        change(&mut lines);
        place.rewrite(&lines);
        place.problem()
    };
    let (line, what) = changed(&|lines| drop(lines.remove(4)));
    assert_eq!(line, 5);
    assert!(what.contains("record 6 stands where record 5 should"), "{what}");
    assert_eq!(changed(&|lines| lines.swap(4, 5)).0, 5);
    assert_eq!(changed(&|lines| lines.insert(5, lines[4].clone())).0, 6);
    assert_eq!(changed(&|lines| drop(lines.remove(0))).0, 1);
    // Renumbered, so that only the hash tells.
    let (line, what) = changed(&|lines| {
        let dropped = lines.remove(4);
        lines[4] = lines[4].replace("\"seq\":6", "\"seq\":5");
        assert!(dropped.contains("\"seq\":5"));
    });
    assert_eq!(line, 5);
    assert!(what.contains("edited"), "{what}");
}

#[test]
fn u08_a_cut_end_is_named_by_the_head() {
    let place = Place::with(5);
    let whole = place.lines();
    place.rewrite(&whole[..9]);
    let (line, what) = place.problem();
    assert_eq!((line, what.as_str()), (0, "the end was cut: records 10 to 12 are missing"));
    // The node sees it too, and says so for ever.
    drop(place.open(&Config::default()));
    let found = place.is_good();
    assert_eq!(found.notes, ["record 10: records 10 to 12 are missing: cut, or lost with the power"]);
    fs::remove_file(place.folder().join("head")).unwrap();
    assert!(place.problem().1.contains("no head"));
}

#[test]
fn u08_a_new_chain_is_seen_by_the_head() {
    let (place, other) = (Place::with(3), Place::with(3));
    fs::copy(other.file(), place.file()).unwrap();
    assert_eq!(place.problem().1, "record 8 is not what the head says it was");
}

#[test]
fn a_line_torn_by_a_crash_is_cut_and_noted() {
    let place = Place::with(3);
    let whole = fs::read(place.file()).unwrap();
    for cut in [1, 20, 100] {
        fs::write(place.file(), &whole[..whole.len() - cut]).unwrap();
        let torn = verify(&place.folder()).unwrap();
        assert!(torn.notes.iter().any(|note| note.contains("not whole")), "{torn:?}");
        fs::write(place.folder().join("head"), "").unwrap(); // it was not written for that line
        let audit = place.open(&Config::default());
        change(&audit, 9);
        drop(audit);
        let found = place.is_good();
        assert!(found.notes[0].contains("was not written whole"), "{:?}", found.notes);
        assert_eq!(found.last, 7 + 4, "the note, the start, a change and its end");
        fs::write(place.file(), &whole).unwrap();
    }
}

#[test]
fn a_crash_at_the_beginning_of_a_file_goes_back_to_the_one_before() {
    let place = Place::with(3);
    fs::write(place.folder().join("audit-00000000000000000009.jsonl"), b"{\"seq\"").unwrap();
    change(&place.open(&Config::default()), 4);
    let found = place.is_good();
    assert_eq!((found.files, found.notes.len()), (1, 1));
}

#[test]
fn the_chain_goes_on_over_files_and_the_oldest_go_with_a_record() {
    let place = Place::new();
    let config = Config { file_mib: 1, files: 3, ..Config::default() };
    let audit = place.open(&config);
    let line = 400;
    let per_file = (1 << 20) / line;
    for n in 0..5 * per_file / 2 {
        change(&audit, n);
    }
    drop(audit);
    let found = place.is_good();
    assert_eq!(found.files, 3);
    assert!(found.first > 1 && found.last > found.first);
    let names = files(&place.folder()).unwrap();
    assert!(names.iter().all(|file| fs::metadata(file).unwrap().len() < (1 << 20) + chain::LINE_MAX as u64));
    drop(place.open(&config));
    place.is_good();
    // Without a record of it, it is a theft.
    fs::remove_file(&names[0]).unwrap();
    assert!(place.problem().1.contains("none says that they were removed"));
}

#[test]
fn nothing_is_permitted_that_cannot_be_written() {
    let place = Place::new();
    let audit = place.open(&Config { file_mib: 1, ..Config::default() });
    change(&audit, 0);
    // The next file cannot be made: its folder is gone.
    fs::rename(place.folder(), place.0.path().join("elsewhere")).unwrap();
    let refused = (0..10_000).find_map(|_| audit.begin(&entry("acme")).err());
    assert_eq!(refused, Some(Unrecorded::Failed));
    assert!(audit.begin(&entry("acme")).is_err(), "and stays so");
    fs::rename(place.0.path().join("elsewhere"), place.folder()).unwrap();
    change(&audit, 1);
    drop(audit);
    place.is_good();
}

#[test]
fn values_of_strangers_stay_within_their_line() {
    let place = Place::new();
    let audit = place.open(&Config::default());
    let odd = "x\"}\n{\"seq\":1,\"hash\":\"\u{1b}[2J\u{202e}\\";
    let long = "\"".repeat(100_000);
    for caller in [odd, &long] {
        let entry = Entry { caller, action: caller, verb: caller, ..entry(caller) };
        audit.begin(&entry).unwrap().end(odd);
        audit.denied(&entry);
    }
    drop(audit);
    assert_eq!(place.is_good().last, 2 + 6);
    assert!(place.lines().iter().all(|line| line.len() < chain::LINE_MAX && !line.contains('\u{1b}')));
}

#[test]
fn a_change_without_an_answer_ends_as_one() {
    let place = Place::new();
    let audit = place.open(&Config::default());
    drop(audit.begin(&entry("acme")).unwrap());
    drop(audit);
    let end = Record::read(place.lines().last().unwrap().as_bytes()).unwrap();
    assert_eq!(end.outcome.as_deref(), Some("UNANSWERED"));
}

#[test]
fn thirty_two_writers_make_one_chain() {
    let place = Place::new();
    let audit = place.open(&Config::default());
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| (0..50).for_each(|n| change(&audit, n)));
        }
    });
    drop(audit);
    assert_eq!(place.is_good().last, 2 + 32 * 50 * 2);
}
