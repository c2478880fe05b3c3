//! The body of a watch: a line of JSON for each event, for as long as the client stays.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Response,
    body::{Bytes, Frame},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    State, WatchFault,
    http::{Body, respond},
    select::Selector,
};
use crate::objects::Resource;

/// How often a client that wants bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_millis(100);

type Frames = mpsc::Sender<io::Result<Frame<Bytes>>>;

/// The client is gone, or the fault ends the watch.
struct Over;

/// Everything selected that happens after `version`.
pub(super) fn watch(
    state: Arc<State>,
    resource: Resource,
    selector: Selector,
    version: u64,
    bookmarks: bool,
) -> Response<Body> {
    let (frames, body) = mpsc::channel(1);
    let watch = Watch {
        state,
        resource,
        selector,
        frames,
        last: None,
    };
    tokio::spawn(watch.run(version, bookmarks));
    let stream = futures_util::stream::unfold(body, |mut body| async {
        let frame = body.recv().await?;
        Some((frame, body))
    });
    respond(200, BodyExt::boxed_unsync(StreamBody::new(stream)))
}

struct Watch {
    state: Arc<State>,
    resource: Resource,
    selector: Selector,
    frames: Frames,
    /// The event before this one.
    last: Option<String>,
}

impl Watch {
    async fn run(mut self, mut version: u64, bookmarks: bool) -> Result<(), Over> {
        let mut changes = self.state.version.subscribe();
        loop {
            changes.mark_unchanged();
            let (events, latest) = {
                let inner = self.state.lock();
                let events = inner.store.events(self.resource, &self.selector, version);
                (events, inner.store.version)
            };
            let Ok(events) = events else {
                return self.error(410, "Expired", "too old resource version").await;
            };
            for (_, kind, object) in events {
                self.event(&json!({"type": kind, "object": object})).await?;
            }
            if self.peek() == Some(WatchFault::End) {
                self.pop();
                return Err(Over);
            }
            version = version.max(latest);
            let bookmark = tokio::time::sleep(BOOKMARKS);
            tokio::select! {
                _ = changes.changed() => {}
                () = self.frames.closed() => return Err(Over),
                () = bookmark, if bookmarks => {
                    let (api_version, kind, _) = self.resource.names();
                    let object = json!({
                        "kind": kind, "apiVersion": api_version,
                        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
                    });
                    self.send(line(&json!({"type": "BOOKMARK", "object": object}))).await?;
                }
            }
        }
    }

    async fn event(&mut self, event: &Value) -> Result<(), Over> {
        let text = line(event);
        let fault = if self.peek() == Some(WatchFault::End) {
            None
        } else {
            self.pop()
        };
        match fault {
            Some(WatchFault::Cut) => {
                self.send(text[..text.len() / 2].to_owned()).await?;
                // What is on its way arrives before the connection ends.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let cut = io::Error::other("cut");
                let _ = self.frames.send(Err(cut)).await;
                return Err(Over);
            }
            Some(WatchFault::Garbage) => self.send("{\"type\":]<>\n".into()).await?,
            Some(WatchFault::Drip) => {
                for piece in text.as_bytes().chunks(16) {
                    let piece = String::from_utf8(piece.to_vec()).expect("ASCII");
                    self.send(piece).await?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Some(WatchFault::Repeat) => {
                self.send(text.clone()).await?;
                self.send(text.clone()).await?;
            }
            Some(WatchFault::Backwards) => {
                self.send(text.clone()).await?;
                let last = self.last.clone().expect("an event before this one");
                self.send(last).await?;
            }
            Some(WatchFault::Gone) => {
                return self.error(410, "Expired", "too old resource version").await;
            }
            Some(WatchFault::Failed) => return self.error(500, "InternalError", "injected").await,
            Some(WatchFault::End) | None => self.send(text.clone()).await?,
        }
        self.last = Some(text);
        Ok(())
    }

    fn peek(&self) -> Option<WatchFault> {
        let inner = self.state.lock();
        inner.faults.watch.get(&self.resource)?.front().copied()
    }

    fn pop(&self) -> Option<WatchFault> {
        let mut inner = self.state.lock();
        inner.faults.watch.get_mut(&self.resource)?.pop_front()
    }

    /// Ends the watch with a message.
    async fn error(&self, code: u16, reason: &str, message: &str) -> Result<(), Over> {
        let object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message,
        });
        self.send(line(&json!({"type": "ERROR", "object": object})))
            .await?;
        Err(Over)
    }

    async fn send(&self, text: String) -> Result<(), Over> {
        let frame = Frame::data(Bytes::from(text));
        self.frames.send(Ok(frame)).await.map_err(|_| Over)
    }
}

fn line(event: &Value) -> String {
    // The type comes first, as with a real server.
    format!(
        "{{\"type\":{},\"object\":{}}}\n",
        event["type"], event["object"]
    )
}
