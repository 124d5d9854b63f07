//! Judges in the end which targets of a Service without a selector are in its group, slice by slice.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::driver::Driver;
use crate::facts::{Key, PORT, Pod};
use crate::slices::{leads_to, ports};

const OTHER_PORT: u16 = 9090;
const PODS: u64 = 3;
/// The time in which a binding is ours and its targets are healthy: a read of the incumbent's Lease (10 s), the writes of
/// record and finalizer, ELB's own time and its checks. Chosen beyond that: 10 s.
const TAKEN_WITHIN: Duration = Duration::from_secs(10 + 5 + 15 + 10);
/// The time in which a target goes in and is healthy, or leaves above the floor by an answer that was requested since:
/// 15 s, and the turns of other groups at the lowest rate. Chosen: 30 s.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// The Service, which is its binding's name as well, and its pods.
struct Sliced {
    service: Key,
    arn: String,
    pods: Vec<(Key, Pod)>,
}

impl Sliced {
    fn endpoints(&self, which: &[usize]) -> Vec<Value> {
        let pods = which.iter().map(|n| &self.pods[*n]);
        pods.map(|(key, pod)| leads_to(key, pod)).collect()
    }

    fn targets(&self, which: &[usize], port: u16) -> BTreeSet<SocketAddr> {
        let targets = which.iter().map(|n| self.pods[*n].1.target().ip());
        targets.map(|ip| SocketAddr::new(ip, port)).collect()
    }
}

impl Driver {
    /// Judges that the union of the slices is wanted, that nothing leaves which one of them has, and that they never
    /// empty the group.
    pub(crate) async fn judge_slices(&mut self) {
        let Some(sliced) = self.begin_sliced().await else {
            return;
        };
        self.slice(&sliced, "b", &[1, 2]).await;
        self.pass(TAKEN_WITHIN).await;
        self.expect_sliced(&sliced, "each of two slices counts", &[0, 1, 2]);
        self.slice(&sliced, "a", &[0]).await;
        self.pass(DONE_WITHIN).await;
        self.expect_sliced(&sliced, "one slice has it still", &[0, 1, 2]);
        self.slice(&sliced, "b", &[2]).await;
        self.pass(DONE_WITHIN).await;
        self.expect_sliced(&sliced, "no slice has it", &[0, 2]);
        self.slice(&sliced, "b", &[]).await;
        self.slice(&sliced, "a", &[]).await;
        self.pass(DONE_WITHIN).await;
        self.expect_sliced(&sliced, "no slice has any", &[0, 2]);
        self.slice(&sliced, "a", &[0]).await;
        self.pass(DONE_WITHIN).await;
        self.expect_sliced(&sliced, "one is back", &[0]);
        self.judge_names_and_ports(&sliced).await;
        for (key, _) in sliced.pods {
            self.remove(&key).await;
        }
    }

    /// Creates pods, a Service without a selector, its binding, and its first slice, which has two of the pods.
    async fn begin_sliced(&mut self) -> Option<Sliced> {
        let service = (self.some_namespace(), "sliced".to_owned());
        let mut pods = vec![];
        for n in 0..PODS {
            let part = service.0.rsplit('-').next().unwrap_or_default();
            let ip = format!("10.0.{part}.{}", 110 + n);
            let at = (None, Some(ip.as_str()));
            let key = self.ungated_pod(&service.0, &service.1, at).await;
            pods.push(self.held_back(key).await?);
        }
        for (key, pod) in &pods {
            self.readiness(key, pod, true).await;
        }
        self.note(&format!("the slices of {service:?} are judged"));
        self.sliced_service(&service).await;
        self.bind(&service, &service.1).await;
        let arn = {
            let facts = self.world.facts.lock();
            facts.bindings.get(&service)?.arn.clone()
        };
        let sliced = Sliced { service, arn, pods };
        self.slice(&sliced, "a", &[0, 1]).await;
        Some(sliced)
    }

    /// Gives a slice the endpoints of these pods.
    async fn slice(&mut self, sliced: &Sliced, name: &str, which: &[usize]) {
        self.write(sliced, name, sliced.endpoints(which), PORT)
            .await;
    }

    async fn write(&mut self, sliced: &Sliced, name: &str, endpoints: Vec<Value>, port: u16) {
        let (namespace, service) = &sliced.service;
        let key = (namespace.clone(), format!("{service}-{name}"));
        let fields = json!({
            "addressType": "IPv4", "ports": ports(port), "endpoints": endpoints,
        });
        self.put_slice(&key, service, fields).await;
    }

    /// Judges that an endpoint leads to the pod that it names by UID, and that each slice has a port of its own.
    async fn judge_names_and_ports(&mut self, sliced: &Sliced) {
        let mut stale = sliced.endpoints(&[2]);
        stale[0]["targetRef"]["uid"] = json!("another");
        self.write(sliced, "b", stale, PORT).await;
        self.pass(DONE_WITHIN).await;
        self.expect_sliced(sliced, "it names another pod", &[0]);
        let both = sliced.endpoints(&[0, 2]);
        self.write(sliced, "b", both, OTHER_PORT).await;
        self.pass(DONE_WITHIN).await;
        let mut expected = sliced.targets(&[0], PORT);
        expected.extend(sliced.targets(&[0, 2], OTHER_PORT));
        self.expect_in_group(sliced, "each slice has its port", &expected);
    }

    fn expect_sliced(&self, sliced: &Sliced, why: &str, which: &[usize]) {
        self.expect_in_group(sliced, why, &sliced.targets(which, PORT));
    }

    fn expect_in_group(&self, sliced: &Sliced, why: &str, expected: &BTreeSet<SocketAddr>) {
        let all: Vec<usize> = (0..sliced.pods.len()).collect();
        let all = &sliced.targets(&all, PORT) | &sliced.targets(&all, OTHER_PORT);
        let found = all
            .into_iter()
            .filter(|t| self.world.is_in(&sliced.arn, *t));
        let found: BTreeSet<SocketAddr> = found.collect();
        if found != *expected {
            let what = format!("{why}: {found:?} are in the group, {expected:?} belong there");
            self.world.trace.violated("the slices are followed", &what);
        }
    }
}
