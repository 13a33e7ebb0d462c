//! Turns `proto/hostile.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/hostile.proto");
}
