//! `GET /metrics`: what there is to count, as OpenMetrics text, for who runs the node. Nothing is counted for it: it reads
//! what links and calls count for themselves.
//!
//! Source: OpenMetrics 1.0, <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use super::{CHALLENGE, plain};
use crate::domain::Namespace;
use crate::mesh::{LinkState, Phase};
use crate::rpc::edge;
use crate::rpc::mesh::LinkKeeper;
use crate::tenancy::{Tenancy, Verb};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use tonic::body::Body;

/// Where it is. No call goes there: a method has two segments.
const PATH: &str = "/metrics";
const TEXT: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers who asks.
#[derive(Clone)]
pub struct Metrics {
    links: LinkKeeper,
    tenancy: Tenancy,
    /// Whether those whom nobody asks are operators.
    trusting: bool,
}

impl Metrics {
    /// * `trusting`: only this machine reaches the node.
    pub fn new(links: LinkKeeper, tenancy: Tenancy, trusting: bool) -> Self {
        Self { links, tenancy, trusting }
    }

    /// Whether a request is for them.
    pub(super) fn has(request: &Request<Body>) -> bool {
        request.uri().path() == PATH
    }

    pub(super) fn get(&self, request: &Request<()>) -> Response<Body> {
        if request.method() != Method::GET {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are only read\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        if let Err(response) = self.admit(request) {
            return *response;
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Links(self.links.clone())));
        let mut said = String::new();
        if text::encode(&mut said, &registry).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the node failed to answer");
        }
        let mut response = Response::new(Body::new(Full::new(said.into())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, TEXT);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Lets in who may read what the node keeps about itself. Who may is not written down each time: it asks every few
    /// seconds.
    fn admit(&self, request: &Request<()>) -> Result<(), Box<Response<Body>>> {
        let refuse = |status: StatusCode, why: String| Box::new(plain(status, format!("{why}\n")));
        let caller = edge::caller_of(request.extensions()).map_err(|status| {
            let mut response = refuse(StatusCode::UNAUTHORIZED, status.message().to_owned());
            response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
            response
        })?;
        let caller = self.tenancy.enter(caller, None);
        let caller = caller.map_err(|why| refuse(StatusCode::TOO_MANY_REQUESTS, why.to_string()))?;
        let system = Namespace::system();
        let is_operator = match self.tenancy.asks() {
            true => self.tenancy.allows(&caller, &system, Verb::Read),
            false => self.trusting,
        };
        match is_operator {
            true => Ok(()),
            false => {
                self.tenancy.refused(&caller, &system, Verb::Read);
                Err(refuse(
                    StatusCode::FORBIDDEN,
                    "metrics are for those who run the node (role admin in *)".to_owned(),
                ))
            }
        }
    }
}

/// The node's calls, and its links.
#[derive(Clone)]
struct Links(LinkKeeper);

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

/// One number of each link: what it is called, what it says, and how it is read.
type Each = (&'static str, &'static str, Option<Unit>, fn(&Links, &LinkState) -> u64);

const COUNTERS: [Each; 4] = [
    ("collector_link_dials", "Times that a link to the peer was tried", None, |links, link| links.tally(link).dials),
    ("collector_link_ups", "Times that it came up", None, |links, link| links.tally(link).links),
    ("collector_link_sent", "Written to its connections", Some(Unit::Bytes), |links, link| {
        links.tally(link).sent_bytes
    }),
    ("collector_link_received", "Read from its connections", Some(Unit::Bytes), |links, link| {
        links.tally(link).received_bytes
    }),
];

const GAUGES: [Each; 4] = [
    ("collector_link_up", "Whether calls can be handed to the peer", None, |_, link| {
        u64::from(link.phase == Phase::Linked)
    }),
    ("collector_link_services", "Services that the peer offers and this node takes", None, |_, link| {
        link.offers as u64
    }),
    ("collector_link_calls_in_flight", "Calls that the peer has of this node", None, |links, link| {
        links.in_flight(link)
    }),
    ("collector_link_peer_calls", "Calls that the peer answers, from whomever", None, |_, link| u64::from(link.calls)),
];

impl Links {
    fn tally(&self, link: &LinkState) -> crate::mesh::Tally {
        self.0.links().counts(&link.address).map(|counts| counts.tally()).unwrap_or_default()
    }

    fn in_flight(&self, link: &LinkState) -> u64 {
        let topology = self.0.mesh().topology();
        let peer = link.peer.as_ref().filter(|_| link.phase == Phase::Linked).and_then(|id| topology.peer(id));
        peer.map_or(0, |peer| peer.in_flight() as u64)
    }
}

fn labels(link: &LinkState) -> [(&'static str, String); 2] {
    [("address", link.address.clone()), ("peer", link.peer.as_ref().map(ToString::to_string).unwrap_or_default())]
}

impl Collector for Links {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (calls, most) = self.0.load();
        for (name, help, value) in [
            ("collector_calls", "Calls that the node answers at this moment", calls),
            ("collector_calls_max", "Calls that it answers at once at most", most),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::from(value)).encode(metric)?;
        }
        let links = self.0.links().all();
        for (name, help, unit, read) in &COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for link in &links {
                ConstCounter::new(read(self, link)).encode(family.encode_family(&labels(link))?)?;
            }
        }
        for (name, help, unit, read) in &GAUGES {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for link in &links {
                let value = i64::try_from(read(self, link)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels(link))?)?;
            }
        }
        let help = "Calls that were handed to the peer and are over, by what became of them";
        let mut family = encoder.encode_descriptor("collector_link_calls", help, None, MetricType::Counter)?;
        for link in &links {
            let tally = self.tally(link).named();
            for (outcome, count) in
                tally.iter().filter_map(|(name, count)| Some((name.strip_prefix("calls_")?, *count)))
            {
                let [address, peer] = labels(link);
                let labels = [address, peer, ("outcome", outcome.to_owned())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
