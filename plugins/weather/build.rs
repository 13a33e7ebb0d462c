//! Turns `proto/weather.proto` into Rust.

fn main() {
    collector_guest_build::compile("proto/weather.proto");
}
