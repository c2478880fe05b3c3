//! The four kinds of objects that are watched: where they are, which of them are ours, what they become.
//!
//! Selection is the server's work (rules 1, 2 and 4): what is not ours never comes over the wire, and an
//! object that stops being ours arrives as deleted.

use std::fmt;

use ::kube::{api::Api, client::Client, core::ResourceScope, runtime::watcher};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};

use super::{object::Object, service};
use crate::{
    model::{self, ObjectKey},
    source::{
        Event, Kind,
        objects::{self, problem::Wrong, tree::Node},
    },
};

/// A kind of objects and all that differs between kinds.
pub(super) trait Watched: Clone + fmt::Debug + Send + Sync + Sized + 'static {
    /// As the rest of the agent calls it.
    const KIND: Kind;
    /// `kind`.
    const NAME: &'static str;
    /// API group, empty for the core; the version is `v1` everywhere.
    const GROUP: &'static str;
    /// As URLs call it.
    const PLURAL: &'static str;
    /// How many objects a page of a list has. Slices may be large (1000 endpoints, some 300 KB each at worst):
    /// small pages keep the peak of memory small.
    const PAGE: u32;
    /// Whether the cluster can do without: a server that has no such kind, or does not let us see it, then
    /// counts as one that has no such objects.
    const OPTIONAL: bool = false;
    /// Whether there are namespaces.
    type Scope: ResourceScope + Send + Sync;
    /// What objects become.
    type Model: Clone + fmt::Debug + Send + Sync + 'static;

    /// Reads one object; `None` if it is none of our business. What can be left out of it goes to `skipped`.
    fn read(
        tree: &Node,
        key: &ObjectKey,
        skipped: &mut Vec<Wrong>,
    ) -> Result<Option<Self::Model>, Wrong>;
    /// What to say when it exists.
    fn apply(model: Self::Model) -> Event;
    /// What to say when it is gone.
    fn delete(key: ObjectKey) -> Event;
    /// Which objects are ours, `node` being the name of our node.
    fn select(config: watcher::Config, node: &str) -> watcher::Config;

    /// All objects of the kind.
    fn api(client: Client) -> Api<Object<Self>> {
        Api::all(client)
    }
}

/// Services.
#[derive(Clone, Debug)]
pub(super) struct Services;

impl Watched for Services {
    const KIND: Kind = Kind::Services;
    const NAME: &'static str = "Service";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "services";
    const PAGE: u32 = 500;
    type Scope = NamespaceResourceScope;
    type Model = model::Service;

    fn read(
        tree: &Node,
        key: &ObjectKey,
        skipped: &mut Vec<Wrong>,
    ) -> Result<Option<model::Service>, Wrong> {
        match objects::service::read(tree, key.clone(), skipped)? {
            Some(spec) => service::complete(&spec),
            None => Ok(None),
        }
    }

    fn apply(model: model::Service) -> Event {
        Event::ApplyService(model)
    }

    fn delete(key: ObjectKey) -> Event {
        Event::DeleteService(key)
    }

    /// Rule 1.
    fn select(config: watcher::Config, _: &str) -> watcher::Config {
        config
            .labels("!service.kubernetes.io/service-proxy-name")
            .fields("spec.clusterIP!=None")
    }
}

/// EndpointSlices.
#[derive(Clone, Debug)]
pub(super) struct Slices;

impl Watched for Slices {
    const KIND: Kind = Kind::Slices;
    const NAME: &'static str = "EndpointSlice";
    const GROUP: &'static str = "discovery.k8s.io";
    const PLURAL: &'static str = "endpointslices";
    const PAGE: u32 = 100;
    type Scope = NamespaceResourceScope;
    type Model = model::EndpointSlice;

    fn read(
        tree: &Node,
        key: &ObjectKey,
        skipped: &mut Vec<Wrong>,
    ) -> Result<Option<model::EndpointSlice>, Wrong> {
        objects::slice::read(tree, key.clone(), skipped)
    }

    fn apply(model: model::EndpointSlice) -> Event {
        Event::ApplySlice(model)
    }

    fn delete(key: ObjectKey) -> Event {
        Event::DeleteSlice(key)
    }

    /// Rule 2.
    fn select(config: watcher::Config, _: &str) -> watcher::Config {
        config.labels("!service.kubernetes.io/headless")
    }
}

/// The node we are on.
#[derive(Clone, Debug)]
pub(super) struct OwnNode;

impl Watched for OwnNode {
    const KIND: Kind = Kind::Nodes;
    const NAME: &'static str = "Node";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "nodes";
    const PAGE: u32 = 10;
    type Scope = ClusterResourceScope;
    type Model = model::Node;

    fn read(
        tree: &Node,
        key: &ObjectKey,
        _: &mut Vec<Wrong>,
    ) -> Result<Option<model::Node>, Wrong> {
        objects::node::read(tree, key.clone()).map(Some)
    }

    fn apply(model: model::Node) -> Event {
        Event::ApplyNode(model)
    }

    fn delete(key: ObjectKey) -> Event {
        Event::DeleteNode(key.name)
    }

    /// Rule 4.
    fn select(config: watcher::Config, node: &str) -> watcher::Config {
        config.fields(&format!("metadata.name={node}"))
    }
}

/// ServiceCIDRs, in the stable API since Kubernetes 1.33.
#[derive(Clone, Debug)]
pub(super) struct ServiceCidrs;

impl Watched for ServiceCidrs {
    const KIND: Kind = Kind::ServiceCidrs;
    const NAME: &'static str = "ServiceCIDR";
    const GROUP: &'static str = "networking.k8s.io";
    const PLURAL: &'static str = "servicecidrs";
    const PAGE: u32 = 500;
    const OPTIONAL: bool = true;
    type Scope = ClusterResourceScope;
    type Model = model::ServiceCidr;

    fn read(
        tree: &Node,
        key: &ObjectKey,
        _: &mut Vec<Wrong>,
    ) -> Result<Option<model::ServiceCidr>, Wrong> {
        objects::service_cidr::read(tree, key.clone()).map(Some)
    }

    fn apply(model: model::ServiceCidr) -> Event {
        Event::ApplyServiceCidr(model)
    }

    fn delete(key: ObjectKey) -> Event {
        Event::DeleteServiceCidr(key.name)
    }

    fn select(config: watcher::Config, _: &str) -> watcher::Config {
        config
    }
}
