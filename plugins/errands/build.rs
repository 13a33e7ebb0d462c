//! Turns `proto/errands.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/errands.proto");
}
