//! A component that spins while it is being instantiated, before there is any call.
//!
//! Also the shortest plugin there is: no `.proto` file, bytes in, bytes out.

use collector_guest::{Context, Fault, Plugin};

/// Answers any method with the request, if it were ever asked.
pub struct Never;

impl Plugin for Never {
    const NAME: &'static str = "misbehave.v1.Start";

    fn call(_: &Context, _method: &str, input: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(input.to_vec())
    }
}

/// `_initialize` is what the component's core module runs while it is being instantiated.
/// (Rust's own constructors, in `.init_array`, run later, at the first call of an export.)
#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "the only way to get such an export; it is the sin")]
#[unsafe(export_name = "_initialize")]
extern "C" fn spin() {
    loop {
        std::hint::black_box(0);
    }
}

collector_guest::export!(Never);
