//! Cases as data: objects of a cluster, and what becomes of a new flow from a client on a node.
//!
//! ```text
//! # comment
//! case 35: SENTENCE                          a case begins; before it the numbers of its rules
//! node NAME [zone=ZONE]                      a node, with an agent on it
//! service NAME [KEY=VALUE]..                 ports=NAME:PORT/PROTO,.. (:80/TCP)  type=TYPE (ClusterIP)
//!                                            itp=Local  etp=Local  affinity=SECONDS|default
//!                                            node-port=NUMBER (of the first port)
//!                                            balancer=NAME[:IPMODE],..  external=NAME,..  addresses outside
//!                                            sources=NETWORK,..  pods, nodes, outside, nobody or all
//!                                            vip=SERVICE  with the cluster IP of that one, not its own
//!                                            only=IPv4|IPv6  with a cluster IP of that family alone, and addresses
//!                                            outside of both
//! slice NAME of SERVICE [ports=NAME:PORT/PROTO,..] (:8080/TCP), its endpoints below
//!   NAME[@NODE][=CONDITION,..] [zones=ZONE,..] [nodes=NODE,..]     conditions as stated; `none`: all false
//! cidr NAME                                  a ServiceCIDR with all addresses of Services
//! with JSON                                  merged into the object above (RFC 7396)
//! without KIND NAME                          it is deleted; an object named again is replaced
//! ask NODE[/CLIENT][,..] TARGET:PORT[/PROTO] -> OUTCOME [in IPv4|IPv6]      else in both
//!                                            CLIENT: pod (of the node, if none is said), host (a process of the
//!                                            node) or outside (it comes in by an uplink of the node)
//!                                            TARGET: SERVICE (its cluster IP), external/NAME, or node/NAME with a
//!                                            node's primary address, node/other (another that each node has)
//!                                            or node/localhost
//! lacking NODE SERVICE -> [internal] [external]                    what is counted (rule 87)
//! ```
//!
//! An OUTCOME is the endpoints that may answer, `NAME[:PORT]..` (port 8080), with `sticky=SECONDS` where a
//! client comes back to the same one; or `refused` (at once), `dropped` (silently), `passed` (not ours).
//!
//! Addresses are no part of a case: who runs it says them by [`Addresses`], so that endpoints can be
//! pods of a lab. [`Objects::manifest`] gives the objects as `kubectl get -o json` prints them, which any source
//! takes. This folder needs `serde_json` and `lb_common` and nothing else, so that it can be included elsewhere.

mod manifest;
mod parse;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use lb_common::address::Family;
use serde_json::Value;

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    /// Rules and sentence.
    pub(crate) name: String,
    /// The nodes that agents run on, by name.
    pub(crate) nodes: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// The object exists and looks like this.
    Apply(Object),
    /// It is gone.
    Delete(Name),
    Ask(Ask),
    /// Under which of the policies "internal" and "external" the Service is counted on that node.
    Lacking {
        node: String,
        service: String,
        policies: Vec<&'static str>,
    },
}

/// Kind, as Kubernetes writes it, and name.
pub(crate) type Name = (&'static str, String);

/// An object, with places for addresses.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) name: Name,
    /// What it says but for addresses.
    pub(crate) body: Value,
    /// The Service whose cluster IP a Service has.
    pub(crate) vip: String,
    /// The family that a Service has a cluster IP of, where it has but one whoever asks.
    pub(crate) only: Option<Family>,
    /// Names of a Service's load balancer addresses, with their ipMode.
    pub(crate) balancers: Vec<(String, Option<String>)>,
    /// Names of a Service's external addresses.
    pub(crate) externals: Vec<String>,
    /// Networks that clients of load balancer addresses may be in.
    pub(crate) sources: Vec<Source>,
    /// Names of a slice's endpoints, in order.
    pub(crate) endpoints: Vec<String>,
    /// What is merged into it at the end.
    pub(crate) patches: Vec<Value>,
}

/// Networks that a Service admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Of such clients.
    Of(Client),
    /// Nobody is in it.
    Nobody,
    /// Everybody is.
    All,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A pod of the node.
    Pod,
    /// A process of the node itself.
    Host,
    /// Its packets come in by an uplink of the node.
    Outside,
}

/// Whom a client addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The Service's cluster IP; it need not exist.
    Vip(String),
    /// The address outside of that name.
    External(String),
    /// The node's primary address, or `other` or `localhost`.
    Node(String),
}

/// A client's question.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The clients, with the node that their packets meet first.
    pub(crate) clients: Vec<(String, Client)>,
    pub(crate) target: Target,
    pub(crate) port: u16,
    /// IP protocol number.
    pub(crate) protocol: u8,
    family: Option<Family>,
    outcome: Expected,
    text: String,
}

#[derive(Debug)]
enum Expected {
    Endpoints(Vec<(String, u16)>, u32),
    Verdict(Outcome),
}

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// One of these endpoints answers, in order of address and port; the client comes back to it for so many
    /// seconds.
    Answered(Vec<SocketAddr>, u32),
    /// The client is told at once that there is nobody.
    Refused,
    /// Nothing comes back.
    Dropped,
    /// It is none of our business.
    Passed,
}

/// Where things are.
pub(crate) trait Addresses {
    /// The cluster IP of the Service of that name, whether or not there is one.
    fn vip(&self, service: &str, family: Family) -> IpAddr;
    /// The endpoint of that name.
    fn endpoint(&self, name: &str, family: Family) -> IpAddr;
    /// The range of all VIPs, as a network.
    fn range(&self, family: Family) -> String;
    /// The address outside of that name, a load balancer's or an external one.
    fn external(&self, name: &str, family: Family) -> IpAddr;
    /// The primary address of the node of that name, or the address `other` that each node has besides.
    fn node(&self, name: &str, family: Family) -> IpAddr;
    /// A network that such clients are in, and no others.
    fn clients(&self, client: Client, family: Family) -> String;
}

/// The objects at some point of a case.
#[derive(Debug, Default)]
pub(crate) struct Objects(BTreeMap<Name, Object>);

impl Objects {
    pub(crate) fn apply(&mut self, object: &Object) {
        self.0.insert(object.name.clone(), object.clone());
    }

    pub(crate) fn delete(&mut self, name: &Name) {
        let gone = self.0.remove(name);
        assert!(gone.is_some(), "there is no {name:?} to delete");
    }

    /// All of them as one List.
    pub(crate) fn manifest(&self, family: Family, addresses: &impl Addresses) -> Value {
        manifest::list(self.0.values(), family, addresses)
    }
}

impl Ask {
    /// The clients on that node.
    pub(crate) fn clients_on(&self, node: &str) -> impl Iterator<Item = Client> {
        let all = self.clients.iter().filter(move |(on, _)| on == node);
        all.map(|(_, client)| *client)
    }

    /// The families that it is asked in.
    pub(crate) fn families(&self) -> impl Iterator<Item = Family> {
        let all = Family::BOTH.into_iter();
        all.filter(|family| self.family.is_none_or(|only| only == *family))
    }

    pub(crate) fn address(&self, family: Family, addresses: &impl Addresses) -> IpAddr {
        match &self.target {
            Target::Vip(service) => addresses.vip(service, family),
            Target::External(name) => addresses.external(name, family),
            Target::Node(name) if name == "localhost" => match family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            },
            Target::Node(name) => addresses.node(name, family),
        }
    }

    pub(crate) fn outcome(&self, family: Family, addresses: &impl Addresses) -> Outcome {
        match &self.outcome {
            Expected::Verdict(outcome) => outcome.clone(),
            Expected::Endpoints(names, sticky) => {
                let socket = |(name, port): &(String, u16)| {
                    SocketAddr::new(addresses.endpoint(name, family), *port)
                };
                let mut endpoints: Vec<_> = names.iter().map(socket).collect();
                endpoints.sort();
                Outcome::Answered(endpoints, *sticky)
            }
        }
    }
}

/// As it stands in the table.
impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The cases in the file `path`.
pub(crate) fn load(path: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    parse::parse(&text)
}
