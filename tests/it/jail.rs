//! Jails, as the node speaks to them: what runs, what ends, and that nothing gets out. Each program is one system call.

use crate::support::{
    Launcher, ZEROES, asks_by_the_old_door, call, descendants, elf, gives_back, niceness, spins, splits_its_stack,
    tries, until, waits,
};
use serde_json::{Value, json};
use std::io::Read as _;

const KILLED_BY_FILTER: i32 = libc::SIGSYS;

/// `-1`, as an argument.
const NONE: u64 = u64::MAX;

fn exit(code: i32) -> Value {
    json!({ "Exit": code })
}

fn signal(number: i32) -> Value {
    json!({ "Signal": number })
}

fn flags(all: &[i32]) -> u64 {
    all.iter().fold(0, |sum, one| sum | u64::from(one.unsigned_abs()))
}

#[test]
fn what_no_program_needs_kills_it() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK];
    for family in families {
        let how = jail.run(&tries(libc::SYS_socket, &[flags(&[family]), 1, 0]));
        assert_eq!(how, signal(KILLED_BY_FILTER), "socket {family}");
    }
    for number in [
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
        libc::SYS_execve,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_fsopen,
        libc::SYS_move_mount,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_open_by_handle_at,
        libc::SYS_openat2,
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_symlinkat,
        libc::SYS_setuid,
        libc::SYS_setsid,
        libc::SYS_personality,
        libc::SYS_pkey_mprotect,
        libc::SYS_remap_file_pages,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_mq_open,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_landlock_create_ruleset,
        libc::SYS_init_module,
        libc::SYS_kexec_load,
        libc::SYS_modify_ldt,
        libc::SYS_iopl,
        0x4000_0000 | libc::SYS_getpid, // by its number of the x32 ABI
    ] {
        let how = jail.run(&tries(number, &[0, ZEROES]));
        assert_eq!(how, signal(KILLED_BY_FILTER), "system call {number}");
    }
}

/// A second table of system calls, with numbers of its own.
#[test]
fn the_door_of_older_programs_is_closed() {
    let launcher = Launcher::start();
    assert_eq!(launcher.jail().run(&asks_by_the_old_door()), signal(KILLED_BY_FILTER));
}

/// The limit of a stack is one of each piece of it, so nothing may cut it: not by taking a page away, by other rights, by
/// advice, or by something else in its place.
#[test]
fn a_stack_stays_in_one_piece() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let over = flags(&[libc::MAP_PRIVATE, libc::MAP_ANONYMOUS, libc::MAP_FIXED]);
    let write = flags(&[libc::PROT_WRITE]);
    for (what, number, arguments, errno) in [
        ("unmap", libc::SYS_munmap, &[4096][..], libc::EPERM),
        ("protect", libc::SYS_mprotect, &[4096, write], libc::EPERM),
        ("advise", libc::SYS_madvise, &[4096, flags(&[libc::MADV_NOHUGEPAGE])], libc::EPERM),
        ("map over", libc::SYS_mmap, &[4096, 1, over, NONE, 0], libc::EPERM),
        ("move", libc::SYS_mremap, &[4096, 8192, 1], libc::ENOMEM),
    ] {
        let (how, peak) = jail.measure(&splits_its_stack(number, arguments));
        assert_eq!(how, exit(errno), "{what}");
        assert!(peak < 24 << 20, "{what}: {peak} bytes of stack");
    }
}

#[test]
fn what_is_mapped_can_be_given_back() {
    // As a debugger starts programs, too: the filter of stacks goes by where they are when addresses are random.
    for launcher in [Launcher::start(), Launcher::start_after("exec setarch -R")] {
        let jail = launcher.jail();
        for length in [4096, 1 << 20, 32 << 20] {
            assert_eq!(jail.run(&gives_back(length)), exit(0), "{length}");
        }
    }
}

#[test]
fn programs_stand_back_for_their_jail() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let mut waiting = jail.start(&waits());
    waiting.stdout.read_exact(&mut [0]).unwrap();
    let [of_jail, of_program] = descendants(launcher.id())[..] else { panic!("a jail and a program") };
    assert_eq!((niceness(launcher.id()), niceness(of_jail), niceness(of_program)), (0, 0, 10));
    assert_eq!(jail.run(&tries(libc::SYS_setpriority, &[0, 0, 0])), exit(libc::EPERM));
}

#[test]
fn what_programs_try_and_can_do_without_is_refused() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let private = flags(&[libc::MAP_PRIVATE, libc::MAP_ANONYMOUS]);
    let (none, write, execute) = (0, flags(&[libc::PROT_READ, libc::PROT_WRITE]), flags(&[libc::PROT_EXEC]));
    let map = |protection, kind| tries(libc::SYS_mmap, &[0, 4096, protection, kind, NONE, 0]);
    let thread = [libc::CLONE_VM, libc::CLONE_THREAD, libc::CLONE_SIGHAND];
    for (what, program, errno) in [
        ("a file", tries(libc::SYS_openat, &[flags(&[libc::AT_FDCWD]), ZEROES, 0, 0]), libc::ENOENT),
        ("a path", tries(libc::SYS_readlink, &[ZEROES, ZEROES, 1]), libc::ENOENT),
        ("a place in a file", tries(libc::SYS_lseek, &[0, 0, 1]), libc::ESPIPE),
        ("a terminal", tries(libc::SYS_ioctl, &[1, libc::TCGETS, ZEROES]), libc::ENOTTY),
        ("a fork", tries(libc::SYS_fork, &[]), libc::EPERM),
        ("a process", tries(libc::SYS_clone, &[flags(&[libc::SIGCHLD])]), libc::EPERM),
        ("a namespace", tries(libc::SYS_clone, &[flags(&[libc::CLONE_NEWUSER, libc::SIGCHLD])]), libc::EPERM),
        ("a thread with more", tries(libc::SYS_clone, &[flags(&thread) | flags(&[libc::CLONE_PTRACE])]), libc::EPERM),
        ("a new way to clone", tries(libc::SYS_clone3, &[ZEROES, 64]), libc::ENOSYS),
        (
            "its own file again",
            tries(libc::SYS_execveat, &[64, ZEROES, 0, 0, flags(&[libc::AT_EMPTY_PATH])]),
            libc::EBADF,
        ),
        ("another file", tries(libc::SYS_execveat, &[0, ZEROES, 0, 0, flags(&[libc::AT_EMPTY_PATH])]), libc::EPERM),
        ("a file by path", tries(libc::SYS_execveat, &[64, ZEROES, 0, 0, 0]), libc::EPERM),
        ("the place of its file", tries(libc::SYS_fcntl, &[0, flags(&[libc::F_DUPFD]), 64]), libc::EINVAL),
        ("code on the heap", map(write | execute, private), libc::EPERM),
        ("code", map(execute, private), libc::EPERM),
        ("code later", tries(libc::SYS_mprotect, &[0x40_0000, 4096, execute]), libc::EPERM),
        ("shared memory", map(write, flags(&[libc::MAP_SHARED, libc::MAP_ANONYMOUS])), libc::EPERM),
        ("a stack", map(write, private | flags(&[libc::MAP_GROWSDOWN])), libc::EPERM),
        ("memory to grow", tries(libc::SYS_mremap, &[0x40_0000, 4096, 8192, 1]), libc::ENOMEM),
        ("a shadow stack", tries(libc::SYS_arch_prctl, &[0x5001, 1]), libc::EPERM),
        ("a copy of a file", tries(libc::SYS_dup, &[1]), libc::EPERM),
        ("huge pages", map(none, private | flags(&[libc::MAP_HUGETLB])), libc::EPERM),
        ("more memory", tries(libc::SYS_mmap, &[0, 1 << 30, write, private, NONE, 0]), libc::ENOMEM),
        ("endless addresses", tries(libc::SYS_mmap, &[0, 1 << 40, none, private, NONE, 0]), libc::ENOMEM),
        ("new limits", tries(libc::SYS_prlimit64, &[0, 0, ZEROES, 0]), libc::EPERM),
        ("others' limits", tries(libc::SYS_prlimit64, &[1, 0, 0, 0]), libc::EPERM),
        ("a larger pipe", tries(libc::SYS_fcntl, &[1, flags(&[libc::F_SETPIPE_SZ]), 1 << 20]), libc::EPERM),
        ("signals for others", tries(libc::SYS_fcntl, &[0, flags(&[libc::F_SETOWN]), 1]), libc::EPERM),
        ("to be looked into", tries(libc::SYS_prctl, &[flags(&[libc::PR_SET_DUMPABLE]), 1]), libc::EPERM),
        ("another filter", tries(libc::SYS_seccomp, &[0, 0, 0]), libc::EPERM),
        ("capabilities", tries(libc::SYS_capset, &[ZEROES, ZEROES]), libc::EPERM),
        ("to kill the jail", tries(libc::SYS_kill, &[1, 9]), libc::EPERM),
        ("to kill all", tries(libc::SYS_kill, &[NONE, 9]), libc::EPERM),
        ("to hit the jail's thread", tries(libc::SYS_tgkill, &[1, 1, 9]), libc::EPERM),
        ("the jail's socket", tries(libc::SYS_recvmsg, &[0, ZEROES, 0]), libc::EPERM),
        ("words about the machine", tries(libc::SYS_uname, &[ZEROES]), libc::EPERM),
    ] {
        assert_eq!(jail.run(&program), exit(errno), "{what}");
    }
}

#[test]
fn what_programs_need_is_there() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let private = flags(&[libc::MAP_PRIVATE, libc::MAP_ANONYMOUS]);
    let write = flags(&[libc::PROT_READ, libc::PROT_WRITE]);
    for (what, program) in [
        ("memory", tries(libc::SYS_mmap, &[0, 32 << 20, write, private, NONE, 0])),
        ("addresses", tries(libc::SYS_mmap, &[0, 1 << 31, 0, private, NONE, 0])),
        ("its limits", tries(libc::SYS_prlimit64, &[0, 3, 0, 0])),
        ("an event loop", tries(libc::SYS_epoll_create1, &[0])),
        ("who it is", tries(libc::SYS_getpid, &[])),
        ("how many processors there are", tries(libc::SYS_sched_yield, &[])),
    ] {
        assert_eq!(jail.run(&program), exit(0), "{what}");
    }
}

/// Memory that was written and is then protected would not be counted any more.
#[test]
fn memory_stays_writable_and_counted() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    // The page that this very program is in: were it done, nothing would come after it.
    for protection in [libc::PROT_NONE, libc::PROT_READ] {
        let how = jail.run(&tries(libc::SYS_mprotect, &[0x40_0000, 4096, flags(&[protection])]));
        assert_eq!(how, exit(0), "{protection}");
    }
}

#[test]
fn a_program_has_three_files() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    for number in 0..130 {
        let expected = if number < 3 { 0 } else { libc::EBADF };
        assert_eq!(jail.run(&tries(libc::SYS_close, &[number])), exit(expected), "descriptor {number}");
    }
}

#[test]
fn calls_do_not_reach_each_other() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let mut waiting = jail.start(&waits());
    waiting.stdout.read_exact(&mut [0]).unwrap();
    // The jail is process 1 of its world, and this is the first that it started.
    for thread in [2, 1] {
        assert_eq!(jail.run(&tries(libc::SYS_tkill, &[thread, 9])), exit(libc::EPERM));
        assert_eq!(jail.run(&tries(libc::SYS_tgkill, &[thread, thread, 0])), exit(libc::EPERM));
    }
    jail.kill(waiting.id);
    assert_eq!(jail.ended(), (waiting.id, signal(libc::SIGKILL)));
}

#[test]
fn a_program_gets_its_own_signals() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    // Process 2 is the first that the jail starts.
    let how = jail.run(&tries(libc::SYS_tgkill, &[2, 2, flags(&[libc::SIGABRT])]));
    assert_eq!(how, signal(libc::SIGABRT));
}

#[test]
fn bytes_go_through() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    // write(1, argv[0]..): the stack begins with argc, then pointers.
    let mut code = vec![0x48, 0x8b, 0x74, 0x24, 0x08]; // mov rsi, [rsp + 8]
    code.extend([0xbf, 1, 0, 0, 0, 0xba, 5, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0x0f, 0x05]); // write(1, rsi, 5)
    code.extend(call(libc::SYS_exit_group, &[7]));
    let mut run = jail.start_with(&elf(&code), &["hello", "there"], 1 << 20, 1);
    assert_eq!(run.output(), b"hello");
    assert_eq!(jail.ended(), (run.id, exit(7)));
}

#[test]
fn time_of_the_processor_is_bounded() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let run = jail.start_with(&spins(), &["spins"], 1 << 20, 1);
    assert_eq!(jail.ended(), (run.id, signal(libc::SIGXCPU)));
}

#[test]
fn what_cannot_start_says_why_and_leaves_the_jail_standing() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let why = |how: Value| how["NotStarted"].as_str().unwrap_or_else(|| panic!("{how}")).to_owned();
    assert!(why(jail.run(b"#!/bin/sh\n")).starts_with("cannot execute it: "));
    assert!(why(jail.run(&elf(&[])[..40])).starts_with("cannot execute it: "));
    let zero = jail.start_with(&waits(), &["a\0b"], 1 << 20, 1);
    assert_eq!(why(jail.ended().1), "an argument or a variable holds a zero byte");
    assert_eq!(zero.id, 3);
    assert_eq!(jail.run(&tries(libc::SYS_getpid, &[])), exit(0));
}

#[test]
fn runs_end_one_by_one_however_many_there_are() {
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let mut runs: Vec<_> = (0..100).map(|_| jail.start(&waits())).collect();
    for run in &mut runs {
        run.stdout.read_exact(&mut [0]).unwrap();
    }
    for run in &runs {
        jail.kill(run.id);
        jail.kill(run.id + 1000); // nobody
    }
    let mut ended: Vec<u64> = runs.iter().map(|_| jail.ended().0).collect();
    ended.sort_unstable();
    assert_eq!(ended, runs.iter().map(|run| run.id).collect::<Vec<_>>());
}

#[test]
fn a_jail_runs_so_many_and_no_more() {
    const MOST: usize = 256;
    let launcher = Launcher::start();
    let jail = launcher.jail();
    let mut runs: Vec<_> = (0..MOST).map(|_| jail.start(&waits())).collect();
    for run in &mut runs {
        run.stdout.read_exact(&mut [0]).unwrap();
    }
    let why = jail.run(&waits());
    assert_eq!(why, json!({ "NotStarted": "256 programs run in this jail already" }));
    jail.kill(runs[0].id);
    assert_eq!(jail.ended(), (runs[0].id, signal(libc::SIGKILL)));
    assert_eq!(jail.run(&tries(libc::SYS_getpid, &[])), exit(0));
}

#[test]
fn a_launcher_may_open_all_that_the_machine_lets_it() {
    let launcher = Launcher::start_after("ulimit -Sn 100; exec");
    launcher.jail();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", launcher.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = files.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else { panic!("{files}") };
    assert_eq!(soft, hard);
}

/// Each jail takes a file of the launcher's. That there are none left is one jail's trouble.
#[tokio::test]
async fn a_launcher_without_files_makes_no_jail_and_keeps_the_others() {
    let launcher = Launcher::start();
    let id = rustix::process::Pid::from_raw(launcher.id().cast_signed());
    let first = launcher.jail();
    let of_now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let few = rustix::process::Rlimit { current: Some(16), maximum: of_now.maximum };
    rustix::process::prlimit(id, rustix::process::Resource::Nofile, few).unwrap();
    let mut jails = Vec::new();
    let why = loop {
        let (jail, hello) = launcher.spawn(2_000_000_000);
        match hello["Failed"]["why"].as_str() {
            Some(why) => break why.to_owned(),
            None => jails.push(jail),
        }
        assert!(jails.len() < 16, "it has no more files");
    };
    assert!(why.contains("open files"), "{why}");
    assert_eq!(first.run(&tries(libc::SYS_getpid, &[])), exit(0));
    assert!(jails.pop().is_some());
    until("room for a jail", || async { launcher.spawn(2_000_000_000).1["Ready"].is_object() }).await;
}

/// Of every kind of control group that this process may see.
fn groups(name: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = next.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        next.extend(folders.map(|entry| entry.path()));
        if folder.ends_with(name) {
            found.push(folder);
        }
    }
    found
}

#[test]
fn a_launcher_leaves_no_control_group() {
    let launcher = Launcher::start();
    let (jail, name) = (launcher.jail(), launcher.cgroup.clone());
    let mut waiting = jail.start(&waits());
    waiting.stdout.read_exact(&mut [0]).unwrap();
    let made = groups(&name);
    for process in descendants(launcher.id()) {
        let of = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
        assert_eq!(of.lines().filter(|line| line.ends_with(&name)).count(), made.len(), "{of}");
    }
    assert!(!made.is_empty(), "jails of tests say that they go without nothing");
    drop(launcher);
    assert_eq!(groups(&name), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_jail_has_no_file_of_the_nodes() {
    let launcher = Launcher::start();
    let _jail = launcher.jail();
    let [jail] = descendants(launcher.id())[..] else { panic!("one jail") };
    let files = match std::fs::read_dir(format!("/proc/{jail}/fd")) {
        Ok(files) => files.flatten(),
        Err(why) => return eprintln!("skipped: only root can see a jail's files ({why})"),
    };
    for file in files {
        let what = std::fs::read_link(file.path()).unwrap();
        let number = file.file_name();
        match number.to_str().unwrap() {
            "1" | "2" => assert_eq!(what.to_str(), Some("/dev/null"), "{number:?}"),
            "0" => assert!(what.to_string_lossy().starts_with("socket:"), "{what:?}"),
            _ => assert!(!what.is_absolute() || what.ends_with("null"), "{number:?} {what:?}"),
        }
    }
}

#[test]
fn nothing_survives_its_node_or_its_launcher() {
    let mut launcher = Launcher::start();
    let (first, second) = (launcher.jail(), launcher.jail());
    let (mut one, mut other) = (first.start(&waits()), second.start(&waits()));
    for run in [&mut one, &mut other] {
        run.stdout.read_exact(&mut [0]).unwrap();
    }
    drop(first);
    assert_eq!(one.output(), b"", "its stdout is closed: it is gone");
    launcher.kill();
    assert_eq!(other.output(), b"", "gone too");
    assert_eq!(second.link.receive(), None);
    // What is left, its control groups, is the next one's.
    let next = Launcher::start_as(&launcher.cgroup);
    assert_eq!(next.jail().run(&tries(libc::SYS_getpid, &[])), exit(0));
}

#[test]
fn a_packet_that_is_none_ends_its_jail_only() {
    let launcher = Launcher::start();
    let (bad, good) = (launcher.jail(), launcher.jail());
    bad.link.send(b"{", &[]);
    assert_eq!(bad.link.receive(), None);
    bad_run_without_files(&launcher);
    assert_eq!(good.run(&tries(libc::SYS_getpid, &[])), exit(0));
}

fn bad_run_without_files(launcher: &Launcher) {
    let jail = launcher.jail();
    let limits = json!({ "memory_bytes": 1, "cpu_seconds": 1 });
    let run = json!({ "Run": { "id": 1, "argv": [], "environment": [], "limits": limits } });
    jail.link.send(run.to_string().as_bytes(), &[]);
    assert_eq!(jail.link.receive(), None);
}

#[test]
fn no_jail_is_root() {
    let launcher = Launcher::start();
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: without root jails are who the node is, whatever they are told");
    }
    let (jail, hello) = launcher.spawn(0);
    assert!(hello["Failed"]["why"].as_str().unwrap().contains("must not be root"), "{hello}");
    assert_eq!(jail.link.receive(), None);
    assert_eq!(launcher.jail().run(&tries(libc::SYS_getpid, &[])), exit(0));
}
