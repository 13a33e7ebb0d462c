//! Turns `proto/misbehave.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/misbehave.proto");
}
