//! Turns the files in `proto/` into Rust; `common/v1/money.proto` comes along as an import.

fn main() {
    collector_guest_build::compile_all(&["proto/shop/v1/shop.proto", "proto/shop/v1/clock.proto"]);
}
