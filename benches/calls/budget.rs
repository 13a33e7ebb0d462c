//! Where the processor time of a warm call goes: samples of the node under load, by the function that ran.
//!
//! A sample belongs to the first layer of [`LAYERS`] that its function is of; what the compiler put into its caller counts
//! there. `perf` takes the samples. Source: perf-record(1), perf-script(1).

use super::way::{ALONE, CROWD, Shape, Way};
use super::{Failure, Stage};
use crate::load::Load;
use crate::options::Options;
use crate::process::Process;
use crate::report::{Rounds, Row, Unit};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Samples a second. A prime, so that nothing that comes round regularly is always or never met.
const RATE: &str = "3989";

/// Layers, and what names of their functions have in them. The first that fits counts.
const LAYERS: [(&str, &[&str]); 14] = [
    (
        "the kernel: sockets",
        &[
            "[k] tcp_",
            "[k] __tcp",
            "[k] sk_",
            "[k] sock",
            "[k] __sock",
            "[k] skb",
            "[k] __skb",
            "[k] inet",
            "[k] ip_",
            "[k] __ip",
            "[k] net",
            "[k] __net",
            "[k] dev_",
            "[k] __dev",
            "[k] loopback",
            "[k] lock_sock",
            "[k] release_sock",
            "[k] ep_",
            "[k] do_epoll",
            "[k] __ep",
            "[k] eth",
            "[k] process_backlog",
            "[k] nf_",
            "[k] ipv4",
            "[k] validate_xmit",
            "[k] dst_",
            "[k] __napi",
            "[k] napi",
        ],
    ),
    (
        "the kernel: memory of instances",
        &[
            "pagemap",
            "[k] clear_page",
            "[k] copy_page",
            "page_fault",
            "[k] zap_",
            "[k] unmap",
            "folio",
            "pte",
            "[k] mas_",
            "[k] vma_",
            "madvise",
            "mprotect",
            "mmap",
            "handle_mm_fault",
            "walk_p",
            "tlb",
            "mm_fault",
            "[k] exc_page",
        ],
    ),
    ("the kernel: threads and the rest", &["[k] "]),
    ("the guest's own code", &["[guest] "]),
    (
        "malloc and free",
        &["malloc", "free", "realloc", "calloc", "_int_", "tcache", "arena", "sysmalloc", "unlink_chunk"],
    ),
    ("copies: memcpy, memset", &["memcpy", "memmove", "memset", "memcmp", "bcmp"]),
    ("an instance: store, instantiation, teardown", &["wasmtime", "collector::exec", "collector::guest_calls"]),
    (
        "HTTP/2: h2, hyper, and our limits around them",
        &[
            "h2::",
            "hyper",
            "http::",
            "http_body",
            "httparse",
            "rpc::alone",
            "rpc::coalesce",
            "rpc::flood",
            "rpc::lifetime",
            "rpc::incoming",
            "rpc::stalled",
            "rpc::server",
            "rpc::edge",
            "rpc::ended",
            "rpc::heads",
        ],
    ),
    (
        "who calls, what it may, what it has used",
        &["collector::tenancy", "rpc::identify", "sha2", "blake3", "governor"],
    ),
    ("types: validation of request and reply", &["collector::registry", "prost_reflect"]),
    ("gRPC: frames, status, receipt", &["tonic", "prost", "collector::rpc"]),
    ("routing, lines before slots", &["collector::dispatch", "collector::fair", "collector::mesh"]),
    ("tasks and timers: tokio", &["tokio", "mio::", "async_task", "futures", "parking_lot", "pthread", "syscall"]),
    (REST, &[""]),
];

/// What no name above fits.
const REST: &str = "the rest: standard library, spans, unknown";

/// Group `budget`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    if let Err(why) = find(data.path()) {
        return Ok(vec![Row::skipped("where the processor time of a call goes", &why)]);
    }
    let stage = Stage::set(data.path()).await?;
    let (mut rounds, mut load) = (Rounds::default(), Load::start()?);
    for _ in 0..options.rounds() {
        for shape in [ALONE, CROWD] {
            round(&stage, shape, options, &mut load, &mut rounds, data.path()).await?;
        }
    }
    let shapes = [ALONE, CROWD].into_iter();
    Ok(shapes.flat_map(|shape| rows_of(&rounds, shape)).collect())
}

fn rows_of(rounds: &Rounds, shape: Shape) -> Vec<Row> {
    let whole = whole(shape);
    let layers = LAYERS.iter().map(|(layer, _)| rounds.row(&name(layer, shape), &whole));
    std::iter::once(rounds.alone(&whole)).chain(layers).collect()
}

fn whole(shape: Shape) -> String {
    format!("processor time of a native call, {shape}")
}

fn name(layer: &str, shape: Shape) -> String {
    format!("{layer}, {shape}")
}

/// Calls under `perf`; the processor time of one is divided by how many samples each layer has.
async fn round(
    stage: &Stage,
    shape: Shape,
    options: &Options,
    load: &mut Load,
    rounds: &mut Rounds,
    folder: &Path,
) -> Result<(), Failure> {
    let mut job = Way::Native.job(stage, shape, options)?;
    job.calls *= options.pick(3, 20); // some hundred milliseconds at least, or perf has nothing to say
    let file = folder.join("samples");
    load.run(&job).await?; // what is cold is not what is asked about
    let before = stage.node.cpu()?;
    let perf = Perf::start(&stage.node, &file)?;
    let ran = load.run(&job).await?;
    perf.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let each = stage.node.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / (job.calls + job.in_flight) as f64;
    let counts = counts(&file)?;
    let samples: usize = counts.values().sum();
    rounds.value(&whole(shape), Unit::Time, each, ran.calls);
    for (layer, _) in &LAYERS {
        let count = counts.get(layer).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
        let share = count as f64 / samples.max(1) as f64;
        rounds.value(&name(layer, shape), Unit::Time, share * each, count);
    }
    Ok(())
}

/// Whether `perf` is there and may look at processes.
fn find(folder: &Path) -> Result<(), String> {
    let mut command = Command::new("perf");
    command.args(["record", "--quiet", "--event", "cpu-clock", "--output"]).arg(folder.join("trial")).arg("true");
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err("perf may not look at processes here (sysctl kernel.perf_event_paranoid)".to_owned()),
        Err(_) => Err("there is no perf on the PATH (Debian: apt-get install linux-perf)".to_owned()),
    }
}

/// `perf record` of a process, ended with its owner.
struct Perf(Child);

impl Perf {
    fn start(process: &Process, to: &Path) -> Result<Self, Failure> {
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--event", "cpu-clock", "--freq", RATE, "--pid", &process.id().to_string()]);
        let _ = std::fs::remove_file(to);
        let mut perf = Self(command.arg("--output").arg(to).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        // Its file is there once it looks.
        while !to.exists() {
            if let Some(status) = perf.0.try_wait()? {
                return Err(format!("perf ended with {status}").into());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(perf)
    }

    /// Lets it write what it has.
    fn stop(mut self) -> Result<(), Failure> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::INT)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Samples of each layer.
///
/// * errors: `perf` could not read what it wrote: it may not look at processes here.
fn counts(file: &Path) -> Result<BTreeMap<&'static str, usize>, Failure> {
    let output = Command::new("perf").args(["script", "--fields", "ip,sym,dso", "--input"]).arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut counts = BTreeMap::new();
    for line in said.lines().filter_map(function) {
        let layer = LAYERS.iter().find(|(_, needles)| needles.iter().any(|needle| line.contains(needle)));
        *counts.entry(layer.map_or(REST, |(layer, _)| layer)).or_default() += 1;
    }
    if counts.is_empty() {
        return Err(format!("perf has no samples: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(counts)
}

/// `    7f12ab tcp_sendmsg ([kernel.kallsyms])` as `[k] tcp_sendmsg`. Code that is in no library and not the node's own is
/// a guest's.
fn function(line: &str) -> Option<String> {
    let (rest, object) = line.trim().strip_suffix(')')?.rsplit_once(" (")?;
    let (_address, function) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_library = object.contains(".so") || object.ends_with("/collector") || object.starts_with('[');
    Some(match object {
        "[vdso]" => format!("{function} pthread"),
        _ if object.starts_with("[kernel") || object.starts_with("[guest.kernel") => format!("[k] {function}"),
        _ if is_library => function.to_owned(),
        _ => format!("[guest] {function}"),
    })
}
