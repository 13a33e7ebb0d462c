use super::super::{Change, Mesh, Offer, PeerPolicy, Through};
use super::*;
use crate::domain::Namespace;
use proptest::prelude::*;
use std::collections::HashSet;
use std::time::Duration;

fn id(n: usize) -> CollectorId {
    format!("n{n}").parse().unwrap()
}

fn acme() -> Namespace {
    "acme".parse().unwrap()
}

fn offer(service: &str, through: Vec<CollectorId>) -> Offer {
    let what = Served { namespace: acme(), service: service.into() };
    let methods = vec![OfferedMethod { name: "Get".into(), client_streaming: false, server_streaming: false }];
    Offer { what, version: 1, digest: None, deployment: None, methods, through }
}

fn link(mesh: &Mesh, n: usize) -> Arc<Peer> {
    mesh.linked(Peer::new(id(n), PeerPolicy::open()))
}

fn serving(mesh: &Mesh, n: usize, service: &str) -> Arc<Peer> {
    let peer = link(mesh, n);
    mesh.offered(&peer, vec![Change::Put(offer(service, Vec::new()))]);
    peer
}

fn wanted<'a>(own: &'a CollectorId, namespace: &'a Namespace, service: &'a str) -> Wanted<'a> {
    Wanted { own, namespace, service, method: "Get", target: None, visited: &[], tried: &[] }
}

fn kill(peer: &Arc<Peer>) {
    while let Some(mut attempt) = peer.attempt(Instant::now()) {
        attempt.failed();
    }
}

#[test]
fn each_way_not_to_find_anybody_says_which_it_is() {
    let (mesh, own, acme) = (Mesh::new(id(0)), id(0), acme());
    let base = wanted(&own, &acme, "x.v1.S");
    assert_eq!(mesh.route(&base).unwrap_err(), NoRoute::Nobody);
    let (one, two, far) = (id(1), id(2), id(9));
    assert_eq!(mesh.route(&Wanted { target: Some(&far), ..base }).unwrap_err(), NoRoute::Unlinked);
    let peer = serving(&mesh, 1, "x.v1.S");
    assert_eq!(mesh.route(&base).unwrap().peer.id, one);
    assert_eq!(mesh.route(&Wanted { service: "S", ..base }).unwrap().peer.id, one, "by its last segment");
    assert!(matches!(mesh.route(&Wanted { method: "Put", ..base }), Err(NoRoute::NoMethod { .. })));
    let other = "other".parse().unwrap();
    assert_eq!(mesh.route(&Wanted { namespace: &other, ..base }).unwrap_err(), NoRoute::Nobody);
    let rival: Namespace = "rival".parse().unwrap();
    let shut = ["acme:invoker".parse().unwrap()].to_vec();
    let shut = PeerPolicy { address: "127.0.0.1:1".into(), identity: None, allows: shut, name: None };
    let _shut = mesh.linked(Peer::new(id(8), Arc::new(shut)));
    let eighth = id(8);
    assert!(mesh.route(&Wanted { target: Some(&eighth), ..base }).is_ok());
    let foreign = Wanted { target: Some(&eighth), namespace: &rival, ..base };
    assert_eq!(mesh.route(&foreign).unwrap_err(), NoRoute::Unlinked, "it has no business with that namespace");
    let visited = [one.clone()];
    assert_eq!(mesh.route(&Wanted { visited: &visited, ..base }).unwrap_err(), NoRoute::Visited);
    assert_eq!(
        mesh.route(&Wanted { visited: &visited, target: Some(&one), ..base }).unwrap_err(),
        NoRoute::Visited,
        "a target, too"
    );
    let (three, four) = ([4, 5, 6].map(id), [4, 5, 6, 7].map(id));
    assert!(mesh.route(&Wanted { visited: &three, ..base }).is_ok(), "the fourth after the first");
    for target in [None, Some(&one)] {
        assert_eq!(mesh.route(&Wanted { visited: &four, target, ..base }).unwrap_err(), NoRoute::Hops);
    }
    assert_eq!(mesh.route(&Wanted { tried: &visited, ..base }).unwrap_err(), NoRoute::Away);
    kill(&peer);
    for target in [None, Some(&one)] {
        assert_eq!(mesh.route(&Wanted { target, ..base }).unwrap_err(), NoRoute::Away);
    }
    let _also = serving(&mesh, 2, "y.v1.S");
    assert!(matches!(mesh.route(&Wanted { service: "S", ..base }), Err(NoRoute::Ambiguous { .. })));
    let found = mesh.route(&Wanted { service: "CollectionService", target: Some(&two), ..base }).unwrap();
    assert!(found.peer.id == two && found.method.is_none(), "a target is asked for what nobody offers");
}

#[test]
fn the_nearest_gets_the_call_and_a_target_behind_a_peer_is_reached() {
    let (mesh, own, acme) = (Mesh::new(id(0)), id(0), acme());
    let base = wanted(&own, &acme, "x.v1.S");
    let far = link(&mesh, 1);
    mesh.offered(&far, vec![Change::Put(offer("x.v1.S", vec![id(3)]))]);
    assert_eq!(mesh.route(&base).unwrap().peer.id, id(1));
    let near = serving(&mesh, 2, "x.v1.S");
    let busy: Vec<_> = (0..100).map(|_| near.begin()).collect();
    assert!((0..50).all(|_| mesh.route(&base).unwrap().peer.id == id(2)));
    let target = id(3);
    mesh.told(&far, &[Through::from([id(3)])]);
    for service in ["x.v1.S", "collector.CollectionService"] {
        let wanted = Wanted { target: Some(&target), service, ..base };
        assert_eq!(mesh.route(&wanted).unwrap().peer.id, id(1), "whatever it serves");
    }
    mesh.told(&near, &[Through::from([id(4), id(3)])]);
    assert_eq!(mesh.route(&Wanted { target: Some(&target), ..base }).unwrap().peer.id, id(1), "the shortest way");
    let (tried, three) = ([id(1)], [5, 6, 7].map(id));
    let detour = Wanted { target: Some(&target), tried: &tried, ..base };
    assert_eq!(mesh.route(&detour).unwrap().peer.id, id(2), "a longer way is better than none");
    assert_eq!(mesh.route(&Wanted { visited: &three[..1], ..detour }).unwrap().peer.id, id(2), "the fourth");
    assert_eq!(mesh.route(&Wanted { visited: &three[..2], ..detour }).unwrap_err(), NoRoute::Away);
    assert_eq!(mesh.route(&Wanted { visited: &three, tried: &[], ..detour }).unwrap_err(), NoRoute::Hops);
    drop(busy);
    kill(&near);
    assert_eq!(mesh.route(&base).unwrap().peer.id, id(1), "a longer way is better than none");
    let visited = [id(3)];
    assert_eq!(mesh.route(&Wanted { visited: &visited, ..base }).unwrap_err(), NoRoute::Away);
}

#[test]
fn calls_are_shared_out_by_what_runs_and_how_long_it_takes() {
    let (mesh, own, acme) = (Mesh::new(id(0)), id(0), acme());
    let base = wanted(&own, &acme, "x.v1.S");
    let peers: Vec<_> = (1..=4).map(|n| serving(&mesh, n, "x.v1.S")).collect();
    let share = |busy: &CollectorId| (0..400).filter(|_| mesh.route(&base).unwrap().peer.id == *busy).count();
    let even: Vec<_> = peers.iter().map(|peer| share(&peer.id)).collect();
    assert!(even.iter().all(|share| *share > 20), "{even:?}");
    let _calls: Vec<_> = (0..50).map(|_| peers[0].begin()).collect();
    assert!(share(&peers[0].id) < 10, "it has much to do");
}

/// A mesh of nodes, each with its own knowledge of the others.
#[derive(Debug, Clone)]
struct Graph {
    nodes: usize,
    /// Who dials whom.
    edges: HashSet<(usize, usize)>,
    /// Who has the service.
    has: HashSet<usize>,
    /// Who says that it has it, and has not.
    lies: HashSet<usize>,
    dead: HashSet<usize>,
    target: Option<usize>,
    seed: u64,
}

fn graphs() -> impl Strategy<Value = Graph> {
    (2..9usize).prop_flat_map(|nodes| {
        let some = || prop::collection::hash_set(0..nodes, 0..nodes);
        let edges = prop::collection::hash_set((0..nodes, 0..nodes), 0..=nodes * nodes);
        (edges, some(), some(), some(), prop::option::of(0..nodes), any::<u64>()).prop_map(
            move |(edges, has, lies, dead, target, seed)| {
                let edges = edges.into_iter().filter(|(from, to)| from != to).collect();
                Graph { nodes, edges, has, lies, dead, target, seed }
            },
        )
    })
}

impl Graph {
    /// How many links lead from the first to `target` at least.
    fn distance(&self, target: usize) -> Option<usize> {
        let mut reached = HashSet::from([0]);
        (0..self.nodes).find(|_| {
            let is_there = reached.contains(&target);
            let next: Vec<_> =
                self.edges.iter().filter(|(from, _)| reached.contains(from)).map(|(_, to)| *to).collect();
            reached.extend(next);
            is_there
        })
    }

    /// What each node knows once all have told each other everything, round by round.
    fn told(&self) -> Vec<(Mesh, Vec<Arc<Peer>>)> {
        let meshes: Vec<Mesh> = (0..self.nodes).map(|n| Mesh::new(id(n))).collect();
        let mut links = vec![Vec::new(); self.nodes];
        for (from, to) in &self.edges {
            let peer = link(&meshes[*from], *to);
            if self.dead.contains(to) {
                kill(&peer);
            }
            links[*from].push((*to, peer));
        }
        for _round in 0..self.nodes {
            for (from, peers) in links.iter().enumerate() {
                for (to, peer) in peers {
                    let own = self.has.contains(to) || self.lies.contains(to);
                    let beyond = meshes[*to].topology().beyond(&id(from), |_| true).into_iter().next();
                    let beyond = beyond.map(|(offer, through)| Offer { through, ..Offer::clone(&offer) });
                    let said = if own { Some(offer("x.v1.S", Vec::new())) } else { beyond };
                    let change = said.map_or_else(|| Change::Remove(offer("x.v1.S", Vec::new()).what), Change::Put);
                    meshes[from].offered(peer, vec![change]);
                    let around = meshes[*to].topology().around(&id(from), &PeerPolicy::open());
                    meshes[from].told(peer, &around.into_iter().map(Through::from).collect::<Vec<_>>());
                }
            }
        }
        let peers = links.into_iter().map(|all| all.into_iter().map(|(_, peer)| peer).collect());
        meshes.into_iter().zip(peers).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn m01_in_no_graph_a_call_goes_in_circles_or_too_far(graph in graphs()) {
        let told = graph.told();
        let (acme, now, target) = (acme(), Instant::now(), graph.target.map(id));
        let (mut at, mut visited, mut random) = (0, Vec::<CollectorId>::new(), graph.seed);
        loop {
            let (mesh, peers) = &told[at];
            if graph.has.contains(&at) && target.as_ref().is_none_or(|target| target == mesh.own()) {
                prop_assert!(visited.len() <= HOPS_MAX);
                break;
            }
            if target.as_ref() == Some(mesh.own()) {
                break; // it is asked, and has it not
            }
            let base = wanted(mesh.own(), &acme, "x.v1.S");
            let base = Wanted { target: target.as_ref(), visited: &visited, ..base };
            random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
            let topology = mesh.topology();
            let found = match topology.route(&base, now, random) {
                Ok(found) => found,
                Err(why) => {
                    let what = offer("x.v1.S", Vec::new()).what;
                    let all = topology.servers(&what).iter();
                    let fit = all.filter(|server| hindrance(server, &base, now).is_none()).count();
                    prop_assert!(fit == 0 || target.is_some(), "{why}");
                    let is_near = |target| graph.distance(target).is_some_and(|links| links <= HOPS_MAX);
                    let lost = graph.dead.is_empty() && graph.target.is_some_and(is_near);
                    prop_assert!(!lost, "a target that is near enough is found: {why}");
                    break;
                }
            };
            prop_assert!(peers.iter().any(|peer| Arc::ptr_eq(peer, &found.peer)), "over a link");
            prop_assert!(found.peer.is_healthy(now), "never to one that is away");
            if let Some(target) = &target {
                let leads = topology.ways(target).iter().any(|(peer, _)| peer.id == found.peer.id);
                prop_assert!(found.peer.id == *target || leads, "towards the target");
            }
            visited.push(mesh.own().clone());
            prop_assert!(!visited.contains(&found.peer.id), "no collector twice");
            prop_assert!(visited.len() <= HOPS_MAX, "not further than a call may go");
            at = (0..graph.nodes).find(|n| id(*n) == found.peer.id).unwrap();
        }
    }

    #[test]
    fn dead_peers_are_never_chosen_while_a_healthy_one_is_there(dead in prop::collection::vec(any::<bool>(), 1..40), seed: u64) {
        let (mesh, own, acme) = (Mesh::new(id(0)), id(0), acme());
        for (n, dead) in dead.iter().enumerate() {
            let peer = serving(&mesh, n + 1, "x.v1.S");
            if *dead {
                kill(&peer);
            }
        }
        let found = mesh.topology().route(&wanted(&own, &acme, "x.v1.S"), Instant::now(), seed);
        match found {
            Ok(found) => prop_assert!(found.peer.is_healthy(Instant::now())),
            Err(why) => prop_assert!(why == NoRoute::Away && dead.iter().all(|dead| *dead)),
        }
    }
}

/// The bar of issue 7, by hand: `cargo test --release -p collector --lib -- --ignored --nocapture decision`.
#[test]
#[ignore = "measures; needs a release build and a quiet machine"]
fn a_decision_takes_less_than_a_microsecond() {
    let (mesh, own, acme) = (Mesh::new(id(0)), id(0), acme());
    let names: Vec<String> = (0..1_000).map(|n| format!("shop.v1.Service{n}")).collect();
    for n in 1..=100 {
        let peer = link(&mesh, n);
        let all = names.iter().map(|name| Change::Put(offer(name, Vec::new()))).collect();
        mesh.offered(&peer, all);
        if n % 10 == 0 {
            kill(&peer);
        }
    }
    let visited = [id(500), id(501)];
    let rounds = 1_000_000;
    let began = Instant::now();
    for round in 0..rounds {
        let base = wanted(&own, &acme, &names[round % names.len()]);
        std::hint::black_box(mesh.route(&Wanted { visited: &visited, ..base }).unwrap());
    }
    let each = began.elapsed() / u32::try_from(rounds).unwrap();
    println!("one decision: {each:?}");
    assert!(each < Duration::from_micros(1), "{each:?}");
}
