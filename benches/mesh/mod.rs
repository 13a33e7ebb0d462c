//! Calls that another node answers, beside the same where the code is; a routing decision by itself; what is lost when a
//! node is killed, and when all of them are restarted. Nodes are processes on loopback, linked in clear.

mod clients;
mod decision;
mod loss;
mod nodes;
#[path = "../../tests/it/mesh_nodes/unsent.rs"]
mod unsent;

use crate::Failure;
use crate::echo::{HELLO, Hello};
use crate::load::{Job, Kind, Load};
use crate::options::Options;
use crate::plugins;
use crate::report::{Rounds, Row};
use nodes::{Nodes, greeted};
use prost::Message as _;

const NAMESPACE: &str = "bench";
/// Bytes of a name to greet.
const BYTES: usize = 256;

/// Group `mesh`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let mut rows = forwarded(options).await?;
    rows.extend(decision::rows(options)?);
    rows.extend(loss::killed(options).await?);
    rows.extend(loss::restarted(options).await?);
    Ok(rows)
}

/// Of a chain of three, the last has the code.
async fn forwarded(options: &Options) -> Result<Vec<Row>, Failure> {
    const WAYS: [(usize, &str); 3] = [(2, "answered here"), (1, "handed over once"), (0, "handed over twice")];
    let nodes = Nodes::start(3, &[(0, 1), (1, 2)]).await?;
    nodes.deploy(&[2], &plugins::component("greeter")?).await?;
    for (number, _) in WAYS {
        greeted(nodes.address(number)?).await?;
    }
    let name = |way: &str, in_flight: usize| match in_flight {
        1 => format!("{way}, alone, {BYTES} B"),
        many => format!("{way}, {many} over 8, {BYTES} B"),
    };
    let (mut rounds, mut load) = (Rounds::default(), Load::start()?);
    for _ in 0..options.rounds() {
        for in_flight in [1, 64] {
            for (number, way) in WAYS {
                let job = job(nodes.address(number)?, in_flight, options);
                load.round(&mut rounds, &name(way, in_flight), &job, Some(nodes.process(number)?)).await?;
            }
        }
    }
    let [(_, here), (_, once), _] = WAYS;
    let mut rows = Vec::new();
    for in_flight in [1, 64] {
        rows.extend(WAYS.map(|(_, way)| rounds.row(&name(way, in_flight), &name(here, in_flight))));
    }
    let ratio = rounds.ratio(&name(once, 1), &name(here, 1));
    rows.push(Row::at_most("a call handed over once / answered here, p50 alone", ratio, 2.2));
    Ok(rows)
}

fn job(address: &str, in_flight: usize, options: &Options) -> Job {
    let message = Hello { text: "x".repeat(BYTES) }.encode_to_vec();
    let mut job = Job::new(address, HELLO, Kind::Grpc).header("collector-namespace", NAMESPACE).message(&message);
    (job.in_flight, job.connections) = (in_flight, in_flight.min(8));
    job.calls = if in_flight == 1 { options.pick(2_000, 50) } else { options.pick(8_000, 256) };
    job
}
