use super::*;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn name(text: &str) -> Namespace {
    text.parse().unwrap()
}

fn now(slots: &Slots, who: &str) -> Slot {
    slots.take(&name(who), 1).now_or_never().expect("a slot is free").unwrap()
}

fn later(slots: &Slots, who: &str) -> Waiting {
    match slots.ask(&name(who), 1).unwrap() {
        Asked::Later(waiting) => waiting,
        Asked::Now(_) => panic!("no slot was free"),
    }
}

fn served(waiting: &mut Waiting) -> Option<Result<Slot, Full>> {
    waiting.now_or_never()
}

#[test]
fn the_queue_below_at_and_above_its_bound() {
    let slots = Slots::new(1, 2);
    let _held = now(&slots, "a");
    let _first = later(&slots, "a");
    let second = later(&slots, "a");
    assert!(matches!(slots.ask(&name("a"), 1), Err(Full)));
    drop(second);
    let _third = later(&slots, "a");
    assert!(matches!(Slots::new(0, 0).ask(&name("a"), 1), Err(Full)), "no line: at once");
}

#[test]
fn a_full_queue_makes_room_for_who_has_less_in_it() {
    let slots = Slots::new(1, 3);
    let _held = now(&slots, "noisy");
    let mut noisy: Vec<_> = (0..3).map(|_| later(&slots, "noisy")).collect();
    let mut quiet = later(&slots, "quiet");
    assert!(matches!(served(&mut noisy[2]), Some(Err(Full))), "the last place of the longest line");
    assert!(served(&mut noisy[0]).is_none() && served(&mut noisy[1]).is_none() && served(&mut quiet).is_none());
    assert!(matches!(slots.ask(&name("noisy"), 1), Err(Full)));
}

#[test]
fn who_was_quiet_is_served_before_who_was_not() {
    let slots = Slots::new(1, 100);
    let mut held = now(&slots, "noisy");
    let mut noisy: std::collections::VecDeque<_> = (0..50).map(|_| later(&slots, "noisy")).collect();
    for _ in 0..5 {
        drop(held);
        held = served(&mut noisy.pop_front().unwrap()).unwrap().unwrap();
    }
    let mut quiet = later(&slots, "quiet");
    drop(held);
    assert!(served(&mut quiet).is_some(), "it waits for one call, not for forty-five");
}

#[test]
fn newcomers_find_a_slot_where_one_namespace_would_take_them_all() {
    let slots = Slots::new(32, 100);
    let held: Vec<_> = (0..30).map(|_| now(&slots, "noisy")).collect();
    let mut waiting = later(&slots, "noisy");
    let quiet = now(&slots, "quiet");
    drop(quiet);
    assert!(served(&mut waiting).is_none(), "two of 32 are kept");
    drop(held);
    assert!(served(&mut waiting).is_some());
}

/// Of 200 turns, how many a line of three times the weight gets.
fn heavy_turns() -> usize {
    let slots = Slots::new(1, 1_000);
    let mut held = Some(now(&slots, "other"));
    let mut waiting: Vec<_> = Vec::new();
    for (who, weight) in [("light", 1), ("heavy", 3)] {
        for _ in 0..300 {
            match slots.ask(&name(who), weight).unwrap() {
                Asked::Later(one) => waiting.push((who, one)),
                Asked::Now(_) => panic!("no slot was free"),
            }
        }
    }
    let mut got = BTreeMap::<&str, usize>::new();
    for _ in 0..200 {
        drop(held.take());
        let at = waiting.iter_mut().position(|(_, one)| match served(one) {
            Some(slot) => {
                held = Some(slot.unwrap());
                true
            }
            None => false,
        });
        let (who, _) = waiting.remove(at.expect("work conserving"));
        *got.entry(who).or_default() += 1;
    }
    got["heavy"]
}

#[test]
fn weights_share_what_is_scarce() {
    // What holds a slot while the machine does something else pays for that, too: the usual one counts.
    let mut turns: Vec<_> = (0..5).map(|_| heavy_turns()).collect();
    turns.sort_unstable();
    assert!((120..=180).contains(&turns[2]), "{turns:?}");
}

#[derive(Debug, Clone)]
enum Deed {
    Ask(u8, u8),
    GiveBack(usize),
    Leave(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => (0..6_u8, 1..4_u8).prop_map(|(who, weight)| Deed::Ask(who, weight)),
        3 => any::<usize>().prop_map(Deed::GiveBack),
        1 => any::<usize>().prop_map(Deed::Leave),
    ];
    proptest::collection::vec(deed, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Never more running than slots, nothing lost, no hole where somebody left, no free slot while somebody waits, and
    /// in the end everybody is served.
    #[test]
    fn slots_are_kept_books_of(count in 1..5_usize, queue in 0..12_usize, deeds in deeds()) {
        let slots = Slots::with_reserve(count, queue, 0);
        let (mut held, mut waiting) = (Vec::new(), Vec::<Waiting>::new());
        for deed in deeds {
            match deed {
                Deed::Ask(who, weight) => match slots.ask(&name(&format!("n{who}")), u32::from(weight)) {
                    Ok(Asked::Now(slot)) => held.push(slot),
                    Ok(Asked::Later(one)) => waiting.push(one),
                    Err(_) => assert!(waiting.len() >= queue, "refused with room in the queue"),
                },
                Deed::GiveBack(at) if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                Deed::Leave(at) if !waiting.is_empty() => drop(waiting.swap_remove(at % waiting.len())),
                Deed::GiveBack(_) | Deed::Leave(_) => {}
            }
            waiting.retain_mut(|one| match served(one) {
                Some(Ok(slot)) => { held.push(slot); false }
                Some(Err(_)) => false,
                None => true,
            });
            assert_eq!(slots.running(), held.len());
            assert!(held.len() <= count && waiting.len() <= queue);
            assert!(waiting.is_empty() || held.len() == count, "a slot is free while somebody waits");
        }
        // Each release serves one, whoever it is: nobody waits for more of them than there are in the queue.
        let left = waiting.len();
        for _ in 0..left {
            held.pop();
            waiting.retain_mut(|one| match served(one) {
                Some(slot) => { held.push(slot.unwrap()); false }
                None => true,
            });
        }
        assert!(waiting.is_empty(), "somebody starves");
        drop(held);
        assert_eq!(slots.running(), 0);
    }
}
