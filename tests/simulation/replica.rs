//! One replica of the whole product within one root task: admission, watches, loop, keeper of certificates and
//! election. It dies when that task is dropped, at the poll that was drawn.

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
use targetgate::compose::{Parts, Product as Composed, Registration, Source, compose};
use targetgate::controllers::certificates::make::Maker;
use targetgate::controllers::certificates::{Kind, ManagedObjects};
use targetgate::kubernetes::lease::Seat;
use targetgate::metrics::Metrics;
use targetgate::pki::make::service_names;
use targetgate::serve::PhaseReceiver;
use targetgate::serve::certificates::Certificate;
use targetgate::serve::listener::Listener;
use targetgate::state::cache::Cache;
use targetgate::state::leadership::Leadership;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::lease::Timing;
use targetgate_core::names::ObjectKey;
use targetgate_core::rotation::Lifetimes;
use targetgate_core::targets::slices::SliceAddresses;
use targetgate_core::targets::standing::Mode;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::calls::{self, Circumstances};
use crate::line::{Line, Weather};
use crate::random::Random;
use crate::world::World;

/// The namespace of the product.
pub(crate) const HOME: &str = "targetgate-system";
/// How long a gate stays closed when its binding has never existed. Chosen, shorter than the default.
pub(crate) const ORPHAN_AFTER: Duration = Duration::from_secs(45);
/// The polls without progress of time after which the product is taken to be busy forever. Chosen.
const RESTLESS: u64 = 100_000;
/// The connections of the API server that wait to be accepted. Chosen.
const BACKLOG: usize = 128;
const S: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Setup {
    /// The limits of its ELB calls.
    pub(crate) elb: Limits,
    pub(crate) orphan_after: Duration,
    /// Whether it asks ELB when it begins to drain the targets of pods that end.
    pub(crate) measure_drain: bool,
    /// The certificate that it serves, or `None` if it keeps its own.
    pub(crate) certificate: Option<Certificate>,
    /// Whether it takes part in the election. Without it, it is alone and leads.
    pub(crate) elected: bool,
    /// Whether it registers the targets of all bindings.
    pub(crate) registers: bool,
    pub(crate) slice_addresses: SliceAddresses,
}

impl Setup {
    /// The setup of both replicas of a seed.
    pub(crate) fn of_seeds() -> Self {
        Self {
            // The rate climbs, and is so low that it often delays calls.
            elb: Limits {
                rate: 2.0,
                highest: 3.0,
                burst: 5,
            },
            orphan_after: ORPHAN_AFTER,
            measure_drain: false,
            certificate: None,
            elected: true,
            registers: false,
            slice_addresses: SliceAddresses::Pods,
        }
    }
}

impl Setup {
    fn registration(&self) -> Option<Registration> {
        let incumbent = "aws-load-balancer-controller-leader";
        self.registers.then(|| Registration {
            mode: Mode::All,
            incumbent_lease: ObjectKey::new("kube-system", incumbent),
            incumbent_namespaces: None,
            slice_addresses: self.slice_addresses,
            namespace: HOME.into(),
            deployment: None,
        })
    }
}

/// A replica, running or not.
pub(crate) struct Replica {
    pub(crate) name: &'static str,
    setup: Setup,
    pub(crate) weather: Arc<Mutex<Weather>>,
    /// Whether its requests are held up.
    held_up: watch::Sender<bool>,
    /// The error of its wall clock in seconds.
    pub(crate) skew: Arc<AtomicI64>,
    lives: u32,
    /// When it is started again, if it is down.
    pub(crate) starts_at: Instant,
    pub(crate) life: Option<Life>,
}

/// One life of a replica.
pub(crate) struct Life {
    /// The replica, with the number of its life: its identity in the election.
    pub(crate) incarnation: String,
    pub(crate) leadership: Leadership,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    span: Arc<Span>,
    stop: Option<oneshot::Sender<()>>,
    root: JoinHandle<()>,
}

/// How often the root task was polled, and the poll at which it is dropped.
#[derive(Debug)]
struct Span {
    polls: AtomicU64,
    last: AtomicU64,
}

impl Replica {
    pub(crate) fn new(name: &'static str, setup: Setup) -> Self {
        Self {
            name,
            setup,
            weather: Arc::default(),
            held_up: watch::Sender::new(false),
            skew: Arc::default(),
            lives: 0,
            starts_at: Instant::now(),
            life: None,
        }
    }

    /// The limits of its ELB calls.
    pub(crate) fn limits(&self) -> Limits {
        self.setup.elb
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
            setup: &self.setup,
            incarnation: incarnation.clone(),
            random: random.fork(),
            cache: cache.clone(),
            metrics: metrics.clone(),
            skew: self.skew.clone(),
            weather: self.weather.clone(),
            held_up: self.held_up.subscribe(),
        };
        let product = product.compose();
        let leadership = product.leadership.clone();
        let root = Mortal {
            inner: Some(live(product, listener, stopped).boxed()),
            span: span.clone(),
            still: (Instant::now(), 0),
        };
        self.life = Some(Life {
            incarnation,
            leadership,
            cache,
            metrics,
            span,
            stop: Some(stop),
            root: tokio::spawn(root),
        });
    }

    /// Makes it die at its n-th poll from now.
    pub(crate) fn dies_after(&self, polls: u64) {
        if let Some(life) = &self.life {
            let now = life.span.polls.load(Ordering::Relaxed);
            life.span.last.store(now + polls, Ordering::Relaxed);
        }
    }

    /// Cancels its death.
    pub(crate) fn spare(&self) {
        if let Some(life) = &self.life {
            life.span.last.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Holds up its requests, or lets all of them arrive, even those that it has given up.
    pub(crate) fn hold_up(&self, held_up: bool) {
        self.held_up.send_replace(held_up);
    }

    /// Ends it at once.
    pub(crate) fn crash(&mut self, world: &World) {
        if let Some(life) = self.life.take() {
            life.root.abort();
            self.is_down(world);
        }
    }

    /// Ends it in order, so that it releases the Lease.
    pub(crate) fn stop(&mut self) {
        let stop = self.life.as_mut().and_then(|life| life.stop.take());
        stop.map(|stop| stop.send(()));
    }

    /// Notes that it has ended, and how.
    pub(crate) async fn bury(&mut self, world: &World) {
        let Some(life) = self.life.take_if(|life| life.root.is_finished()) else {
            return;
        };
        self.is_down(world);
        if let Err(error) = life.root.await {
            let what = format!("{} {error}", self.name);
            world.trace.violated("nothing panics", &what);
        }
    }

    fn is_down(&self, world: &World) {
        world.front.close(self.name);
        world.trace.note(self.name, "is down");
    }
}

/// A task that is dropped at a given poll.
struct Mortal {
    inner: Option<BoxFuture<'static, ()>>,
    span: Arc<Span>,
    /// The last time at which time progressed, and the number of polls then.
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
    setup: &'a Setup,
    incarnation: String,
    random: Random,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    skew: Arc<AtomicI64>,
    weather: Arc<Mutex<Weather>>,
    held_up: watch::Receiver<bool>,
}

impl Product<'_> {
    fn compose(mut self) -> Composed {
        let (world, limits) = (self.world, self.setup.elb);
        let kube = self.line().client();
        let http = calls::client(world, &self.incarnation, limits, self.overheard());
        let dated = skewed(world, &self.skew);
        let own = || Source::Own(place(), maker(), dated);
        let parts = Parts {
            elb: limits,
            cache: self.cache,
            metrics: self.metrics,
            seed: self.random.next(),
            pod_name: Some(self.incarnation.clone()),
            orphan_after: self.setup.orphan_after,
            measure_drain: self.setup.measure_drain,
            registration: self.setup.registration(),
            certificate: self
                .setup
                .certificate
                .clone()
                .map_or_else(own, Source::Given),
            seat: self.setup.elected.then(|| Seat {
                lease: ObjectKey::new(HOME, "targetgate"),
                identity: self.incarnation,
                timing: Timing::new(15 * S, 10 * S, 2 * S).unwrap(),
                owner: None,
            }),
            ..Parts::new(kube, world.aws(http), skewed(world, &self.skew))
        };
        compose(parts).unwrap()
    }

    /// What its calls of ELB meet, and what it knows when it makes them.
    fn overheard(&self) -> Circumstances {
        // The draws of the other streams stay as they are without registration.
        let random = Random::new(!self.random.clone().next());
        Circumstances {
            cache: self.cache.clone(),
            weather: self.weather.clone(),
            random: Arc::new(Mutex::new(random)),
        }
    }

    fn line(&mut self) -> Line {
        Line {
            incarnation: self.incarnation.clone(),
            witness: self.world.witness.clone(),
            weather: self.weather.clone(),
            held_up: self.held_up.clone(),
            random: Arc::new(Mutex::new(self.random.fork())),
            kubelet: self.world.kubelet.clone(),
        }
    }
}

/// The wall clock of a replica, which is wrong by its skew.
fn skewed(world: &World, skew: &Arc<AtomicI64>) -> Now {
    let (now, skew) = (world.now.clone(), skew.clone());
    Arc::new(move || now() + SignedDuration::from_secs(skew.load(Ordering::Relaxed)))
}

/// Runs the product within one task. After a stop, everything else ends before the Lease is released, as in
/// `targetgate serve`.
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
        // The candidate may not have started.
        let _ = leave.send(());
    };
    join(work, product.election.run(left.map(drop))).await;
}

/// Serves the connections of the API server.
async fn accept(
    mut listener: mpsc::Receiver<DuplexStream>,
    edge: Arc<Listener>,
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

fn place() -> ManagedObjects {
    ManagedObjects {
        namespace: HOME.to_owned(),
        secret: "targetgate-tls".to_owned(),
        deployment: "targetgate".to_owned(),
        configurations: vec![
            (Kind::Mutating, "targetgate".to_owned()),
            (Kind::Validating, "targetgate".to_owned()),
        ],
    }
}

/// Lifetimes of certificates that are so short that a run renews them.
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
