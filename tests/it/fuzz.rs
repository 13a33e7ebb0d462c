//! The seeds of the fuzz targets, through the same code, on a stable compiler.

#[path = "../fuzz/src/drive.rs"]
mod drive;

use drive::{Fuzzed, Target};
use std::path::Path;

#[test]
fn no_seed_makes_the_node_take_the_blame() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    for (target, name) in Target::ALL {
        let mut count = 0;
        for seed in std::fs::read_dir(seeds.join(name)).unwrap() {
            let seed = std::fs::read(seed.unwrap().path()).unwrap();
            Fuzzed::get().run(target, &seed);
            // What a fuzzer does first.
            Fuzzed::get().run(target, &seed[..seed.len() / 2]);
            count += 1;
        }
        assert!(count >= 3, "{name} has {count} seeds");
    }
}
