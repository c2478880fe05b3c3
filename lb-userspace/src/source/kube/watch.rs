//! One kind of objects, listed and watched for ever.
//!
//! kube's watcher does the pages, the bookmarks, and the resumption after a cut. Around it stands what it leaves to
//! others: to wait longer and longer, to list anew when an event could not be read (it would be lost, and
//! with it an object), and to say `Init` only once a listing has begun to arrive.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    mem,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use ::kube::runtime::watcher;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt as _;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{
    board::{Board, Found},
    client::Shared,
    kinds::Watched,
    object::{Object, Said},
    pace::Pace,
    trouble::{self, Again},
};
use crate::{
    model::ObjectKey,
    source::{
        Event, Kind,
        objects::problem::{Fault, Wrong},
    },
};

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// After so long without a failure the next pause is the first again.
const CALM: Duration = Duration::from_secs(60);
/// How often to look whether a kind that the cluster does without has come.
const SLOWLY: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(300));
/// How long a watch lasts at least before it is begun again, and how much longer at most: nodes that were
/// started at the same time shall not come back at the same time.
const WATCH_SECONDS: (u32, u32) = (220, 70);

/// Nobody listens any more.
struct Closed;

/// What a watch needs.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) shared: Arc<Shared>,
    pub(super) pace: Arc<Pace>,
    pub(super) board: Arc<Board>,
    pub(super) events: mpsc::Sender<Event>,
}

/// Why a watcher was given up.
enum Outcome {
    /// To list anew, after the pause.
    Anew,
    /// The cluster does without this kind.
    Without,
}

impl Watch {
    /// Follows the objects of kind `W` until nobody listens any more.
    pub(super) async fn follow<W: Watched>(self) {
        let answered = Arc::new(Notify::new());
        let client = self.shared.client(&self.pace, &answered);
        let node = &self.shared.options.node;
        let config = W::select(watcher::Config::default(), node)
            .page_size(W::PAGE)
            .timeout(watch_seconds(node, W::KIND));
        let mut pauses = Pauses::new();
        let mut reader = Reader::<W>::new(&self);
        let closed = self.events.closed();
        let work = async {
            loop {
                let api = W::api(client.clone());
                let stream = watcher(api, config.clone());
                match reader.read(stream, &answered, &mut pauses).await? {
                    Outcome::Anew => {}
                    Outcome::Without => reader.without().await?,
                }
            }
            #[expect(unreachable_code, reason = "names the type of the errors above")]
            Ok::<(), Closed>(())
        };
        tokio::select! {
            () = closed => {}
            _ = work => {}
        }
    }
}

/// Turns what a watcher says of the kind `W` into events.
struct Reader<'a, W> {
    watch: &'a Watch,
    /// The listing that is arriving, once something of it has arrived.
    listing: Option<Found>,
    /// Whether a listing was ever complete.
    listed: bool,
    /// Whether it was said that there are no such objects because the cluster does without them.
    without: bool,
    /// Whether there was any object in the listing.
    any: bool,
    /// The latest version of any object.
    version: u64,
    kind: std::marker::PhantomData<W>,
}

impl<'a, W: Watched> Reader<'a, W> {
    fn new(watch: &'a Watch) -> Self {
        Self {
            watch,
            listing: None,
            listed: false,
            without: false,
            any: false,
            version: 0,
            kind: std::marker::PhantomData,
        }
    }

    /// Reads `stream` until it is better to begin with a new one.
    async fn read(
        &mut self,
        stream: impl futures_util::Stream<Item = watcher::Result<watcher::Event<Object<W>>>>,
        answered: &Notify,
        pauses: &mut Pauses,
    ) -> Result<Outcome, Closed> {
        let mut stream = pin!(stream);
        loop {
            let item = tokio::select! {
                item = stream.next() => item,
                () = answered.notified() => {
                    self.watch.board.solved(W::KIND);
                    continue;
                }
            };
            let trouble = match item {
                // It never ends by itself.
                None => return Ok(Outcome::Anew),
                Some(Ok(event)) => match self.take(event).await? {
                    Ok(()) => continue,
                    Err(trouble) => trouble,
                },
                Some(Err(error)) => trouble::find::<W>(&error),
            };
            if let Some(text) = trouble.text {
                self.watch.board.trouble(W::KIND, trouble.field, text);
            }
            match trouble.again {
                Again::Without if !self.listed => return Ok(Outcome::Without),
                Again::Here | Again::Without => pauses.pause(trouble.at_least).await,
                Again::Anew => {
                    pauses.pause(trouble.at_least).await;
                    return Ok(Outcome::Anew);
                }
            }
        }
    }

    /// Takes in one event; trouble if it cannot be right.
    async fn take(
        &mut self,
        event: watcher::Event<Object<W>>,
    ) -> Result<Result<(), trouble::Trouble>, Closed> {
        match event {
            watcher::Event::Init => {
                (self.listing, self.any, self.version) = (None, false, 0);
            }
            watcher::Event::InitApply(object) => {
                self.begin().await?;
                self.any = true;
                self.version = self.version.max(object.version().unwrap_or(0));
                self.apply(object).await?;
            }
            watcher::Event::InitDone => {
                self.begin().await?;
                self.end().await?;
            }
            watcher::Event::Apply(object) | watcher::Event::Delete(object)
                if object
                    .version()
                    .is_some_and(|version| version < self.version) =>
            {
                // Events of a watch are in the order of versions. Whether this one is older than what we
                // have, or came late, only a listing tells.
                let (key, version) = (&object.key, object.version().unwrap_or(0));
                let text = format!(
                    "{} {key}: version {version} after version {}, out of order: listed anew",
                    W::NAME,
                    self.version
                );
                return Ok(Err(trouble::Trouble::disorder(text)));
            }
            watcher::Event::Apply(object) => {
                self.version = object.version().unwrap_or(self.version);
                self.apply(object).await?;
            }
            watcher::Event::Delete(object) => {
                self.version = object.version().unwrap_or(self.version);
                self.note(&object.key, Vec::new());
                if W::KIND == Kind::Nodes {
                    self.note_missing_node();
                }
                self.send(W::delete(object.key)).await?;
            }
        }
        Ok(Ok(()))
    }

    async fn apply(&mut self, object: Object<W>) -> Result<(), Closed> {
        let Object {
            key, said, skipped, ..
        } = object;
        let mut wrongs = skipped;
        let event = match said {
            Said::Model(model) => Some(W::apply(model)),
            // What it was before, it is no more.
            Said::Nothing => self.listing.is_none().then(|| W::delete(key.clone())),
            Said::Wrong(wrong) => {
                wrongs.push(*wrong);
                // Its last good version stays in force; in a listing that has to be said.
                let keep = || Event::Keep(W::KIND, key.clone());
                self.listing.is_some().then(keep)
            }
        };
        self.note(&key, wrongs);
        match event {
            Some(event) => self.send(event).await,
            None => Ok(()),
        }
    }

    /// Opens the listing, if it is not open.
    async fn begin(&mut self) -> Result<(), Closed> {
        if self.listing.is_none() {
            self.listing = Some(Found::new());
            self.send(Event::Init(W::KIND)).await?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Closed> {
        self.listed = true;
        if W::KIND == Kind::Nodes && !self.any {
            self.note_missing_node();
        }
        let found = mem::take(&mut self.listing).unwrap_or_default();
        self.watch.board.listed(W::KIND, found);
        self.send(Event::InitDone(W::KIND)).await
    }

    /// The cluster has nothing of this kind, or nothing that we may see: looks again after a while.
    async fn without(&mut self) -> Result<(), Closed> {
        if !mem::replace(&mut self.without, true) {
            self.send(Event::Init(W::KIND)).await?;
            self.send(Event::InitDone(W::KIND)).await?;
        }
        tokio::time::sleep(pauses(SLOWLY).next().unwrap_or(SLOWLY.1)).await;
        Ok(())
    }

    fn note_missing_node(&mut self) {
        let key = ObjectKey::new("", self.watch.shared.options.node.clone());
        let text = "does not exist in the cluster: --hostname-override?".to_owned();
        self.note(&key, vec![Wrong::absent(0, "", Fault::Server(text))]);
    }

    fn note(&mut self, key: &ObjectKey, wrongs: Vec<Wrong>) {
        let board = &self.watch.board;
        let problems = wrongs
            .into_iter()
            .map(|wrong| board.problem(W::NAME, key, wrong));
        match &mut self.listing {
            Some(found) => {
                let problems: Vec<_> = problems.collect();
                if !problems.is_empty() {
                    found.insert(key.clone(), problems);
                }
            }
            None => board.object(W::KIND, key, problems.collect()),
        }
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.watch.events.send(event).await.map_err(|_| Closed)
    }
}

/// How long the watches of this node last.
fn watch_seconds(node: &str, kind: Kind) -> u32 {
    let (least, spread) = WATCH_SECONDS;
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((node, kind));
    least + u32::try_from(hash % u64::from(spread)).unwrap_or(0)
}

/// Ever longer pauses, each somewhat longer by chance.
fn pauses((first, longest): (Duration, Duration)) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// The pauses after failures.
struct Pauses {
    next: ExponentialBackoff,
    /// When the last one ended.
    last: Option<Instant>,
}

impl Pauses {
    fn new() -> Self {
        Self {
            next: pauses(PAUSES),
            last: None,
        }
    }

    /// Waits, `at_least` so long.
    async fn pause(&mut self, at_least: Duration) {
        if self.last.is_some_and(|last| last.elapsed() > CALM) {
            self.next = pauses(PAUSES);
        }
        let pause = self.next.next().unwrap_or(PAUSES.1).max(at_least);
        tokio::time::sleep(pause).await;
        self.last = Some(Instant::now());
    }
}
