//! What the hostile suite (tests/hostile) asks of a guest, beside the sins of `misbehave`. Never deploy it.
//!
//! What no compiler would make (start functions that spin, forged handles, broken texts) is written by hand, in
//! tests/hostile/guests.

mod node;

use collector_guest::{Context, Fault, log};
use proto::{Hostile, HostileService, Order, Report};
use std::hint::black_box;

/// What `proto/hostile.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("hostile.v1");
}

const MIB: u64 = 1 << 20;

/// The handler.
pub struct Enemy;

impl Hostile for Enemy {
    fn copy_forever(_: &Context, order: Order) -> Result<Report, Fault> {
        let mut block = vec![1_u8; bytes(order.amount)?];
        let half = block.len() / 2;
        loop {
            black_box(&mut block).copy_within(..half, half);
        }
    }

    fn mark(_: &Context, order: Order) -> Result<Report, Fault> {
        let mut block = Vec::with_capacity(bytes(order.amount)?);
        while !order.text.is_empty() && block.len() + order.text.len() <= block.capacity() {
            block.extend_from_slice(order.text.as_bytes());
        }
        done(black_box(block).len() as u64)
    }

    fn scan(_: &Context, order: Order) -> Result<Report, Fault> {
        // Zeroed memory of this size comes straight from `memory.grow`: nobody writes zeros into it first.
        let block = black_box(vec![0_u8; bytes(order.amount)?]);
        done(block.iter().filter(|byte| **byte != 0).count() as u64)
    }

    fn trap_deep(_: &Context, order: Order) -> Result<Report, Fault> {
        log::error!("{}", order.text);
        done(deeper(order.amount))
    }

    fn poll_nothing(_: &Context, order: Order) -> Result<Report, Fault> {
        done((0..order.amount).map(|_| node::poll_nothing()).sum())
    }

    fn clock_step(_: &Context, order: Order) -> Result<Report, Fault> {
        let mut smallest = u64::MAX;
        let mut before = node::now();
        for _ in 0..order.amount {
            let now = node::now();
            if now > before {
                smallest = smallest.min(now - before);
            }
            before = now;
        }
        done(smallest)
    }

    fn clock_forever(_: &Context, _: Order) -> Result<Report, Fault> {
        loop {
            black_box(node::now());
        }
    }
}

fn done(amount: u64) -> Result<Report, Fault> {
    Ok(Report { amount })
}

fn bytes(mib: u64) -> Result<usize, Fault> {
    let bytes = mib.checked_mul(MIB).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| Fault::out_of_range("more than this machine can count"))
}

fn deeper(levels: u64) -> u64 {
    match black_box(levels) {
        0 => node::trap(),
        _ => black_box(deeper(levels - 1)) + 1,
    }
}

collector_guest::export!(HostileService<Enemy>);

#[cfg(test)]
mod tests {
    use super::*;

    fn order(amount: u64, text: &str) -> Order {
        Order { amount, text: text.into() }
    }

    fn context() -> Context {
        Context::new("acme", "hostile.v1.Hostile", "Any")
    }

    #[test]
    fn what_ends_by_itself_says_what_it_did() {
        assert_eq!(Enemy::mark(&context(), order(1, "mark")).unwrap().amount, MIB);
        assert_eq!(Enemy::mark(&context(), order(1, "")).unwrap().amount, 0);
        assert_eq!(Enemy::scan(&context(), order(1, "")).unwrap().amount, 0);
        assert_eq!(Enemy::poll_nothing(&context(), order(3, "")).unwrap().amount, 3);
        assert!(Enemy::clock_step(&context(), order(100_000, "")).unwrap().amount > 0);
    }

    #[test]
    fn an_amount_beyond_counting_is_a_fault() {
        assert!(Enemy::scan(&context(), order(u64::MAX, "")).is_err());
    }
}
