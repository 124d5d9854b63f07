//! The world of one run, of a seed or of a scenario: the sandbox's API server and ELB, and a stand-in for the
//! incumbent that registers targets. One thread, no socket, time paused.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_elasticloadbalancingv2::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_async::time::StaticTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use parking_lot::Mutex;
use serde_json::{Value, json};
use targetgate::state::cache::Cache;
use targetgate_sandbox::api::{self, Api, Dial, Io};
use targetgate_sandbox::clock;
use targetgate_sandbox::elb::check::{CheckOutcome, ScriptedProbe};
use targetgate_sandbox::elb::{self, Delays, Elb, LoadBalancerKind, TargetGroupSpec};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::accounts::Accounts;
use crate::direct::{self, Answer};
use crate::facts::{Facts, PORT};
use crate::incumbent::Double;
use crate::kubelet::{Written, kubelet};
use crate::random::Random;
use crate::replica::HOME;
use crate::trace::Trace;
use crate::witness::{INTERVAL, THRESHOLDS, Witness};

/// The path of CustomResourceDefinitions.
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// The interval between two rounds of the registrar. Chosen.
const REGISTERS_EVERY: Duration = Duration::from_secs(2);
/// The buffer of a connection in each direction.
const BUFFER: usize = 64 * 1024;

pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) accounts: Accounts,
    pub(crate) probe: ScriptedProbe,
    pub(crate) now: clock::Now,
    pub(crate) front: Front,
    pub(crate) facts: Arc<Mutex<Facts>>,
    pub(crate) trace: Trace,
    pub(crate) witness: Witness,
    /// The kubelet that updates a pod after our writes. A scenario has none.
    pub(crate) kubelet: Option<Written>,
    /// The load balancer of each group.
    balancers: Mutex<BTreeMap<String, String>>,
    /// The groups that no load balancer uses.
    pub(crate) unused: Mutex<BTreeSet<String>>,
    /// Whether the registrar runs.
    pub(crate) registers: Arc<AtomicBool>,
    /// Whether the product registers targets, instead of the sandbox's registrar.
    pub(crate) product_registers: bool,
    actors: JoinSet<()>,
}

impl World {
    /// The world of a seed, with a kubelet, and with a registrar unless the product is that. It has no replica, and no
    /// namespace but the product's own.
    pub(crate) async fn of_seed(random: &mut Random, product_registers: bool) -> Self {
        let delays = Delays {
            registration: Duration::from_secs(2),
            health_check_interval: INTERVAL,
            health_check_timeout: Duration::from_secs(3),
            healthy_threshold: THRESHOLDS.0,
            unhealthy_threshold: THRESHOLDS.1,
            deregistration_delay: Duration::from_secs(10),
            ..Delays::alb()
        };
        let mut world = Self::new(random, delays);
        world.witness.knows_all = true;
        world.product_registers = product_registers;
        if !product_registers {
            let (facts, registers) = (world.facts.clone(), world.registers.clone());
            let registrar = register(world.accounts.clone(), facts, registers);
            world.actors.spawn(registrar);
        }
        let (kubelet, run) = kubelet(world.api.clone(), world.trace.clone(), random.fork());
        world.actors.spawn(run);
        world.kubelet = Some(kubelet);
        if product_registers {
            world.actors.spawn(Double::of(&world).run());
        }
        world.install().await;
        world.register_hooks(None).await;
        world
    }

    /// The servers, without installed objects and without actors. ELB takes the time that `delays` say.
    pub(crate) fn new(random: &mut Random, delays: Delays) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let now = clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let front = Front::new(random.fork());
        let api = Api::new(api::Options {
            now: now.clone(),
            dial: Arc::new(front.clone()),
            seed: random.next(),
            ..api::Options::default()
        });
        let probe = ScriptedProbe::new(CheckOutcome::Passed);
        let accounts = Accounts::new(|account| {
            Elb::new(elb::Options {
                account: account.to_owned(),
                now: now.clone(),
                probe: Arc::new(probe.clone()),
                delays: delays.clone(),
                seed: random.next(),
                ..elb::Options::default()
            })
        });
        let (facts, trace) = (Arc::<Mutex<Facts>>::default(), Trace::new());
        let witness = Witness {
            api: api.clone(),
            facts: facts.clone(),
            knows_all: false,
            trace: trace.clone(),
        };
        let mut actors = JoinSet::new();
        for elb in accounts.all() {
            actors.spawn(elb.run());
        }
        Self {
            api,
            accounts,
            probe,
            now,
            front,
            facts,
            trace,
            witness,
            kubelet: None,
            balancers: Mutex::default(),
            unused: Mutex::default(),
            registers: Arc::new(AtomicBool::new(true)),
            product_registers: false,
            actors,
        }
    }

    /// Installs what an operator installs, except the hooks.
    pub(crate) async fn install(&self) {
        self.create_crd().await;
        self.must(
            "POST",
            "/api/v1/namespaces",
            json!({ "metadata": { "name": HOME } }),
        )
        .await;
        let deployment = json!({ "metadata": { "name": "targetgate" }, "spec": {
            "selector": { "matchLabels": { "app": "targetgate" } },
            "template": { "metadata": { "labels": { "app": "targetgate" } },
                "spec": { "containers": [{ "name": "targetgate", "image": "targetgate" }] } },
        } });
        let deployments = format!("/apis/apps/v1/namespaces/{HOME}/deployments");
        self.must("POST", &deployments, deployment).await;
    }

    pub(crate) async fn create_crd(&self) {
        let (crd, _) = shipped();
        self.must("POST", DEFINITIONS, crd.clone()).await;
        if self.product_registers {
            self.must("POST", DEFINITIONS, records().clone()).await;
        }
    }

    /// Registers the shipped hooks, with only this CA added.
    pub(crate) async fn register_hooks(&self, ca: Option<&str>) {
        let (_, configurations) = shipped();
        for mut configuration in configurations.clone() {
            let webhooks = configuration["webhooks"].as_array_mut();
            if let Some(ca) = ca.map(|ca| ByteString(ca.into())) {
                for webhook in webhooks.into_iter().flatten() {
                    webhook["clientConfig"]["caBundle"] = json!(ca);
                }
            }
            let kind = configuration["kind"]
                .as_str()
                .unwrap_or_default()
                .to_lowercase();
            let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}s");
            self.must("POST", &path, configuration).await;
        }
    }

    pub(crate) async fn must(&self, method: &str, path: &str, object: Value) {
        let (code, answer) = self.call(method, path, Some(object)).await;
        assert!(
            (200..300).contains(&code),
            "{method} {path}: {code} {answer}"
        );
    }

    /// Makes a request of a client that is not the product, and notes its outcome.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let answer = direct::call(&self.api, method, path, body.as_ref()).await;
        self.trace
            .note("world", &format!("{method} {path} {}", answer.0));
        answer
    }

    /// Creates a group behind a load balancer, in our account or theirs. Returns its ARN.
    pub(crate) fn group(&self, name: &str, theirs: bool) -> String {
        let elb = match theirs {
            true => self.accounts.theirs(),
            false => self.accounts.ours(),
        };
        let arn = elb.create_target_group(TargetGroupSpec::http(name));
        let kind = LoadBalancerKind::Application;
        let balancer = elb.create_load_balancer(name, kind, &[]);
        elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        self.balancers.lock().insert(arn.clone(), balancer);
        arn
    }

    /// Lets the load balancer of a group use it, or not.
    pub(crate) fn put_in_use(&self, arn: &str, used: bool) {
        let elb = self.accounts.of(arn);
        let (balancers, mut unused) = (self.balancers.lock(), self.unused.lock());
        let Some(balancer) = balancers.get(arn) else {
            return;
        };
        if used && unused.remove(arn) {
            elb.add_listener(balancer, &[(arn, 1)]).unwrap();
        } else if !used && unused.insert(arn.to_owned()) {
            elb.remove_listener(balancer).unwrap();
        }
    }

    pub(crate) fn aws(&self, http: SharedHttpClient) -> aws_config::SdkConfig {
        let credentials = Credentials::new("AKIASANDBOX", "secret", None, None, "tests");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http)
            // The clock dates signatures only, which ELB does not check here.
            .time_source(StaticTimeSource::new(now))
            .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .build()
    }
}

/// The CRD of bindings and the webhook configurations, parsed once for all runs.
fn shipped() -> &'static (Value, Vec<Value>) {
    static SHIPPED: LazyLock<(Value, Vec<Value>)> = LazyLock::new(|| {
        let webhooks = include_str!("../../deploy/base/webhooks.yaml");
        let mut crd = serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap();
        cut_descriptions(&mut crd);
        (crd, serde_saphyr::from_multiple(webhooks).unwrap())
    });
    &SHIPPED
}

/// The CRD of our records, parsed once for all runs.
fn records() -> &'static Value {
    static RECORDS: LazyLock<Value> = LazyLock::new(|| {
        let shipped = include_str!("../../deploy/targets/targetrecords.yaml");
        let mut crd = serde_saphyr::from_str(shipped).unwrap();
        cut_descriptions(&mut crd);
        crd
    });
    &RECORDS
}

/// Drops the descriptions, which are most of a CRD and would be parsed in each run.
fn cut_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(cut_descriptions);
        }
        Value::Array(values) => values.iter_mut().for_each(cut_descriptions),
        _ => {}
    }
}

/// Registers ready pods and deregisters the others, as the incumbent does, with a delay.
async fn register(accounts: Accounts, facts: Arc<Mutex<Facts>>, on: Arc<AtomicBool>) {
    let mut registered = BTreeMap::<String, Vec<_>>::new();
    loop {
        sleep(REGISTERS_EVERY).await;
        if !on.load(Ordering::Relaxed) {
            continue;
        }
        let wanted = facts.lock().targets();
        for (arn, targets) in &mut registered {
            let stays = |target: &_| {
                wanted
                    .get(arn)
                    .is_some_and(|wanted| wanted.contains(target))
            };
            for gone in targets.extract_if(.., |target| !stays(target)) {
                accounts.of(arn).deregister(arn, gone.ip(), PORT).unwrap();
            }
        }
        for (arn, targets) in wanted {
            let known = registered.entry(arn.clone()).or_default();
            for target in targets {
                if !known.contains(&target) {
                    accounts.of(&arn).register(&arn, target.ip(), PORT).unwrap();
                    known.push(target);
                }
            }
        }
    }
}

/// The Service in front of the replicas: each connection goes to one that is ready.
#[derive(Clone)]
pub(crate) struct Front(Arc<Mutex<Ends>>);

struct Ends {
    random: Random,
    open: BTreeMap<&'static str, (mpsc::Sender<DuplexStream>, Arc<Cache>)>,
}

impl Front {
    fn new(random: Random) -> Self {
        let open = BTreeMap::new();
        Self(Arc::new(Mutex::new(Ends { random, open })))
    }

    pub(crate) fn open(
        &self,
        replica: &'static str,
        end: mpsc::Sender<DuplexStream>,
        cache: Arc<Cache>,
    ) {
        self.0.lock().open.insert(replica, (end, cache));
    }

    pub(crate) fn close(&self, replica: &'static str) {
        self.0.lock().open.remove(replica);
    }
}

impl Dial for Front {
    fn dial(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let mut ends = self.0.lock();
        let ready = ends
            .open
            .values()
            .filter(|(_, cache)| cache.pending().is_empty());
        let ready: Vec<_> = ready.map(|(end, _)| end.clone()).collect();
        let end = ends.random.pick(&ready);
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(BUFFER);
            match end.map(|end| end.try_send(far)) {
                Some(Ok(())) => Ok(Box::new(near) as Box<dyn Io>),
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}
