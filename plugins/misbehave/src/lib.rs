//! One method per sin that a node must survive. Never deploy it for anything else.
//!
//! Two sins need a component of their own: a start function that never ends (`misbehave-start`) and an import that no
//! node grants (`misbehave-sockets`).

mod node;
mod secrets;

use collector_guest::{Context, Fault, log};
use proto::{Misbehave, MisbehaveService, Outcome, Sin};
use std::hint::black_box;
use std::time::Duration;

/// What `proto/misbehave.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("misbehave.v1");
}

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// The handler.
pub struct Sinner;

impl Misbehave for Sinner {
    fn spin(_: &Context, _: Sin) -> Result<Outcome, Fault> {
        loop {
            black_box(0);
        }
    }

    fn sleep(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        log::info!("about to sleep"); // lets a test know that the call is in flight
        std::thread::sleep(Duration::from_millis(sin.amount));
        done(sin.amount)
    }

    fn grow_memory(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        let mut held = Vec::new();
        for _ in 0..sin.amount {
            let mut block = Vec::with_capacity(MIB);
            touch(&mut block);
            held.push(block);
        }
        done(count(&black_box(held)))
    }

    fn grow_memory_politely(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        let mut held = Vec::new();
        for _ in 0..sin.amount {
            let mut block = Vec::new();
            if held.try_reserve(1).is_err() || block.try_reserve_exact(MIB).is_err() {
                break;
            }
            touch(&mut block);
            held.push(block);
        }
        done(count(&black_box(held)))
    }

    fn recurse(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        done(deeper(if sin.amount == 0 { u64::MAX } else { sin.amount }))
    }

    fn trap(_: &Context, _: Sin) -> Result<Outcome, Fault> {
        node::trap()
    }

    #[allow(clippy::panic, reason = "that is the sin")]
    fn panic(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        panic!("{}", sin.text)
    }

    #[allow(clippy::cast_possible_truncation, reason = "a system keeps 8 bits of it anyway")]
    fn exit_process(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        std::process::exit(sin.amount as i32)
    }

    fn flood_stdout(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        done(flood(sin.amount, &mut std::io::stdout().lock()))
    }

    fn flood_log(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        for _ in 0..sin.amount {
            log::info!("{}", sin.text);
        }
        done(sin.amount)
    }

    fn huge_host_call(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        log::info!("{}", text(sin.amount)?);
        done(sin.amount)
    }

    fn huge_reply(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        Ok(Outcome { amount: sin.amount, text: text(sin.amount)? })
    }

    fn huge_random(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        done(count(&node::random(sin.amount)))
    }

    fn leak_resources(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        done(node::leak_pollables(sin.amount))
    }

    fn poll_many(_: &Context, sin: Sin) -> Result<Outcome, Fault> {
        done(node::poll_many(sin.amount))
    }

    fn read_secrets(_: &Context, _: Sin) -> Result<Outcome, Fault> {
        let found = secrets::all();
        Ok(Outcome { amount: count(&found), text: found.join("\n") })
    }
}

fn done(amount: u64) -> Result<Outcome, Fault> {
    Ok(Outcome { amount, text: String::new() })
}

fn count<T>(items: &[T]) -> u64 {
    items.len() as u64
}

/// Fills `block` up to its capacity, one write per page, in a way that no optimiser takes out.
fn touch(block: &mut Vec<u8>) {
    block.resize(block.capacity(), 0);
    for byte in block.iter_mut().step_by(PAGE) {
        *byte = black_box(1);
    }
}

fn deeper(levels: u64) -> u64 {
    match black_box(levels) {
        0 => 0,
        _ => black_box(deeper(levels - 1)) + 1,
    }
}

fn text(bytes: u64) -> Result<String, Fault> {
    let bytes = usize::try_from(bytes).map_err(|_| Fault::out_of_range("more than this machine can count"))?;
    Ok("x".repeat(bytes))
}

/// Writes lines until `bytes` are written or refused; returns how many went out.
fn flood(bytes: u64, out: &mut impl std::io::Write) -> u64 {
    let lines = b"all work and no play makes a plugin a dull thing to have around\n".repeat(64);
    let mut written = 0;
    while written < bytes {
        let wanted = usize::try_from(bytes - written).unwrap_or(usize::MAX).min(lines.len());
        match out.write(lines.get(..wanted).unwrap_or_default()) {
            Ok(taken) if taken > 0 => written += taken as u64,
            _ => break,
        }
    }
    let _ = out.flush();
    written
}

collector_guest::export!(MisbehaveService<Sinner>);

#[cfg(test)]
mod tests {
    use super::*;

    fn sin(amount: u64) -> Sin {
        Sin { amount, text: String::new() }
    }

    fn context() -> Context {
        Context::new("acme", "misbehave.v1.Misbehave", "Any")
    }

    #[test]
    fn small_sins_come_back() {
        assert_eq!(Sinner::grow_memory(&context(), sin(2)).unwrap().amount, 2);
        assert_eq!(Sinner::grow_memory_politely(&context(), sin(2)).unwrap().amount, 2);
        assert_eq!(Sinner::recurse(&context(), sin(100)).unwrap().amount, 100);
        assert_eq!(Sinner::huge_reply(&context(), sin(5)).unwrap().text, "xxxxx");
        assert_eq!(Sinner::sleep(&context(), sin(1)).unwrap().amount, 1);
    }

    #[test]
    fn a_flood_ends_where_it_is_refused() {
        let mut all = Vec::new();
        assert_eq!((flood(100, &mut all), all.len()), (100, 100));
        assert_eq!(flood(100, &mut [0_u8; 70].as_mut_slice()), 70);
    }

    #[test]
    #[should_panic(expected = "woe")]
    fn a_panic_says_its_text() {
        let _ = Sinner::panic(&context(), Sin { amount: 0, text: "woe".into() });
    }
}
