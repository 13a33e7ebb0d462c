//! Filters, run on system calls without a kernel.

use super::super::bpf::answer_of;
use super::*;
use std::collections::BTreeSet;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | 1;

fn refused() -> Vec<c_long> {
    REFUSED.iter().flat_map(|(_, calls)| *calls).copied().collect()
}

#[test]
fn programs_have_at_most_fifty_system_calls() {
    println!("system calls: {} allowed, {} refused with an error", ALLOWED.len(), refused().len());
    assert!(ALLOWED.len() <= 50, "{} allowed", ALLOWED.len());
    assert!(refused().len() <= 35, "{} refused", refused().len());
}

#[test]
fn a_system_call_has_one_answer() {
    let all: Vec<c_long> = ALLOWED.iter().chain(&refused()).chain(JAIL).copied().collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn nothing_that_leads_out_is_listed() {
    let forbidden = [
        libc::SYS_execve,
        libc::SYS_memfd_create,
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_pidfd_open,
        libc::SYS_shmget,
        libc::SYS_pkey_mprotect,
    ];
    for call in forbidden {
        assert!(!ALLOWED.contains(&call) && !refused().contains(&call) && !JAIL.contains(&call), "{call}");
    }
}

#[test]
fn the_filter_of_a_call_is_short_and_takes_away_all_that_is_the_jails() {
    let code = of_a_call();
    assert!(code.len() <= 27, "{} instructions: see the module's words on what more costs", code.len());
    let (allow, refuse) = (ALLOW, REFUSE);
    for call in JAIL {
        assert_eq!(answer_of(&code, *call, [0; 6]), refuse, "{call}");
    }
    assert_eq!(answer_of(&code, libc::SYS_read, [0; 6]), allow);
    let empty = 0x1000;
    for (arguments, expected) in [
        ([64, 0, 0, 0, empty, 0], allow),
        ([65, 0, 0, 0, empty, 0], refuse),
        ([64, 0, 0, 0, 0, 0], refuse),
        ([64, 0, 0, 0, empty | 1, 0], refuse),
    ] {
        assert_eq!(answer_of(&code, libc::SYS_execveat, arguments), expected, "execveat {arguments:?}");
    }
    for (limit, expected) in [(0, allow), (1, refuse), (1 << 32, refuse)] {
        assert_eq!(answer_of(&code, libc::SYS_prlimit64, [0, 0, limit, 0, 0, 0]), expected, "limit {limit}");
    }
    for (flags, expected) in [
        (0x3d_0f00, allow), // glibc
        (0x7d_0f00, allow), // musl
        (0x05_0f00, allow), // Go
        (0x11, refuse),     // fork
        (0x4111, refuse),   // vfork
        (0x1000_0000 | 0x3d_0f00, refuse),
        (0x2000 | 0x3d_0f00, refuse),
    ] {
        assert_eq!(answer_of(&code, libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), expected, "clone {flags:x}");
    }
}

#[test]
fn what_is_the_jails_alone_is_done_in_one_way() {
    let filters = jail();
    let answer = |call, arguments| strictest(&filters, call, arguments);
    for (flags, expected) in [
        (u64::from(CLONE.unsigned_abs()), ALLOW),
        (0x3d_0f00, ALLOW), // glibc's threads
        (0x11, REFUSE),
        (0x1000_4011, REFUSE), // without its memory
        (0x5000_4111, REFUSE), // with a network
        (0x5000_0011, REFUSE),
    ] {
        assert_eq!(answer(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), expected, "clone {flags:x}");
    }
    for (file, flags, expected) in [(64, 0x1000, ALLOW), (3, 0x1000, REFUSE), (64, 0, REFUSE), (64, 0x1100, REFUSE)] {
        assert_eq!(answer(libc::SYS_execveat, [file, 0, 0, 0, flags, 0]), expected, "execveat {file} {flags:x}");
    }
    for (mode, flags, expected) in [(1, 0, ALLOW), (0, 0, REFUSE), (2, 0, REFUSE), (1, 8, REFUSE)] {
        assert_eq!(answer(libc::SYS_seccomp, [mode, flags, 0, 0, 0, 0]), expected, "seccomp {mode} {flags}");
    }
    assert_eq!(answer(libc::SYS_kill, [2, 9, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(libc::SYS_kill, [2, 19, 0, 0, 0, 0]), REFUSE);
}

#[test]
fn no_range_ends_in_the_area_of_stacks() {
    let filters = jail();
    let page = 4096;
    let fixed = 0x32;
    for (start, length, expected) in [
        (0x40_0000, page, ALLOW),
        (AREA - page, page, ALLOW),
        (AREA - 1, 1, ALLOW),
        (AREA, 1, REFUSE),
        (AREA - page, 2 * page, REFUSE),
        (0x7fff_0000_0000, page, REFUSE),
        (0x7ffb_ffff_f000, page, REFUSE),
        (0x7ffb_0000_0000, u64::from(u32::MAX), REFUSE), // beyond by its lower half
        (0x7ffa_ffff_f000, 0x2000, ALLOW),               // a carry, and not beyond
        (0x7ffa_ffff_f000, 0x1_ffff_f000, REFUSE),       // beyond by its carry
        (0x7ffb_ff00_0000, 0xff_0000_0000, REFUSE),
        (0, 0x8000_0000_0000, REFUSE),
        (u64::MAX - 0xfff, 0x8000, REFUSE), // around the end of all
        (0x8000, u64::MAX - 0xfff, REFUSE),
    ] {
        for (call, kind, flags) in [
            (libc::SYS_munmap, 0, 0),
            (libc::SYS_mprotect, 2, 0),
            (libc::SYS_madvise, 4, 0),
            (libc::SYS_mmap, 0, fixed),
            (libc::SYS_mmap, 0, 0x10_0022),
        ] {
            let answer = strictest(&filters, call, [start, length, kind, flags, u64::MAX, 0]);
            assert_eq!(answer, expected, "call {call}: {start:x} {length:x}");
        }
        let anywhere = [start, length, 0, 0x22, u64::MAX, 0];
        assert_eq!(strictest(&filters, libc::SYS_mmap, anywhere), ALLOW, "as the kernel likes");
    }
}

#[test]
fn the_area_of_stacks_is_above_what_is_mapped_and_below_stacks() {
    let mapped = Box::into_raw(vec![0_u8; 1 << 20].into_boxed_slice());
    let area = stack_area();
    assert!((mapped.addr() as u64) < area, "{mapped:?} {area:x}");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(area, AREA);
    }
}

#[test]
fn advice_and_waiting_are_what_allocators_and_threads_need() {
    let filters = jail();
    for (advice, expected) in [(4, ALLOW), (8, ALLOW), (14, ALLOW), (10, 22), (12, 22), (25, 22), (102, 22)] {
        let expected = if expected == ALLOW { ALLOW } else { libc::SECCOMP_RET_ERRNO | expected };
        let answer = strictest(&filters, libc::SYS_madvise, [0x40_0000, 4096, advice, 0, 0, 0]);
        assert_eq!(answer, expected, "{advice}");
    }
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    for (operation, expected) in
        [(0, ALLOW), (0x81, ALLOW), (0x189, ALLOW), (3, ALLOW), (6, missing), (0x8d, missing), (0x18b, missing)]
    {
        let answer = strictest(&filters, libc::SYS_futex, [0, operation, 0, 0, 0, 0]);
        assert_eq!(answer, expected, "{operation:x}");
    }
}

/// 2^47 without what `stack_area` says.
const AREA: u64 = 0x7ffb_ff7f_0000;

fn jail() -> Vec<Vec<libc::sock_filter>> {
    let same = |one: seccompiler::sock_filter| libc::sock_filter { code: one.code, jt: one.jt, jf: one.jf, k: one.k };
    of_a_jail(AREA).unwrap().into_iter().map(|filter| filter.into_iter().map(same).collect()).collect()
}

/// As the kernel chooses: the strictest answer, of equals the last. Source: seccomp(2).
fn strictest(filters: &[Vec<libc::sock_filter>], call: c_long, arguments: [u64; 6]) -> u32 {
    let rank = |answer: &u32| (answer & 0xffff_0000).cast_signed();
    // The first of the least, of answers from the last filter to the first.
    filters.iter().rev().map(|filter| answer_of(filter, call, arguments)).min_by_key(rank).unwrap()
}
