//! Turns `proto/markdown.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/markdown.proto");
}
