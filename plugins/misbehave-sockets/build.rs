//! Turns `proto/sockets.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/sockets.proto");
}
