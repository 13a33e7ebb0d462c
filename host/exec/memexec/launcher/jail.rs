//! A jail: one process that gives up all it has, then runs programs for one namespace ([`super::run`]).
//!
//! The order matters: what a step needs is given up by a later one. At the end there is no file system, no network, no
//! capability, no other process, and only the system calls of [`super::filter`].

use super::super::protocol::Hello;
use super::run::Runs;
use super::spawn::Spawner;
use super::wire::Wire;
use super::{INSIDE, filter, sys};
use crate::exec::sandbox;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetError,
    Scope,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, set_parent_process_death_signal, setrlimit};
use seccompiler::{BpfProgram, apply_filter};
use std::fmt::Display;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// What to do where namespaces are refused.
pub(super) const NAMESPACES: &str = "let this user make user namespaces (sysctl user.max_user_namespaces, \
    kernel.apparmor_restrict_unprivileged_userns; in a container its seccomp profile)";

/// What to do where Landlock is too old.
const LANDLOCK: &str =
    "jails need Landlock with scopes: Linux 6.12 or newer, with landlock in its list of security modules";

/// What jails need of Landlock: files, TCP, and scopes for signals and abstract sockets.
const ABI_NEEDED: ABI = ABI::V6;

/// Descriptors that the jail itself may have open. Twice what a call may, so that its program can be put where the call
/// itself cannot put anything: see [`super::spawn::PROGRAM`].
const OPEN_FILES: u64 = 128;

/// Bytes that a stack may grow to. 8 MiB: the usual default; arguments and environment may take a quarter of it.
pub(super) const STACK: u64 = 8 << 20;

/// What no process in a jail may have more of. `Core` is 1 and not 0: at 0 a system that hands core dumps to a program
/// still does, with a tenant's memory. Source: core(5).
const LIMITS: [(Resource, u64); 10] = [
    (Resource::Core, 1),
    (Resource::Fsize, 16 << 20),
    (Resource::Locks, 0),
    (Resource::Memlock, 0),
    (Resource::Msgqueue, 0),
    (Resource::Nice, 0),
    (Resource::Nofile, OPEN_FILES),
    (Resource::Rtprio, 0),
    // Each is a piece of kernel memory. Ordinary signals need none; 64 realtime ones are more than runtimes use.
    (Resource::Sigpending, 64),
    (Resource::Stack, STACK),
];

/// What all jails of a launcher have in common. Made once: jails are ready sooner, and need less memory of their own.
pub(super) struct Kit {
    /// Landlock: everything that it knows is denied, without an exception.
    deny_all: OwnedFd,
    /// Landlock: what every call adds for itself. Its signals reach nobody else, other calls of the same jail included.
    own_domain: OwnedFd,
    filters: Vec<BpfProgram>,
    /// /dev/null, opened while there are files.
    nothing: File,
}

impl Kit {
    /// * errors: what this machine does not have, and what to do about it.
    pub(super) fn new() -> Result<Self, String> {
        let landlock = |made: Result<RulesetCreated, RulesetError>| {
            let missing = |why: &dyn Display| format!("no Landlock: {why}; {LANDLOCK}");
            let file: Option<OwnedFd> = made.map_err(|why| missing(&why))?.into();
            file.ok_or_else(|| missing(&"it is off"))
        };
        random_addresses()?;
        let filters =
            filter::of_a_jail(filter::stack_area()).map_err(|why| failed("make filters of system calls", why))?;
        let nothing = File::options().read(true).write(true).open("/dev/null");
        let nothing = nothing.map_err(|why| failed("open /dev/null", why))?;
        Ok(Self { deny_all: landlock(deny_all())?, own_domain: landlock(own_domain())?, filters, nothing })
    }

    /// The first file descriptor that is none of these, nor one that was there before them.
    fn first_other(&self) -> RawFd {
        self.deny_all.as_raw_fd().max(self.own_domain.as_raw_fd()).max(self.nothing.as_raw_fd()) + 1
    }
}

/// Goes on as a jail, in a process that the launcher has just cloned, until the node closes `socket`.
///
/// * `node`: the launcher's own, whose socket is replaced.
/// * `lifeline`: says when the launcher has told the system who we are; broken when it is gone.
pub(super) fn main(kit: &Kit, node: &mut Wire, socket: &OwnedFd, lifeline: OwnedFd) -> ! {
    let stands = stand(kit, socket, lifeline);
    let code = match &stands {
        Ok(true) => match node.send(&Hello::Ready { without: Vec::new() }) {
            Ok(()) => Runs::new(Spawner::new(&kit.own_domain)).serve(node),
            Err(_gone) => 1,
        },
        Ok(false) => 0,
        Err(why) => {
            // Whoever wanted to know is gone.
            let _ = node.send(&Hello::Failed { why: why.clone() });
            1
        }
    };
    std::process::exit(code)
}

/// Sets the jail up, from outside to inside.
///
/// * returns: `false` if the launcher could not say who we are, and has said so itself.
/// * errors: the step, what the system says, and what to do about it.
fn stand(kit: &Kit, socket: &OwnedFd, lifeline: OwnedFd) -> Result<bool, String> {
    let refused = |what| move |why| format!("cannot {what}: {why}; {NAMESPACES}");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused("die with the launcher"))?;
    rustix::stdio::dup2_stdin(socket).map_err(refused("keep the socket"))?;
    if rustix::io::read(&lifeline, &mut [0]) != Ok(1) {
        return Ok(false);
    }
    become_nobody().map_err(refused("become nobody"))?;
    // Again: another id takes it away. If the launcher was gone by then, nothing will ever tell us. A jail that was made
    // after us may still hold the other end of our lifeline, so that it does not look broken: then the end of our socket
    // to the node is what ends us, as it is in any case.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused("die with the launcher"))?;
    if broken(&lifeline).map_err(refused("look at the launcher"))? {
        return Ok(false);
    }
    drop(lifeline);
    sandbox::close_from(kit.first_other()).map_err(|why| failed("close the launcher's files", why))?;
    // What they were is the node's: a terminal, or its log.
    rustix::stdio::dup2_stdout(&kit.nothing).map_err(refused("leave the node's output"))?;
    rustix::stdio::dup2_stderr(&kit.nothing).map_err(refused("leave the node's output"))?;
    rustix::thread::set_name(c"collector-jail").map_err(refused("take a name"))?;
    rustix::process::setsid().map_err(refused("leave the session"))?;
    rustix::system::sethostname(b"jail").map_err(refused("take a host name"))?;
    rustix::system::setdomainname(b"jail").map_err(refused("take a domain name"))?;
    empty_root().map_err(refused("make an empty root"))?;
    sandbox::no_capabilities().map_err(|why| failed("give up capabilities", why))?;
    for (resource, most) in LIMITS {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|why| format!("cannot set the limit {resource:?}: {why}"))?;
    }
    sandbox::restrict_self(kit.deny_all.as_fd()).map_err(|why| format!("no Landlock: {why}; {LANDLOCK}"))?;
    for filter in &kit.filters {
        apply_filter(filter).map_err(|why| failed("forbid system calls", why))?;
    }
    Ok(true)
}

/// Without them stacks are elsewhere than the filters take them to be, and nothing could be unmapped.
fn random_addresses() -> Result<(), String> {
    sys::plain_personality().map_err(|why| failed("have random addresses", why))?;
    match fs::read_to_string("/proc/sys/kernel/randomize_va_space") {
        Ok(text) if text.trim() == "0" => {
            Err("jails need random addresses: set the sysctl kernel.randomize_va_space to 2".to_owned())
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, why: impl Display) -> String {
    format!("cannot {what}: {why}")
}

/// One id, the same in every jail; outside it is the one that the launcher has mapped.
fn become_nobody() -> rustix::io::Result<()> {
    let (gid, uid) = (Gid::from_raw(INSIDE), Uid::from_raw(INSIDE));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn broken(lifeline: &OwnedFd) -> rustix::io::Result<bool> {
    let mut ask = [PollFd::new(lifeline, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut ask, Some(&at_once))? > 0)
}

/// Puts an empty, read-only directory in the place of everything.
fn empty_root() -> rustix::io::Result<()> {
    /// A directory that every machine has: our own was just written below it.
    const SOMEWHERE: &str = "/proc";
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let closed = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", SOMEWHERE, "tmpfs", closed, Some(c"size=4k,nr_inodes=1,mode=555"))?;
    rustix::process::chdir(SOMEWHERE)?;
    // The old root lands on top of the new one, and goes. Source: pivot_root(2), "pivot_root(".", ".")".
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

fn deny_all() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI_NEEDED))?
        .handle_access(AccessNet::from_all(ABI_NEEDED))?
        .scope(Scope::from_all(ABI_NEEDED))?
        .create()
}

fn own_domain() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(Scope::Signal)?.create()
}
