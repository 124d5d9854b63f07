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
use targetgate::admission;
use targetgate::admission::binding::BindingReviewer;
use targetgate::admission::{Hooks, body};
use targetgate::aws::budget::Budget;
use targetgate::aws::client::{ElbClient, Timeouts};
use targetgate::aws::target_groups::TargetGroups;
use targetgate::controllers::certificates::make::Maker;
use targetgate::controllers::certificates::{Keeper, Kind, Place};
use targetgate::controllers::gates::Loop;
use targetgate::kubernetes::events::Events;
use targetgate::kubernetes::lease::{Candidate, Seat};
use targetgate::kubernetes::watch::{WatchOptions, watches};
use targetgate::metrics::Metrics;
use targetgate::pki::make::service_names;
use targetgate::serve;
use targetgate::serve::certificates::Certificates;
use targetgate::serve::listener;
use targetgate::serve::listener::Edge;
use targetgate::state::cache::Cache;
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::gates::machine::action::Settings;
use targetgate_core::lease::Timing;
use targetgate_core::names::{BindingApi, ObjectKey};
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
        let seat = Seat {
            lease: ObjectKey::new(HOME, "targetgate"),
            identity: self.incarnation.clone(),
            timing: Timing::new(15 * S, 10 * S, 2 * S).unwrap(),
        };
        let (candidate, leadership) =
            Candidate::new(&kube, seat, self.metrics.clone(), self.skewed(1));
        let events = Arc::new(Events::new(kube.clone(), Some(self.incarnation.clone())));
        let (budget, elb, groups) = self.aws();
        let certificates = Arc::new(Certificates::none(self.metrics.clone()));
        let options = WatchOptions {
            seed: self.random.next(),
            ..WatchOptions::default()
        };
        let all = FuturesUnordered::<BoxFuture<'static, ()>>::new();
        for (_, watch) in watches(&kube, &self.cache, &self.metrics, &options) {
            all.push(watch);
        }
        let edge = self.edge(&groups, &certificates);
        all.push(accept(listener, edge).boxed());
        all.push(groups.clone().run().boxed());
        let keeper = Keeper {
            kube: kube.clone(),
            place: place(),
            maker: maker(),
            certificates,
            leadership: leadership.clone(),
            events: events.clone(),
            metrics: self.metrics.clone(),
            now: self.skewed(SKEW_OF_CERTIFICATES),
        };
        all.push(keeper.run().boxed());
        let health = Loop {
            cache: self.cache.clone(),
            kube,
            leadership,
            events,
            elb,
            groups,
            budget,
            metrics: self.metrics.clone(),
            now: self.skewed(1),
            settings: Settings {
                apis: vec![BindingApi::Elbv2],
                orphan_after: ORPHAN_AFTER,
                seed: self.random.next(),
            },
        };
        all.push(health.run(|| ()).boxed());
        live(all, self.cache, candidate, stop).boxed()
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

    /// What talks to AWS.
    fn aws(&mut self) -> (Budget, ElbClient, TargetGroups) {
        let budget = Budget::new(RATE, HIGHEST, BURST, self.metrics.clone());
        let http = calls::client(&self.world.accounts, &self.world.witness, &self.incarnation);
        let elb = ElbClient::new(
            self.world.aws(http),
            Timeouts::default(),
            budget.clone(),
            self.metrics.clone(),
        );
        let groups = TargetGroups::new(elb.clone(), budget.clone(), self.random.next());
        (budget, elb, groups)
    }

    /// The wall clock as this replica has it, wrong by a share of its skew.
    fn skewed(&self, share: i64) -> targetgate::clock::Now {
        let (world, skew) = (self.world.now.clone(), self.skew.clone());
        Arc::new(move || world() + SignedDuration::from_secs(skew.load(Ordering::Relaxed) / share))
    }

    fn edge(&self, groups: &TargetGroups, certificates: &Arc<Certificates>) -> Arc<Edge> {
        let reviewer = BindingReviewer::new(self.cache.clone(), groups.clone(), None);
        let router = admission::router(Hooks {
            cache: self.cache.clone(),
            policy: GatePolicy::default(),
            metrics: self.metrics.clone(),
            bindings: Some(reviewer.into()),
            limits: body::Limits::default(),
        });
        let tls = listener::tls(certificates.clone()).unwrap();
        let limits = listener::Limits::default();
        Arc::new(Edge::https(router, tls, limits, self.metrics.clone()))
    }
}

/// Stands for election from a warm cache on. Once stopped, the rest ends before the Lease is given
/// back, as `targetgate serve` does it.
async fn live(
    mut all: FuturesUnordered<BoxFuture<'static, ()>>,
    cache: Arc<Cache>,
    candidate: Candidate,
    stop: oneshot::Receiver<()>,
) {
    let (leave, left) = oneshot::channel();
    let work = async move {
        tokio::select! {
            biased;
            _ = stop => {}
            ended = all.next() => panic!("a part of the product ended: {ended:?}"),
        }
        drop(all);
        // The candidate may not have begun.
        let _ = leave.send(());
    };
    let mut left = left.map(drop);
    let stand = async move {
        tokio::select! {
            biased;
            () = cache.warm() => candidate.run(left).await,
            () = &mut left => {}
        }
    };
    join(work, stand).await;
}

/// Serves every connection that the API server makes.
async fn accept(mut listener: mpsc::Receiver<DuplexStream>, edge: Arc<Edge>) {
    let (_serving, phases) = serve::phases();
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
