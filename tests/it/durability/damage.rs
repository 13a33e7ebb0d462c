//! Files that are not what the node left: bits flipped, a version from the future. The namespace says so, the others
//! serve, and nobody gets wrong data.

use super::load::Random;
use crate::support::{Client, NodeProcess, Place, json_item, verdict};
use collector::rpc::pb;
use prost_types::Any;
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tonic::{Code, Status};

const HURT: Place = Place { namespace: "hurt", collection: "notes" };
const WELL: Place = Place { namespace: "well", collection: "notes" };
/// Records in each.
const RECORDS: usize = 120;
/// Damages that are tried, one at a time.
const FLIPS: usize = 60;

/// The data folder of a node that has ended.
struct Left {
    data: TempDir,
}

impl Left {
    /// * `signal`: how the node ended. Killed, it leaves a log beside the database.
    async fn by(signal: Signal) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut node = NodeProcess::start(data.path(), &[]);
        let client = Client::connect(&node.address).await;
        for place in [HURT, WELL] {
            client.make(place.definition("", &["number"])).await.unwrap();
            for n in 0..RECORDS {
                client.create(place, &id(n), item(n)).await.unwrap();
            }
        }
        node.signal(signal);
        node.wait();
        Self { data }
    }

    fn file(&self, ending: &str) -> PathBuf {
        // Files are named by the namespace in hex.
        self.data.path().join("records").join(format!("{}.db{ending}", hex::encode(HURT.namespace)))
    }

    fn node(&self) -> NodeProcess {
        NodeProcess::start(self.data.path(), &[])
    }
}

fn id(n: usize) -> String {
    format!("record-{n:03}")
}

fn item(n: usize) -> Any {
    json_item(&json!({ "number": n, "text": format!("word{n} {}", "lorem ipsum ".repeat(n % 40)) }))
}

/// What a damage came to, the worst of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    /// All answers are as they were.
    Unharmed,
    /// `DATA_LOSS`.
    Told,
    /// Another error.
    Mistold,
    /// A record or a row is missing, and nothing says so.
    Missing,
    /// Another content than was written.
    Wrong,
}

fn told(status: &Status) -> Finding {
    match verdict(status) {
        (Code::DataLoss, reason) if reason == "DAMAGED" => Finding::Told,
        (Code::NotFound, _) => Finding::Missing,
        _ => Finding::Mistold,
    }
}

/// Reads everything, one by one and as a list.
async fn look(client: &Client) -> Finding {
    let mut worst = Finding::Unharmed;
    for n in 0..RECORDS {
        worst = worst.max(match client.get(HURT, &id(n)).await {
            Ok((found, info)) if found == item(n) && info.id == id(n) => Finding::Unharmed,
            Ok(_) => Finding::Wrong,
            Err(status) => told(&status),
        });
    }
    let request = pb::ListRequest { order_by: "id".into(), page_size: 1_000, ..HURT.list() };
    worst.max(match client.page(request).await {
        Ok(page) => {
            let rows = page.items.into_iter().zip(page.infos);
            let rows: BTreeMap<_, _> = rows.map(|(item, info)| (info.id, item.value)).collect();
            let wanted: BTreeMap<_, _> = (0..RECORDS).map(|n| (id(n), item(n).value)).collect();
            let wrong = rows.iter().any(|(id, value)| wanted.get(id) != Some(value));
            match wrong {
                true => Finding::Wrong,
                false if rows == wanted => Finding::Unharmed,
                false => Finding::Missing,
            }
        }
        Err(status) => told(&status),
    })
}

async fn serves(client: &Client) {
    for n in 0..RECORDS {
        assert_eq!(client.get(WELL, &id(n)).await.unwrap().0, item(n));
    }
    client.update(WELL, &id(0), item(0), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x08_a_flipped_bit_is_told_or_harmless_and_hurts_its_namespace_alone() {
    let left = Left::by(Signal::TERM).await;
    let sound = std::fs::read(left.file("")).unwrap();
    let (mut random, mut findings) = (Random(8), BTreeMap::<Finding, Vec<usize>>::new());
    for flip in 0..FLIPS {
        // The first pages hold what all the rest hangs on: every third damage goes there.
        let at = random.below(if flip % 3 == 0 { 8_192 } else { sound.len() });
        let mut damaged = sound.clone();
        damaged[at] ^= 1 << random.below(8);
        write(&left, "", Some(&damaged));
        write(&left, "-wal", None);
        let mut node = left.node();
        let client = Client::connect(&node.address).await;
        findings.entry(look(&client).await).or_default().push(at);
        serves(&client).await;
        node.signal(Signal::KILL);
        node.wait();
    }
    println!("flipped bits in a database of {} bytes, by what came of them: {findings:?}", sound.len());
    assert!(findings.contains_key(&Finding::Told), "damage is never noticed: {findings:?}");
    let worst = findings.last_key_value().map(|(worst, _)| *worst);
    assert!(worst <= Some(Finding::Told), "not noticed, or not told as what it is: {findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x08_a_flipped_bit_in_the_log_never_mixes_versions() {
    let left = Left::by(Signal::KILL).await;
    let (database, log) = (std::fs::read(left.file("")).unwrap(), std::fs::read(left.file("-wal")).unwrap());
    assert!(log.len() > 4_096, "a killed node leaves its log");
    let mut random = Random(9);
    for _ in 0..20 {
        let mut damaged = log.clone();
        damaged[random.below(log.len())] ^= 1 << random.below(8);
        write(&left, "", Some(&database));
        write(&left, "-wal", Some(&damaged));
        let mut node = left.node();
        let client = Client::connect(&node.address).await;
        // SQLite takes the log up to the first frame whose checksum is wrong: what comes after is gone as a whole, and
        // what is there is as it was written.
        for n in 0..RECORDS {
            match client.get(HURT, &id(n)).await {
                Ok((found, _)) => assert_eq!(found, item(n)),
                Err(status) => assert!([Code::DataLoss, Code::NotFound].contains(&status.code()), "{status:?}"),
            }
        }
        serves(&client).await;
        node.signal(Signal::KILL);
        node.wait();
    }
}

/// Puts a file of the hurt namespace there, or takes it away; what SQLite keeps in memory of it goes.
fn write(left: &Left, ending: &str, content: Option<&[u8]>) {
    let _ = std::fs::remove_file(left.file("-shm"));
    match content {
        Some(content) => std::fs::write(left.file(ending), content).unwrap(),
        None => drop(std::fs::remove_file(left.file(ending))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_newer_version_is_refused_by_name_and_left_alone() {
    let left = Left::by(Signal::TERM).await;
    set_version(&left.file(""), 99);
    let before = std::fs::read(left.file("")).unwrap();
    let mut node = left.node();
    let client = Client::connect(&node.address).await;
    let read = client.get(HURT, &id(0)).await.unwrap_err();
    let write = client.create(HURT, "another", json_item(&json!({}))).await.unwrap_err();
    for status in [read, write] {
        assert_eq!(verdict(&status), (Code::FailedPrecondition, "NEWER_DATA".to_owned()), "{status:?}");
        assert!(status.message().contains("99"), "{}", status.message());
    }
    serves(&client).await;
    node.signal(Signal::TERM);
    node.wait();
    assert_eq!(std::fs::read(left.file("")).unwrap(), before);
}

fn set_version(file: &Path, version: i64) {
    let database = rusqlite::Connection::open(file).unwrap();
    database.pragma_update(None, "user_version", version).unwrap();
}
