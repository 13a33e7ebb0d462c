//! Turns `proto/streams.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/streams.proto");
}
