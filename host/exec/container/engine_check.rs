//! Whether an engine can keep what a container here needs: asked when it is first seen, and whenever it comes back.

use super::{Config, engine::Engine};
use crate::exec::Fact;
use bollard::errors::Error;
use bollard::models::SystemInfo;
use bollard::{ClientVersion, Docker};

/// The oldest API that knows all that a container's request has: Docker 20.10.
const OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// Why an engine cannot be used, and what to do about it, for operators.
#[derive(Debug, Clone)]
pub(super) enum Absence {
    /// It does not answer, or not with sense: it may when it is asked again.
    Away(String),
    /// It answers, and cannot keep what is needed here.
    Unusable(String),
}

/// Connects and asks what it is.
///
/// * returns: the client, or why not; and facts for operators.
pub(super) async fn ask(config: &Config) -> (Result<Docker, Absence>, Vec<Fact>) {
    match info(config).await {
        Ok((docker, version, info)) => {
            let answer = usable(config, &version, &info).map(|()| docker).map_err(Absence::Unusable);
            (answer, facts(&info, &version))
        }
        Err(why) => (Err(Absence::Away(unreachable_why(&why))), Vec::new()),
    }
}

async fn info(config: &Config) -> Result<(Docker, ClientVersion, SystemInfo), Error> {
    let docker = Engine::client(&config.socket)?.negotiate_version().await?;
    let info = docker.info().await?;
    let version = docker.client_version();
    Ok((docker, version, info))
}

/// Without the words of the client: they have paths.
fn unreachable_why(why: &Error) -> String {
    let what = match why {
        Error::SocketNotFoundError(_) => "there is no socket of a container engine",
        Error::HyperLegacyError { err } if err.is_connect() => "the container engine's socket cannot be connected to",
        Error::DockerResponseServerError { .. } => "what answers at the container engine's socket refuses to",
        _ => "what answers at the container engine's socket makes no sense",
    };
    format!("{what}: start Docker (systemctl start docker), or name its socket in exec.container.socket")
}

/// What the engine does not have it would leave out with a warning: so it is asked for first.
fn usable(config: &Config, version: &ClientVersion, info: &SystemInfo) -> Result<(), String> {
    if *version < OLDEST {
        return Err(format!("the container engine is too old (API {version}): Docker 20.10 or later is needed"));
    }
    let says_no = |answer: Option<bool>| answer == Some(false);
    let limits =
        [(info.memory_limit, "memory"), (info.cpu_cfs_quota, "CPU"), (info.pids_limit, "the number of processes")];
    for (answer, what) in limits {
        if says_no(answer) {
            return Err(format!("the container engine cannot limit {what} here: the kernel lacks the control group"));
        }
    }
    if !has_option(info, "seccomp") {
        return Err("the container engine has no seccomp here: use a kernel and an engine that have it".to_owned());
    }
    if config.require_userns && !remaps(info) {
        return Err(
            "root in a container would be root here: start the engine with --userns-remap=default or rootless, \
                    or accept it with exec.container.require_userns=false"
                .to_owned(),
        );
    }
    if info.init_binary.as_deref().unwrap_or_default().is_empty() {
        return Err("the container engine has no init binary: install docker-init (tini)".to_owned());
    }
    let runtimes = info.runtimes.as_ref();
    if !config.runtime.is_empty() && !runtimes.is_some_and(|known| known.contains_key(&config.runtime)) {
        return Err(format!("the container engine has no runtime {:?} (exec.container.runtime)", config.runtime));
    }
    Ok(())
}

/// Whether root in a container is somebody else here.
fn remaps(info: &SystemInfo) -> bool {
    has_option(info, "userns") || has_option(info, "rootless")
}

/// As in `name=seccomp,profile=default`.
fn has_option(info: &SystemInfo, name: &str) -> bool {
    let named = |option: &String| option.split(',').any(|part| part.strip_prefix("name=") == Some(name));
    info.security_options.as_ref().is_some_and(|options| options.iter().any(named))
}

fn facts(info: &SystemInfo, version: &ClientVersion) -> Vec<Fact> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut runtimes: Vec<&str> = info.runtimes.iter().flatten().map(|(name, _)| name.as_str()).collect();
    runtimes.sort_unstable();
    let control_groups = info.cgroup_version.map_or_else(|| "unknown".to_owned(), |version| format!("v{version}"));
    let remap = if remaps(info) { "root in containers is somebody else" } else { "root in containers is root here" };
    [
        ("container engine", format!("{} (API {version})", text(&info.server_version))),
        ("container users", remap.to_owned()),
        ("container runtimes", format!("{} (default {})", runtimes.join(", "), text(&info.default_runtime))),
        ("container control groups", control_groups),
    ]
    .map(|(what, is)| (what.to_owned(), is))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::Runtime;

    fn usable(config: &Config, info: &SystemInfo) -> Result<(), String> {
        super::usable(config, &OLDEST, info)
    }

    fn good() -> SystemInfo {
        SystemInfo {
            security_options: Some(vec!["name=seccomp,profile=default".into(), "name=userns".into()]),
            init_binary: Some("docker-init".into()),
            runtimes: Some([("runc".to_owned(), Runtime::default())].into()),
            ..SystemInfo::default()
        }
    }

    #[test]
    fn an_engine_that_lacks_something_is_refused_with_what_to_do() {
        let config = Config::default();
        assert_eq!(usable(&config, &good()), Ok(()));
        let rootless = vec!["name=seccomp".into(), "name=rootless".into()];
        assert_eq!(usable(&config, &SystemInfo { security_options: Some(rootless), ..good() }), Ok(()));

        let old = ClientVersion { major_version: 1, minor_version: 40 };
        let said = super::usable(&config, &old, &good()).unwrap_err();
        assert!(said.contains("1.40") && said.contains("20.10"), "{said}");

        let root = SystemInfo { security_options: Some(vec!["name=seccomp".into()]), ..good() };
        let said = usable(&config, &root).unwrap_err();
        assert!(said.contains("--userns-remap=default") && said.contains("require_userns=false"), "{said}");
        assert_eq!(usable(&Config { require_userns: false, ..config.clone() }, &root), Ok(()));

        let without = [
            (SystemInfo { security_options: None, ..good() }, "seccomp"),
            (SystemInfo { init_binary: None, ..good() }, "docker-init"),
            (SystemInfo { pids_limit: Some(false), ..good() }, "processes"),
            (SystemInfo { memory_limit: Some(false), ..good() }, "memory"),
        ];
        for (info, word) in without {
            let said = usable(&config, &info).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
        let said = usable(&Config { runtime: "runsc".into(), ..config }, &good()).unwrap_err();
        assert!(said.contains("runsc") && said.contains("exec.container.runtime"), "{said}");
    }
}
