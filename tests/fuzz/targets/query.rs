#![no_main]

use collector_fuzz::{Fuzzed, Target};

libfuzzer_sys::fuzz_target!(|data: &[u8]| Fuzzed::get().run(Target::Query, data));
