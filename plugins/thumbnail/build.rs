//! Turns `proto/thumbnail.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/thumbnail.proto");
}
