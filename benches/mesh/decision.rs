//! Who gets a call, as often as there are calls.

use crate::Failure;
use crate::options::Options;
use crate::report::{Rounds, Row, Unit, micros};
use collector::domain::{CollectorId, Namespace};
use collector::mesh::{Change, Mesh, Offer, OfferedMethod, Peer, PeerPolicy, Served, Wanted};
use std::sync::Arc;
use tokio::time::Instant;

const SERVICES: usize = 1_000;
const PEERS: usize = 100;

/// With so many peers of which each has all services, one in ten of them out of order.
pub(super) fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    const DECISION: &str = "a routing decision, 1,000 services on 100 peers";
    let (own, namespace): (CollectorId, Namespace) = ("own".parse()?, "bench".parse()?);
    let mesh = Mesh::new(own.clone());
    let names: Vec<String> = (0..SERVICES).map(|number| format!("shop.v1.Service{number}")).collect();
    let allows = vec!["*:invoker".parse()?];
    let policy = Arc::new(PeerPolicy { address: "127.0.0.1:1".into(), identity: None, allows, name: None });
    for number in 0..PEERS {
        let peer = mesh.linked(Peer::new(format!("n{number}").parse()?, Arc::clone(&policy)));
        mesh.offered(&peer, names.iter().map(|name| Change::Put(offer(&namespace, name))).collect());
        if number % 10 == 0 {
            while let Some(mut attempt) = peer.attempt(Instant::now()) {
                attempt.failed();
            }
        }
    }
    let visited: [CollectorId; 2] = ["v1".parse()?, "v2".parse()?];
    let (mut rounds, decisions) = (Rounds::default(), options.pick(200_000, 10_000));
    for _ in 0..options.rounds() {
        let began = Instant::now();
        for service in names.iter().cycle().take(decisions) {
            let wanted = Wanted {
                own: &own,
                namespace: &namespace,
                service,
                method: "Get",
                target: None,
                visited: &visited,
                tried: &[],
            };
            std::hint::black_box(mesh.route(std::hint::black_box(&wanted))?);
        }
        let each = micros(began.elapsed()) / f64::from(u32::try_from(decisions)?);
        rounds.value(DECISION, Unit::Time, each, decisions);
    }
    let bar = Row::at_most("a routing decision, us", rounds.median(DECISION), 1.0);
    Ok(vec![rounds.alone(DECISION), bar])
}

fn offer(namespace: &Namespace, service: &str) -> Offer {
    let method = OfferedMethod { name: "Get".into(), client_streaming: false, server_streaming: false };
    Offer {
        what: Served { namespace: namespace.clone(), service: service.into() },
        version: 1,
        digest: None,
        deployment: None,
        methods: vec![method],
        through: Vec::new(),
    }
}
