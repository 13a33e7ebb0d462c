//! The one request that containers are made with. Source: threats.md B10.
//!
//! Of a call it takes the arguments, the environment and less memory; everything else is fixed here or by the operator.

use super::Config;
use super::life::NODE_LABEL;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::HashMap;

/// The system calls that a container may make: Docker's own list without what plugins have no use for (tracing,
/// namespaces, keys, shared memory, memfd, io_uring, bpf, other socket families). As the engine takes it.
const SECCOMP: &str = include_str!("seccomp.json");
/// `nobody`: a number, so that no file of an image can say who that is.
const USER: &str = "65534:65534";
/// Scratch space. 16 MiB: a guest's whole request and reply fit several times. It counts as the container's memory. 4,096
/// files: emptying it takes milliseconds.
const TMP: &str = "rw,noexec,nosuid,nodev,size=16m,nr_inodes=4096,mode=1777";
/// Processes and threads of one container. 64: a runtime with a pool of threads fits, a fork bomb is small.
const PIDS: i64 = 64;
/// Open files of one process. Source: threats.md B9.
const FILES: i64 = 64;
/// Least memory that the engine takes. Source: Docker's own minimum.
const MEMORY_MIN_MIB: u64 = 6;

/// What one container is for.
pub(super) struct Purpose<'a> {
    /// The image, as the engine knows it.
    pub(super) image: &'a str,
    /// The program and its first arguments; `None`: the image's own.
    pub(super) entrypoint: Option<&'static str>,
    /// All further arguments.
    pub(super) arguments: Vec<String>,
    /// The whole environment that we give.
    pub(super) environment: Vec<String>,
    /// MiB of memory.
    pub(super) memory_mib: u64,
}

/// The request for one container.
///
/// * `node`: value of the label that says whose it is.
pub(super) fn body(config: &Config, node: &str, purpose: Purpose<'_>) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(purpose.image.to_owned()),
        entrypoint: purpose.entrypoint.map(|program| vec![program.to_owned()]),
        cmd: Some(purpose.arguments),
        env: Some(purpose.environment),
        user: Some(USER.to_owned()),
        working_dir: purpose.entrypoint.map(|_ours| "/".to_owned()),
        hostname: Some("plugin".to_owned()),
        network_disabled: Some(true),
        // An image's own would run programs beside the call.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(HashMap::from([(NODE_LABEL.to_owned(), node.to_owned())])),
        tty: Some(false),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        host_config: Some(host_config(config, purpose.memory_mib)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(config: &Config, memory_mib: u64) -> HostConfig {
    let memory = i64::try_from(memory_mib.max(MEMORY_MIN_MIB) << 20).unwrap_or(i64::MAX);
    HostConfig {
        network_mode: Some("none".to_owned()),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        privileged: Some(false),
        security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={SECCOMP}")]),
        pids_limit: Some(PIDS),
        memory: Some(memory),
        // The same: no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(config.cpus) * 1_000_000_000),
        ipc_mode: Some("none".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), TMP.to_owned())])),
        ulimits: Some(vec![ulimit("nofile", FILES), ulimit("nproc", processes(config)), ulimit("core", 0)]),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        init: Some(true),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        runtime: Some(config.runtime.clone()).filter(|runtime| !runtime.is_empty()),
        ..HostConfig::default()
    }
}

/// The kernel counts this one by user, over all containers of the engine and whatever else runs as that user there: room
/// for all of this node's together. A single container is held by `PIDS`; this is the second fence. Where two nodes share
/// an engine that does not map users, or the machine runs much as `nobody`, they take from one count: a fork may fail in
/// one because of the other.
fn processes(config: &Config) -> i64 {
    let containers = config.slots.saturating_add(config.warm);
    i64::try_from(containers).unwrap_or(i64::MAX).saturating_mul(PIDS)
}

fn ulimit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Digest;
    use serde_json::{Value, json};

    fn request(config: &Config, memory_mib: u64) -> Value {
        let purpose = Purpose {
            image: "sha256:00",
            entrypoint: Some("/plugin"),
            arguments: vec!["acme".into(), "greeter.v1.Greeter".into(), "Greet".into()],
            environment: vec!["COLLECTOR_NAMESPACE=acme".into()],
            memory_mib,
        };
        serde_json::to_value(body(config, "node-1", purpose)).unwrap()
    }

    #[test]
    fn k01_the_whole_request_is_the_golden_one() {
        let mut sent = request(&Config::default(), 512);
        let profile = sent["HostConfig"]["SecurityOpt"][1].take();
        let profile = profile.as_str().unwrap().strip_prefix("seccomp=").unwrap();
        assert_eq!(profile, SECCOMP, "the profile goes as it stands");
        let reviewed = "75ef45fa70db852fc292f52d4aa3fe351b6abb31da0b6adfa22fec6331107b69";
        assert_eq!(Digest::of(SECCOMP.as_bytes()).to_string(), reviewed, "a change of the profile is a decision");
        let golden: Value = serde_json::from_str(include_str!("request.golden.json")).unwrap();
        assert_eq!(sent, golden, "{}", serde_json::to_string_pretty(&sent).unwrap());
    }

    #[test]
    fn settings_and_a_smaller_memory_are_all_that_changes() {
        let config = Config { cpus: 2, runtime: "runsc".into(), slots: 1, warm: 2, ..Config::default() };
        let (mut changed, plain) = (request(&config, 1), request(&Config::default(), 512));
        let host = &mut changed["HostConfig"];
        let least = json!(6 << 20);
        assert_eq!((&host["Memory"], &host["MemorySwap"]), (&least, &least), "the engine takes no less");
        assert_eq!((&host["NanoCpus"], &host["Runtime"]), (&json!(2_000_000_000_i64), &json!("runsc")));
        assert_eq!(host["Ulimits"][1]["Hard"], json!(3 * PIDS));
        for key in ["Memory", "MemorySwap", "NanoCpus", "Ulimits"] {
            host[key] = plain["HostConfig"][key].clone();
        }
        host.as_object_mut().unwrap().remove("Runtime");
        assert_eq!(changed, plain);
    }

    #[test]
    fn the_profile_refuses_by_default_and_lists_no_way_out() {
        let profile: Value = serde_json::from_str(SECCOMP).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let rules = profile["syscalls"].as_array().unwrap();
        let allowed = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null());
        let names: Vec<&str> =
            allowed.flat_map(|rule| rule["names"].as_array().unwrap()).map(|name| name.as_str().unwrap()).collect();
        for never in [
            "clone",
            "clone3",
            "socket",
            "ptrace",
            "process_vm_writev",
            "mount",
            "unshare",
            "setns",
            "bpf",
            "keyctl",
            "add_key",
            "memfd_create",
            "io_uring_setup",
            "perf_event_open",
            "userfaultfd",
            "shmget",
            "mq_open",
            "reboot",
            "open_by_handle_at",
            "kexec_load",
            "init_module",
            "pivot_root",
            "chroot",
            "setuid",
            "prlimit64",
        ] {
            assert!(!names.contains(&never), "{never}");
        }
    }
}
