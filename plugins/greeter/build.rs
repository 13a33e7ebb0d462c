//! Turns `proto/greeter.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/greeter.proto");
}
