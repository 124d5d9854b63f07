//! One replica of the whole product, all of it within one root task: admission, watches, loop,
//! certificate keeper and election. It dies when that task is dropped, at the poll that was drawn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::SignedDuration;
use parking_lot::Mutex;
use targetgate::clock::Now;
use targetgate::compose::{Parts, Product as Composed, Source, compose};
use targetgate::controllers::certificates::make::Maker;
use targetgate::controllers::certificates::{Kind, Place};
use targetgate::kubernetes::lease::Seat;
use targetgate::metrics::Metrics;
use targetgate::pki::make::service_names;
use targetgate::serve::PhaseReceiver;
use targetgate::serve::listener::Edge;
use targetgate::state::cache::Cache;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::lease::Timing;
use targetgate_core::names::ObjectKey;
use targetgate_core::rotation::Lifetimes;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::calls::{self, BURST, HIGHEST, RATE};
use crate::line::{Line, Weather};
use crate::random::Random;
use crate::world::World;

/// The product's own namespace.
pub(crate) const HOME: &str = "targetgate-system";
/// How long a gate waits whose binding was never seen.
pub(crate) const ORPHAN_AFTER: Duration = Duration::from_secs(45);
/// Polls without time moving on, of a product that would never let it.
const RESTLESS: u64 = 100_000;
/// Connections of the API server that are not accepted yet.
const BACKLOG: usize = 128;
/// The clock that dates certificates is wrong by this share of the skew only, for they allow for clocks
/// that are five minutes apart, not a year.
const SKEW_OF_CERTIFICATES: i64 = 300_000;
const S: Duration = Duration::from_secs(1);

/// A replica, alive or not.
pub(crate) struct Replica {
    pub(crate) name: &'static str,
    pub(crate) weather: Arc<Mutex<Weather>>,
    /// By how many seconds its wall clock is wrong.
    pub(crate) skew: Arc<AtomicI64>,
    lives: u32,
    /// When it is started again, once it is down.
    pub(crate) starts_at: Instant,
    pub(crate) life: Option<Life>,
}

/// One life of a replica.
pub(crate) struct Life {
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    span: Arc<Span>,
    stop: Option<oneshot::Sender<()>>,
    root: JoinHandle<()>,
}

/// How often the root task was polled, and at which poll it is dropped.
#[derive(Debug)]
struct Span {
    polls: AtomicU64,
    last: AtomicU64,
}

impl Replica {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            weather: Arc::default(),
            skew: Arc::default(),
            lives: 0,
            starts_at: Instant::now(),
            life: None,
        }
    }

    pub(crate) fn start(&mut self, world: &World, random: &mut Random) {
        self.lives += 1;
        let incarnation = format!("{}{}", self.name, self.lives);
        world.trace.note(&incarnation, "starts");
        let span = Arc::new(Span {
            polls: AtomicU64::new(0),
            last: AtomicU64::new(u64::MAX),
        });
        let (cache, metrics) = (Arc::<Cache>::default(), Arc::<Metrics>::default());
        let (stop, stopped) = oneshot::channel();
        let (sender, listener) = mpsc::channel(BACKLOG);
        world.front.open(self.name, sender, cache.clone());
        let product = Product {
            world,
            incarnation,
            random: random.fork(),
            cache: cache.clone(),
            metrics: metrics.clone(),
            skew: self.skew.clone(),
            weather: self.weather.clone(),
        };
        let root = Mortal {
            inner: Some(product.run(stopped, listener)),
            span: span.clone(),
            still: (Instant::now(), 0),
        };
        self.life = Some(Life {
            cache,
            metrics,
            span,
            stop: Some(stop),
            root: tokio::spawn(root),
        });
    }

    /// It is to die at its n-th poll from now.
    pub(crate) fn dies_after(&self, polls: u64) {
        if let Some(life) = &self.life {
            let now = life.span.polls.load(Ordering::Relaxed);
            life.span.last.store(now + polls, Ordering::Relaxed);
        }
    }

    /// It lives on.
    pub(crate) fn spare(&self) {
        if let Some(life) = &self.life {
            life.span.last.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Ends it in order: it gives the Lease back.
    pub(crate) fn stop(&mut self) {
        let stop = self.life.as_mut().and_then(|life| life.stop.take());
        stop.map(|stop| stop.send(()));
    }

    /// Notes its end, and how it came.
    pub(crate) async fn bury(&mut self, world: &World) {
        let Some(life) = self.life.take_if(|life| life.root.is_finished()) else {
            return;
        };
        world.front.close(self.name);
        world.trace.note(self.name, "is down");
        if let Err(error) = life.root.await {
            let what = format!("{} {error}", self.name);
            world.trace.violated("nothing panics", &what);
        }
    }
}

/// A task that is dropped at a given poll.
struct Mortal {
    inner: Option<BoxFuture<'static, ()>>,
    span: Arc<Span>,
    /// Since when time stands still, and at how many polls that was.
    still: (Instant, u64),
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let poll = self.span.polls.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if now > self.still.0 {
            self.still = (now, poll);
        }
        assert!(poll - self.still.1 < RESTLESS, "the product never rests");
        if poll >= self.span.last.load(Ordering::Relaxed) {
            self.inner = None;
        }
        match &mut self.inner {
            Some(inner) => inner.poll_unpin(context),
            None => Poll::Ready(()),
        }
    }
}

struct Product<'a> {
    world: &'a World,
    incarnation: String,
    random: Random,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    skew: Arc<AtomicI64>,
    weather: Arc<Mutex<Weather>>,
}

impl Product<'_> {
    fn run(
        mut self,
        stop: oneshot::Receiver<()>,
        listener: mpsc::Receiver<DuplexStream>,
    ) -> BoxFuture<'static, ()> {
        let kube = self.line().client();
        let http = calls::client(&self.world.accounts, &self.world.witness, &self.incarnation);
        let dated = skewed(self.world, &self.skew, SKEW_OF_CERTIFICATES);
        let parts = Parts {
            elb: Limits {
                rate: RATE,
                highest: HIGHEST,
                burst: BURST,
            },
            cache: self.cache,
            metrics: self.metrics,
            seed: self.random.next(),
            pod_name: Some(self.incarnation.clone()),
            orphan_after: ORPHAN_AFTER,
            certificate: Source::Own(place(), maker(), dated),
            seat: Some(Seat {
                lease: ObjectKey::new(HOME, "targetgate"),
                identity: self.incarnation,
                timing: Timing::new(15 * S, 10 * S, 2 * S).unwrap(),
            }),
            ..Parts::new(
                kube,
                self.world.aws(http),
                skewed(self.world, &self.skew, 1),
            )
        };
        live(compose(parts).unwrap(), listener, stop).boxed()
    }

    /// Its line to the API server.
    fn line(&mut self) -> Line {
        Line {
            incarnation: self.incarnation.clone(),
            witness: self.world.witness.clone(),
            weather: self.weather.clone(),
            random: Arc::new(Mutex::new(self.random.fork())),
            kubelet: self.world.kubelet.clone(),
        }
    }
}

/// The wall clock as a replica has it, wrong by a share of its skew.
fn skewed(world: &World, skew: &Arc<AtomicI64>, share: i64) -> Now {
    let (now, skew) = (world.now.clone(), skew.clone());
    Arc::new(move || now() + SignedDuration::from_secs(skew.load(Ordering::Relaxed) / share))
}

/// Runs the product within one task. Once stopped, the rest ends before the Lease is given back, as
/// `targetgate serve` does it.
async fn live(
    product: Composed,
    listener: mpsc::Receiver<DuplexStream>,
    stop: oneshot::Receiver<()>,
) {
    let (leave, left) = oneshot::channel();
    let hooks = accept(listener, product.hooks(), product.phases);
    let tasks = product.tasks.into_iter().map(|(_, task)| task);
    let mut all: FuturesUnordered<BoxFuture<'static, ()>> = tasks.collect();
    all.push(hooks.boxed());
    let work = async move {
        tokio::select! {
            biased;
            _ = stop => {}
            ended = all.next() => panic!("a part of the product ended: {ended:?}"),
        }
        drop((all, product.phase));
        // The candidate may not have begun.
        let _ = leave.send(());
    };
    join(work, product.election.run(left.map(drop))).await;
}

/// Serves every connection that the API server makes.
async fn accept(
    mut listener: mpsc::Receiver<DuplexStream>,
    edge: Arc<Edge>,
    phases: PhaseReceiver,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            Some(stream) = listener.recv() => {
                let (edge, phases) = (edge.clone(), phases.clone());
                connections.spawn(async move { edge.connection(stream, phases).await });
            }
            else => std::future::pending().await,
        }
    }
}

fn place() -> Place {
    Place {
        namespace: HOME.to_owned(),
        secret: "targetgate-tls".to_owned(),
        deployment: "targetgate".to_owned(),
        configurations: vec![
            (Kind::Mutating, "targetgate".to_owned()),
            (Kind::Validating, "targetgate".to_owned()),
        ],
    }
}

/// Certificates that are renewed within a run.
fn maker() -> Maker {
    Maker {
        service: "targetgate".to_owned(),
        names: service_names("targetgate", HOME),
        lifetimes: Lifetimes {
            leaf: 240 * S,
            ca: 3600 * S,
            seen_after: 5 * S,
            ..Lifetimes::default()
        },
    }
}
