//! The control groups that all jails of a node live in, where the machine lets us make some.
//!
//! They bound all calls together and let the node go first. Each call has its own bounds without them, but for the kernel's
//! tables of its memory: see [`super`]. So what is missing is told, and is no reason not to run.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Share of the processor when the node wants it too: half of what a group has by default. Sources: cgroup v2, cpu.weight
/// (100); v1, cpu.shares (1024).
const CPU: [(&str, u64); 2] = [("cpu.weight", 50), ("cpu.shares", 512)];

/// What to do where groups cannot be made. Source: systemd.resource-control(5).
const ADVICE: &str = "to have bounds, run the node in a control group of its own that it may divide: with systemd, Delegate=yes and DelegateSubgroup=node";

/// How often a group is asked whether it is empty when all in it have ended, and how long between: that is the kernel's own
/// work, of microseconds. 100 ms at most for each of three, of the second that the node gives the launcher to end.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Groups made here.
pub(super) struct Groups(Vec<Made>);

struct Made {
    group: PathBuf,
    /// Where this process was before: not always the one above, which in version 2 can have no processes.
    before: PathBuf,
}

/// What is unbounded without the memory controller.
const MEMORY: &str =
    "memory of all native calls together, and so on what the kernel needs for one call, up to about 1 GiB";

/// A limit: the controller, and for each version of control groups the file and its value.
struct Limit {
    controller: &'static str,
    /// What is unbounded without it.
    what: &'static str,
    v2: Vec<(&'static str, u64)>,
    v1: Vec<(&'static str, u64)>,
}

fn limits(memory_bytes: u64, tasks: u64) -> [Limit; 3] {
    let [v2_cpu, v1_cpu] = CPU;
    let v2 = vec![("memory.max", memory_bytes), ("memory.swap.max", 0)];
    let v1 = vec![("memory.limit_in_bytes", memory_bytes), ("memory.memsw.limit_in_bytes", memory_bytes)];
    let pids = || vec![("pids.max", tasks)];
    [
        Limit { controller: "memory", what: MEMORY, v2, v1 },
        Limit { controller: "pids", what: "threads of all native calls together", v2: pids(), v1: pids() },
        Limit { controller: "cpu", what: "share of the processor", v2: vec![v2_cpu], v1: vec![v1_cpu] },
    ]
}

impl Groups {
    /// Makes groups called `name` below this process' own, and moves this process into them.
    ///
    /// * returns: with them, what has no bound, for operators.
    pub(super) fn join(name: &str, memory_bytes: u64, tasks: u64) -> (Self, Vec<String>) {
        let (mut groups, mut without) = (Self(Vec::new()), Vec::new());
        let machine = Machine::read();
        for limit in limits(memory_bytes, tasks) {
            if let Err(why) = groups.add(&machine, name, &limit) {
                without.push(format!("a bound on the {} ({why})", limit.what));
            }
        }
        if !without.is_empty() {
            without.push(ADVICE.to_owned());
        }
        (groups, without)
    }

    fn add(&mut self, machine: &Machine, name: &str, limit: &Limit) -> Result<(), String> {
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.is_empty() || name.contains('/') {
            return Err("the name of the control group is no name".to_owned());
        }
        let said = |what| move |why: io::Error| format!("the control group cannot be {what} ({})", why.kind());
        let missing = || format!("this machine has no control groups of kind {}", limit.controller);
        let (version, own) = machine.group(limit.controller).ok_or_else(missing)?;
        let parent = match version {
            Version::V1 => own.clone(),
            Version::V2 => divisible(&own),
        };
        let group = parent.join(name);
        let is_made = self.0.iter().any(|made| made.group == group);
        if !is_made {
            // One that a launcher left which was killed: empty, but with its old limits.
            let _ = fs::remove_dir(&group);
            fs::create_dir(&group).or_else(exists).map_err(said("made"))?;
        }
        let done = match version {
            Version::V1 => enter(&group, &limit.v1),
            Version::V2 => {
                // It may be on already, or not be ours to set: then the limit's own file is not there.
                let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{}", limit.controller));
                enter(&group, &limit.v2)
            }
        };
        match done {
            Ok(()) if is_made => {}
            Ok(()) => self.0.push(Made { group, before: own }),
            Err(why) => {
                // If we are in it for another limit, this does nothing.
                let _ = fs::remove_dir(&group);
                return Err(said("limited")(why));
            }
        }
        Ok(())
    }

    /// Goes back and removes them, once all jails are gone.
    pub(super) fn leave(self) {
        for Made { group, before } in self.0 {
            let _ = fs::write(before.join("cgroup.procs"), "0");
            // What cannot be removed is found by the node's next launcher.
            let is_busy = || fs::remove_dir(&group).is_err_and(|why| why.kind() == io::ErrorKind::ResourceBusy);
            for _ in 0..TRIES {
                if !is_busy() {
                    break;
                }
                // Version 1 has no word for it to wait for.
                sleep(PAUSE);
            }
        }
    }
}

/// Sets a group's limit, and moves this process into it.
fn enter(group: &Path, values: &[(&str, u64)]) -> io::Result<()> {
    for (index, (file, value)) in values.iter().enumerate() {
        match fs::write(group.join(file), value.to_string()) {
            Err(why) if index == 0 => return Err(why),
            // The second is for swap, which not every kernel counts.
            _ => {}
        }
    }
    fs::write(group.join("cgroup.procs"), "0")
}

fn exists(why: io::Error) -> io::Result<()> {
    match why.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(why),
    }
}

/// Where a group may have children with limits. In version 2 only a group without processes may, which the node's own is
/// not; so the one above it, if it is marked as given to us. Source: systemd, "Control Group APIs and Delegation".
fn divisible(own: &Path) -> PathBuf {
    let given = |group: &&Path| {
        let marked = |mark: &str| rustix::fs::getxattr(*group, mark, &mut [0_u8; 1][..]).is_ok();
        marked("user.delegate") || marked("trusted.delegate")
    };
    own.parent().filter(given).unwrap_or(own).to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// What the system says about control groups.
struct Machine {
    /// Source: proc_pid_mountinfo(5).
    mounts: String,
    /// Source: cgroups(7), /proc/pid/cgroup.
    groups: String,
}

impl Machine {
    /// As of this process. What cannot be read is not there.
    fn read() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        Self { mounts: read("/proc/self/mountinfo"), groups: read("/proc/self/cgroup") }
    }

    /// This process' group of one controller.
    fn group(&self, controller: &str) -> Option<(Version, PathBuf)> {
        let lines = || self.groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let of = |wanted: &str| lines().find(|(names, _)| names.split(',').any(|name| name == wanted));
        let (version, path) = match of(controller) {
            Some((_, path)) => (Version::V1, path),
            None => (Version::V2, of("")?.1),
        };
        let mounted = self.mounts.lines().filter_map(Mount::parse).find(|mount| match version {
            Version::V1 => mount.kind == "cgroup" && mount.options.split(',').any(|one| one == controller),
            Version::V2 => mount.kind == "cgroup2",
        })?;
        // In a container the mount shows a part of the tree only, and paths begin above it.
        let below = Path::new(path).strip_prefix(mounted.root).ok()?;
        Some((version, Path::new(mounted.point).join(below)))
    }
}

/// One line of mountinfo.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Self { root: before.next()?, point: before.next()?, kind: after.next()?, options: after.nth(1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(groups: &str, mounts: &str, controller: &str) -> Option<(Version, PathBuf)> {
        Machine { groups: groups.to_owned(), mounts: mounts.to_owned() }.group(controller)
    }

    #[test]
    fn version_2_is_one_tree() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let found = group("0::/system.slice/collector.service/node", mounts, "memory");
        let below = "/sys/fs/cgroup/system.slice/collector.service/node";
        assert_eq!(found, Some((Version::V2, below.into())));
    }

    #[test]
    fn version_1_is_a_tree_for_each_controller() {
        let mounts = "35 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      36 30 0:31 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      37 30 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let groups = "5:memory:/a/b\n4:cpu,cpuacct:/\n0::/";
        assert_eq!(group(groups, mounts, "memory"), Some((Version::V1, "/sys/fs/cgroup/memory/a/b".into())));
        assert_eq!(group(groups, mounts, "cpu"), Some((Version::V1, "/sys/fs/cgroup/cpu,cpuacct".into())));
        assert_eq!(group(groups, mounts, "pids"), Some((Version::V2, "/sys/fs/cgroup/unified".into())));
    }

    #[test]
    fn a_container_sees_its_part_of_the_tree() {
        let mounts = "36 30 0:31 /docker/4f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let found = group("5:memory:/docker/4f", mounts, "memory");
        assert_eq!(found, Some((Version::V1, "/sys/fs/cgroup/memory".into())));
        assert_eq!(group("5:memory:/elsewhere", mounts, "memory"), None, "not ours to see");
    }

    #[test]
    fn a_machine_without_groups_is_told_so() {
        assert_eq!(group("", "", "memory"), None);
        assert_eq!(group("5:memory:/", "no mount at all\n1 2 - x", "memory"), None);
    }

    #[test]
    fn names_stay_below_the_group() {
        for name in ["", ".", "..", "a/b", "/a", "../a"] {
            let (groups, without) = Groups::join(name, 1, 1);
            assert!(groups.0.is_empty(), "{name}");
            assert_eq!(without.len(), 4, "{name}");
        }
    }
}
