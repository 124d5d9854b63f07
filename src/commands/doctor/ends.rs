//! How the pods of the namespaces that have opted in end: their settings, one pod of each workload, and what the cluster
//! makes of them.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::Api;
use targetgate_core::doctor::{End, GraceTrial, Incumbent, Known, Lost, NamespacePods};
use targetgate_core::drain::{DrainLabel, DrainMode, DrainPolicy, ServerVersion};
use targetgate_core::explain;
use targetgate_core::explain::{Facts, PodFacts};
use targetgate_core::lint;
use targetgate_core::lint::{Cluster, Level, PodSecurity, Registrar, Rollout, Version};
use targetgate_core::model::TEMPLATE_HASH;
use targetgate_core::names::{DRAIN_LABEL, TargetGroupArn};
use targetgate_core::selector::LabelSet as _;

use crate::args::SliceAddresses;
use crate::commands::doctor::group_ends::GroupEnds;
use crate::commands::doctor::installed::Installed;
use crate::commands::doctor::objects::{Binding, OptedIn};
use crate::commands::doctor::{read, trials};
use crate::kubernetes::snapshot;
use crate::kubernetes::snapshot::Pods;

/// At most this many namespaces are looked at. Chosen: each takes four lists, one of all its pods.
const MOST: usize = 20;
/// The namespaces that are looked at at once. Chosen.
const AT_ONCE: usize = 4;
/// The grace period of a pod that does not give one. Kubernetes.
const DEFAULT_GRACE: u32 = 30;
/// The labels of Pod Security Admission.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";

/// What is known besides the namespaces.
pub(super) struct Surroundings<'a> {
    pub(super) client: &'a Client,
    pub(super) installed: &'a Installed,
    pub(super) bindings: &'a [Binding],
    pub(super) incumbent: &'a Incumbent,
    pub(super) group_ends: &'a BTreeMap<TargetGroupArn, GroupEnds>,
    /// By the name of the workload.
    pub(super) rollouts: &'a BTreeMap<String, Rollout>,
    pub(super) oldest_kubelet: Option<Version>,
}

/// What the pods of namespaces tell.
#[derive(Default)]
pub(super) struct Told {
    /// The workloads with gates.
    pub(super) ends: Vec<End>,
    pub(super) lost: Vec<Lost>,
    /// The pods of each namespace in which pods alone are registered.
    pub(super) pods: BTreeMap<String, NamespacePods>,
}

impl Surroundings<'_> {
    /// What the pods of the first namespaces tell, and how many namespaces are left out.
    pub(super) async fn pods(&self, namespaces: &Known<Vec<OptedIn>>) -> (Known<Told>, usize) {
        let namespaces = match namespaces {
            Ok(namespaces) => namespaces,
            Err(why) => return (Err(why.clone()), 0),
        };
        let looked = namespaces.iter().take(MOST);
        let looked = looked.map(|namespace| self.of_namespace(namespace));
        let looked = stream::iter(looked).buffered(AT_ONCE);
        let told = looked.try_fold(Told::default(), async |mut all, told| {
            all.ends.extend(told.ends);
            all.lost.extend(told.lost);
            all.pods.extend(told.pods);
            Ok(all)
        });
        (told.await, namespaces.len().saturating_sub(MOST))
    }

    async fn of_namespace(&self, place: &OptedIn) -> Known<Told> {
        let settings = self.installed.decides();
        let (apis, prefixes) = (&settings.gates.apis, &settings.prefixes);
        let read = snapshot::read(self.client, &place.name, Pods::All, apis, prefixes).await;
        let snapshot = read.map_err(|error| format!("{error}."))?;
        let cluster = Cluster {
            oldest_kubelet: self.oldest_kubelet,
            pod_security: pod_security(place, snapshot.server),
            registrar: self.registrar(),
        };
        let why = "only their ends are looked at";
        let (facts, pods) = snapshot.into_facts(&place.name, settings, why);
        let ends = newest(&pods)
            .into_iter()
            .filter_map(|(workload, pod, pods)| {
                let mut settings = explain::workload(&facts, pod)?;
                settings.cluster = cluster;
                let rollout = self.rollouts.get(&workload);
                settings.rollout = rollout.copied().unwrap_or_default();
                self.describe(&place.name, &mut settings.groups);
                Some(End {
                    workload,
                    pods,
                    settings,
                })
            });
        let lost = explain::lost(&facts, &pods).into_iter().map(|why| Lost {
            namespace: place.name.clone(),
            why,
        });
        let addresses = self.installed.settings.targets.slice_addresses;
        let all_are_pods = addresses == SliceAddresses::Pods;
        Ok(Told {
            ends: ends.collect(),
            lost: lost.collect(),
            pods: all_are_pods
                .then(|| (place.name.clone(), of_pods(&facts, &pods)))
                .into_iter()
                .collect(),
        })
    }

    /// What registers the targets, if that is known.
    fn registrar(&self) -> Option<Registrar> {
        let runs = self.incumbent.deployments.as_ref();
        match runs.is_ok_and(|runs| !runs.is_empty()) {
            _ if self.installed.registers() => Some(Registrar::Targetgate),
            true => Some(Registrar::Incumbent),
            false => None,
        }
    }

    /// Adds what AWS says of the groups.
    fn describe(&self, namespace: &str, groups: &mut [lint::Group]) {
        for group in groups {
            let mut bindings = self.bindings.iter();
            let binding = bindings.find(|binding| {
                binding.namespace() == namespace && binding.name() == group.binding
            });
            let arn = binding.and_then(|binding| Some(binding.group()?.arn));
            if let Some(ends) = arn.and_then(|arn| self.group_ends.get(&arn)) {
                ends.fill(group);
            }
        }
    }

    /// Tries the grace period that drain gives, in each namespace that has drain.
    pub(super) async fn graces(&self, namespaces: &[OptedIn]) -> Vec<GraceTrial> {
        let drained = namespaces
            .iter()
            .take(MOST)
            .filter(|place| self.drains(place));
        let tried = drained.map(async |place| {
            let seconds = self.grace(place);
            GraceTrial {
                namespace: place.name.clone(),
                seconds,
                outcome: trials::grace(self.client, &place.name, seconds, DEFAULT_GRACE).await,
            }
        });
        stream::iter(tried).buffered(AT_ONCE).collect().await
    }

    fn drains(&self, place: &OptedIn) -> bool {
        let drain = &self.installed.settings.drain;
        let policy = DrainPolicy {
            mode: drain.drain,
            seconds: drain.drain_seconds,
        };
        let label = place.labels.get(DRAIN_LABEL).map(String::as_str);
        policy.mode(None, DrainLabel::of(label)) == DrainMode::Sleep
    }

    /// The grace period that drain gives to a pod with the default one, behind the slowest of the load balancers.
    fn grace(&self, place: &OptedIn) -> u32 {
        let bindings = self.bindings.iter();
        let bindings = bindings.filter(|binding| binding.namespace() == place.name);
        let kinds = bindings.map(|binding| binding.spec.load_balancer());
        let seconds = &self.installed.settings.drain.drain_seconds;
        DEFAULT_GRACE + u32::from(seconds.longest(kinds).get())
    }
}

/// The pods of a namespace, and the Services that select pods.
fn of_pods(facts: &Facts, pods: &[PodFacts]) -> NamespacePods {
    let view = facts.index.namespace(&facts.namespace);
    let services = view.into_iter().flat_map(|view| view.routes.services());
    let selecting =
        services.filter(|(_, service)| !service.external_name && !service.selector.is_empty());
    NamespacePods {
        addresses: pods.iter().flat_map(|pod| &pod.pod.ips).copied().collect(),
        selecting: selecting.map(|(name, _)| name.clone()).collect(),
    }
}

/// The newest pod of each workload, with the workload's name and the number of its pods: what it is today.
fn newest(pods: &[PodFacts]) -> Vec<(String, &PodFacts, usize)> {
    let mut all: BTreeMap<String, (&PodFacts, usize)> = BTreeMap::new();
    for pod in pods {
        let (newest, number) = all.entry(workload(pod)).or_insert((pod, 0));
        *number += 1;
        if pod.created > newest.created {
            *newest = pod;
        }
    }
    let all = all.into_iter();
    all.map(|(workload, (pod, number))| (workload, pod, number))
        .collect()
}

/// The workload of a pod: its Deployment, else its controller, else itself.
fn workload(pod: &PodFacts) -> String {
    let pod = &pod.pod;
    let namespace = &pod.key.namespace;
    let Some(controller) = pod.template.controller.as_deref() else {
        return format!("Pod {namespace}/{}", pod.key.name);
    };
    let hash = pod.template.labels.value(TEMPLATE_HASH);
    match controller.deployment(hash) {
        Some(name) => format!("Deployment {namespace}/{name}"),
        None => format!("{} {namespace}/{}", controller.kind, controller.name),
    }
}

/// The version of the oldest kubelet; `None` if there is none whose version can be read.
pub(super) async fn oldest_kubelet(client: &Client) -> Known<Option<Version>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = read::list(&nodes, "nodes", "").await?;
    let versions = nodes.into_iter().flatten().filter_map(|node| {
        let told = node.status?.node_info?.kubelet_version;
        version(told.trim_start_matches('v'))
    });
    Ok(versions.min())
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.split('.');
    let version = ServerVersion::of(parts.next()?, parts.next()?)?;
    Some((version.major, version.minor))
}

/// What Pod Security enforces in a namespace, by its labels.
fn pod_security(place: &OptedIn, server: Option<ServerVersion>) -> Option<PodSecurity> {
    let level = match place.labels.get(ENFORCE)?.as_str() {
        "baseline" => Level::Baseline,
        "restricted" => Level::Restricted,
        _ => return None,
    };
    let named = place.labels.get(ENFORCE_VERSION);
    let named = named.and_then(|named| version(named.trim_start_matches('v')));
    let latest = server.map(|server| (server.major, server.minor));
    Some(PodSecurity {
        level,
        version: named.or(latest)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kubelets_are_read_with_what_clouds_add() {
        assert_eq!(version("1.36.9-eks-7f9249a"), Some((1, 36)));
        assert_eq!(version("1.29+"), Some((1, 29)));
        assert_eq!(version("latest"), None);
    }
}
