//! Events (`events.k8s.io/v1`) about what the agent does, for those who look with `kubectl describe`.
//!
//! An event is a courtesy: it is put into a short queue and written in the background, and where the queue is
//! full or the server refuses, it is dropped. It refers to its object the way kube-proxy's events do.

use std::sync::Arc;

use ::kube::runtime::events::{Event, EventType, Recorder, Reporter as Identity};
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::{Notify, mpsc};

use super::{client::Shared, pace::Pace};
use crate::model::ObjectKey;

/// Our name in `reportingController`.
const CONTROLLER: &str = "duolb";
/// Events that wait at most.
const QUEUE: usize = 32;
/// Longest note that the API takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The node the agent runs on.
    Node,
    /// A Service.
    Service(ObjectKey),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Just so that it is known.
    Normal,
    /// Something does not work.
    Warning,
}

/// Writes events in the background.
#[derive(Clone, Debug)]
pub struct Reporter {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    node: String,
}

impl Reporter {
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let options = &shared.options;
        // A pace of its own: events shall not make watches wait.
        let pace = Arc::new(Pace::new(options.qps, options.burst));
        let client = shared.client(&pace, &Arc::new(Notify::new()));
        let identity = Identity {
            controller: CONTROLLER.to_owned(),
            instance: Some(options.node.clone()),
        };
        let recorder = Recorder::new(client, identity);
        let (queue, mut reports) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        tokio::spawn(async move {
            while let Some((event, about)) = reports.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(reason = event.reason, "event not written: {error}");
                }
            }
        });
        Self {
            queue,
            node: options.node.clone(),
        }
    }

    /// Says that `reason` (a word in PascalCase) happened while doing `action` (likewise); `note` is for people.
    /// Never waits.
    pub fn report(
        &self,
        about: &About,
        severity: Severity,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let mut end = note.len().min(NOTE_LIMIT);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let event = Event {
            type_: match severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            action: action.to_owned(),
            note: (!note.is_empty()).then(|| note[..end].to_owned()),
            secondary: None,
        };
        if self.queue.try_send((event, self.reference(about))).is_err() {
            tracing::debug!(reason, "event not written: too many are waiting");
        }
    }

    /// kube-proxy does not know uids and puts names in their place; tools that look for its events find ours.
    fn reference(&self, about: &About) -> ObjectReference {
        let (kind, namespace, name, uid) = match about {
            About::Node => ("Node", None, self.node.clone(), self.node.clone()),
            About::Service(key) => (
                "Service",
                Some(key.namespace.clone()),
                key.name.clone(),
                key.to_string(),
            ),
        };
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            namespace,
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        }
    }
}
