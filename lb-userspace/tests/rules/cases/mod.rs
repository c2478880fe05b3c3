//! Cases as data: objects of a cluster, and what becomes of a new flow from a client on a node.
//!
//! ```text
//! # comment
//! case 35: SENTENCE                          a case begins; before it the numbers of its rules
//! node NAME [zone=ZONE]                      a node, with an agent on it
//! service NAME [KEY=VALUE]..                 ports=NAME:PORT/PROTO,.. (:80/TCP)  type=TYPE (ClusterIP)
//!                                            itp=Local  etp=Local  affinity=SECONDS|default
//!                                            node-port=NUMBER (of the first port)
//!                                            vip=SERVICE  with the cluster IP of that one, not its own
//! slice NAME of SERVICE [ports=NAME:PORT/PROTO,..] (:8080/TCP), its endpoints below
//!   NAME[@NODE][=CONDITION,..] [zones=ZONE,..] [nodes=NODE,..]     conditions as stated; `none`: all false
//! cidr NAME                                  a ServiceCIDR with all addresses of Services
//! with JSON                                  merged into the object above (RFC 7396)
//! without KIND NAME                          it is deleted; an object named again is replaced
//! ask NODE[,NODE..] SERVICE:PORT[/PROTO] -> OUTCOME
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
    net::{IpAddr, SocketAddr},
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
    /// Names of a slice's endpoints, in order.
    pub(crate) endpoints: Vec<String>,
    /// What is merged into it at the end.
    pub(crate) patches: Vec<Value>,
}

/// A client's question.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) nodes: Vec<String>,
    /// The Service whose cluster IP is addressed; it need not exist.
    pub(crate) service: String,
    pub(crate) port: u16,
    /// IP protocol number.
    pub(crate) protocol: u8,
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
    pub(crate) fn is_from(&self, node: &str) -> bool {
        self.nodes.iter().any(|other| other == node)
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
