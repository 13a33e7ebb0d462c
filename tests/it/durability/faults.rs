//! A disk that fails: syncs with an I/O error, writes with no space left, and a small one that is really full.

use super::check;
use super::load::{Book, End, PLACES, Random, Writer, prepare};
use crate::support::faults::Faults;
use crate::support::{Client, NodeProcess, Plugins, channel, deploy_with, header, json_item, plugin, verdict};
use collector::rpc::pb;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tonic::{Code, Status};

/// n-th writes that are tried. What one commit of a few pages, its log's header and a checkpoint take.
const WRITES: u64 = 60;
/// n-th syncs that are tried.
const SYNCS: u64 = 8;
/// Calls until a fault is met: several commits, and what follows them.
const CALLS: usize = 40;

/// A node with faults, and the book about it.
struct Faulty {
    data: TempDir,
    faults: Faults,
    node: NodeProcess,
    client: Client,
    book: Book,
    random: Random,
}

impl Faulty {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let faults = Faults::new(&data.path().join("data"));
        let node = faults.node(&data.path().join("data"));
        let client = Client::connect(&node.address).await;
        prepare(&client).await;
        let mut faulty = Self { data, faults, node, client, book: Book::default(), random: Random(4) };
        faulty.work(50).await;
        let (writes, syncs) = faulty.faults.seen();
        assert!(writes > 0 && syncs > 0, "the node writes past the interposed library");
        faulty
    }

    /// Writes. All of it has to be done.
    async fn work(&mut self, calls: usize) {
        for _ in 0..calls {
            let end = self.step().await;
            assert!(matches!(end, End::Done), "{end:?}, log: {}", self.node.log());
        }
        self.sound();
    }

    async fn step(&mut self) -> End {
        let (random, client) = (Random(self.random.next()), self.client.clone());
        Writer { number: 0, random, client, book: &self.book }.step().await
    }

    /// Writes until a call is not done; none after a few.
    async fn until_it_fails(&mut self) -> Option<End> {
        for _ in 0..CALLS {
            match self.step().await {
                End::Done => {}
                failed => return Some(failed),
            }
        }
        None
    }

    fn sound(&self) {
        assert!(self.book.is_sound(), "{:?}, log: {}", self.book.wrong.lock().unwrap(), self.node.log());
    }

    /// Reads everything that was ever written.
    async fn settle(&mut self) {
        let settled = check::settle(&self.client, &self.book, &mut self.random).await;
        settled.unwrap_or_else(|why| panic!("{why}, log: {}", self.node.log()));
    }

    async fn whole(&mut self) {
        self.settle().await;
        let whole = check::whole(&self.client, &self.book).await;
        whole.unwrap_or_else(|why| panic!("{why}, log: {}", self.node.log()));
    }

    async fn kill_and_restart(&mut self) {
        self.node.signal(rustix::process::Signal::KILL);
        self.node.wait();
        self.node = self.faults.node(&self.data.path().join("data"));
        self.client = Client::connect(&self.node.address).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_is_never_acknowledged_and_the_node_goes_on() {
    let mut node = Faulty::start().await;
    let mut met = 0;
    for before in 0..SYNCS {
        for failing in [1, 3] {
            node.faults.fail_syncs(before, failing);
            match node.until_it_fails().await {
                Some(End::Unknown(status)) => {
                    met += 1;
                    assert_eq!(verdict(&status), (Code::Internal, "STORAGE".to_owned()), "{status:?}");
                }
                // The log was not needed: the sync was of a checkpoint, behind the answers.
                None => {}
                other => panic!("{other:?}"),
            }
            node.faults.heal();
            node.settle().await;
            node.work(5).await;
        }
    }
    assert!(met >= SYNCS, "only {met} calls met a sync that failed");
    node.whole().await;
    node.faults.fail_syncs(0, 1);
    let _ = node.until_it_fails().await;
    node.kill_and_restart().await;
    node.faults.heal();
    node.whole().await;
    node.work(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_no_space_at_the_nth_write_is_refused_and_writes_resume() {
    let mut node = Faulty::start().await;
    let mut met = 0;
    for before in 0..WRITES {
        node.faults.fill_disk(before);
        match node.until_it_fails().await {
            Some(End::Refused(status)) => {
                met += 1;
                assert_eq!(verdict(&status), (Code::ResourceExhausted, "DISK_FULL".to_owned()), "{status:?}");
            }
            other => panic!("write {before}: {other:?}, log: {}", node.node.log()),
        }
        node.settle().await; // reads need no space
        node.faults.heal();
        node.work(3).await;
    }
    println!("{met} calls met a full disk");
    node.whole().await;
    node.kill_and_restart().await;
    node.whole().await;
    node.work(20).await;
}

/// A small file system in memory, unmounted on drop.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a line about it, where mounting is refused.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            refused => {
                // Not for .ci/run to promise: it takes privileges.
                println!("skipped: no file system can be mounted here: {refused:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_a_disk_that_is_really_full_is_read_and_written_again_once_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), "16m") else { return };
    let (data, ballast) = (disk.0.join("data"), disk.0.join("ballast"));
    std::fs::write(&ballast, vec![0; 4 << 20]).unwrap();
    let to_the_end = ["store.headroom_mib=0"];
    let mut node = NodeProcess::start(&data, &to_the_end);
    let mut client = Client::connect(&node.address).await;
    prepare(&client).await;
    let (mut random, book) = (Random(1), Book::default());
    let mut filled = 0;
    let full = loop {
        let noise: Vec<u8> = (0..4_096).flat_map(|_| random.next().to_le_bytes()).collect();
        let item = json_item(&json!({ "fill": hex::encode(noise) }));
        match client.create(PLACES[1], &format!("w-fill-{filled}"), item).await {
            Ok(_) => filled += 1,
            Err(status) => break status,
        }
        assert!(filled < 1_000, "the disk does not fill up");
    };
    assert_full(&full);
    let number = |n: usize| format!("w-fill-{n}");
    for n in 0..filled {
        client.get(PLACES[1], &number(n)).await.unwrap();
    }
    assert_eq!(client.describe(PLACES[1]).await.unwrap().record_count, filled as i64);
    // Deletes need space too, for the log: each is done or refused.
    let mut left = Vec::new();
    for n in 0..filled {
        match n % 2 == 0 {
            true => match client.delete(PLACES[1], &number(n)).await {
                Ok(()) => {}
                Err(status) => {
                    assert_full(&status);
                    left.push(n);
                }
            },
            false => left.push(n),
        }
    }
    assert_eq!(client.describe(PLACES[1]).await.unwrap().record_count, left.len() as i64);
    std::fs::remove_file(ballast).unwrap();
    let mut writer = Writer { number: 0, random: Random(2), client: client.clone(), book: &book };
    for _ in 0..50 {
        let end = writer.step().await;
        assert!(matches!(end, End::Done), "{end:?}, log: {}", node.log());
    }
    node.signal(rustix::process::Signal::KILL);
    node.wait();
    node = NodeProcess::start(&data, &to_the_end);
    client = Client::connect(&node.address).await;
    check::settle(&client, &book, &mut random).await.unwrap();
    for n in left {
        client.get(PLACES[1], &number(n)).await.unwrap_or_else(|why| panic!("{n}: {why:?}, {}", node.log()));
    }
}

fn assert_full(status: &Status) {
    assert_eq!(verdict(status), (Code::ResourceExhausted, "DISK_FULL".to_owned()), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_before_a_disk_is_full_writes_stop_and_reads_deletes_and_keys_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), "64m") else { return };
    let (data, ballast) = (disk.0.join("data"), disk.0.join("ballast"));
    let node = NodeProcess::start(&data, &[]);
    let client = Client::connect(&node.address).await;
    prepare(&client).await;
    let number = |n: usize| format!("w-{n}");
    for n in 0..64 {
        client.create(PLACES[1], &number(n), json_item(&json!({ "fill": "x".repeat(1 << 10) }))).await.unwrap();
    }
    // A twentieth of 64 MiB stays free: with a little less than that nothing more is taken.
    let free = || {
        let volume = rustix::fs::statvfs(&disk.0).unwrap();
        volume.f_bavail * volume.f_frsize
    };
    let (least, little) = ((64 << 20) / 20, 256 << 10);
    let fill = |leaving: u64| std::fs::write(&ballast, vec![0; usize::try_from(free() - leaving).unwrap()]).unwrap();
    fill(least + (1 << 20));
    client.create(PLACES[1], "w-above", json_item(&json!({ "a": 1 }))).await.unwrap();
    std::fs::remove_file(&ballast).unwrap();
    fill(least - little);
    let refused = client.create(PLACES[1], "w-below", json_item(&json!({ "a": 1 }))).await.unwrap_err();
    assert_full(&refused);
    let greeter = plugin("greeter");
    let deployed = deploy_with(&mut Plugins::new(channel(&node.address).await), header(), &greeter.bytes).await;
    assert_eq!(verdict(&deployed.unwrap_err()), (Code::ResourceExhausted, "DISK_FULL".to_owned()));
    for n in 0..64 {
        client.get(PLACES[1], &number(n)).await.unwrap();
        client.delete(PLACES[1], &number(n)).await.unwrap();
    }
    assert_eq!(client.describe(PLACES[1]).await.unwrap().record_count, 1);
    // What the node keeps about itself goes on: keys are taken back whatever the disk is like.
    let mut keys = pb::admin::v1::peers_client::PeersClient::new(channel(&node.address).await);
    let peer = pb::admin::v1::AddPeerRequest { address: "127.0.0.1:9".into(), ..Default::default() };
    keys.add(peer).await.unwrap();
    std::fs::remove_file(&ballast).unwrap();
    client.create(PLACES[1], "w-again", json_item(&json!({ "a": 1 }))).await.unwrap();
}
