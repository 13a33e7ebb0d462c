//! The seeds of the fuzz targets, through the same code, on a stable compiler.

#[path = "../fuzz/src/drive.rs"]
mod drive;
mod seeds;

use drive::guest::CALLS;
use drive::{Fuzzed, Target};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests that write to the one node go one after the other: what one seed comes to is not another's doing.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target)
}

/// Seeds that are made stand in the repository as they are made now. `COLLECTOR_SEEDS=write` puts them there.
fn kept(target: &str, name: &str, bytes: &[u8]) {
    let path = folder(target).join(name);
    if std::env::var("COLLECTOR_SEEDS").is_ok_and(|what| what == "write") {
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(bytes.len() <= 4 << 10, "{target}/{name} has {} bytes", bytes.len());
    assert_eq!(std::fs::read(&path).ok().as_deref(), Some(bytes), "{}: COLLECTOR_SEEDS=write", path.display());
}

#[test]
fn no_seed_makes_the_node_take_the_blame() {
    let _turn = turn();
    for (target, name) in Target::ALL {
        let mut count = 0;
        for seed in std::fs::read_dir(folder(name)).unwrap() {
            let seed = std::fs::read(seed.unwrap().path()).unwrap();
            Fuzzed::get().run(target, &seed);
            // What a fuzzer does first.
            Fuzzed::get().run(target, &seed[..seed.len() / 2]);
            count += 1;
        }
        assert!(count >= 3, "{name} has {count} seeds");
    }
}

#[test]
fn components_among_the_seeds_are_taken_or_refused_as_they_say() {
    let _turn = turn();
    let mut wrong = Vec::new();
    for upload in seeds::uploads() {
        let (name, bytes) = (upload.name, upload.bytes());
        kept("prescan", name, &bytes);
        let answer = Fuzzed::get().answer(Target::Prescan, &bytes).unwrap();
        let right = match upload.refused {
            None => answer.grpc == Some(0),
            Some(words) => answer.grpc > Some(0) && answer.said.contains(words),
        };
        if !right {
            wrong.push(format!("{name}: {:?}, not {:?}", answer.said, upload.refused));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn host_calls_among_the_seeds_come_to_what_they_say() {
    let _turn = turn();
    let (mut wrong, mut made) = (Vec::new(), [false; CALLS.len()]);
    for seed in seeds::host_calls() {
        let (name, bytes) = (seed.name, seed.bytes());
        kept("host_calls", name, &bytes);
        let answer = Fuzzed::get().answer(Target::HostCalls, &bytes).unwrap();
        // Behind the heads of a frame and of a message.
        let each = answer.body.get(7..).unwrap_or_default();
        let right = match &seed.come_to {
            Ok(wanted) => answer.grpc == Some(0) && each == wanted,
            Err(words) => answer.grpc > Some(0) && answer.said.contains(words),
        };
        match right {
            true if seed.come_to.is_ok() => seed.numbers().for_each(|number| made[number] = true),
            true => {}
            false => wrong.push(format!("{name}: {each:?} {:?}, not {:?}", answer.said, seed.come_to)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let never: Vec<_> = CALLS.iter().zip(made).filter(|(_, made)| !made).map(|(call, _)| call).collect();
    assert!(never.is_empty(), "no seed makes a good call of {never:?}");
}
