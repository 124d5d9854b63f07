//! What the product is composed of: clients, clock, seed and settings.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use kube::Client;
use targetgate_core::drain::DrainPolicy;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::index::HookScope;
use targetgate_core::names::{ConditionPrefix, ObjectKey};
use targetgate_core::targets::slices::SliceAddresses;
use targetgate_core::targets::standing::Mode;

use crate::admission::binding::allowed::Allowed;
use crate::clock::Now;
use crate::controllers::certificates::make::Maker;
use crate::controllers::certificates::{Kind, ManagedObjects};
use crate::kubernetes::lease::Seat;
use crate::kubernetes::watch::WatchOptions;
use crate::metrics::Metrics;
use crate::serve::certificates::{Certificate, Certificates, PemFiles};
use crate::serve::clients::Clients;
use crate::serve::places::Places;
use crate::state::api_server::ApiServer;
use crate::state::cache::Cache;

/// The parts of the product: clients, clock, seed and settings.
pub struct Parts {
    pub kube: Client,
    pub aws: SdkConfig,
    /// Rates and burst of the ELB budget.
    pub elb: Limits,
    /// The cluster's own VPC, if it is known.
    pub vpc_id: Option<Arc<str>>,
    /// The index: empty, or filled by a bench.
    pub cache: Arc<Cache>,
    /// What the API server told: nothing yet, or filled by a bench.
    pub server: Arc<ApiServer>,
    pub metrics: Arc<Metrics>,
    pub now: Now,
    /// Seed of all jitter, by which a simulation repeats itself.
    pub seed: u64,
    /// The name of our own pod, for Events.
    pub pod_name: Option<String>,
    /// The namespaces to watch; empty for all.
    pub namespaces: Vec<Arc<str>>,
    pub policy: GatePolicy,
    /// Whether the objects are kept by which the API server itself injects gates.
    pub gate_rules: bool,
    /// The pods that get a sleep before their end, and its length.
    pub drain: DrainPolicy,
    /// Whether ELB is asked when it begins to drain targets, for the metric alone.
    pub measure_drain: bool,
    /// The pods for which the hook is called, for the count of ungated ones.
    pub scope: HookScope,
    /// The prefixes of all gates that the loop opens.
    pub prefixes: Vec<ConditionPrefix>,
    /// How long a gate stays closed when its binding has never existed.
    pub orphan_after: Duration,
    pub certificate: Source,
    /// The clients that the HTTPS listener accepts; `None` accepts any.
    pub clients: Option<Arc<Clients>>,
    /// The target groups that bindings may name; `None` allows any.
    pub allowed: Option<Arc<Allowed>>,
    /// The Lease of conditions, beside which certificates have one of their own; without it this process always
    /// leads.
    pub seat: Option<Seat>,
    /// The connections that the listeners hold.
    pub places: Places,
    /// Whose targets are registered; `None` for those of no binding.
    pub registration: Option<Registration>,
}

/// Settings of the registrar.
pub struct Registration {
    pub mode: Mode,
    /// The Lease of the incumbent.
    pub incumbent_lease: ObjectKey,
    /// The namespaces that the incumbent watches; `None` for all.
    pub incumbent_namespaces: Option<BTreeSet<Arc<str>>>,
    /// Which endpoints of Services without a selector are registered.
    pub slice_addresses: SliceAddresses,
    /// Our own namespace, in which the records are.
    pub namespace: Arc<str>,
    /// The UID of our Deployment, if there is one.
    pub deployment: Option<Arc<str>>,
}

impl Parts {
    /// Parts with the shipped settings, for a single process without a certificate.
    pub fn new(kube: Client, aws: SdkConfig, now: Now) -> Self {
        Self {
            kube,
            aws,
            elb: Limits {
                rate: 10.0,
                highest: 40.0,
                burst: 40,
            },
            vpc_id: None,
            cache: Arc::default(),
            server: Arc::default(),
            metrics: Arc::default(),
            now,
            seed: 1,
            pod_name: None,
            namespaces: vec![],
            policy: GatePolicy::default(),
            gate_rules: false,
            drain: DrainPolicy::default(),
            measure_drain: false,
            scope: HookScope::default(),
            prefixes: WatchOptions::default().prefixes,
            orphan_after: Duration::from_secs(300),
            certificate: Source::None,
            clients: None,
            allowed: None,
            seat: None,
            places: Places::default(),
            registration: None,
        }
    }
}

/// The source of the served certificate.
pub enum Source {
    /// Without a certificate: every handshake fails.
    None,
    /// A fixed certificate.
    Given(Certificate),
    /// Files that another program writes, what they hold to begin with, and the webhook configurations whose bundles
    /// should verify that.
    Files(PemFiles, Certificate, Vec<(Kind, String)>),
    /// A Secret that only targetgate writes, dated by a clock of its own.
    Own(ManagedObjects, Maker, Now),
}

impl Source {
    /// What is served to begin with.
    pub(super) fn served(&self, metrics: &Metrics) -> Certificates {
        match self {
            Self::None | Self::Own(..) => Certificates::none(metrics),
            Self::Given(certificate) | Self::Files(_, certificate, _) => {
                Certificates::new(certificate.clone(), metrics)
            }
        }
    }
}
